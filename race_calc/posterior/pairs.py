"""Last layers in antithetic pairs w₀ ± δ: half of the work, because energies and forces are linear in them.

E(w₀ − δ) = 2 E(w₀) − E(w₀ + δ), and so for atom energies, forces and virials. A stack of M such sets is evaluated as M/2 + 1 rows,
w₀ first and then every w₀ + δ, and its outputs are completed afterwards. What a head predicts must not differ between the sets.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from race_calc.model.outputs import Outputs
from race_calc.model.parameters import Parameters, is_last_layer, n_members, shares_trunk

ROUNDING = 1e-5  # of weights stored in float32, relative to the largest
EXACT = 1e-4  # relative error of a covariance made of them


def foldable(parameters: Parameters) -> bool:
    """Do the sets share their trunk and come in pairs around one mean, with the same weights of everything but the energy?"""
    members = n_members(parameters)
    if not shares_trunk(parameters) or members % 2:
        return False
    for value in _last_layers(parameters):
        middle, small = value.double().mean(0), ROUNDING * value.abs().max()
        pairs = (value[0::2].double() + value[1::2].double()) / 2 - middle
        if (pairs.abs() > small).any() or ((value[..., 1:] - value[:1, :, 1:]).abs() > small).any():
            return False
    return True


def folded(parameters: Parameters) -> Parameters:
    """M sets that are `foldable` → M/2 + 1: their mean, then the first of each pair; last layers in float64, for the mean's sake."""

    def rows(value: Tensor) -> Tensor:
        return torch.cat([value.double().mean(0, keepdim=True), value[0::2].double()])

    return {name: rows(value) if is_last_layer(name) else value for name, value in parameters.items()}


def exact_pairs(parameters: Parameters) -> Parameters:
    """The M sets that `unfolded` stands for, of sets that are `foldable`: each pair lies around the mean without rounding."""

    def sets(value: Tensor) -> Tensor:
        middle, first = value.double().mean(0, keepdim=True), value[0::2].double()
        return torch.stack([first, 2 * middle - first], dim=1).flatten(0, 1)

    return {name: sets(value) if is_last_layer(name) else value for name, value in parameters.items()}


def unfolded(outputs: Outputs) -> Outputs:
    """The outputs of the M sets in their order, from those of the rows of `folded`; features and heads keep one row."""

    def members(rows: Tensor) -> Tensor:
        return torch.stack([rows[1:], 2 * rows[:1] - rows[1:]], dim=1).flatten(0, 1)

    whole = {name: members(getattr(outputs, name)) for name in ("energy", "atom_energy", "forces", "virial")}
    return replace(outputs, **whole, features=outputs.features[:1], heads={name: value[:1] for name, value in outputs.heads.items()})


def is_closed_form(parameters: Parameters, covariance: np.ndarray | None) -> bool:
    """Is the population covariance of the M sets that of the Gaussian (L, L), so that their spread has nothing of a draw?"""
    if covariance is None or n_members(parameters) < 2 * len(covariance):
        return False
    weights = torch.cat([value[:, :, 0] for value in _last_layers(parameters)], dim=1).double().cpu().numpy()
    deviations = weights - weights.mean(axis=0)
    error = deviations.T @ deviations / len(weights) - covariance
    return bool(np.abs(error).max() <= EXACT * np.diagonal(covariance).max())


def _last_layers(parameters: Parameters) -> list[Tensor]:
    return [value for name, value in parameters.items() if is_last_layer(name)]
