"""Training configuration: a YAML file, checked against a schema."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StrictInt, StrictStr, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from race_calc.data.sources import as_list
from race_calc.model.channels import outputs_of_head
from race_calc.model.config import ModelConfig, Settings
from race_calc.model.likelihood import STRESSES
from race_calc.posterior.base import DEFAULT, MOST_MEMBERS, by_name, names
from race_calc.train.config_errors import ConfigError, load_settings, parse_settings

__all__ = ["ConfigError", "TrainConfig", "load_config", "parse_config"]


class KeysConfig(Settings):
    """Names of the labels in the files; units and signs are ASE's."""

    energy: StrictStr = Field("energy", min_length=1, description="a key of info, or energy")
    forces: StrictStr = Field("forces", min_length=1, description="a key of arrays, or forces")
    stress: StrictStr = Field("stress", min_length=1, description="a key of info, or stress")


Files = StrictStr | list[Annotated[StrictStr, Field(min_length=1)]]
MOST_REPEATS = 100
FILES = "a path relative to the data folder, path@frames such as a.xyz@0:450, or a list of them"


class LowLevelConfig(Settings):
    """Cheap labels of the same elements beside those of the training (`race_calc.train.levels`)."""

    file: Files = Field(min_length=1, description=FILES)
    isolated_atoms: str | None = Field(None, min_length=1, description="a path relative to the data folder, or null")
    weight: float = Field(1.0, gt=0.0, description="a number > 0, of their loss beside that of the others")
    keys: KeysConfig = KeysConfig()


class DataConfig(Settings):
    """Which structures to learn from. Paths are relative to the data folder."""

    train: Files = Field(min_length=1, description=FILES)
    validation: StrictInt | Files = Field(50, description=f"a whole number >= 1 (that many structures of train), or {FILES}")
    validation_from: Literal["last", "random"] = Field("last", description="last or random")
    isolated_atoms: str | None = Field(None, min_length=1, description="a path relative to the data folder, or null")
    low_level: LowLevelConfig | None = Field(None, description="a mapping with file, or null")
    repeats: tuple[Annotated[int, Field(ge=1, le=MOST_REPEATS)], ...] = Field(
        (),
        strict=False,
        description=f"how often each source of train is seen in an epoch (each 1 to {MOST_REPEATS}), such as [1, 5], or []",
    )
    keys: KeysConfig = KeysConfig()

    @field_validator("validation")
    @classmethod
    def _some(cls, value: int | str | list[str]) -> int | str | list[str]:
        if not value or (isinstance(value, int) and value < 1):
            raise ValueError("training needs validation data to choose the best weights")
        return value

    @field_validator("repeats")
    @classmethod
    def _of_each(cls, repeats: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        train = info.data.get("train")  # absent when it failed its own check
        if repeats and train is not None and len(repeats) != len(as_list(train)):
            raise ValueError(f"data.train has {len(as_list(train))} sources, data.repeats {len(repeats)} numbers: give one for each")
        return repeats


STRESS_WEIGHT = 10.0  # docs/crystals.md


class TrainingConfig(Settings):
    """How to train. Weights multiply the whole likelihood terms (method, section 3)."""

    recipe: Literal["joint", "detached", "beta-nll", "warm-start"] = Field("joint", description="joint, detached, beta-nll or warm-start")
    epochs: int = Field(100, ge=1, description="a whole number >= 1")
    batch_size: int = Field(5, ge=1, description="a whole number >= 1, in structures")
    learning_rate: float = Field(0.008, gt=0.0, description="a number > 0")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="cosine or constant")
    warmup_epochs: int = Field(1, ge=0, description="a whole number from 0 to epochs")
    keep: Literal["best", "last"] = Field("best", description="best (the weights of the best epoch) or last")
    ema_decay: float = Field(0.99, ge=0.0, lt=1.0, description="a number >= 0 and < 1 (0 switches it off)")
    clip_norm: float = Field(10.0, gt=0.0, description="a number > 0 (ivon: not used)")
    energy_weight: float = Field(1.0, ge=0.0, description="a number >= 0 (ivon: not used)")
    force_weight: float = Field(100.0, ge=0.0, description="a number >= 0 (ivon: not used)")
    stress_weight: float | None = Field(None, ge=0.0, description=f"a number >= 0; left out: {STRESS_WEIGHT:g} where there are stresses")
    smoothness: float = Field(0.03, ge=0.0, description="a number >= 0 (used by recipe joint with heads joint and joint-stress)")
    seed: int = Field(0, ge=0, lt=2**32, description="a whole number from 0 to 2**32 - 1")
    dtype: Literal["float32", "float64"] = Field("float32", description="float32 or float64")
    start_from: str | None = Field(None, min_length=1, description="a folder relative to the data folder, a shipped model by name, or null")
    keep_references: bool = Field(False, description="true or false: reference energies of start_from, in place of those of the data")

    @field_validator("warmup_epochs")
    @classmethod
    def _fits(cls, warmup: int, info: ValidationInfo) -> int:
        epochs = info.data.get("epochs")
        if epochs is not None and warmup > epochs:
            raise ValueError(f"longer than the whole training (training.epochs = {epochs})")
        return warmup

    @field_validator("keep_references")
    @classmethod
    def _of_a_model(cls, keep: bool, info: ValidationInfo) -> bool:
        if keep and not info.data.get("start_from"):
            raise ValueError("reference energies are kept of a model: give training.start_from")
        return keep

    @field_validator("stress_weight")
    @classmethod
    def _one_weight(cls, stress: float | None, info: ValidationInfo) -> float | None:
        if stress == 0.0 and info.data.get("energy_weight") == 0.0 == info.data.get("force_weight"):
            raise ValueError("all weights are 0: give at least one of energy_weight, force_weight a value > 0")
        return stress


