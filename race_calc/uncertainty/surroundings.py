"""The mean of a number over the atoms around an atom, and that of the spread of the members' forces. NumPy only."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from race_calc.uncertainty.prediction import Prediction
from race_calc.uncertainty.shape_size import mean_variance

if TYPE_CHECKING:
    from race_calc.data.graph import Graph

REACH = 5.0  # Å, where the potential has no cutoff that is known


def local_mean(values: np.ndarray, pairs: np.ndarray, distances: np.ndarray, reach: float = REACH) -> np.ndarray:
    """(x_i + Σ_j w_ij x_j) / (1 + Σ_j w_ij), w = (1 + cos πr/reach)/2: the atom itself counts fully, one at `reach` (Å) no more.

    values (N,); pairs (2, E), each in both directions; distances (E,) in Å, none above `reach`. In a large cell, what is far away does
    not matter, and where an atom comes within reach nothing jumps.
    """
    centre, neighbour = pairs
    weight = 0.5 * (1 + np.cos(np.pi * distances / reach))
    n = len(values)
    with np.errstate(invalid="ignore"):
        total = values + np.bincount(centre, weight * values[neighbour], minlength=n)
    return np.asarray(total / (1 + np.bincount(centre, weight, minlength=n)))


def spread_of_forces(prediction: Prediction) -> np.ndarray | None:
    """Covariances (N, 3, 3) (eV/Å)² that are the spread of members, or of unknown kind; None where there are none."""
    if prediction.forces_covariance_unsplit is not None:
        return prediction.forces_covariance_unsplit
    return prediction.forces_covariance_epistemic if prediction.n_members > 1 else None


def with_surroundings(prediction: Prediction, graph: "Graph", reach: float = REACH) -> Prediction:
    """The prediction with `forces_nearby` and `numbers`, where it has a spread. `graph`: of its structures, with pairs up to `reach` Å."""
    spread = spread_of_forces(prediction)
    if spread is None:
        return prediction
    distances = graph.edge_lengths
    nearby = local_mean(mean_variance(spread), graph.edge_index, distances, reach)
    return replace(prediction, forces_nearby=nearby, numbers=graph.numbers)
