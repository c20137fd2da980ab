"""The dynamics of `race-calc learn`: replicas that are heated. Uses ASE."""

from collections.abc import Sequence

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin

from race_calc.data.momenta import thermal_momenta
from race_calc.learning.config import ExplorationConfig


def replicas(structures: Sequence[Atoms], config: ExplorationConfig) -> list[Langevin]:
    """Dynamics with momenta of the first temperature; replica k begins at structure k, counted round. Constraints and masses stay."""
    return [_replica(structures[k % len(structures)], config, k) for k in range(config.replicas)]


def temperature_at(step: int, config: ExplorationConfig) -> float:
    """Of the thermostat during a step, K: straight from one temperature to the next in the first half of the steps."""
    return float(np.interp(step, np.linspace(0, config.steps / 2, len(config.temperatures)), config.temperatures))


def _replica(start: Atoms, config: ExplorationConfig, k: int) -> Langevin:
    atoms, random, first = start.copy(), np.random.default_rng([config.seed, k]), config.temperatures[0]
    atoms.calc = None
    atoms.set_momenta(thermal_momenta(atoms, first, random))
    friction = config.friction / units.fs
    dynamics = Langevin(atoms, config.timestep * units.fs, temperature_K=first, friction=friction, fixcm=False, rng=random)
    dynamics.attach(lambda: dynamics.set_temperature(temperature_K=temperature_at(dynamics.nsteps + 1, config)))
    return dynamics
