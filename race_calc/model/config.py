"""Settings of the model, checked against a schema.

Each field's ``description`` states its allowed values; error messages print it.
"""

import warnings
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from ase.calculators.calculator import all_properties
from ase.outputs import all_outputs
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

import race_calc.model.heads  # noqa: F401  (registers the heads)
from race_calc.data.surfaces import MOST_SURFACES
from race_calc.model.baseline import names as baselines
from race_calc.model.channels import channels_of, heads, outputs_of_head
from race_calc.model.e3nn_import import o3
from race_calc.uncertainty.prediction import QUANTITIES

RESERVED = {*QUANTITIES, *all_properties, *all_outputs, "energies_states", "positions", "numbers", "species", "cell", "pbc", "labels"}
RESERVED |= {"structure", "formula", "Properties", "Lattice"}
MOST_STATES = 10
MOST_CHANNELS = 4096  # of an irrep, of a hidden layer: the paper's largest model has 256
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,39}$")]  # of a state or a scalar
Count = Annotated[int, Field(ge=1, le=MOST_CHANNELS)]


class Settings(BaseModel):
    """Base of all settings: immutable, no unknown keys, no silent type changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False)

    def to_dict(self) -> dict:
        """Plain JSON types; ``type(self).model_validate`` reads them back."""
        return self.model_dump(mode="json")


class ModelConfig(Settings):
    """Architecture (method, sections 1 and 2). Raises pydantic's ``ValidationError`` (a ``ValueError``)."""

    hidden_irreps: str = Field(
        "32x0e+32x1o+32x2e", max_length=200, description="e3nn irreps with 0e, l <= 3, each irrep once, such as 32x0e+32x1o+32x2e"
    )
    l_max: int = Field(2, ge=0, le=3, description="0, 1, 2 or 3 (spherical harmonics)")
    layers: int = Field(3, ge=1, le=100, description="a whole number >= 1 (at most 100)")
    features_dim: int = Field(32, ge=1, le=MOST_CHANNELS, description=f"a whole number >= 1 (at most {MOST_CHANNELS})")
    radial_hidden: tuple[Count, ...] = Field(
        (64, 64),
        strict=False,
        min_length=1,
        max_length=10,
        description=f"a list of whole numbers >= 1 (at most 10, each at most {MOST_CHANNELS}), such as [64, 64]",
    )
    correlation: int = Field(2, ge=1, le=3, description="1, 2 or 3 (body order in a layer; 1 is the paper's)")
    product_channels: int = Field(32, ge=1, le=MOST_CHANNELS, description=f"a whole number >= 1 (at most {MOST_CHANNELS})")
    n_bessel: int = Field(8, ge=1, le=1000, description="a whole number >= 1 (at most 1000)")
    cutoff: float = Field(5.0, gt=0.0, le=50.0, description="a number > 0, in Å (at most 50)")
    baseline: str = Field("zbl", description=f"{', '.join(baselines())} (what the network learns the difference to)")
    head: str = Field("joint", description="mse, energy, joint or joint-stress")
    force_covariance: Literal["matrix-log", "cholesky"] = Field("matrix-log", description="matrix-log or cholesky")
    states: tuple[Name, ...] = Field(
        (), strict=False, max_length=MOST_STATES, description=f"a list of 2 to {MOST_STATES} names, such as [S0, S1], or [] for one energy"
    )
    scalars: tuple[Name, ...] = Field((), strict=False, max_length=100, description="a list of names of scalars >= 0, or []")
    targets: dict[Name, Literal["sum", "mean", "dipole", "extent"]] = Field(
        {}, max_length=MOST_SURFACES, description="properties and their kinds, sum, mean, dipole or extent, such as {U0: sum}, or {}"
    )

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, content: Any) -> Any:
        """`repulsion` was the name of `baseline` in 0.1. Properties have no baseline, and no forces whose covariance could be predicted."""
        if isinstance(content, Mapping) and content.get("targets"):
            content = {"baseline": "none", "head": "energy", **content}
        if not isinstance(content, Mapping) or "repulsion" not in content or "baseline" in content:
            return content
        warnings.warn(
            "model.repulsion is model.baseline now: write that; the old name goes with version 0.3", DeprecationWarning, stacklevel=2
        )
        return {"baseline": content["repulsion"], **{key: value for key, value in content.items() if key != "repulsion"}}

    @field_validator("baseline", "head")
    @classmethod
    def _known(cls, name: str, info: ValidationInfo) -> str:
        known = {"baseline": baselines, "head": heads}[str(info.field_name)]()
        if name not in known:
            raise ValueError(f"the {info.field_name}s are {', '.join(known)}")
        return name

    @field_validator("scalars")
    @classmethod
    def _surfaces(cls, scalars: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        states = info.data.get("states", ())
        if len(states) == 1 or (scalars and not states):
            raise ValueError("model.states needs the names of two or more states, such as [S0, S1]")
        taken = sorted({*states, *scalars} & RESERVED)
        if taken:
            raise ValueError(f"{', '.join(taken)} is the name of something else in results or data: take another")
        twice = {name for name in (*states, *scalars) if (*states, *scalars).count(name) > 1}
        if twice:
            raise ValueError(f"{', '.join(sorted(twice))} occurs more than once among states and scalars")
        return scalars

    @field_validator("targets")
    @classmethod
    def _properties(cls, targets: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        known = info.data
        if taken := sorted(set(targets) & RESERVED):
            raise ValueError(f"{', '.join(taken)} is the name of something else in results or data: take another")
        if taken := sorted(name for name in targets for start in targets if name.startswith(f"{start}_std")):
            raise ValueError(f"{', '.join(taken)} is how the uncertainty of another property is called: take another name")
        if targets and known.get("states"):
            raise ValueError("a model has states or properties: leave out model.states or model.targets")
        if targets and known.get("head") not in ("mse", "energy", None):
            raise ValueError(f"properties have no forces: write model.head: energy or mse, not {known['head']}")
        if targets and known.get("baseline") not in ("none", None):
            raise ValueError(f"properties have no baseline: write model.baseline: none, not {known['baseline']}")
        if "dipole" in targets.values() and "1o" not in o3.Irreps(known.get("hidden_irreps", "1o")):
            raise ValueError("a dipole is read from 1o: add for example 32x1o to model.hidden_irreps")
        return targets

    @property
    def has_surfaces(self) -> bool:
        """Are there states or properties, each with constants of its own?"""
        return bool(self.states or self.targets)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of every surface on the trunk (`race_calc.model.surfaces`), in their order: keys of `race_calc.model.kinds.KINDS`."""
        if self.targets:
            return tuple(self.targets.values())
        return ("energy",) * max(len(self.states), 1) + ("scalar",) * len(self.scalars)

    @field_validator("hidden_irreps")
    @classmethod
    def _irreps(cls, text: str) -> str:
        irreps = o3.Irreps(text)  # raises ValueError
        names = [str(ir) for _, ir in irreps]
        if any(mul < 1 for mul, _ in irreps):
            raise ValueError("every multiplicity must be at least 1")
        if any(mul > MOST_CHANNELS for mul, _ in irreps):
            raise ValueError(f"a multiplicity is above {MOST_CHANNELS}")
        if "0e" not in names:
            raise ValueError("0e is missing: the energy is read from it, add for example 32x0e")
        if len(set(names)) != len(names):
            raise ValueError("an irrep occurs more than once: join its multiplicities")
        if irreps.lmax > 3:
            raise ValueError(f"l = {irreps.lmax} is too high: remove irreps with l > 3")
        return text

    @field_validator("force_covariance")
    @classmethod
    def _needs_2e(cls, covariance: str, info: ValidationInfo) -> str:
        irreps, head = info.data.get("hidden_irreps"), info.data.get("head")  # absent when they failed their own check
        if irreps is None or head is None or "2e" in o3.Irreps(irreps):
            return covariance
        reads = {form: "2e" in [c.irrep for c in channels_of(outputs_of_head(head, form))] for form in (covariance, "cholesky")}
        if reads[covariance]:
            raise ValueError(
                f"head {head} with {covariance} reads 2e, and model.hidden_irreps = {irreps} has none: add for example 32x2e there"
                + ("" if reads["cholesky"] else ", or set force_covariance: cholesky")
            )
        return covariance
