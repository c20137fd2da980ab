"""Trains mace-torch on the 450 frames of 3BPA for so many CPU minutes on one thread, and measures its errors.

    python benchmarks/mace_training.py --data FOLDER_WITH_3BPA --json FILE [--minutes 15] [--size 64x0e+64x1o]
        [--batch 5] [--rate 0.01] [--e0s isolated] [--dtype float32] [--setup 1]

The trainer is MACE's own (mace_run_train): AMSGrad, EMA 0.99, weight decay 5e-7, rate lowered on plateaus, stage two in the last
fifth of the epochs; the patience of the schedule is 50 of 1,500 epochs, as it would be in a full training. Its CPU time is that of
the loop over the epochs, with its validations; reading the data, building the model and MACE's own tables come on top ("minutes of
the process"). The epochs are as many as fit, by the time of an epoch measured before. --e0s: isolated (iso_atoms.xyz) or average.
Each call adds a case to FILE; a case that it holds already is left alone.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from argparse import Namespace
from pathlib import Path

import numpy as np
from ase.io import read, write
from common import arguments
from equal_minutes import add, epochs_of, errors, frames, line, load, rmse
from mace_environment import PYTHON, ready

from race_calc.data.dataset import Dataset, read_dataset

SIZES = {  # channels, largest l of the messages; 2 layers, correlation 3, l_max 3, cutoff 5 Å
    "64x0e+64x1o": (64, 1),
    "32x0e+32x1o": (32, 1),
    "64x0e": (64, 0),
}
ALLOWED = {"size": SIZES, "e0s": ("isolated", "average"), "dtype": ("float32", "float64")}
TRAIN = """
import sys, time
from mace import tools
from mace.cli import run_train
loop, spent = tools.train, []
def timed(*args, **kwargs):
    began = time.process_time()
    loop(*args, **kwargs)
    spent.append(time.process_time() - began)
tools.train = timed
run_train.main()
print("seconds of training:", sum(spent))
"""
DOUBLE = "import sys, mace, torch; torch.save(torch.load(sys.argv[1], map_location='cpu').double(), sys.argv[2])"


def called(command: list[str], folder: Path) -> str:
    """What a command of the MACE environment prints, on one thread; ends the script where it fails."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run([str(PYTHON), "-W", "ignore", *command], capture_output=True, text=True, cwd=folder, env=environment)
    if done.returncode:
        sys.exit(f"MACE ended with status {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def check(given: Namespace) -> None:
    """End the script with a message where a named setting is not one of the table."""
    for option, values in ALLOWED.items():
        if getattr(given, option) not in values:
            sys.exit(f"--{option} {getattr(given, option)} is not known: give one of {', '.join(values)}")


def settings(given: Namespace, epochs: int, atoms: dict[int, float]) -> list[str]:
    """Options of mace_run_train."""
    channels, largest = SIZES[given.size]
    options = {
        "name": "mace", "model": "MACE", "num_channels": channels, "max_L": largest, "max_ell": 3, "correlation": 3,
        "num_interactions": 2, "r_max": 5.0, "train_file": "train.xyz", "valid_file": "valid.xyz", "energy_key": "REF_energy",
        "forces_key": "REF_forces", "E0s": "average" if given.e0s == "average" else str(atoms), "batch_size": given.batch,
        "valid_batch_size": 10, "lr": given.rate, "weight_decay": 5e-7, "ema_decay": 0.99, "max_num_epochs": epochs,
        "patience": epochs, "scheduler_patience": max(1, round(epochs / 30)), "start_swa": max(1, int(0.8 * epochs)),
        "default_dtype": given.dtype, "device": "cpu", "seed": 0, "plot": False,
    }  # fmt: skip
    return [f"--{key}={value}" for key, value in options.items()] + ["--amsgrad", "--ema", "--swa"]


def trained(given: Namespace, epochs: int, atoms: dict[int, float], folder: Path) -> dict[str, float]:
    """CPU minutes of a training, which leaves mace_stagetwo.model in a folder that holds train.xyz and valid.xyz."""
    shutil.rmtree(folder / f"epochs{epochs}", ignore_errors=True)  # MACE would load a checkpoint of a run before
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    printed = called(["-c", TRAIN, *settings(given, epochs, atoms), f"--work_dir=epochs{epochs}"], folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    whole = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    seconds = float(printed.rsplit("seconds of training:", 1)[1])
    return {"minutes": seconds / 60, "minutes of the process": whole / 60}


def save(path: Path, dataset: Dataset) -> None:
    """The frames with the labels under the names that MACE asks for."""
    labelled = []
    for atoms, energy, forces in zip(dataset.structures, dataset.energy, dataset.forces):
        labelled.append(atoms.copy())
        labelled[-1].info = {"REF_energy": float(energy)}
        labelled[-1].arrays["REF_forces"] = forces
    write(path, labelled, format="extxyz")


def found_errors(sets: dict[str, Dataset], model: Path, folder: Path) -> dict[str, float]:
    """RMSE of a model on each set, computed in float64: the total energies have eight digits."""
    called(["-c", DOUBLE, str(model), "double.model"], folder)
    row = {}
    for name, dataset in sets.items():
        save(folder / "asked.xyz", dataset)
        command = "--configs=asked.xyz --model=double.model --output=told.xyz --default_dtype=float64 --batch_size=16"
        called(["-m", "mace.cli.eval_configs", *command.split()], folder)
        told = read(folder / "told.xyz", ":")
        energy = rmse(np.array([atoms.info["MACE_energy"] for atoms in told]) - dataset.energy)
        differences = [(atoms.arrays["MACE_forces"] - label).ravel() for atoms, label in zip(told, dataset.forces)]
        row |= errors(name, rmse(np.concatenate(differences)), energy)
    return row


def measured(given: Namespace, data: Path) -> dict:
    """Settings, epochs, CPU minutes and errors of a case."""
    isolated = read_dataset(data / "iso_atoms.xyz")
    atoms = {int(a.numbers[0]): float(energy) for a, energy in zip(isolated.structures, isolated.energy)}
    sets = frames(data)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(folder / "train.xyz", read_dataset(data / "train_300K.xyz", "0:450"))
        save(folder / "valid.xyz", sets["validation"])
        epochs = epochs_of(given.minutes, lambda some: trained(given, some, atoms, folder)["minutes"])
        used = trained(given, epochs, atoms, folder)
        row = {"code": "MACE", "budget": given.minutes, "size": given.size, "batch": given.batch, "rate": given.rate}
        row |= {"E0": given.e0s, "dtype": given.dtype, "epochs": epochs, **used}
        return row | found_errors(sets, folder / f"epochs{epochs}" / "mace_stagetwo.model", folder)


if __name__ == "__main__":
    options = {"minutes": 15.0, "size": "64x0e+64x1o", "batch": 5, "rate": 0.01, "e0s": "isolated", "dtype": "float32"}
    given = arguments(__doc__, data=".", setup=0, **options)
    check(given)
    if not given.json:
        sys.exit("give --json FILE: what is done already is read from it")
    ready(bool(given.setup))
    case = ", ".join(("MACE", *(f"{option} {getattr(given, option)}" for option in options)))
    if case not in load(Path(given.json)):
        add(Path(given.json), case, measured(given, Path(given.data).resolve()))
    print(line(case, load(Path(given.json))[case]))
