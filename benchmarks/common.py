"""What the benchmark scripts share."""

import argparse
import json
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.io import read

MODEL = Path(__file__).resolve().parents[1] / "models" / "3bpa-de"


def arguments(description: str, **options) -> argparse.Namespace:
    """Command line with --model, --json and the given options (name=default)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", default=str(MODEL))
    parser.add_argument("--json", help="write the results to this file")
    for name, default in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", default=default, type=type(default))
    return parser.parse_args()


def report(given: argparse.Namespace, results: dict) -> None:
    for name, value in results.items():
        print(f"{name:44s} {value:.6g}" if isinstance(value, float) else f"{name:44s} {value}")
    if given.json:
        Path(given.json).write_text(json.dumps({"command": vars(given), **results}, indent=2) + "\n")


def start(temperature: float, seed: int) -> Atoms:
    """The shipped start structure of 3BPA with Maxwell-Boltzmann momenta."""
    atoms = read(MODEL / "start.xyz")
    width = np.sqrt(atoms.get_masses() * units.kB * temperature)[:, None]
    atoms.set_momenta(width * np.random.default_rng(seed).standard_normal((len(atoms), 3)))
    return atoms
