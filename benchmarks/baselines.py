"""What a baseline costs: a step of ten members (random weights) with each; and an SCF from the last density against one from nothing."""

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from common import arguments, calculator_of, interleaved, report, start, untrained

from race_calc import RACECalculator
from race_calc.data.graph import from_atoms
from race_calc.label.calculated import Calculated
from race_calc.label.methods import Method
from race_calc.model.hardware import keep_freed_memory

MODEL = {"hidden_irreps": "32x0e+32x1o+16x2e", "radial_hidden": (16,)}
NAMES = ("none", "zbl", "gfn2-xtb", "gfn1-xtb")


def calculator(baseline: str, dtype: str) -> RACECalculator:
    checkpoint = untrained((1, 6, 7, 8), 10, 14.0, baseline=baseline, **MODEL)
    if baseline not in ("none", "zbl"):
        checkpoint = replace(checkpoint, baseline={"code": Method(baseline).code()})
    return calculator_of(checkpoint, dtype)


if __name__ == "__main__":
    given = arguments(__doc__, rounds=20, dtype="float64")
    keep_freed_memory()
    atoms, rng = start(300.0, 0), np.random.default_rng(0)

    def moved() -> None:
        atoms.positions += 1e-3 * rng.normal(size=atoms.positions.shape)

    def step(one: RACECalculator) -> None:
        moved()
        atoms.calc = one
        atoms.get_forces()

    def scf(baseline: Calculated) -> None:
        moved()
        baseline(from_atoms(atoms, 1.0))

    calculators = {name: calculator(name, given.dtype) for name in NAMES}
    last, anew = (Calculated(Method("gfn2-xtb"), goes_on) for goes_on in (True, False))
    steps = {name: partial(step, one) for name, one in calculators.items()}
    times = interleaved(steps | {"SCF, on": partial(scf, last), "SCF, anew": partial(scf, anew)}, given.rounds)
    off = []
    for _ in range(given.rounds):
        moved()
        graph = from_atoms(atoms, 1.0)
        off.append(np.abs(last(graph).forces - anew(graph).forces).max())
    report(
        given,
        {
            "threads": torch.get_num_threads(),
            **{f"step, {name}, ms": times[name] for name in NAMES},
            **{f"step, {name} / none": times[name] / times["none"] for name in NAMES[1:]},
            "SCF from the last density, ms": times["SCF, on"],
            "SCF from nothing, ms": times["SCF, anew"],
            "largest difference of their forces, eV/Å": float(max(off)),
        },
    )
