"""The paper's phase test with stress: trained on liquid silicon only, what does each posterior make of the solid?

    python benchmarks/phases.py --system qe     --data FOLDER_OF_si_qe_liquid_solid --runs runs/phases-qe
    python benchmarks/phases.py --system mlearn --data FOLDER_OF_mlearn             --runs runs/phases-mlearn

As the paper does, the settings of a posterior are those with the best unified score (`race_calc.evaluate.unified_score`) on the
validation frames of the liquid and on DEVELOPMENT, every fourth frame of the solid; the tables are of the test frames of the liquid
and of the other frames of the solid. Nothing is recalibrated. Errors: meV/atom, meV/Å, GPa. CE: calibration error, 0 to 1/3. AUROC of the
liquid against the solid, by the epistemic σ where there is one. Runs that are interrupted are resumed. Writes `phases.json` and
`phases.md` into --runs.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from ase import units
from common import arguments
from runs import CPU, merged, trained

from race_calc.data.dataset import Dataset
from race_calc.data.sources import read_sources
from race_calc.evaluate.assessment import RELATIVE_ERROR, Assessment, assess
from race_calc.evaluate.unified_score import Errors, mean_term, unified_terms
from race_calc.interfaces.stack_predictor import StackPredictor
from race_calc.model.hardware import keep_freed_memory
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.load import load_stack
from race_calc.train.config import TrainConfig, parse_config
from race_calc.train.fit import Request, fit_posterior
from race_calc.train.labels import read_labelled
from race_calc.uncertainty.detection import auroc

CONFIG = Path(__file__).parent / "configs" / "phases.yaml"
DEVELOPMENT = 4  # every fourth frame of the solid


@dataclass(frozen=True)
class System:
    """Files and frames: of the liquid to train on and `validation`, how many of them; to test; of the solid."""

    train: list[str]
    validation: int
    liquid: list[str]
    solid: list[str]
    epochs: int


SYSTEMS = {
    "qe": System(["liquid_train.xyz"], 42, ["liquid_test.xyz"], ["solid_ood.xyz"], 20),
    "mlearn": System(
        ["Si_liquid.xyz@:36", "Si_vacancy_liquid.xyz@:27"],
        15,
        ["Si_liquid.xyz@36:", "Si_vacancy_liquid.xyz@27:"],
        ["Si_solid.xyz", "Si_vacancy_solid.xyz", "Si_elastic.xyz"],
        80,
    ),
}
CASES = {  # posterior → settings to choose from
    "MVE": [{"posterior": "mve", "members": 1, "training": {"learning_rate": rate}} for rate in (0.008, 0.016)],
    "DE": [{"posterior": "deep-ensemble", "members": 5, "training": {"learning_rate": rate}} for rate in (0.008, 0.016)],
    "SWAG": [{"posterior": "swag", "members": 16, "training": {"learning_rate": rate}} for rate in (0.008, 0.016)],
    "IVON": [
        {"posterior": "ivon", "members": 16, "model": {"head": "joint"}, "training": {"learning_rate": rate, "epochs": 2}}
        for rate in (0.016, 0.05)
    ],
}
SCORES = {
    "E": ("energy_uncertainty_per_atom_epistemic", "energy_uncertainty_per_atom"),
    "F": ("forces_uncertainty_rms_epistemic", "forces_uncertainty_rms"),
    "S": ("stress_uncertainty_max_epistemic", "stress_uncertainty_max"),
}


def configuration(system: System, changes: dict) -> TrainConfig:
    """`epochs` of the changes: times those of the system."""
    content = yaml.safe_load(CONFIG.read_text())
    content["data"] |= {"train": system.train, "validation": system.validation}
    content = merged(content, changes)
    content["training"]["epochs"] = system.epochs * changes["training"].get("epochs", 1)
    return parse_config(content)


def run(name: str, system: System, changes: dict, data: Path, folder: Path) -> None:
    """Train, unless it is finished."""
    if not (folder / "weights.safetensors").exists():
        trained(name, configuration(system, changes), data, folder)


def validation(folder: Path, data: Path) -> Dataset:
    """The frames of the liquid that chose the weights of a run."""
    config = parse_config(load_checkpoint(folder).training["config"])
    return read_labelled(config.data, data, config.training.seed, []).validation


def score_of(found: Assessment, name: str) -> np.ndarray | None:
    return next((found.evaluation.scores[one] for one in SCORES[name] if one in found.evaluation.scores), None)


def detection(known: Assessment, other: Assessment, name: str) -> float | None:
    values = score_of(known, name)
    return None if values is None else auroc(values, score_of(other, name))


def unified(liquid: Assessment, solid: Assessment, labels: Dataset) -> float:
    """The score by which settings are chosen: errors and calibration of the liquid, detection of the solid by energies. References: 5 % of
    the spread of the labels of the liquid."""
    quality, found = liquid.before_quality, liquid.evaluation
    sizes = np.array([len(atoms) for atoms in labels.structures])
    energies = float(np.std(np.asarray(labels.energy) / sizes) * sizes.mean())
    forces = float(np.sqrt(np.mean(np.concatenate(labels.forces) ** 2)))
    ce = [quality[kind].calibration_error.value for kind in ("energy", "forces")]
    errors = Errors(found.energy.rmse, found.forces.rmse, *ce)
    return mean_term(unified_terms(errors, detection(liquid, solid, "E") or 0.5, RELATIVE_ERROR * energies, RELATIVE_ERROR * forces))


def row(liquid: Assessment, solid: Assessment) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name, one in (("liquid", liquid), ("solid", solid)):
        e, f, s = one.evaluation.energy_per_atom, one.evaluation.forces, one.evaluation.stress
        found |= {f"RMSE E {name}": 1e3 * e.rmse, f"RMSE F {name}": 1e3 * f.rmse}
        found |= {f"RMSE S {name}": None if s is None else s.rmse / units.GPa}
        for kind, quantity in (("E", "energy"), ("F", "forces"), ("S", "stress")):
            level = one.before_quality.get(quantity)
            found[f"CE {kind} {name}"] = None if level is None else level.calibration_error.value
    return found | {f"AUROC {kind}": detection(liquid, solid, kind) for kind in SCORES}


def table(results: dict) -> str:
    text = lambda value, digits: "–" if value is None else f"{value:.{digits}f}"  # noqa: E731
    lines = ["| posterior | settings | RMSE E / F / S liquid | solid | CE E / F / S liquid | solid | AUROC E / F / S |", "|" + "---|" * 7]
    for name, one in results.items():
        cells = [
            " / ".join(text(one[f"RMSE {kind} {phase}"], digits) for kind, digits in (("E", 1), ("F", 0), ("S", 2)))
            for phase in ("liquid", "solid")
        ]
        cells += [" / ".join(text(one[f"CE {kind} {phase}"], 3) for kind in "EFS") for phase in ("liquid", "solid")]
        cells += [" / ".join(text(one[f"AUROC {kind}"], 3) for kind in "EFS")]
        lines.append(f"| {name} | {one['settings']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    given = arguments(__doc__, system="qe", data=".", runs="runs/phases", only="")
    keep_freed_memory()
    system, data, runs = SYSTEMS[given.system], Path(given.data), Path(given.runs)
    liquid, solid = read_sources(data, system.liquid), read_sources(data, system.solid)
    development = solid.subset(range(0, len(solid), DEVELOPMENT))
    others = solid.subset([i for i in range(len(solid)) if i % DEVELOPMENT])
    path = runs / "phases.json"
    results = json.loads(path.read_text()) if path.exists() else {}

    def judged(folder: Path, *sets: Dataset) -> list[Assessment]:
        stack = load_stack(load_checkpoint(folder), torch.float64, CPU)
        return [assess(StackPredictor(stack), None, one) for one in sets]

    for name, settings in CASES.items():
        if name in results or (given.only and name not in given.only.split(",")):
            continue
        chosen = {}
        for changes in settings:
            folder = runs / f"{name.lower()}-{changes['training']['learning_rate']:g}"
            try:
                run(f"{name} {changes['training']}", system, changes, data, folder)
                known = validation(folder, data)
                chosen[folder] = unified(*judged(folder, known, development), known)
            except ValueError as error:  # a training that diverged gives no numbers
                print(f"{folder}: left out, {error}", flush=True)
                continue
            print(f"{folder}: unified score {chosen[folder]:.3f}", flush=True)
        if not chosen:
            continue
        best = min(chosen, key=chosen.get)
        results[name] = {"settings": f"rate {best.name.split('-')[1]}", "scores": {f.name: s for f, s in chosen.items()}}
        results[name] |= row(*judged(best, liquid, others))
        if name == "MVE" and "LLPR" not in results:
            fitted = runs / "llpr"
            if not (fitted / "weights.safetensors").exists():
                fit_posterior(load_checkpoint(best), Request("llpr"), data, fitted, CPU)
            results["LLPR"] = {"settings": f"on MVE {best.name.split('-')[1]}"} | row(*judged(fitted, liquid, others))
        path.write_text(json.dumps(results, indent=1))
        print(table(results), flush=True)
    (runs / "phases.md").write_text(table(results))
