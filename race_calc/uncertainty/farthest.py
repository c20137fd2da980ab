"""Choosing structures that are unlike those that are known, and one another. NumPy only."""

from collections.abc import Callable

import numpy as np

from race_calc.uncertainty.candidates import Chosen, Pool


def farthest(name: str) -> Callable[[Pool, int, int], Chosen]:
    """The largest distance to the nearest of all that are known or chosen; without known ones the first is the nearest to the middle."""

    def method(pool: Pool, n: int, seed: int) -> Chosen:
        places, known = place_of(pool, name)
        nearest = _to_nearest(places, known) if len(known) else None
        indices, distances = [], []
        for _ in range(n):
            if nearest is None:
                best, distance, nearest = _middle(places), 0.0, np.full(len(places), np.inf)
            else:
                best = int(np.argmax(nearest))
                distance = nearest[best]
            indices.append(best)
            distances.append(float(distance))
            nearest = np.minimum(nearest, _length(places - places[best]))
            nearest[best] = -np.inf
        return Chosen(np.array(indices), np.array(distances))

    return method


def lcmd(pool: Pool, n: int, seed: int) -> Chosen:
    """Largest cluster, maximum distance: every candidate belongs to the nearest of all known and chosen; the cluster with the
    largest sum of squared distances gives its farthest."""
    places, known = place_of(pool, "features")
    indices: list[int] = []
    distances: list[float] = []
    if len(known):
        each = np.stack([_length(places - one) for one in known])  # (Q, P)
        nearest, cluster = each.min(axis=0), each.argmin(axis=0)
    else:
        first = _middle(places)
        indices, distances = [first], [0.0]
        nearest, cluster = _length(places - places[first]), np.zeros(len(places), dtype=np.int64)
    taken = np.zeros(len(places), dtype=bool)
    taken[indices] = True
    while len(indices) < n:
        weights = np.bincount(cluster, np.where(taken, 0.0, nearest**2))
        heaviest = int(np.argmax(weights)) if weights.max() > 0 else int(cluster[~taken][0])
        best = int(np.argmax(np.where((cluster == heaviest) & ~taken, nearest, -np.inf)))
        indices.append(best)
        distances.append(float(nearest[best]))
        taken[best] = True
        new = _length(places - places[best])
        cluster = np.where(new < nearest, cluster.max() + 1, cluster)
        nearest = np.minimum(nearest, new)
    return Chosen(np.array(indices), np.array(distances))


def place_of(pool: Pool, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Of candidates (P, K) and known structures (Q, K). Raises ValueError where they have none."""
    if name not in pool.places:
        if name == "distances":
            raise ValueError("farthest-point compares sorted distances of structures of one composition, here they differ: take lcmd")
        raise ValueError("this potential has no last-layer features: take another method")
    places = pool.places[name]
    known = pool.known.get(name, places[:0])
    for what, values in (("pool", places), ("known structures", known)):
        if not np.isfinite(values).all():
            raise ValueError(f"the {name} of some of the {what} are not finite: leave broken structures out")
    return places, known


def _middle(places: np.ndarray) -> int:
    """The one that is nearest to the mean of all."""
    return int(np.argmin(_length(places - places.mean(axis=0))))


def _to_nearest(places: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(P,); one after the other, not to fill memory."""
    nearest = np.full(len(places), np.inf)
    for other in others:
        nearest = np.minimum(nearest, _length(places - other))
    return nearest


def to_known(pool: Pool) -> np.ndarray | None:
    """Distance of every candidate to the nearest known structure (P,), in features or, without them, in sorted distances (Å); None where
    nothing is known."""
    for name in ("features", "distances"):
        if name in pool.places and len(pool.known.get(name, ())):
            return _to_nearest(pool.places[name], pool.known[name])
    return None


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt((vectors**2).sum(axis=-1)))