class TrainConfig(Settings):
    """The whole file. Made by :func:`load_config` or :func:`parse_config`."""

    data: DataConfig
    model: ModelConfig = ModelConfig()
    posterior: str = Field(DEFAULT, description=", ".join(names()))
    members: int | None = Field(
        None,
        ge=1,
        le=MOST_MEMBERS,
        description="a whole number >= 1 that suits the posterior; left out: "
        + ", ".join(f"{by_name(name).default_members} for {name}" for name in names()),
    )
    mean: Literal["map", "draws"] | None = Field(
        None,
        description="; ".join(f"{' or '.join(by_name(name).means)} for {name}" for name in names() if by_name(name).means)
        + " (left out: the first); not for other posteriors",
    )
    training: TrainingConfig = TrainingConfig()

    @field_validator("posterior")
    @classmethod
    def _is_known(cls, posterior: str, info: ValidationInfo) -> str:
        if posterior not in names():  # also those registered after this class was made
            raise PydanticCustomError("unknown", "no posterior has this name", {"allowed": ", ".join(names())})
        model, heads = info.data.get("model"), by_name(posterior).heads  # no model when it failed its own checks
        if model is not None and heads and model.targets and not {"energy", "mse"} & set(heads):
            raise ValueError(f"posterior {posterior} learns from forces, properties have none: take another")
        if model is not None and heads and model.head not in heads:
            raise ValueError(f"with posterior {posterior} write model.head: {' or '.join(heads)}, not {model.head}")
        return posterior

    @field_validator("members")
    @classmethod
    def _fits_posterior(cls, members: int | None, info: ValidationInfo) -> int | None:
        if "posterior" not in info.data:
            return members
        posterior = by_name(info.data["posterior"])
        if members is None:
            return posterior.default_members
        posterior.check_members(members)
        return members

    @field_validator("mean")
    @classmethod
    def _fits_means(cls, mean: str | None, info: ValidationInfo) -> str | None:
        if "posterior" not in info.data:
            return mean
        means = by_name(info.data["posterior"]).means
        if mean is None:
            return means[0] if means else None
        if mean not in means:
            raise ValueError(f"posterior {info.data['posterior']} has {' or '.join(means) or 'no choice of a mean'}")
        return mean

    @field_validator("training")
    @classmethod
    def _fits_training(cls, training: TrainingConfig, info: ValidationInfo) -> TrainingConfig:
        if "posterior" in info.data:
            posterior = by_name(info.data["posterior"])
            if posterior.recipes and training.recipe not in posterior.recipes:
                raise ValueError(
                    f"with posterior {posterior.name} write training.recipe: {' or '.join(posterior.recipes)}, not {training.recipe}"
                )
            posterior.check_training(training.epochs)
            if training.stress_weight and not posterior.learns_stress:
                raise ValueError(f"posterior {posterior.name} does not learn from stresses: leave out training.stress_weight, or write 0")
            model = info.data.get("model")
            outputs = outputs_of_head(model.head, model.force_covariance) if model else ()
            if model and training.stress_weight == 0 and any(output.name == STRESSES.spread for output in outputs):
                raise ValueError(f"model.head {model.head} learns a covariance of stresses: leave out stress_weight, or write one > 0")
            if model and model.has_surfaces:
                if not posterior.many_surfaces:
                    raise ValueError(
                        f"posterior {posterior.name} is for models of one energy: leave out states and targets, or take another"
                    )
                if "data" in info.data and info.data["data"].keys != KeysConfig():
                    raise ValueError("the labels of states and properties go by their names (docs/states.md): leave out data.keys")
                if model.targets and "data" in info.data and info.data["data"].isolated_atoms:
                    raise ValueError("constants of properties are fitted, isolated atoms have none: leave out data.isolated_atoms")
                if any(output.name == STRESSES.spread for output in outputs):
                    raise ValueError(f"model.head {model.head} learns a covariance of stresses, states have none: write model.head: joint")
                if training.start_from or ("data" in info.data and info.data["data"].low_level):
                    raise ValueError("a model of states or properties starts anew and learns one level: leave out start_from, low_level")
            if "data" in info.data and info.data["data"].low_level is not None and not posterior.two_levels:
                raise ValueError(f"posterior {posterior.name} learns from one level of labels: leave out data.low_level, or take another")
        return training

    @property
    def trained(self) -> int:
        """How many models the training optimises side by side; the posterior makes its members of them."""
        return (self.members or 1) if by_name(self.posterior).independent else 1


def load_config(path: str | Path) -> TrainConfig:
    """Read and check a YAML file. Raises ConfigError as `race_calc.train.config_errors.load_settings` does."""
    return load_settings(path, TrainConfig)


def parse_config(content: Any, source: str = "the configuration") -> TrainConfig:
    """Check a mapping of plain YAML or JSON types. Raises ConfigError as `race_calc.train.config_errors.parse_settings` does."""
    return parse_settings(content, TrainConfig, source)
