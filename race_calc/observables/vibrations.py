"""Harmonic vibrations, by member. Uses ASE for the frequencies."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.vibrations import VibrationsData

from race_calc.observables.members import Estimate, estimate
from race_calc.observables.second_derivatives import hessians
from race_calc.uncertainty.predictor import Predictor


@dataclass(frozen=True, eq=False)
class Vibrations:
    """`frequencies` (3N,) in cm⁻¹, rising, imaginary ones negative; `data`: ASE's object for modes and free energies."""

    frequencies: Estimate
    data: VibrationsData


def vibrations(potential: Predictor, atoms: Atoms) -> Vibrations:
    """Of a molecule, or at Γ of a crystal's cell, at rest, with σ from the members of the potential: 6 N structures are predicted.

    A member's frequencies are compared in their order: modes that cross from member to member widen each other's σ.

    Raises ValueError for a potential of one member, and one that does not tell energies and forces of its members.
    """
    data = [VibrationsData.from_2d(atoms, hessian) for hessian in hessians(potential, atoms)]
    values = np.array([_real(one.get_energies()) / units.invcm for one in data])
    return Vibrations(estimate(potential, values), data[0])


def _real(energies: np.ndarray) -> np.ndarray:
    """Imaginary numbers as negative ones."""
    return np.sort(energies.real - energies.imag)
