"""What a baseline costs: a step of ten members (random weights) with each, also for copies of the molecule beside one another; and an SCF
from the last density against one from nothing."""

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from ase import Atoms
from common import arguments, calculator_of, interleaved, report, start, untrained

from race_calc import RACECalculator
from race_calc.data.graph import from_atoms
from race_calc.label.calculated import Calculated
from race_calc.label.methods import Method
from race_calc.model.hardware import keep_freed_memory

MODEL = {"hidden_irreps": "32x0e+32x1o+16x2e", "radial_hidden": (16,)}
NAMES = ("none", "zbl", "gfn2-xtb", "gfn1-xtb")
COPIES = (4, 8)


def calculator(baseline: str, dtype: str) -> RACECalculator:
    checkpoint = untrained((1, 6, 7, 8), 10, 14.0, baseline=baseline, **MODEL)
    if baseline not in ("none", "zbl"):
        checkpoint = replace(checkpoint, baseline={"code": Method(baseline).code()})
    return calculator_of(checkpoint, dtype)


def moved_step(atoms: Atoms, one: RACECalculator, rng: np.random.Generator) -> None:
    """Forces after a small step of all atoms."""
    atoms.positions += 1e-3 * rng.normal(size=atoms.positions.shape)
    atoms.calc = one
    atoms.get_forces()


if __name__ == "__main__":
    given = arguments(__doc__, rounds=20, dtype="float64")
    keep_freed_memory()
    atoms, rng = start(300.0, 0), np.random.default_rng(0)

    def moved() -> None:
        atoms.positions += 1e-3 * rng.normal(size=atoms.positions.shape)

    def scf(baseline: Calculated) -> None:
        moved()
        baseline(from_atoms(atoms, 1.0))

    calculators = {name: calculator(name, given.dtype) for name in NAMES}
    last, anew = (Calculated(Method("gfn2-xtb"), goes_on) for goes_on in (True, False))
    steps = {name: partial(moved_step, atoms, one, rng) for name, one in calculators.items()}
    times = interleaved(steps | {"SCF, on": partial(scf, last), "SCF, anew": partial(scf, anew)}, given.rounds)
    off = []
    for _ in range(given.rounds):
        moved()
        graph = from_atoms(atoms, 1.0)
        off.append(np.abs(last(graph).forces - anew(graph).forces).max())
    large = {}
    for count in COPIES:
        many = atoms.copy()
        for k in range(1, count):
            one = atoms.copy()
            one.positions += [15.0 * k, 0, 0]
            many += one
        found = interleaved({name: partial(moved_step, many, calculators[name], rng) for name in ("none", "gfn2-xtb")}, 5)
        large[f"{len(many)} atoms, none, ms"] = found["none"]
        large[f"{len(many)} atoms, gfn2-xtb, ms"] = found["gfn2-xtb"]
    report(
        given,
        {
            "threads": torch.get_num_threads(),
            **{f"step, {name}, ms": times[name] for name in NAMES},
            **{f"step, {name} / none": times[name] / times["none"] for name in NAMES[1:]},
            "SCF from the last density, ms": times["SCF, on"],
            "SCF from nothing, ms": times["SCF, anew"],
            "largest difference of their forces, eV/Å": float(max(off)),
            **large,
        },
    )
