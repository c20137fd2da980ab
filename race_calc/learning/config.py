"""Configuration of `race-calc learn`: a YAML file, checked against a schema."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from race_calc.model.config import Settings
from race_calc.train.config_errors import load_settings


class ExplorationConfig(Settings):
    """Molecular dynamics that looks for what is not known: Langevin, each replica heated from the first to the last temperature in the
    first half of its time, and held there."""

    replicas: int = Field(4, ge=1, description="a whole number >= 1")
    picoseconds: float = Field(50.0, gt=0.0, description="a number > 0, of each replica")
    temperatures: list[Annotated[float, Field(gt=0.0)]] = Field(min_length=1, description="numbers > 0 in K, such as [300, 600]")
    timestep: float = Field(0.5, gt=0.0, description="a number > 0, in fs")
    friction: float = Field(0.02, gt=0.0, description="a number > 0, in 1/fs")
    quiet: float | None = Field(None, gt=0.0, description="a number > 0 of ps, of all replicas together, without a label, or null")
    seed: int = Field(0, ge=0, description="a whole number >= 0")

    @property
    def steps(self) -> int:
        """Of each replica."""
        return max(round(1000 * self.picoseconds / self.timestep), 1)

    @property
    def quiet_steps(self) -> int | None:
        return None if self.quiet is None else max(round(1000 * self.quiet / self.timestep), 1)


class BudgetConfig(Settings):
    """What the run may use (`race_calc.learning.on_the_fly.Budget`)."""

    labels: int = Field(300, ge=1, description="a whole number >= 1")
    minutes: float | None = Field(None, gt=0.0, description="a number > 0, or null for any number")
    rounds: int = Field(100, ge=1, description="a whole number >= 1")


class LearnConfig(Settings):
    """A run that learns. Paths are relative to the folder of the file."""

    model: str = Field(min_length=1, description="the folder of a model of race-calc train")
    data: str | None = Field(None, description="the folder that paths of its training are relative to; null where it holds its data")
    reference: str = Field(min_length=1, description="gfn2-xtb, gfn1-xtb, module:function that makes an ASE calculator, or elsewhere")
    structures: str = Field(min_length=1, description="a file of structures to begin at")
    exploration: ExplorationConfig
    processes: int = Field(
        1, ge=1, description="a whole number >= 1: structures labelled at once; with several the replicas go on beside a lesson"
    )
    labels_a_round: int = Field(10, ge=1, description="a whole number >= 1")
    epochs: int | None = Field(None, ge=1, description="a whole number >= 1 for each lesson, or null for what train --from takes")
    budget: BudgetConfig = BudgetConfig()


def load_learning(path: str | Path) -> LearnConfig:
    """Read and check a YAML file. Raises ConfigError as `load_settings` does."""
    return load_settings(path, LearnConfig)
