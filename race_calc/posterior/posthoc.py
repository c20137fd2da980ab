"""Posteriors that are fitted after the training, from one model and its data: what Laplace and LLPR share.

Both need derivatives for every output of a structure. A stack gives them in one pass: its members are copies of the
model, and each is asked for one output (Laplace) or has one last-layer weight (LLPR).
"""

import numpy as np
import torch

from race_calc.data.targets import Example
from race_calc.model.parameters import Parameters
from race_calc.model.race import Race, evaluate
from race_calc.posterior.base import Posterior
from race_calc.posterior.batch import batch_of
from race_calc.posterior.given import Basis, Fitted
from race_calc.posterior.state import Trained, unflatten

ROWS, PAIRS = 128, 300_000  # at most so many copies of the model at once, and so many of them times pairs: some 0.5 GiB


class PostHoc(Posterior):
    """A posterior around one trained model: `fit` is what a method of this kind has."""

    independent = False
    post_hoc = True
    many_surfaces = False

    def parameter_sets(self, trained: Trained, basis: Basis) -> Fitted:
        return self.fit(unflatten(trained.state.best, basis.shapes), basis)


def rows_at_once(example: Example) -> int:
    """How many copies of a model are evaluated together on a structure."""
    return max(2, min(ROWS, PAIRS // max(len(example.graph.pair), 1)))


def residuals(model: Race, parameters: Parameters, example: Example, device: torch.device) -> tuple[float, np.ndarray]:
    """Label minus prediction, the mean over the members: energy in eV, forces (N, 3) in eV/Å."""
    layout, _ = batch_of([example], model, torch.float64, device)
    outputs = evaluate(model, {name: value.double() for name, value in parameters.items()}, layout)
    return example.energy - float(outputs.energy.mean(0)[0]), example.forces - outputs.forces.mean(0).cpu().numpy()


def mean_squares(errors: list[tuple[float, np.ndarray]]) -> tuple[float, float]:
    """Mean squared error of energies per atom of the structure (eV²) and of force components ((eV/Å)²)."""
    energy = np.mean([energy**2 / len(forces) for energy, forces in errors])
    return float(energy), float(np.mean(np.concatenate([forces.ravel() ** 2 for _, forces in errors])))
