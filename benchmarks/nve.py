"""Drift of the total energy in NVE: 3BPA at 300 K, float64; the slope of a straight line through E(t)."""

import numpy as np
from ase import units
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet
from common import MODEL, arguments, report, start

from race_calc import RACECalculator

given = arguments(__doc__, model=str(MODEL), picoseconds=10.0, timestep_fs=0.5, equilibration_steps=4000, seed=0, dtype="float64")
atoms = start(300.0, given.seed)
atoms.calc = RACECalculator(given.model, device="cpu", dtype=given.dtype)
rng = np.random.default_rng(given.seed)
step = given.timestep_fs * units.fs
Langevin(atoms, step, temperature_K=300, friction=0.02 / units.fs, fixcm=False, rng=rng).run(given.equilibration_steps)

dynamics = VelocityVerlet(atoms, step)
energies, temperatures, forces, velocities = [], [], [], []


def note() -> None:
    energies.append(atoms.get_total_energy() / len(atoms))
    temperatures.append(atoms.get_temperature())
    forces.append(atoms.get_forces())
    velocities.append(atoms.get_velocities())


def slope_and_error(times: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Slope of a straight line, and its standard error from the means of 20 blocks."""
    slope, _ = np.polyfit(times, values - values[0], 1)
    blocks = [np.array([block.mean() for block in np.array_split(x, 20)]) for x in (times, values - values[0])]
    _, covariance = np.polyfit(*blocks, 1, cov=True)
    return float(slope), float(np.sqrt(covariance[0, 0]))


def modified_energy(energy: np.ndarray, f: np.ndarray, v: np.ndarray) -> np.ndarray:
    """What velocity Verlet conserves to fourth order in the step h, per atom, of all steps but the first and the last:

    E + h² (vᵀ V'' v / 12 - Fᵀ M⁻¹ F / 24), where V'' v = -dF/dt (Hairer, Lubich & Wanner, Geometric Numerical
    Integration, chapter IX). E itself swings with the energy in the fast vibrations; a drift shows in both.
    """
    bend = -(v[1:-1] * (f[2:] - f[:-2])).sum((1, 2)) / (2 * step)
    push = (f[1:-1] ** 2 / atoms.get_masses()[:, None]).sum((1, 2))
    return energy[1:-1] + step**2 * (bend / 12 - push / 24) / len(atoms)


dynamics.attach(note, interval=1)
dynamics.run(round(1000 * given.picoseconds / given.timestep_fs))
energy = np.array(energies)
times = np.arange(len(energy)) * given.timestep_fs / 1000
modified = modified_energy(energy, np.array(forces), np.array(velocities))
slope, error = slope_and_error(times, energy)
modified_slope, modified_error = slope_and_error(times[1:-1], modified)
report(
    given,
    {
        "steps": dynamics.nsteps,
        "mean temperature, K": float(np.mean(temperatures)),
        "slope, eV/atom/ps": slope,
        "standard error of the slope (20 blocks)": error,
        "fluctuation of E, eV/atom": float(np.std(energy)),
        "largest |E(t) - E(0)|, eV/atom": float(np.abs(energy - energy[0]).max()),
        "slope of the modified energy": modified_slope,
        "its standard error (20 blocks)": modified_error,
        "fluctuation of the modified energy": float(np.std(modified)),
    },
)
