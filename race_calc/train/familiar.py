"""What the training knows, as last-layer features of its atoms, for the distance of others to it."""

from collections.abc import Iterable

import numpy as np

from race_calc.data.graph import Graph, batches
from race_calc.posterior.stack import StackPosterior
from race_calc.uncertainty.feature_distance import FeatureDistance, fit_feature_distance
from race_calc.uncertainty.predictor import BATCH


def feature_distance_of(stack: StackPosterior, train: Iterable[Graph]) -> FeatureDistance:
    """Fitted to the structures that have labels of the level that is predicted. Raises ValueError where features are not finite."""
    species = np.array(stack.model.species)
    told = ((stack.features(graph), np.searchsorted(species, graph.numbers)) for graph in batches(train, BATCH))
    return fit_feature_distance(told, len(species))
