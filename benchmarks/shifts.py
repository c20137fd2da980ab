"""How well calibrated a model stays where it was not trained: small molecules and GFN2-xTB, trained at 300 K, tested up to 1200 K.

    python benchmarks/shifts.py --molecule CH3CH2OH --out runs/shifts [--epochs 60]

Samples MD with GFN2-xTB (`race_calc.label.sampling`), trains ten members on 450 frames at 300 K (`configs/3bpa.yaml`), calibrates with 50
others and prints coverage, likelihood and d² at each temperature, of forces for each degree of shape × size, and of energies; of energies
also for the first few of the members, with equal weights of both sources and with those of the calibration. Goes on where it was stopped.
Needs the extra `xtb`. The differences and predicted parts are left in OUT/MOLECULE/residuals.npz.
"""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch
import yaml
from ase.build import molecule
from ase.optimize import BFGS
from common import arguments

from race_calc.data.dataset import Dataset, read_dataset
from race_calc.evaluate.predict import predict_dataset, residuals_of
from race_calc.interfaces.stack_predictor import StackPredictor
from race_calc.label.file import label_frames
from race_calc.label.methods import Method
from race_calc.label.sampling import Plan, sample
from race_calc.model.hardware import keep_freed_memory
from race_calc.model.parameters import select_members
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.load import load_stack
from race_calc.train.config import parse_config
from race_calc.train.files import STATE_FILE
from race_calc.train.finish import finish
from race_calc.train.loop import train
from race_calc.train.prepare import prepare
from race_calc.uncertainty.calibration_energy import energy_spread_of, fit_energy
from race_calc.uncertainty.energy_size import EXPONENTS, fit_energy_size
from race_calc.uncertainty.metrics import LEVELS, coverage, gaussian_nll, mahalanobis, vector_nll
from race_calc.uncertainty.residuals import Residuals
from race_calc.uncertainty.shape_size import fit_shape_size
from race_calc.uncertainty.vectors import forces_of

METHOD, CPU = Method("gfn2-xtb"), torch.device("cpu")
BASE = Path(__file__).parent / "configs" / "3bpa.yaml"
SETS = {"train": (300.0, 500, 0), "300": (300.0, 200, 1), "600": (600.0, 200, 2), "1200": (1200.0, 200, 3)}  # K, frames, seed
DEGREES = (0.0, 0.9, 1.0, 1.1, 1.2, 1.3)
TRIED = ((1.0, 1.0), (1.2, 1.3), (1.4, 1.5), (1.6, 1.7))  # exponents of energies: of the spread of energies, of forces
FEW = (2, 3, 5, 7)  # members


def labelled(name: str, folder: Path) -> None:
    """Frames of MD with labels, a file for each of SETS; those at 300 K for training and testing from trajectories of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    atoms = molecule(name)
    atoms.calc = METHOD.calculator()
    BFGS(atoms, logfile=None).run(fmax=0.01, steps=500)
    for kind, (temperature, count, seed) in SETS.items():
        out = folder / f"{kind}.xyz"
        if out.exists():
            continue
        journal = folder / f"{kind}.sampling"
        label_frames(sample([atoms], Plan((temperature,), count, seed), METHOD, journal, 1), out, METHOD, 1)
        journal.unlink()


def run(folder: Path, epochs: int) -> Path:
    """The trained model of the folder."""
    content = yaml.safe_load(BASE.read_text()) | {"members": 10}
    content["data"] = {"train": "train.xyz", "validation": 50, "validation_from": "last"}
    content["training"] |= {"epochs": epochs}
    config, out = parse_config(content), folder / "model"
    if not (out / "weights.safetensors").exists():
        prepared = prepare(config, folder)
        finish(config, prepared, train(config, prepared, out, CPU, resume=(out / STATE_FILE).exists()), out, CPU)
    return out


def residuals(model: Path, folder: Path, members: int = 10) -> dict[str, Residuals]:
    """Of the calibration structures (the validation frames) and of each test set, by the first so many members."""
    sets: dict[str, Dataset] = {"calibration": read_dataset(folder / "train.xyz", "450:")}
    sets |= {kind: read_dataset(folder / f"{kind}.xyz") for kind in list(SETS)[1:]}
    whole = load_checkpoint(model, calibration=False)
    some = replace(whole, parameters=select_members(whole.parameters, list(range(members))))
    predictor = StackPredictor(load_stack(some, torch.float64, CPU))
    return {name: residuals_of(predict_dataset(predictor, data), data) for name, data in sets.items()}


def line(name: str, degree: float, found: dict[str, Residuals]) -> str:
    known = found["calibration"]
    form = fit_shape_size(known.forces, forces_of(known).spread, degree)
    cells = []
    for kind in list(SETS)[1:]:
        new = found[kind]
        total = form.total(forces_of(new).spread)
        std = np.sqrt(np.diagonal(total, axis1=1, axis2=2))
        inside = "/".join(f"{100 * coverage(new.forces, std, level):.1f}" for level in LEVELS)
        mean = mahalanobis(new.forces, total).mean() / 3
        cells.append(f"{inside} | {vector_nll(new.forces, total):.2f} | {mean:.2f}")
    return f"| {name} | {degree:g} | {form.shape:.2f} | {form.own:.2f} | {' | '.join(cells)} |"


def energy_line(name: str, exponents: tuple[float, ...], found: dict[str, Residuals], members: int | None = None) -> str:
    known = found["calibration"]
    form = fit_energy_size(known.energy, energy_spread_of(known), members, exponents=dict(zip(EXPONENTS, exponents)))
    cells = []
    for kind in list(SETS)[1:]:
        new = found[kind]
        variance = form.variance(energy_spread_of(new))
        inside = "/".join(f"{100 * coverage(new.energy, np.sqrt(variance), level):.0f}" for level in LEVELS)
        cells.append(f"{inside} | {gaussian_nll(new.energy, variance):.2f} | {np.mean(new.energy**2 / variance):.2f}")
    return f"| {name} | {exponents[0]:g}, {exponents[1]:g} | {' | '.join(cells)} |"


if __name__ == "__main__":
    given = arguments(__doc__, molecule="CH3CH2OH", out="runs/shifts", epochs=60)
    torch.set_num_threads(1)
    keep_freed_memory()
    folder = Path(given.out) / given.molecule
    labelled(given.molecule, folder)
    found = residuals(run(folder, given.epochs), folder)
    kept = {f"{kind} {f.name}": getattr(r, f.name) for kind, r in found.items() for f in fields(r) if getattr(r, f.name) is not None}
    np.savez_compressed(folder / "residuals.npz", **kept)
    for kind, each in found.items():
        forces, energy = (1e3 * np.sqrt(np.mean(np.square(x))) for x in (each.forces, each.energy))
        print(f"{given.molecule} {kind}: forces {forces:.1f} meV/Å, energy {energy:.1f} meV")
    print("| molecule | degree | b | g |" + " 68/90/95 % | NLL | d² |" * 3)
    for degree in DEGREES:
        print(line(given.molecule, degree, found), flush=True)
    print("| molecule | exponents of energies |" + " 68/90/95 % | NLL | d² |" * 3)
    for exponents in TRIED:
        print(energy_line(given.molecule, exponents, found), flush=True)
    for members in FEW:
        some = residuals(folder / "model", folder, members)
        print(f"{members} members: calibrated by {fit_energy(some['calibration']).way}; equal weights, and those of the calibration:")
        for weights in (None, members):
            print(energy_line(given.molecule, tuple(EXPONENTS.values()), some, weights), flush=True)
