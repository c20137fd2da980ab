"""QM9: twelve properties on one trunk at 1,000 to 10,000 molecules, U0 and μ also as models of their own, beside published errors.

    pip install --no-deps qm9pack && python benchmarks/qm9.py --runs runs/qm9 [--models all-10000,U0-10000]

Trains what is not there yet (configs/qm9.yaml), resumes what was interrupted. 500 molecules choose the epoch, 1,000 others calibrate,
10,000 others test; the smaller training sets are the first molecules of the larger ones. `--models all-110000` is the full run, as large as
that of the paper: about 7 hours of one core. Writes `table.md` and `results.json` into --runs.
"""

import json
from pathlib import Path

import yaml
from common import arguments
from qm9_data import REST, TARGETS, files
from runs import counted, minutes, trained

from race_calc import PropertyModel
from race_calc.data.dataset import Dataset
from race_calc.data.properties import of_property, read_properties
from race_calc.evaluate.properties import calibrated_property, property_errors
from race_calc.model.hardware import keep_freed_memory
from race_calc.posterior.calibrations import save_calibration
from race_calc.train.config import parse_config

BASE = Path(__file__).parent / "configs" / "qm9.yaml"
FULL = 110_000
EPOCHS = {1_000: 160, 2_000: 120, 5_000: 80, 10_000: 60, FULL: 60}  # by molecules: smaller sets need more, and cost less
ALONE = ("U0", "mu")  # as the paper does it
MEV = ("homo", "lumo", "delta_eps", "zpve", "U0", "U", "H", "G")  # told in meV, the others in the units of the labels
UNITS = {"mu": "D", "alpha": "a₀³", "r2": "a₀²", "Cv": "cal/(mol K)"} | dict.fromkeys(MEV, "meV")
PAPER = {  # RACE (MSE), a model for each target, 110,000 molecules (Willow et al.)
    "alpha": 0.048, "delta_eps": 64, "homo": 39, "lumo": 32, "mu": 0.027, "Cv": 0.023, "G": 8.22, "H": 5.89, "r2": 0.311, "U": 5.99,
    "U0": 5.61, "zpve": 1.15,
}  # fmt: skip
PUBLISHED = {  # U0 in meV by molecules: runs in the repository of Ward et al., MRS Communications 9, 891 (2019)
    "FCHL (2018)": {1_000: 67.8, 10_000: 21.3},
    "SchNet": {1_000: 249.4, 10_000: 72.4},
}


def made(name: str, data: Path, runs: Path) -> Path:
    """The folder of a finished and calibrated model, such as all-1000 or U0-1000."""
    which, size = name.rsplit("-", 1)
    content = yaml.safe_load(BASE.read_text())
    content["data"]["train"] = ["train.xyz", f"{REST}.xyz"] if int(size) == FULL else f"train.xyz@0:{size}"
    content["training"]["epochs"] = EPOCHS[int(size)]
    if which in ALONE:
        content["model"]["targets"] = {which: TARGETS[which][2]}
    folder = runs / name
    if not (folder / "weights.safetensors").exists():
        counted(folder, lambda: trained(name, parse_config(content), data, folder))
    if not (folder / "calibration.json").exists():
        held = read_properties(data / "calibration.xyz")
        model = PropertyModel(folder, "cpu", calibrated=False)
        for k, (target, found) in reversed([*enumerate(model.predict(held.structures).items())]):  # that of the first is written last
            save_calibration(folder, calibrated_property(found, held, target, model.members), k)
    return folder


def measured(folder: Path, test: Dataset) -> dict[str, dict[str, float]]:
    """Target → mae and coverage, in %, of calibrated 90 % intervals."""
    path = folder / "measured.json"
    if path.exists():
        return json.loads(path.read_text())
    results = {}
    for target, found in PropertyModel(folder, "cpu", calibrated=True).predict(test.structures).items():
        errors = property_errors(found, of_property(test, target).energy)
        results[target] = {"mae": errors.mae * (1e3 if target in MEV else 1.0), "coverage": 100 * errors.coverage[0.9]}
    path.write_text(json.dumps(results))
    return results


def table(results: dict[str, dict]) -> str:
    """MAE and, of one trunk, the range of the coverages."""
    sizes = [size for size in EPOCHS if f"all-{size}" in results]
    lines = [
        f"| | unit | {' | '.join(f'{size:,}' for size in sizes)} | 90 % intervals hold | paper, 110,000 |",
        "|---" * (len(sizes) + 4) + "|",
    ]
    for target in TARGETS:
        values = [f"{results[f'all-{size}'][target]['mae']:.3g}" for size in sizes]
        covered = f"{results[f'all-{sizes[-1]}'][target]['coverage']:.1f} %"
        lines.append(f"| {target} | {UNITS[target]} | {' | '.join(values)} | {covered} | {PAPER[target]} |")
    for target in ALONE:
        found = [results.get(f"{target}-{size}", {}).get(target) for size in sizes]
        if any(found):
            values = [f"{one['mae']:.3g}" if one else "–" for one in found]
            covered = f"{found[-1]['coverage']:.1f} %" if found[-1] else "–"
            lines.append(f"| {target}, a model of its own | {UNITS[target]} | {' | '.join(values)} | {covered} | |")
    for method, errors in PUBLISHED.items():
        lines.append(f"| U0, {method} | meV | {' | '.join(str(errors.get(size, '–')) for size in sizes)} | | |")
    spent = [f"{results[f'all-{size}']['cpu_minutes']:.0f}" for size in sizes]
    lines.append(f"| CPU minutes, one trunk | | {' | '.join(spent)} | | |")
    return "\n".join(lines)


if __name__ == "__main__":
    given = arguments(__doc__, runs="runs/qm9", models="")
    keep_freed_memory()
    runs = Path(given.runs)
    data = runs / "data"
    names = given.models.split(",") if given.models else [f"{which}-{size}" for size in EPOCHS if size != FULL for which in ("all", *ALONE)]
    paths = files(data, full=any(name.endswith(f"-{FULL}") for name in names))
    test, results = read_properties(paths["test"]), {}
    for name in names:
        folder = made(name, data, runs)
        results[name] = measured(folder, test) | {"cpu_minutes": minutes(folder)}
        print(name, json.dumps(results[name]), flush=True)
    if any(name.startswith("all-") for name in results):
        (runs / "table.md").write_text(table(results) + "\n")
        (runs / "results.json").write_text(json.dumps(results, indent=2) + "\n")
        print(table(results))
