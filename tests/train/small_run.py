"""A small data set with labels of ASE's EMT potential, and a configuration that trains on it in seconds."""

from pathlib import Path

import numpy as np
import yaml
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from race_calc.train.config import TrainConfig, load_config
from race_calc.train.prepare import Prepared, prepare


def frame(seed: int, periodic: bool = False) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = Atoms("Cu2Ag", positions=[[0, 0, 0], [2.5, 0, 0], [1.2, 2.3, 0]], cell=np.eye(3) * 6.0, pbc=periodic)
    atoms.positions += rng.normal(scale=0.15, size=(3, 3))
    atoms.calc = EMT()
    labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    if periodic:
        labels["stress"] = atoms.get_stress()
    atoms.calc = SinglePointCalculator(atoms, **labels)
    return atoms


def alloy(seed: int) -> Atoms:
    """32 atoms of copper and silver, strained."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.numbers[rng.permutation(32)[:10]] = 47
    atoms.set_cell(atoms.cell @ (np.eye(3) + rng.uniform(-0.03, 0.03, (3, 3))), scale_atoms=True)
    atoms.positions += rng.normal(scale=0.1, size=(32, 3))
    atoms.calc = EMT()
    labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
    atoms.calc = SinglePointCalculator(atoms, **labels)
    return atoms


def run_of(folder: Path, frames: list[Atoms], **changes) -> tuple[TrainConfig, Prepared]:
    """Configuration and data of a small run with these frames, prepared."""
    path = write_run(folder, **changes)
    write(folder / "data.xyz", frames)
    config = load_config(path)
    return config, prepare(config, folder)


def write_run(folder: Path, n: int = 12, periodic: bool = False, **changes) -> Path:
    """Write data and configuration into `folder`; `changes` overrides keys as section__key=value."""
    write(folder / "data.xyz", [frame(seed, periodic) for seed in range(n)])
    config = {
        "data": {"train": "data.xyz", "validation": 4},
        "model": {"hidden_irreps": "4x0e+4x1o+4x2e", "l_max": 2, "layers": 2, "features_dim": 4, "radial_hidden": [8], "cutoff": 4.0},
        "posterior": "deep-ensemble",
        "members": 2,
        "training": {"epochs": 4, "batch_size": 3, "seed": 3},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            config[section][name] = value
        else:
            config[section] = value
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(config))
    return path
