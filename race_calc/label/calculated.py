"""An ASE calculator as a baseline: the network learns the difference to it."""

from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from race_calc.data.contribution import BaselineError, Contribution
from race_calc.data.graph import Graph
from race_calc.label.frame import computed
from race_calc.label.methods import Method, in_folder


def check_neutral(atoms: Atoms) -> None:
    """Raises BaselineError for a structure whose initial charges or moments do not add up to zero, or whose info tells a charge: they are
    not told to the baseline."""
    charge = max(float(atoms.get_initial_charges().sum()), _told(atoms, "charge"), key=abs)
    moment = np.sum(atoms.get_initial_magnetic_moments())
    if abs(charge) > 1e-3 or abs(moment) > 1e-3:
        raise BaselineError(
            f"it has the charge {charge:g} and the magnetic moment {moment:g}, and the baseline is computed for neutral structures without "
            "unpaired electrons: only a model with baseline zbl or none can have it"
        )


def _told(atoms: Atoms, name: str) -> float:
    """A number of `atoms.info`; 0 where there is none."""
    value = atoms.info.get(name, 0.0)
    return float(value) if isinstance(value, int | float | np.number) else 0.0


class Calculated:
    """Graph → Contribution by a calculator: a `Method`, which makes one, or a calculator of the user.

    Structures are neutral and without unpaired electrons. `continues`: of a structure with the same atoms as the last one only the
    positions are new to the calculator, so a method that can starts from its last density. Raises BaselineError, with the name, where
    it fails twice, the second time from the beginning, or gives what is not finite.
    """

    def __init__(self, source: Any, continues: bool = True):
        self.source, self.continues = source, continues
        self._calculator: Any = None
        self._atoms: Atoms | None = None

    @property
    def name(self) -> str:
        return self.source.name if isinstance(self.source, Method) else type(self.source).__name__

    @property
    def has_stress(self) -> bool:
        """False where the calculator says that it gives none."""
        return "stress" in getattr(self.source, "implemented_properties", ("stress",))

    def __call__(self, graph: Graph) -> Contribution:
        parts = [self._of(graph, k) for k in range(graph.n_structures)]
        energies, forces, virials = zip(*parts)
        return Contribution(np.concatenate(energies), np.concatenate(forces), np.stack(virials))

    def _of(self, graph: Graph, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Energies (n,), forces (n, 3) and virial (3, 3) of structure k."""
        part = slice(graph.ptr[k], graph.ptr[k + 1])
        atoms = self._moved(graph.numbers[part], graph.positions[part], graph.cell[k], graph.pbc[k])
        try:
            return self._values(atoms)
        except Exception:  # whatever the program meets; the last density may be a bad start
            self.forget()
            atoms = self._moved(graph.numbers[part], graph.positions[part], graph.cell[k], graph.pbc[k])
        try:
            return self._values(atoms)
        except Exception as error:
            self.forget()
            raise BaselineError(
                f"the baseline {self.name} gives nothing for this structure ({type(error).__name__}: {error}), so a model that learned "
                "the difference to it gives nothing either"
            ) from error

    def forget(self) -> None:
        """The next structure is the first."""
        self._atoms = None
        if self._calculator is not None:
            in_folder(self._calculator, None)
        if isinstance(self.source, Method):
            self._calculator = None

    def _moved(self, numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> Atoms:
        last = self._atoms
        if not self.continues or last is None or not (np.array_equal(last.numbers, numbers) and np.array_equal(last.pbc, pbc)):
            self.forget()
            self._calculator = self.source.calculator() if isinstance(self.source, Method) else self.source
            last = self._atoms = Atoms(numbers, positions, cell=cell, pbc=pbc, calculator=self._calculator)
        last.set_cell(cell)
        last.positions[:] = positions
        return last

    def _values(self, atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if isinstance(self.source, Method):
            self.source.check(atoms)
        found = computed(atoms)
        energy, n = found["energy"], len(atoms)
        energies = np.array(self._calculator.results.get("energies", np.full(n, energy / n)), dtype=np.float64)
        energies += (energy - energies.sum()) / n
        if not np.isfinite(energies).all():
            raise ValueError("energies not finite (NaN or infinite)")
        return energies, np.array(found["forces"], dtype=np.float64), _virial(atoms, found.get("stress"))

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: programs of a library stay behind."""
        return {"source": self.source, "continues": self.continues, "_calculator": None, "_atoms": None}


def _virial(atoms: Atoms, stress: np.ndarray | None) -> np.ndarray:
    """(3, 3) eV: zero where there is no volume, NaN where the calculator has no stress."""
    if not atoms.pbc.any() or atoms.cell.rank < 3:
        return np.zeros((3, 3))
    return np.full((3, 3), np.nan) if stress is None else voigt_6_to_full_3x3_stress(stress) * atoms.cell.volume
