"""Independent structures of one kind, as many as wanted: normal modes of a molecule drawn at a temperature, some labelled with GFN2-xTB.

    python benchmarks/normal_modes.py --molecule CH3CH2OH --temperature 300 --out FOLDER

Needs tblite and ASE, nothing of this package. The coordinates of a classical harmonic oscillator are normally distributed with a
standard deviation of √(k_B T)/ω in mass-weighted coordinates, so that structures are drawn without a chain between them. Writes
train.xyz and calibration.xyz (with energy and forces), new.xyz (without) and isolated.xyz (one atom of each element).
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.optimize import BFGS
from tblite.ase import TBLite

STEP = 5e-3  # Å, of the finite differences of the Hessian


def minimum(name: str) -> Atoms:
    """The relaxed molecule, with its calculator."""
    atoms = molecule(name)
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    BFGS(atoms, logfile=None).run(fmax=1e-4, steps=500)
    return atoms


def modes(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Angular frequencies (3N − 6,) in ASE's units, and displacements (3N − 6, 3N) for one unit of each mass-weighted coordinate."""
    at, size = atoms.get_positions(), 3 * len(atoms)
    hessian = np.empty((size, size))
    for k in range(size):
        forces = []
        for sign in (1, -1):
            moved = at.copy().ravel()
            moved[k] += sign * STEP
            atoms.set_positions(moved.reshape(-1, 3))
            forces.append(atoms.get_forces().ravel())
        hessian[k] = (forces[1] - forces[0]) / (2 * STEP)
    atoms.set_positions(at)
    weight = np.repeat(atoms.get_masses() ** -0.5, 3)
    squared, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T) * np.outer(weight, weight))
    if squared[6] <= 0:
        raise SystemExit(f"{atoms.symbols}: not a minimum, the seventh eigenvalue is {squared[6]:.3g}")
    return np.sqrt(squared[6:]), (vectors[:, 6:] * weight[:, None]).T


def draw(atoms: Atoms, temperature: float, count: int, rng: np.random.Generator) -> list[Atoms]:
    frequencies, displacements = modes(atoms)
    amplitudes = rng.standard_normal((count, len(frequencies))) * np.sqrt(units.kB * temperature) / frequencies
    return [Atoms(atoms.symbols, atoms.positions + step.reshape(-1, 3)) for step in amplitudes @ displacements]


def labelled(structures: list[Atoms], calculator: TBLite) -> list[Atoms]:
    for atoms in structures:
        atoms.calc = calculator
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **results)
    return structures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--molecule", default="CH3CH2OH", help="a name that ase.build.molecule knows")
    parser.add_argument("--temperature", type=float, default=300.0)
    parser.add_argument("--train", type=int, default=500)
    parser.add_argument("--calibration", type=int, default=2000)
    parser.add_argument("--new", type=int, default=50000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    out, rng = Path(given.out), np.random.default_rng(given.seed)
    out.mkdir(parents=True, exist_ok=True)
    relaxed = minimum(given.molecule)
    with_labels = given.train + given.calibration
    found = draw(relaxed, given.temperature, with_labels + given.new, rng)
    known = labelled(found[:with_labels], relaxed.calc)
    for name, chosen in (("train", known[: given.train]), ("calibration", known[given.train :]), ("new", found[with_labels:])):
        write(out / f"{name}.xyz", chosen)
    # spins are those of the ground states
    alone = [Atoms(symbol) for symbol in sorted(set(relaxed.get_chemical_symbols()))]
    for atom in alone:
        atom.info["config_type"] = "IsolatedAtom"
        atom.calc = TBLite(method="GFN2-xTB", verbosity=0, multiplicity={"H": 2, "C": 3, "N": 4, "O": 3, "F": 2}[atom.symbols[0]])
        atom.calc = SinglePointCalculator(atom, energy=atom.get_potential_energy(), forces=np.zeros((1, 3)))
    write(out / "isolated.xyz", alone)
