"""Reference methods by name, and calculators of your own. Uses ASE.

========== ===================================================== ========================
name       what it is                                            made by
========== ===================================================== ========================
gfn2-xtb   tight binding, J. Chem. Theory Comput. 15, 1652       tblite (extra `xtb`)
           (2019)
gfn1-xtb   tight binding, J. Chem. Theory Comput. 13, 1989       tblite (extra `xtb`)
           (2017)
========== ===================================================== ========================

Both know the elements H to Rn. Periodic cells are computed at the Γ point only: give large ones.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

XTB = {"gfn2-xtb": "GFN2-xTB", "gfn1-xtb": "GFN1-xTB"}  # name here → name in tblite
SMALL_CELL = 10.0  # Å
ACCURACY = 0.1  # of tblite, which takes 1: forces are then within 3e-5 eV/Å of the converged ones, not 3e-4, for a third more time a step


@dataclass(frozen=True)
class Method:
    """A reference method that any process can make a calculator of: `name` is one of `names`, or "module:function"."""

    name: str

    def __post_init__(self) -> None:
        """Raises ValueError for a name that is neither."""
        module, colon, function = self.name.partition(":")
        if self.name not in XTB and not (module and colon and function):
            raise ValueError(
                f'there is no method {self.name!r}: take {" or ".join(XTB)}, or "module:function" that makes an ASE calculator'
            )

    def calculator(self) -> Any:
        """A new ASE calculator. Raises ValueError where its package is missing, and for what the function of the user raises."""
        return _xtb(self.name) if self.name in XTB else _own(self.name)

    def provenance(self) -> dict[str, str]:
        """Info of a frame with its labels: `labels`, where a prediction has "predicted", and the program and version, `labels_code`."""
        return {"labels": self.name, "labels_code": self.code()}

    def code(self) -> str:
        """The program and its version, such as "tblite 0.8.0"; the module's for a function."""
        package = "tblite" if self.name in XTB else self.name.split(":")[0].split(".")[0]
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            return package


def doubts(name: str, frames: Iterable[Atoms]) -> list[str]:
    """What there is to say about these structures before the method is used on them."""
    small = sum(bool(atoms.pbc.any()) and _height(atoms) < SMALL_CELL for atoms in frames) if name in XTB else 0
    if not small:
        return []
    return [
        f"{small} structures have a periodic cell lower than {SMALL_CELL:g} Å, and {name} is computed at the Γ point only: "
        "its energies there are off; give larger cells"
    ]


def _height(atoms: Atoms) -> float:
    """The least distance between opposite faces along a periodic direction, Å."""
    try:
        return float((1 / np.linalg.norm(np.linalg.inv(atoms.cell.complete().array), axis=0))[atoms.pbc].min())
    except np.linalg.LinAlgError:
        return 0.0


def names() -> tuple[str, ...]:
    return tuple(XTB)


def _xtb(name: str) -> Any:
    try:
        from tblite.ase import TBLite
    except ImportError as error:
        raise ValueError(f"{name} needs tblite ({error}): pip install 'race_calc[xtb]'") from None
    return TBLite(method=XTB[name], accuracy=ACCURACY, verbosity=0)


@cache
def _own(spec: str) -> Any:
    """Made once in a process: such a calculator may take long to load."""
    made = made_by(spec)
    if not (hasattr(made, "results") and callable(getattr(made, "get_property", None))):
        raise ValueError(f"--calculator {spec} made a {type(made).__name__}, which is no ASE calculator")
    return made


def made_by(spec: str, option: str = "--calculator") -> Any:
    """What the function of "module:function" makes; modules are looked for in the current folder too. Importing and calling it
    runs its code. `option`: what the text was given for.

    Raises ValueError for a text of another form, a module that cannot be imported, and a function that is not there or fails.
    """
    module, colon, function = spec.partition(":")
    if not (module and colon and function):
        raise ValueError(f'{option} is {spec!r}: write "module:function", for example my_potentials:committee')
    sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(import_module(module), function)()
    except Exception as error:  # whatever the user's code raises
        raise ValueError(
            f"{option} {spec}: {type(error).__name__}: {error} (modules are looked for in {Path.cwd()} and where Python finds its packages)"
        ) from error
    finally:
        sys.path.remove(str(Path.cwd()))
