"""Everything that recalibrates one model: fitted once on held-back data, kept with the model. NumPy and SciPy only.

=================== ======================= ===========================================================
quantity            variable                from
=================== ======================= ===========================================================
c_e, c_a            energy.epistemic, …     `part_scales`: σ² = σ²_e + σ²_a → c_e σ²_e + c_a σ²_a
c_F                 forces.scale            `covariance_scale`: Σ → c_F Σ; of stresses stress.scale
c, b, g             forces.form             `fit_shape_size`, in place of c_F where held-back structures like it better; also stress.form
c                   energy.form             `fit_energy_size`, in place of c_e and c_a likewise
c_e = c_a, c_F                              `size_scale` where a variance is the spread of members and nothing else
R_E, R_F            levels                  `fit_level_map` of Φ(d/σ), energies and force components, σ scaled
R_χ                 ellipsoids              `fit_level_map` of F(dᵀ Σ⁻¹ d), F of χ²₃, Σ scaled
q                   conformal               `conformal_quantile` of |d|/σ and of √(dᵀ Σ⁻¹ d), σ and Σ scaled
=================== ======================= ===========================================================

The components of a force or a stress have no preferred sign, so R_F is fitted to d and −d. Both parts of such a covariance get the same
factor, or the same linear map, so that the mutual information (BALD) of the forces does not change; that of the energies is a
difference of logs of total and aleatoric variances and changes by ½ log(σ² after / σ² before) − ½ log c_a.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from race_calc.uncertainty.beside import beside, with_variances
from race_calc.uncertainty.calibration_energy import EnergyCalibration, fit_energy
from race_calc.uncertainty.calibration_vectors import VectorCalibration, fit_forces, fit_stress
from race_calc.uncertainty.energy_size import EnergySpread
from race_calc.uncertainty.mandel import mandel_covariance, voigt_covariance
from race_calc.uncertainty.prediction import Prediction, available
from race_calc.uncertainty.residuals import Residuals
from race_calc.uncertainty.shape_size import VectorSpread, mean_variance
from race_calc.uncertainty.surroundings import spread_of_forces
from race_calc.uncertainty.thresholds import FEWEST
from race_calc.uncertainty.vectors import forces_of, stress_spread, stresses_of


@dataclass(frozen=True)
class Calibration:
    """What `race-calc calibrate` stores with a model.

    ========== ==========================================================================
    field      meaning
    ========== ==========================================================================
    data_hash  SHA-256 of the calibration data (`race_calc.data.hashes.data_hash`), "" where it is not known
    structures hashes of its structures (`race_calc.data.hashes.geometry_hashes`) with blanks between, "" where not known
    frames     structures in it
    energy     EnergyCalibration, or None where the posterior gives no variance
    forces     VectorCalibration, or None likewise
    stress     the same, or None where few structures have a label, or the posterior gives no covariance
    beside     EnergyCalibration of what else is predicted, by name: the gap between states, scalars
    thresholds criterion of the monitor → value that "auto" stands for, of calibrated scores; {} for fewer structures than they take
    ========== ==========================================================================
    """

    data_hash: str
    frames: int
    energy: EnergyCalibration | None
    forces: VectorCalibration | None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    structures: str = ""
    stress: VectorCalibration | None = None
    beside: Mapping[str, EnergyCalibration] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.frames < FEWEST:  # made by an earlier version
            object.__setattr__(self, "thresholds", {})

    @property
    def needs_surroundings(self) -> bool:
        """Whether `apply` asks for `Prediction.forces_nearby`."""
        return any(part is not None and part.form is not None for part in (self.energy, self.forces))

    def apply(self, prediction: Prediction) -> Prediction:
        """The prediction with calibrated (co)variances and BALD of energies; means and members stay.

        Raises ValueError for a prediction that is calibrated already.
        """
        if prediction.calibrated:
            raise ValueError("the prediction is calibrated already: apply a calibration to what the posterior predicts")
        changes = (self._energy(prediction) if self.energy else {}) | (self._forces(prediction) if self.forces else {})
        changes |= self._stress(prediction) if self.stress else {}
        scaled = self._beside(replace(prediction, calibrated=True, forces_nearby=None, **changes))
        if self.energy is None or self.energy.form is not None:  # which leaves the shares of the parts as they are
            return scaled
        after, before, bald = scaled.energy_variance, prediction.energy_variance, prediction.bald_energy
        if "bald_energy" not in available(prediction) or after is None or before is None or bald is None:
            return scaled
        with np.errstate(invalid="ignore", divide="ignore"):
            change = 0.5 * np.log(after / before / self.energy.aleatoric)
        return replace(scaled, bald_energy=np.maximum(bald + change, 0.0))  # rounding; NaN stays

    def scaled(self, raw: Residuals) -> Residuals:
        """Residuals with the variances and covariances that `apply` gives."""
        scaled: dict[str, Any] = {}
        if raw.energy_variance is not None and self.energy is not None:
            scaled["energy_variance"], scaled["energy_aleatoric"] = self.energy.variance(raw)
        forces, stresses = forces_of(raw), stresses_of(raw)
        if forces is not None and self.forces is not None:
            scaled |= {"forces_covariance": self.forces.total(forces), "forces_aleatoric": None, "forces_nearby": None}
        if stresses is not None and self.stress is not None and raw.stress_covariance is not None:
            covariance = raw.stress_covariance.copy()
            covariance[stresses.frame] = voigt_covariance(self.stress.total(stresses))
            scaled |= {"stress_covariance": covariance, "stress_aleatoric": None}
        return replace(raw, **scaled)

    def _energy(self, prediction: Prediction) -> dict[str, Any]:
        """The fields of the prediction with other variances of energies."""
        assert self.energy is not None
        known, zero = available(prediction), np.zeros(len(prediction.energy))
        unsplit, aleatoric = prediction.energy_unsplit, prediction.energy_aleatoric
        spread = prediction.energy_epistemic if "energy_uncertainty_epistemic" in known else unsplit
        forces, of_forces = None, spread_of_forces(prediction)
        if of_forces is not None and prediction.forces_nearby is not None and not prediction.forces_optional:
            forces = mean_variance(of_forces), prediction.forces_nearby
        told = None if spread is None else EnergySpread(spread, forces, prediction.batch)
        epistemic, noise = self.energy.parts(told, zero if spread is None else spread, zero if aleatoric is None else aleatoric)
        found = {"energy_unsplit": epistemic} if unsplit is not None else {} if spread is None else {"energy_epistemic": epistemic}
        return found | ({} if aleatoric is None else {"energy_aleatoric": noise})

    def _beside(self, prediction: Prediction) -> Prediction:
        """The prediction with other variances of what goes by the names in `beside`."""
        for name, one in beside(prediction).items():
            part = self.beside.get(name)
            if part is not None and one.variance is not None:
                zero = np.zeros(len(one.value))
                spread = None if one.epistemic is None else EnergySpread(one.epistemic, None, prediction.batch)
                parts = part.parts(spread, *(zero if known is None else known for known in (one.epistemic, one.aleatoric)))
                known = (None if old is None else new for old, new in zip((one.epistemic, one.aleatoric), parts))
                prediction = replace(prediction, **with_variances(prediction, name, *known))
        return prediction

    def _forces(self, prediction: Prediction) -> dict[str, np.ndarray | None]:
        """The fields of the prediction with other covariances of forces."""
        forces = self.forces
        assert forces is not None
        unsplit, nearby, numbers = prediction.forces_covariance_unsplit, prediction.forces_nearby, prediction.numbers

        def parts(epistemic: np.ndarray | None, aleatoric: np.ndarray | None) -> tuple[np.ndarray | None, np.ndarray | None]:
            spread = None
            if epistemic is not None and nearby is not None:
                spread = VectorSpread(epistemic, aleatoric, nearby, numbers)
            return forces.parts(epistemic, aleatoric, spread)

        if unsplit is not None:
            return {"forces_covariance_unsplit": parts(unsplit, None)[0]}
        spread = prediction.forces_covariance_epistemic if "forces_covariance_epistemic" in available(prediction) else None
        epistemic, aleatoric = parts(spread, prediction.forces_covariance_aleatoric)
        if spread is None:  # of one member: zero
            epistemic = prediction.forces_covariance_epistemic
        return {"forces_covariance_epistemic": epistemic, "forces_covariance_aleatoric": aleatoric}

    def _stress(self, prediction: Prediction) -> dict[str, np.ndarray | None]:
        """The fields of the prediction with other covariances of stresses, which are calibrated in Mandel notation."""
        assert self.stress is not None
        names = [f"stress_covariance_{part}" for part in ("epistemic", "aleatoric")]
        given = [getattr(prediction, name) if name in available(prediction) else None for name in names]
        epistemic, aleatoric = (None if value is None else mandel_covariance(value) for value in given)
        spread = None if epistemic is None else stress_spread(epistemic if aleatoric is None else epistemic + aleatoric, aleatoric)
        found = self.stress.parts(epistemic, aleatoric, spread)
        return {name: voigt_covariance(value) for name, value in zip(names, found) if value is not None}


def fit_calibration(raw: Residuals) -> Calibration:
    """Fit all but the thresholds to uncalibrated residuals of structures that the model was not trained on.

    Raises ValueError when the posterior gives no uncertainty, for differences or (co)variances that are not finite, and for
    variances that are not positive.
    """
    for name in ("energy", "energy_variance", "forces", "forces_covariance"):
        values = getattr(raw, name)
        broken = np.flatnonzero([] if values is None else ~np.isfinite(values).reshape(len(values), -1).all(axis=1))
        if len(broken):
            structures = np.unique(raw.frame[broken]) if name.startswith("forces") else broken
            raise ValueError(
                f"the {name.replace('_', ' ')} of {len(structures)} structures, the first number {structures[0]}, "
                "is not finite: the model breaks down there, leave them out"
            )
    if raw.energy_variance is None and raw.forces_covariance is None:
        raise ValueError("this model gives no uncertainty (one member and no variance head): there is nothing to calibrate")
    return Calibration("", len(raw), fit_energy(raw), fit_forces(raw), stress=fit_stress(raw))
