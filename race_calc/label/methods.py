"""Reference methods by name, and calculators of your own. Uses ASE.

========== ===================================================== ========================
name       what it is                                            made by
========== ===================================================== ========================
gfn2-xtb   tight binding, J. Chem. Theory Comput. 15, 1652       tblite (extra `xtb`)
           (2019)
gfn1-xtb   tight binding, J. Chem. Theory Comput. 13, 1989       tblite (extra `xtb`)
           (2017)
========== ===================================================== ========================

Both know the elements H to Rn. Periodic cells are computed at the Γ point only: give large ones, periodic along all directions.
"""

import hashlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

XTB = {"gfn2-xtb": "GFN2-xTB", "gfn1-xtb": "GFN1-xTB"}  # name here → name in tblite
HEAVIEST = 86  # Rn
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
        """The program and its version, such as "tblite 0.8.0"; of a function in a file of yours, the start of the file's sha256."""
        module = self.name.split(":")[0]
        package = "tblite" if self.name in XTB else module.split(".")[0]
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            return f"{module} {_hash_of(module)}".rstrip()

    def check(self, atoms: Atoms) -> None:
        """Raises ValueError for a structure that the method does not know, or would compute as another one."""
        if self.name in XTB and len(atoms) and atoms.numbers.max() > HEAVIEST:
            raise ValueError(f"{self.name} knows H to Rn, not {chemical_symbols[atoms.numbers.max()]}: take another method")
        if self.name in XTB and atoms.pbc.any() and not atoms.pbc.all():
            raise ValueError(
                f"{self.name} knows no cell that is periodic along some directions only (pbc {atoms.pbc.tolist()}): set pbc along all of "
                "them, with vacuum, or along none"
            )


def is_calculator(made: Any) -> bool:
    """Is it an ASE calculator?"""
    return hasattr(made, "results") and callable(getattr(made, "get_property", None))


def in_folder(calculator: Any, folder: Path | None) -> Any:
    """The calculator without what it computed before, its files in `folder` where it writes any."""
    reset = getattr(calculator, "reset", None)  # ASE's newer calculators of files have none
    if callable(reset):
        reset()
    else:
        calculator.results.clear()
    if folder is not None and hasattr(calculator, "directory"):
        calculator.directory = folder if isinstance(calculator.directory, Path) else str(folder)
    return calculator


def _hash_of(module: str) -> str:
    with _here():
        try:
            origin = getattr(find_spec(module), "origin", None)
        except (ImportError, ValueError):
            origin = None
    return hashlib.sha256(Path(origin).read_bytes()).hexdigest()[:12] if origin and Path(origin).is_file() else ""


@contextmanager
def _here() -> Iterator[None]:
    """Modules are looked for in the current folder too."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


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
    if not is_calculator(made):
        raise ValueError(f"{spec} made a {type(made).__name__}, which is no ASE calculator")
    return made


def made_by(spec: str, option: str = "--calculator") -> Any:
    """What the function of "module:function" makes; modules are looked for in the current folder too. Importing and calling it
    runs its code. `option`: what the text was given for.

    Raises ValueError for a text of another form, a module that cannot be imported, and a function that is not there or fails.
    """
    module, colon, function = spec.partition(":")
    if not (module and colon and function):
        raise ValueError(f'{option} is {spec!r}: write "module:function", for example my_potentials:committee')
    with _here():
        try:
            return getattr(import_module(module), function)()
        except Exception as error:  # whatever the user's code raises
            raise ValueError(
                f"{option} {spec}: {type(error).__name__}: {error} (modules are looked for in {Path.cwd()} and where "
                "Python finds its packages)"
            ) from error
