"""A Laplace model with the means of the MAP against the mean of its draws, on its own validation structures, nothing recalibrated."""

from pathlib import Path

import numpy as np
import torch
from common import arguments, report

from race_calc.data.dataset import read_dataset
from race_calc.evaluate.predict import predict_dataset
from race_calc.interfaces.stack_predictor import StackPredictor
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.load import load_stack
from race_calc.uncertainty.metrics import gaussian_nll, mahalanobis, rmse, vector_nll

given = arguments(__doc__, model="", train="", every=1)
checkpoint = load_checkpoint(given.model, calibration=False)
if checkpoint.center is None:
    raise SystemExit(f"{given.model} has no MAP: race-calc posterior fit … --method laplace --mean map")
dataset = read_dataset(Path(given.train)).subset(checkpoint.data["split"]["validation"][:: given.every])
predictions = predict_dataset(StackPredictor(load_stack(checkpoint, torch.float64, torch.device("cpu"))), dataset).predictions
energy, forces, variance, covariance = (
    np.concatenate([getattr(p, name) for p in predictions]) for name in ("energy", "forces", "energy_variance", "forces_covariance")
)
drawn_energy, drawn_forces = (
    np.concatenate([getattr(p, name).mean(0) for p in predictions]) for name in ("energies_members", "forces_members")
)
off_energy, off_forces = drawn_energy - energy, drawn_forces - forces
cases = {
    "mean of the draws": (drawn_energy, drawn_forces, variance, covariance),
    "MAP, spread about the mean of the draws": (energy, forces, variance, covariance),
    "MAP, spread about the MAP": (energy, forces, variance + off_energy**2, covariance + np.einsum("ni,nj->nij", off_forces, off_forces)),
}
found: dict[str, float] = {}
for case, (e, f, v, c) in cases.items():
    d_energy, d_forces = dataset.energy - e, np.concatenate(dataset.forces) - f
    found |= {
        f"{case}: RMSE E, meV": 1e3 * rmse(d_energy),
        f"{case}: RMSE F, meV/Å": 1e3 * rmse(d_forces),
        f"{case}: NLL E": gaussian_nll(d_energy, v),
        f"{case}: NLL F": vector_nll(d_forces, c),
        f"{case}: mean d²/σ² E": float(np.mean(d_energy**2 / v)),
        f"{case}: mean d²/3 F": float(np.mean(mahalanobis(d_forces, c)) / 3),
    }
report(given, found)
