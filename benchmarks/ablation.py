"""What the training choices give at equal budget: the shipped 3BPA configuration with fewer members and epochs.

python benchmarks/ablation.py --data FOLDER_WITH_3BPA
"""

from pathlib import Path

import yaml
from common import MODEL, arguments, report, trained

from race_calc.data.dataset import read_dataset
from race_calc.evaluate.errors import evaluate_dataset
from race_calc.interfaces.calculator import StackPredictor
from race_calc.model.hardware import keep_freed_memory

given = arguments(__doc__, data=".", members=2, epochs=20)
keep_freed_memory()
CASES = {
    "as shipped": {},
    "recipe detached": {"training": {"recipe": "detached"}},
    "no smoothness": {"training": {"smoothness": 0.0}},
    "no repulsion": {"model": {"repulsion": "none"}},
    "neither": {"training": {"smoothness": 0.0}, "model": {"repulsion": "none"}},
}
results = {}
for case, changes in CASES.items():
    content = yaml.safe_load((MODEL / "train.yaml").read_text())
    content["members"] = given.members
    content["training"] |= {"epochs": given.epochs} | changes.get("training", {})
    content["model"] |= changes.get("model", {})
    posterior = trained(content, Path(given.data))
    for name in ("id_300K", "ood_600K", "ood_1200K"):
        found = evaluate_dataset(StackPredictor(posterior), read_dataset(Path(given.data) / f"{name}.xyz"))
        results[f"{case}, {name} force RMSE, meV/Å"] = 1e3 * found.forces.rmse
        results[f"{case}, {name} energy RMSE, meV"] = 1e3 * found.energy.rmse
    print({name: round(value, 1) for name, value in results.items() if name.startswith(case)}, flush=True)
report(given, results)
