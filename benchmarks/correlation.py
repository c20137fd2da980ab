"""A step of ten members without and with products, and of the model that was shipped before it had any (random weights)."""

import numpy as np
import torch
from common import arguments, calculator_of, interleaved, report, start, untrained

from race_calc import RACECalculator
from race_calc.model.hardware import keep_freed_memory

BASE = {"hidden_irreps": "32x0e+32x1o+16x2e", "l_max": 2, "layers": 3, "features_dim": 32, "cutoff": 5.0}
MODELS = {
    "shipped before": {"correlation": 1, "radial_hidden": (32, 32)},
    **{f"correlation {n}": {"correlation": n, "radial_hidden": (16,)} for n in (1, 2, 3)},
}


if __name__ == "__main__":
    given = arguments(__doc__, rounds=40, dtype="float64")
    keep_freed_memory()
    atoms, rng = start(300.0, 0), np.random.default_rng(0)

    def step(one: RACECalculator) -> None:
        atoms.calc = one
        atoms.positions += 1e-3 * rng.normal(size=atoms.positions.shape)
        atoms.get_forces()

    calculators = {
        name: calculator_of(untrained((1, 6, 7, 8), 10, 14.0, **(BASE | changes)), given.dtype) for name, changes in MODELS.items()
    }
    times = interleaved({name: lambda one=one: step(one) for name, one in calculators.items()}, given.rounds)
    found = {f"{name}, ms": value for name, value in times.items()}
    ratios = {f"{name} / shipped before": value / times["shipped before"] for name, value in times.items() if name != "shipped before"}
    report(given, {"threads": torch.get_num_threads(), **found, **ratios})
