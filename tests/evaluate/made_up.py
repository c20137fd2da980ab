"""Residuals of a made-up model whose σ is wrong by known factors."""

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from race_calc.uncertainty.residuals import Residuals


def residuals(structures=60, atoms=5, energy_factor=4.0, force_factor=0.25, seed=0, aleatoric=True) -> Residuals:
    """Errors drawn from Gaussians of known size; the model claims a variance `…_factor` times smaller than it is."""
    rng = np.random.default_rng(seed)
    n = structures * atoms
    variance = np.exp(rng.normal(size=structures))  # of the model
    root = rng.normal(size=(n, 3, 3)) + 0.3 * np.eye(3)
    covariance = root @ root.swapaxes(1, 2) + 0.05 * np.eye(3)
    drawn = np.einsum("nij,nj->ni", np.linalg.cholesky(covariance), rng.normal(size=(n, 3)))
    return Residuals(
        energy=rng.normal(size=structures) * np.sqrt(energy_factor * variance),
        energy_variance=variance,
        energy_aleatoric=rng.uniform(0.1, 0.9, size=structures) * variance if aleatoric else None,
        forces=np.sqrt(force_factor) * drawn,
        forces_covariance=covariance,
        frame=np.repeat(np.arange(structures), atoms),
        numbers=np.tile(np.array([1, 1, 6, 6, 8])[:atoms], structures),
        force_size=rng.uniform(0.0, 3.0, size=n),
    )


def ethanols(n: int = 3, noise: float = 0.05) -> list[Atoms]:
    """n rattled molecules with labels that mean nothing."""
    found = []
    for seed in range(n):
        rng = np.random.default_rng(seed)
        atoms = molecule("CH3CH2OH")
        atoms.positions += rng.normal(scale=noise, size=atoms.positions.shape)
        atoms.calc = SinglePointCalculator(atoms, energy=-4180.0 + rng.normal(), forces=rng.normal(size=(len(atoms), 3)))
        found.append(atoms)
    return found
