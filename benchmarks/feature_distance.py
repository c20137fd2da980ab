"""Spread or distance: which follows the error off the data, and are both together better?

    python benchmarks/feature_distance.py --model runs/shifts/CH3CH2OH/model --train runs/shifts/CH3CH2OH/train.xyz#:450 \
        --calibration runs/shifts/CH3CH2OH/train.xyz#450: --known runs/shifts/CH3CH2OH/300.xyz \
        --hot runs/shifts/CH3CH2OH/600.xyz,runs/shifts/CH3CH2OH/1200.xyz

`shifts.py` makes such folders. Spearman of a number of each atom and |ΔF| over all test atoms; AUROC of its maximum over the atoms for
frames whose force RMSE is more than three times that of the known ones, against all others and against the known ones; and how many of
them, and of the known frames, are below and above the "auto" threshold that the calibration frames give. The distance is fitted to the
training frames here, so models of earlier releases will do; their members must predict covariances of forces.
"""

from dataclasses import replace

import numpy as np
import torch
from common import arguments
from scipy.stats import spearmanr

from race_calc.data.dataset import read_dataset
from race_calc.data.graph import from_atoms
from race_calc.evaluate.predict import predict_dataset, residuals_of
from race_calc.interfaces.stack_predictor import StackPredictor
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.load import load_stack
from race_calc.train.familiar import feature_distance_of
from race_calc.uncertainty.detection import auroc
from race_calc.uncertainty.thresholds import auto_thresholds

BAD, TOGETHER = 3.0, (0.25, 0.5, 1.0)  # times the force RMSE of the known frames; powers of the distance beside the spread


def read(name: str):
    path, _, frames = name.partition("#")
    return read_dataset(path, frames or ":")


def numbers(predictor: StackPredictor, name: str) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """A number for each atom by each kind, |ΔF|, and the frames of the atoms."""
    data = read(name)
    predicted = predict_dataset(predictor, data)

    def each(field: str) -> np.ndarray:
        return np.concatenate([getattr(p, field) for p in predicted.predictions])

    parts = {
        f"σ, {part}": np.sqrt(np.trace(each(f"forces_covariance_{part}"), axis1=1, axis2=2) / 3) for part in ("epistemic", "aleatoric")
    }
    spread, distance = parts["σ, epistemic"], each("feature_distance")
    combined = {f"σ, epistemic, times distance^{power}": spread * distance**power for power in TOGETHER}
    found = residuals_of(predicted, data)
    return parts | {"feature distance": distance} | combined, np.linalg.norm(found.forces, axis=1), found.frame


def largest(values: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Of each frame."""
    return np.maximum.reduceat(values, np.flatnonzero(np.diff(frame, prepend=-1)))


def frame_rmse(error: np.ndarray, frame: np.ndarray) -> np.ndarray:
    return np.sqrt(np.bincount(frame, error**2) / np.bincount(frame) / 3)


if __name__ == "__main__":
    given = arguments(__doc__, model=".", train="", calibration="", known="", hot="")
    checkpoint = load_checkpoint(given.model, calibration=False)
    stack = load_stack(checkpoint, torch.float64, torch.device("cpu"))
    cutoff = checkpoint.model.plan.config.cutoff
    graphs = [from_atoms(atoms, cutoff) for atoms in read(given.train).structures]
    predictor = StackPredictor(replace(stack, feature_distance=feature_distance_of(stack, graphs)))
    calibration, _, held = numbers(predictor, given.calibration)
    sets = [numbers(predictor, name) for name in (given.known, *given.hot.split(","))]
    rmse = [frame_rmse(error, frame) for _, error, frame in sets]
    bad = np.concatenate(rmse) > BAD * np.sqrt(np.mean(rmse[0] ** 2))
    known = np.arange(len(bad)) < len(rmse[0])
    print(f"{given.model}: {bad.sum()} of {len(bad)} frames beyond {BAD:g} times the RMSE of {given.known}")
    print("| number | Spearman | AUROC, all others | AUROC, known | beyond, not seen | known, flagged |\n|---|---|---|---|---|---|")
    for kind in calibration:
        ranks = spearmanr(np.concatenate([n[kind] for n, _, _ in sets]), np.concatenate([error for _, error, _ in sets])).statistic
        scores = np.concatenate([largest(n[kind], frame) for n, _, frame in sets])
        limit = auto_thresholds({kind: largest(calibration[kind], held)})[kind]
        areas = [auroc(scores[others], scores[bad]) for others in (~bad, known & ~bad)]
        shares = [np.mean(scores[bad] <= limit), np.mean(scores[known] > limit)]
        print(f"| {kind} | {ranks:.3f} | {areas[0]:.3f} | {areas[1]:.3f} | {shares[0]:.1%} | {shares[1]:.1%} |", flush=True)
