"""A committee of ASE calculators of any kind: their mean, and how far they disagree. Imports no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from race_calc.interfaces.base import PredictingCalculator, elements_of
from race_calc.uncertainty.aggregate import MemberOutputs, aggregate
from race_calc.uncertainty.calibration import Calibration
from race_calc.uncertainty.prediction import Prediction, quantities
from race_calc.uncertainty.scores import has_volume


class Committee(PredictingCalculator):
    """The mean of several calculators, and their disagreement as epistemic uncertainty.

    >>> from ase.calculators.lj import LennardJones
    >>> calc = Committee([LennardJones(epsilon=e, sigma=3.4, rc=10.0) for e in (0.010, 0.0104, 0.011)])
    >>> from ase import Atoms
    >>> Atoms("Ar2", [[0, 0, 0], [0, 0, 3.8]], calculator=calc).get_potential_energy() < 0
    True

    `calculators`: two or more ASE calculators that give energy and forces of the same elements; each is evaluated once per
    step. `results` has energy, forces, where all members give it the stress, their `_uncertainty` and `_covariance` (total, which
    is the `_epistemic` part), `energies_members` (M,) and `forces_members` (M, N, 3); units as in `RACECalculator`.
    `thresholds`: what "auto" stands for in the monitor, by criterion. `calibration`: a `Calibration`, or the path of one that
    `race-calc calibrate --calculator` stored; its thresholds then count. The file of a RACE model is refused.

    Raises ValueError for fewer than two calculators, one that is given twice, and members that know different elements;
    a calculation raises ValueError naming the member that failed, gave other shapes, or numbers that are not finite.
    """

    name = "committee"

    def __init__(
        self, calculators: Sequence, thresholds: Mapping[str, float] | None = None, calibration: Calibration | str | Path | None = None
    ):
        self.calculators = tuple(calculators)
        if len(self.calculators) < 2:
            raise ValueError(f"a committee of {len(self.calculators)} cannot disagree: give two calculators or more")
        strangers = [type(member).__name__ for member in self.calculators if not hasattr(member, "get_property")]
        if strangers:
            raise ValueError(f"{', '.join(strangers)} is no ASE calculator: give objects such as EMT()")
        if len({id(calculator) for calculator in self.calculators}) < len(self.calculators):
            raise ValueError("a calculator is given twice: its copies would always agree, make one object for each member")
        self._check_elements()
        self._stress = all("stress" in member.implemented_properties for member in self.calculators)
        fields = ["energy_epistemic", "forces_covariance_epistemic", "energies_members", "forces_members"]
        fields += ["stress", "stress_covariance_epistemic", "stress_members"] if self._stress else []
        super().__init__(quantities(fields, len(self.calculators)), thresholds, calibration)
        self._inside = self.calculators

    def _check_elements(self) -> None:
        said = {k: elements_of(member) for k, member in enumerate(self.calculators)}
        known = {k: elements for k, elements in said.items() if elements is not None}
        for k, elements in known.items():
            first = next(iter(known))
            if elements != known[first]:
                raise ValueError(
                    f"{self._named(k)} knows the elements {', '.join(elements)}, {self._named(first)} "
                    f"{', '.join(known[first])}: members of a committee must know the same ones"
                )

    def _raw(self, atoms: Atoms) -> Prediction:
        stress = self._stress and has_volume(atoms)
        found = [self._member(k, atoms, stress) for k in range(len(self.calculators))]
        return aggregate(
            MemberOutputs(
                energy=np.array([[energy] for energy, _, _ in found]),
                forces=np.array([forces for _, forces, _ in found]),
                stress=np.array([[voigt_6_to_full_3x3_stress(one)] for _, _, one in found]) if stress else None,
                batch=np.zeros(len(atoms), dtype=np.int64),
            )
        )

    def _member(self, k: int, atoms: Atoms, stress: bool) -> tuple[float, np.ndarray, np.ndarray | None]:
        """Energy, forces and stress of one member; the forces first, with which calculators give the energy."""
        member, shapes = self.calculators[k], {"forces": (len(atoms), 3), "energy": (), "stress": (6,)}
        values = {}
        for name in list(shapes)[: 3 if stress else 2]:
            try:
                values[name] = np.array(member.get_property(name, atoms), dtype=np.float64)
            except Exception as error:  # whatever a calculator raises
                raise ValueError(f"{self._named(k)} failed: {type(error).__name__}: {error}") from error
            if values[name].shape != shapes[name]:
                raise ValueError(f"{self._named(k)} gave {name} of the shape {values[name].shape}, expected {shapes[name]}")
            if not np.isfinite(values[name]).all():
                raise ValueError(
                    f"{self._named(k)} gave {name} that are not finite: this structure is too far from what it knows, "
                    "or the member is broken"
                )
        return float(values["energy"]), values["forces"], values.get("stress")

    def _named(self, k: int) -> str:
        return f"member {k} of the committee ({type(self.calculators[k]).__name__})"
