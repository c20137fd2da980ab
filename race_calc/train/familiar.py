"""What the training knows: last-layer features of its atoms, distances between them, their environments."""

from collections.abc import Iterable, Sequence

import numpy as np
from ase.data import covalent_radii

from race_calc.data.graph import Graph, batches
from race_calc.posterior.stack import StackPosterior
from race_calc.uncertainty.environments import Environments, fit_environments
from race_calc.uncertainty.feature_distance import FeatureDistance, fit_feature_distance
from race_calc.uncertainty.known_distances import KnownDistances, fit_known_distances
from race_calc.uncertainty.predictor import BATCH


def feature_distance_of(stack: StackPosterior, train: Iterable[Graph]) -> FeatureDistance:
    """Fitted to the structures that have labels of the level that is predicted. Raises ValueError where features are not finite."""
    species = np.array(stack.model.species)
    told = ((stack.features(graph), np.searchsorted(species, graph.numbers)) for graph in batches(train, BATCH))
    return fit_feature_distance(told, len(species))


def known_distances_of(train: Iterable[Graph], cutoff: float) -> KnownDistances:
    """Of neighbours within the cutoff (Å) in the structures that have labels of the level that is predicted."""
    return fit_known_distances(train, cutoff, covalent_radii)


def environments_of(train: Sequence[Graph], cutoff: float) -> Environments:
    """Distances, bond angles and coordination numbers in these structures."""
    elements = np.unique(np.concatenate([graph.numbers for graph in train]))
    return fit_environments(batches(train, BATCH), elements, cutoff, covalent_radii)
