"""Ways to train the joint likelihood, at equal budget, on 3BPA and two molecules of rMD17; beside squared errors alone.

    python benchmarks/recipes.py --data FOLDER_WITH_3BPA_AND_RMD17     (subfolders 3bpa and rmd17)

Everything else is `models/3bpa-de/train.yaml`, with fewer members and epochs; rMD17 in batches of five.
"""

import json
from pathlib import Path

import yaml
from common import MODEL, arguments, report, trained

from race_calc.data.dataset import read_dataset
from race_calc.evaluate.errors import evaluate_dataset
from race_calc.interfaces.stack_predictor import StackPredictor
from race_calc.model.hardware import keep_freed_memory

given = arguments(__doc__, data=".", members=2, epochs=20)
keep_freed_memory()
RECIPES = {
    "joint": {},
    "beta-nll": {"recipe": "beta-nll"},
    "warm-start": {"recipe": "warm-start"},
    "detached": {"recipe": "detached"},
    "squared errors": None,  # head mse
}
DATA = {
    "3bpa": (dict(train="3bpa/train_300K.xyz", isolated_atoms="3bpa/iso_atoms.xyz"), ("id_300K.xyz", "ood_600K.xyz", "ood_1200K.xyz"), {}),
    "ethanol": (dict(train="rmd17/rmd17_ethanol_01.npz#train"), ("rmd17_ethanol_01.npz#test",), {"batch_size": 5}),
    "malonaldehyde": (dict(train="rmd17/rmd17_malonaldehyde_01.npz#train"), ("rmd17_malonaldehyde_01.npz#test",), {"batch_size": 5}),
}
done = Path(given.json) if given.json else None  # finished cases are not trained again
results = json.loads(done.read_text()) if done and done.exists() else {}
results.pop("command", None)
for name, (data, tests, settings) in DATA.items():
    for recipe, changes in RECIPES.items():
        if any(key.startswith(f"{recipe}, {name} ") for key in results):
            continue
        content = yaml.safe_load((MODEL / "train.yaml").read_text())
        content["data"] = {"validation": 50, "validation_from": "last", **data}
        content["members"] = given.members
        content["training"] |= {"epochs": given.epochs} | settings | (changes or {})
        content["model"]["head"] = "mse" if changes is None else "joint"
        stack = trained(content, Path(given.data))
        for test in tests:
            found = evaluate_dataset(StackPredictor(stack), read_dataset(Path(given.data) / Path(data["train"]).parent / test))
            key = f"{recipe}, {name} {test.split('.')[0] if name == '3bpa' else 'test'}"
            results[f"{key}: energy RMSE, meV"] = 1e3 * found.energy.rmse
            results[f"{key}: force RMSE, meV/Å"] = 1e3 * found.forces.rmse
            results[f"{key}: force NLL"] = found.forces.nll
        if done:
            done.write_text(json.dumps(results))
        print({k: round(v, 2) for k, v in results.items() if k.startswith(f"{recipe}, {name}") and v is not None}, flush=True)
report(given, results)
