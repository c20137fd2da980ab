"""Drift of the total energy in NVE: 3BPA at 300 K, float64; the absolute slope of a straight line through E(t)."""

import numpy as np
from ase import units
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet
from common import arguments, report, start

from race_calc import RACECalculator

given = arguments(__doc__, picoseconds=10.0, timestep_fs=0.5, equilibration_steps=4000, seed=0, dtype="float64")
atoms = start(300.0, given.seed)
atoms.calc = RACECalculator(given.model, device="cpu", dtype=given.dtype)
rng = np.random.default_rng(given.seed)
step = given.timestep_fs * units.fs
Langevin(atoms, step, temperature_K=300, friction=0.02 / units.fs, fixcm=False, rng=rng).run(given.equilibration_steps)

dynamics = VelocityVerlet(atoms, step)
times, energies, temperatures = [], [], []


def note() -> None:
    times.append(dynamics.nsteps * given.timestep_fs / 1000)
    energies.append(atoms.get_total_energy() / len(atoms))
    temperatures.append(atoms.get_temperature())


dynamics.attach(note, interval=10)
dynamics.run(round(1000 * given.picoseconds / given.timestep_fs))
slope, _ = np.polyfit(times, np.array(energies) - energies[0], 1)
blocks_t, blocks_e = (np.array([block.mean() for block in np.array_split(values, 20)]) for values in (times, energies))
_, covariance = np.polyfit(blocks_t, blocks_e - blocks_e[0], 1, cov=True)
report(
    given,
    {
        "steps": dynamics.nsteps,
        "mean temperature, K": float(np.mean(temperatures)),
        "|slope|, eV/atom/ps": abs(float(slope)),
        "standard error of the slope (20 blocks)": float(np.sqrt(covariance[0, 0])),
        "fluctuation of E, eV/atom": float(np.std(energies)),
        "largest |E(t) - E(0)|, eV/atom": float(np.max(np.abs(np.array(energies) - energies[0]))),
    },
)
