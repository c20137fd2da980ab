"""Momenta of a temperature. Uses ASE."""

import numpy as np
from ase import Atoms, units


def thermal_momenta(atoms: Atoms, temperature: float, random: np.random.Generator) -> np.ndarray:
    """Momenta (N, 3), in ASE's units, that Maxwell and Boltzmann would draw at so many K; the centre of mass moves, too."""
    width = np.sqrt(atoms.get_masses() * units.kB * temperature)[:, None]
    return np.asarray(width * random.standard_normal((len(atoms), 3)))
