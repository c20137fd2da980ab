"""Whether σ grows with the error where a crystal is compressed: silicon, with Tersoff's potential as the truth.

    python benchmarks/compression.py --run runs/compression [--figure docs/figures/compression.png]

Samples 151 frames of MD of 64 atoms at 300 K, trains five members on 90 of them with 10 to validate (configs/silicon.yaml, 60 epochs),
calibrates with 50 others, and compresses the last one, along all axes and along one. Prints the rank correlations and shares of scans.py.
Goes on where it was stopped. The potential: Tersoff, Phys. Rev. B 39, 5566 (1989), as ASE has it.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml
from ase import Atoms
from ase.build import bulk
from ase.calculators.tersoff import Tersoff, TersoffParameters
from ase.io import read
from common import arguments, report
from runs import finished
from scans import POINTS, draw, measured, ranks

from race_calc import RACECalculator
from race_calc.data.dataset import read_dataset
from race_calc.evaluate.calibrate import calibrate
from race_calc.label.file import label_frames
from race_calc.label.methods import Method
from race_calc.label.sampling import Plan, sample
from race_calc.model.hardware import keep_freed_memory

BASE = Path(__file__).parent / "configs" / "silicon.yaml"
TRAINED, HELD_BACK = 100, 50
SILICON = TersoffParameters(3.0, 1.0, 1.7322, 1.0039e5, 16.217, -0.59825, 0.78734, 1.1e-6, 1.7322, 471.18, 2.85, 0.15, 2.4799, 1830.8)
LATTICE = 5.432  # Å, of this potential


def silicon() -> Tersoff:
    return Tersoff({("Si", "Si", "Si"): SILICON})


def labelled(folder: Path) -> Path:
    """Frames at 300 K with their labels: for the training, for the calibration, and one to compress."""
    out, method, journal = folder / "frames.xyz", Method("compression:silicon"), folder / "frames.sampling"
    if not out.exists():
        folder.mkdir(parents=True, exist_ok=True)
        crystal = bulk("Si", a=LATTICE, cubic=True) * (2, 2, 2)
        label_frames(sample([crystal], Plan((300.0,), TRAINED + HELD_BACK + 1), method, journal, 1), out, method, 1)
        journal.unlink()
    return out


def model(frames: Path, folder: Path) -> Path:
    content = yaml.safe_load(BASE.read_text())
    content["data"] = {"train": f"{frames.name}@0:{TRAINED}", "validation": 10, "validation_from": "random"}
    content["training"] |= {"epochs": 60}
    config = folder / "train.yaml"
    config.write_text(yaml.safe_dump(content))
    return finished("model", config, folder, folder)


def pressed(atoms: Atoms, shares: np.ndarray) -> Atoms:
    """All lengths times `shares`, one for each axis."""
    moved = atoms.copy()
    moved.set_cell(atoms.cell * shares[:, None], scale_atoms=True)
    return moved


def scans(atoms: Atoms) -> dict[str, tuple[np.ndarray, Callable[[float], Atoms]]]:
    """Name → volumes over that at rest, and the structure at one."""
    return {
        "compressed": (np.linspace(1.1, 0.7, POINTS), lambda v: pressed(atoms, np.full(3, v ** (1 / 3)))),
        "compressed along one axis": (np.linspace(1.1, 0.75, POINTS), lambda v: pressed(atoms, np.array([v, 1.0, 1.0]))),
    }


if __name__ == "__main__":
    given = arguments(__doc__, run="runs/compression", figure="")
    torch.set_num_threads(1)
    keep_freed_memory()
    folder = Path(given.run)
    frames, truth = labelled(folder), silicon()
    calculator = RACECalculator(model(frames, folder), "cpu", calibrated=False)
    calculator.calibration, _ = calibrate(calculator, read_dataset(frames, f"{TRAINED}:{TRAINED + HELD_BACK}"))
    atoms, same = read(frames, -1), read(frames, -1)
    atoms.calc, same.calc = calculator, truth
    zero = atoms.get_potential_energy(), same.get_potential_energy()
    atoms.calc = None
    found = {name: measured(values, at, calculator, truth, zero) for name, (values, at) in scans(atoms).items()}
    if given.figure:
        draw("silicon, trained at 300 K with Tersoff's potential", found, Path(given.figure))
    report(given, {key: value for name, one in found.items() for key, value in ranks(name, one).items()})
