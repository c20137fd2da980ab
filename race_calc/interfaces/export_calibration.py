"""What makes an uncertainty of what the members say, as arrays of a file for race.h: noise, closed form, calibration."""

import numpy as np

from race_calc.model.parameters import shares_trunk
from race_calc.posterior.checkpoint import Checkpoint
from race_calc.uncertainty.calibration_energy import EnergyCalibration
from race_calc.uncertainty.calibration_vectors import VectorCalibration


def uncertainty_arrays(checkpoint: Checkpoint, numbers: np.ndarray) -> dict[str, np.ndarray]:
    """Arrays of float64 by the names of race_load.c; `numbers` (S,): the elements in the order of the file.

    ============== ======== ======================================================================
    name           shape    meaning
    ============== ======== ======================================================================
    noise          (2,)     variance of labels: eV² an atom, (eV/Å)² of a component
    last_layer     (L, L)   covariance of last-layer weights: the variance of energies in closed form
    energy_factors (2,)     of the parts of the energy's variance, epistemic and aleatoric
    energy_sources (2, 3)   `EnergySize.of_equal_weight`: scale, exponent, floor of energies and of forces, scale 0: not taken
    force_factor   (1,)     of the covariance of forces
    force_form     (5,)     `ShapeSize`: scale, shape, own, floor, degree
    force_elements (S,)     k_z of each element
    ============== ======== ======================================================================
    """
    found: dict[str, np.ndarray] = {}
    if checkpoint.noise is not None:
        found["noise"] = np.array([checkpoint.noise.energy, checkpoint.noise.forces], dtype=float)
    if checkpoint.last_layer is not None:
        found["last_layer"] = np.asarray(checkpoint.last_layer, dtype=float)
    calibration = checkpoint.calibration
    if calibration is not None and calibration.energy is not None:
        found |= _energy(calibration.energy, shares_trunk(checkpoint.parameters))
    if calibration is not None and calibration.forces is not None:
        found |= _forces(calibration.forces, numbers)
    return found


def _energy(energy: EnergyCalibration, forces_optional: bool) -> dict[str, np.ndarray]:
    """`forces_optional`: the size of forces is not taken then, as in `Calibration.apply`."""
    found = {"energy_factors": np.array([energy.epistemic, energy.aleatoric])}
    if energy.form is not None:
        rows = np.zeros((2, 3))
        for source in energy.form.of_equal_weight(not forces_optional):
            rows[["energies", "forces"].index(source.name)] = source.scale, source.exponent, source.floor
        found["energy_sources"] = rows
    return found


def _forces(forces: VectorCalibration, numbers: np.ndarray) -> dict[str, np.ndarray]:
    found = {"force_factor": np.array([forces.scale])}
    if (form := forces.form) is not None:
        found["force_form"] = np.array([form.scale, form.shape, form.own, form.floor, form.degree])
        found["force_elements"] = np.array([dict(form.elements).get(int(z), 1.0) for z in numbers])
    return found
