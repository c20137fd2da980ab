"""Do differences of energies have the errors that `race_calc.difference` says? Random pairs of frames of 3BPA at one temperature.

    python benchmarks/differences.py --data FOLDER_WITH_3BPA [--model models/3bpa-de]

Prints RMSE and mean σ (meV) and the percent of pairs inside 68, 90 and 95 % intervals: of σ from the members' differences as the
package has it, and of energies that were independent.
"""

from pathlib import Path

import numpy as np
import torch
from common import MODEL, arguments
from split import test

from race_calc import RACECalculator
from race_calc.observables.difference import difference
from race_calc.uncertainty.metrics import LEVELS, coverage

PAIRS = 300

if __name__ == "__main__":
    given = arguments(__doc__, data=".", model=str(MODEL))
    torch.set_num_threads(1)
    calculator = RACECalculator(given.model, "cpu")
    for name, data in test(Path(given.data)).items():
        rng, rows = np.random.default_rng(0), []
        for _ in range(PAIRS):
            i, j = rng.choice(len(data), 2, replace=False)
            a, b = data.structures[i], data.structures[j]
            found = difference(calculator, a, b)
            apart = np.hypot(*(calculator.get_property("energy_uncertainty", atoms) for atoms in (a, b)))
            rows.append((found.value - (data.energy[j] - data.energy[i]), found.std, apart))
        error, std, independent = np.array(rows).T
        for kind, sigma in (("by members", std), ("independent", independent)):
            inside = " / ".join(f"{100 * coverage(error, sigma, level):.0f}" for level in LEVELS)
            print(f"| {name} | {kind} | {1e3 * np.sqrt(np.mean(error**2)):.1f} | {1e3 * sigma.mean():.1f} | {inside} |", flush=True)
