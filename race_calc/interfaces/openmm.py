"""OpenMM: a model as a `PythonForce`, with its uncertainties and a halt that is an exception."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms, units

from race_calc.interfaces.served import Served
from race_calc.uncertainty.decisions import Violation
from race_calc.uncertainty.prediction import Prediction

KJ_PER_MOL = units.mol / units.kJ  # of an eV
ANGSTROM = 0.1  # in nm
OLDEST = (8, 4)


class Halted(RuntimeError):
    """The monitor asks for a halt. OpenMM passes it on as an OpenMMException with the same text."""


class OpenMMRace:
    """The potential of all particles of a system, or of some of them.

    >>> race = OpenMMRace(Served("models/3bpa-de"), atoms.symbols)  # doctest: +SKIP
    >>> system.addForce(race.force)  # doctest: +SKIP

    symbols: chemical symbols of the particles in their order. periodic: whether the box repeats; there are barostats then. particles: which
    particles of the system they are, None for all. Attributes: `force`, the `openmm.PythonForce`; `prediction`, with the uncertainties, in
    eV and Å, of the last evaluation, and `violation`, the last one or None. A context whose run was halted keeps the positions at which it
    was, in the box of a barostat's trial where that was one; evaluations are counted as steps, trials too. halting: False lets it go on:
    for minimisations and barostats, where `violation` is to be looked at between steps.

    Raises ValueError for an OpenMM that is missing or too old and for elements that the model does not know.
    """

    def __init__(
        self, served: Served, symbols: Sequence[str], periodic: bool = False, particles: Sequence[int] | None = None, halting: bool = True
    ):
        openmm = imported()
        served.check_elements(symbols)
        self.served, self.halting = served, halting
        self.prediction: Prediction | None = None
        self.violation: Violation | None = None
        self._now: Violation | None = None
        self.evaluations = 0
        self._atoms = Atoms(symbols, pbc=periodic)
        self.force = openmm.PythonForce(self._compute, {}, {} if particles is None else list(particles))
        self.force.setUsesPeriodicBoundaryConditions(periodic)

    def _compute(self, state: Any) -> tuple[float, np.ndarray]:
        """Energy in kJ/mol and forces (N, 3) in kJ/mol/nm. Raises Halted."""
        atoms, positions = self._atoms, state.getPositions(asNumpy=True)._value
        if len(positions) != len(atoms):
            raise ValueError(f"{len(positions)} particles and {len(atoms)} symbols: give the symbol of each, or particles=")
        atoms.positions = positions / ANGSTROM
        if atoms.pbc.any():
            atoms.cell[:] = state.getPeriodicBoxVectors(asNumpy=True)._value / ANGSTROM
        prediction = self.served.evaluate(atoms)
        if prediction is not self.prediction:  # OpenMM asks again about the same positions
            self.prediction, self._now = prediction, self.served.halted(prediction, atoms, self.evaluations)
            self.violation = self._now or self.violation
            self.evaluations += 1
        if self.halting and self._now is not None:
            raise Halted(str(self._now))
        return float(prediction.energy[0]) * KJ_PER_MOL, prediction.forces * (KJ_PER_MOL / ANGSTROM)


def imported() -> Any:
    """The module openmm. Raises ValueError where it is missing or too old."""
    try:
        import openmm
    except ImportError as error:
        raise ValueError(f"{error}: pip install 'race_calc[openmm]'") from error
    version = openmm.Platform.getOpenMMVersion()
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        raise ValueError(f"OpenMM {version} has no PythonForce: update it to {'.'.join(map(str, OLDEST))} or newer (pip install -U openmm)")
    return openmm
