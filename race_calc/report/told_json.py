"""What commands tell machines (`--json`): one object on the standard output. Units are in the keys; what is unknown is null."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.data import chemical_symbols

from race_calc.posterior.checkpoint import Checkpoint
from race_calc.posterior.manifest import hash_weights
from race_calc.posterior.surfaces import thresholds_of
from race_calc.uncertainty.decisions import Violation


def model_facts(folder: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """Of `race-calc info`."""
    config, record, calibration = checkpoint.model.plan.config, checkpoint.training, checkpoint.calibration
    return {
        "name": folder.resolve().name,
        "folder": str(folder),
        "elements": [chemical_symbols[z] for z in checkpoint.references.species],
        "cutoff_A": config.cutoff,
        "posterior": checkpoint.posterior,
        "members": checkpoint.members,
        "head": config.head,
        "baseline": config.baseline,
        "states": list(config.states),
        "properties": dict(config.targets),
        "weights_per_member": sum(value[0].numel() for value in checkpoint.parameters.values()),
        "weights_sha256": hash_weights(folder),
        "data_sha256": checkpoint.data.get("sha256"),
        "race_calc": record.get("race_calc"),
        "date": record.get("date"),
        "validation": record.get("validation", {}),
        "calibration_structures": None if calibration is None else calibration.frames,
        "thresholds": thresholds_of(checkpoint) if calibration is None else calibration.thresholds,
    }


def run_facts(out: Path, steps: int, halt: Violation | None, explanation: str) -> dict[str, Any]:
    """Of `race-calc md` and `relax`: the folder, steps made, why the monitor ended it."""
    told = None if halt is None else asdict(halt) | {"text": str(halt), "explanation": explanation}
    return {"folder": str(out), "steps": steps, "halt": told}


def image_facts(images: Sequence[Atoms]) -> list[dict[str, Any]]:
    """Energy and its σ of each image that was relaxed."""
    return [{"energy_eV": float(one.get_potential_energy()), "energy_uncertainty_eV": one.info.get("energy_uncertainty")} for one in images]
