"""float32 against float64 on the same structures: energies, forces, standard deviations. For the drift: nve.py --dtype float32."""

import numpy as np
import torch
from common import MODEL, arguments, report, start

from race_calc.data.graph import collate, from_atoms
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.load import load_stack

given = arguments(__doc__, model=str(MODEL), frames=50, rattle=0.05)
checkpoint = load_checkpoint(given.model)
graphs = []
for seed in range(given.frames):
    atoms = start(300.0, seed)
    atoms.positions += np.random.default_rng(seed).normal(scale=given.rattle, size=atoms.positions.shape)
    graphs.append(from_atoms(atoms, checkpoint.model.plan.config.cutoff))
graph = collate(graphs)
single, double = (load_stack(checkpoint, dtype, torch.device("cpu")).predict(graph) for dtype in (torch.float32, torch.float64))


def sigma(covariances: np.ndarray) -> np.ndarray:
    return np.sqrt(np.linalg.eigvalsh(covariances)[:, -1])


totals = [p.forces_covariance_epistemic + p.forces_covariance_aleatoric for p in (single, double)]
report(
    given,
    {
        "largest energy error, eV/atom": float(np.abs(single.energy - double.energy).max() / len(atoms)),
        "largest force error, eV/Å": float(np.abs(single.forces - double.forces).max()),
        "RMS force error, eV/Å": float(np.sqrt(((single.forces - double.forces) ** 2).mean())),
        "largest relative error of the largest σ": float(np.abs(sigma(totals[0]) / sigma(totals[1]) - 1).max()),
    },
)
