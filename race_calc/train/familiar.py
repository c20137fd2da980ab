"""What the training knows, as last-layer features of its atoms, for the distance of others to it."""

from collections.abc import Sequence

import numpy as np

from race_calc.data.graph import Graph, batches
from race_calc.posterior.stack import StackPosterior
from race_calc.uncertainty.feature_distance import FeatureDistance, fit_feature_distance
from race_calc.uncertainty.predictor import BATCH

MOST_ATOMS = 50_000  # of more, every second, third, … structure: a covariance needs no more


def feature_distance_of(stack: StackPosterior, train: Sequence[Graph]) -> FeatureDistance:
    """Fitted to the structures that have labels of the level that is predicted. Raises ValueError where features are not finite."""
    step = -(-sum(graph.n_atoms for graph in train) // MOST_ATOMS)
    graphs = list(batches(train[::step], BATCH))
    features = np.concatenate([stack.features(graph) for graph in graphs])
    species = np.searchsorted(stack.model.species, np.concatenate([graph.numbers for graph in graphs]))
    return fit_feature_distance(features, species, len(stack.model.species))
