"""What the gap of distances adds to the default monitor: frames of MD at 300, 600 and 1200 K at the level of the training.

    python benchmarks/active_learning.py --data FOLDER_WITH_3BPA --runs runs/active --counts 0     makes the model and its data
    python benchmarks/distance_gap.py --runs runs/active

3BPA, four members that know 450 frames of GFN2-xTB at 300 K, thresholds of 50 others. Beyond: frames whose force RMSE is more than three or
five times that at 300 K. Told is how many of them a criterion of the default monitor flags, and what it flags at 300 K.
"""

from pathlib import Path

import numpy as np
from common import arguments, report

from race_calc import RACECalculator
from race_calc.data.dataset import read_dataset
from race_calc.evaluate.predict import predict_dataset, residuals_of, scores_of
from race_calc.uncertainty.decisions import GAP, watched

given = arguments(__doc__, runs="runs/active")
potential = RACECalculator(Path(given.runs) / "start", "cpu", calibrated=False)
errors, above = {}, dict[str, dict[str, np.ndarray]]()
names = [*watched(potential.thresholds, potential.thresholds), GAP]
if GAP not in potential.thresholds:
    raise SystemExit("the model tells no gap of distances: train it again")
for kelvin in ("300", "600", "1200"):
    dataset = read_dataset(Path(given.runs) / "data" / f"test-{kelvin}.xyz")
    predicted = predict_dataset(potential, dataset)
    residuals, scores = residuals_of(predicted, dataset), scores_of(predicted)
    errors[kelvin] = np.sqrt(np.bincount(residuals.frame, (residuals.forces**2).mean(axis=1)) / np.bincount(residuals.frame))
    above[kelvin] = {name: scores[name] > potential.thresholds[name] for name in names}
known = np.sqrt(np.mean(errors["300"] ** 2))
every = np.concatenate([*errors.values()])
flags = {name: np.concatenate([of_kind[name] for of_kind in above.values()]) for name in names}
flags["all but the gap"] = np.any([flags[name] for name in names[:-1]], axis=0)
flags["the default"] = flags["all but the gap"] | flags[GAP]
results: dict[str, object] = {"force RMSE at 300 K (meV/Å)": 1e3 * float(known)}
for name, flagged in flags.items():
    beyond = [f"{(flagged & (every > times * known)).sum()} of {(every > times * known).sum()}" for times in (3, 5)]
    results[name] = f"beyond 3 times: {beyond[0]}, beyond 5: {beyond[1]}, at 300 K {100 * flagged[: len(errors['300'])].mean():.1f} %"
report(given, results)
