"""Which way to recalibrate: the likelihood of structures that each was not fitted to. NumPy only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from race_calc.uncertainty.residuals import Residuals

FOLDS = 5  # blocks of consecutive structures (those of an MD run are correlated), each held back once
MATERIAL = 0.05  # nat: what a σ that is a quarter too large costs
MOST = 1.0  # nat: what no doubt excuses
Fit = Callable[[Residuals], Callable[[Residuals], np.ndarray]]  # known structures → (others → the NLL of each, (B,) nat)


@dataclass(frozen=True)
class Told:
    """A way to recalibrate by its name, and the mean NLL of structures held back; infinite where a σ is zero or a Σ has no density."""

    name: str
    nll: float


def blocks_of(raw: Residuals) -> list[np.ndarray]:
    """The structures of each block."""
    return np.array_split(np.arange(len(raw)), FOLDS)


def held_back(raw: Residuals, ways: Mapping[str, Fit]) -> dict[str, np.ndarray]:
    """Name → NLL of every structure (B,), each block by a fit to the others.

    A way that raises ValueError for one of the blocks is left out; so are all for fewer structures than FOLDS.
    """
    if len(raw) < FOLDS:
        return {}
    pairs = [(raw.subset(np.setdiff1d(np.arange(len(raw)), block)), raw.subset(block)) for block in blocks_of(raw)]
    found = {}
    for name, fit in ways.items():
        try:
            found[name] = np.concatenate([fit(known)(new) for known, new in pairs])
        except ValueError:
            continue
    return {name: np.where(np.isnan(nll), np.inf, nll) for name, nll in found.items()}


def prefers(found: Mapping[str, np.ndarray], plain: str, other: str, dimension: int = 1) -> bool:
    """Whether to take `other` in place of `plain`: unless `plain` is better by more than one standard error over the blocks, for most
    structures, and by more than MATERIAL in each dimension; or by more than MOST in each.

    In doubt the one whose σ grows with the spread, as known structures cannot tell what unknown ones need.
    """
    if other not in found or not np.isfinite(found[other].mean()):
        return False
    if plain not in found or not np.isfinite(found[plain].mean()):
        return True
    loss = found[other] - found[plain]
    means = np.array([block.mean() for block in np.array_split(loss, FOLDS)])
    certain = loss.mean() > means.std(ddof=1) / np.sqrt(FOLDS) and np.median(loss) > 0
    return not (certain and loss.mean() > MATERIAL * dimension) and loss.mean() <= MOST * dimension


def told(found: Mapping[str, np.ndarray]) -> tuple[Told, ...]:
    """What there was to choose from; () where there was no choice."""
    return tuple(Told(name, float(nll.mean())) for name, nll in found.items()) if len(found) > 1 else ()
