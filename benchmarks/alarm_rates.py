"""Stated and measured false-alarm rates where the structures are independent and of one kind (see normal_modes.py).

    python benchmarks/alarm_rates.py --model runs/ethanol --data FOLDER [--size 100] [--sets 15]

Each of `sets` disjoint sets of `size` labelled structures calibrates the model and gives thresholds for the rates 10⁻², 10⁻³ and
10⁻⁴; then the 50,000 new structures are counted that are above them: any criterion of the default monitor, and each
criterion where it is watched alone. Printed is measured / stated, mean over the sets with its standard error, and the range of the sets.
"""

from pathlib import Path

import numpy as np
from ase.io import read
from common import arguments, report

from race_calc import RACECalculator
from race_calc.data.dataset import dataset_from_atoms
from race_calc.evaluate.calibrate import calibrate
from race_calc.evaluate.predict import Predicted, scores_of
from race_calc.uncertainty.decisions import watched
from race_calc.uncertainty.thresholds import auto_thresholds

RATES = (1e-2, 1e-3, 1e-4)

given = arguments(__doc__, model="runs/normal-modes", data=".", size=100, sets=15)
calculator = RACECalculator(given.model, device="cpu", calibrated=False)
known = read(Path(given.data) / "calibration.xyz", index=f":{given.size * given.sets}")
if len(known) < given.size * given.sets:
    raise SystemExit(f"{len(known)} structures make no {given.sets} sets of {given.size}")
new = read(Path(given.data) / "new.xyz", index=":")
raw, done = [], 0
for prediction in calculator.raw_predictions(new, 2304):
    raw.append(prediction)
    done += len(prediction.energy)
    if len(raw) % 20 == 0:
        print(f"{done} of {len(new)} structures", flush=True)
ends = np.cumsum([len(p.energy) for p in raw])
predicted = Predicted(tuple(raw), tuple(tuple(new[b - len(p.energy) : b]) for p, b in zip(raw, ends)))

ratios: dict[tuple[str, float], list[float]] = {}
for k in range(given.sets):
    dataset = dataset_from_atoms(known[k * given.size : (k + 1) * given.size])
    calibration, own = calibrate(calculator, dataset)
    scores, of_set = scores_of(predicted.calibrated(calibration)), scores_of(own.calibrated(calibration))
    names = watched(scores, {})
    for rate in RATES:
        together = auto_thresholds(of_set, rate, names)
        above = np.any([scores[name] > together[name] for name in names], axis=0)
        ratios.setdefault(("default monitor", rate), []).append(float(above.mean()) / rate)
        for name, threshold in auto_thresholds(of_set, rate).items():
            ratios.setdefault((f"{name} alone", rate), []).append(float((scores[name] > threshold).mean()) / rate)
    monitor = ", ".join(f"{ratios['default monitor', rate][-1]:.2f}" for rate in RATES)
    print(f"set {k + 1} of {given.sets}: default monitor {monitor}", flush=True)

found = {"structures": len(new), "criteria of the default monitor": ", ".join(names)}
for name in dict.fromkeys(name for name, _ in ratios):
    for rate in RATES:
        values = np.array(ratios[name, rate])
        how = "counted" if rate * (given.size + 1) >= 1 else "extrapolated"
        error = values.std(ddof=1) / np.sqrt(len(values))
        found[f"{name}, {rate:g} ({how})"] = f"{values.mean():.2f} ± {error:.2f}, {values.min():.2f} to {values.max():.2f}"
for name in names:
    logs = np.log(scores[name])
    z = (logs - logs.mean()) / logs.std()
    found[f"{name}: std and skewness of the logs"] = f"{logs.std():.3f}, {np.mean(z**3):.2f}"
report(given, found)
