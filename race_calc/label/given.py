"""An ASE calculator of the user as a reference method: it labels in this process, one structure after the other."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ase import Atoms

from race_calc.label.methods import is_calculator


@dataclass(frozen=True, eq=False)
class Given:
    """What a `race_calc.label.methods.Method` is to `label_frames`. Raises TypeError for what is no ASE calculator."""

    source: Any

    def __post_init__(self) -> None:
        if not is_calculator(self.source):
            raise TypeError(f"a reference is an ASE calculator or the name of a method, got a {type(self.source).__name__}")

    @property
    def name(self) -> str:
        return type(self.source).__name__

    def calculator(self) -> Any:
        return self.source

    def code(self) -> str:
        """The package that the calculator is from, with its version where it tells one."""
        package = type(self.source).__module__.split(".")[0]
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            return package

    def provenance(self) -> dict[str, str]:
        """As `Method.provenance`."""
        return {"labels": self.name, "labels_code": self.code()}

    def check(self, atoms: Atoms) -> None:
        """The calculator itself knows what it cannot compute."""
