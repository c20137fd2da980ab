"""Which way to recalibrate: the likelihood of structures that each was not fitted to. NumPy only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from race_calc.uncertainty.residuals import Residuals

FOLDS = 5  # blocks of consecutive structures (those of an MD run are correlated), each held back once
Fit = Callable[[Residuals], Callable[[Residuals], np.ndarray]]  # known structures → (others → the NLL of each, (B,) nat)


@dataclass(frozen=True)
class Told:
    """A way to recalibrate by its name, and the mean NLL of structures held back; infinite where a σ is zero or a Σ has no density."""

    name: str
    nll: float


def held_back(raw: Residuals, ways: Mapping[str, Fit]) -> dict[str, np.ndarray]:
    """Name → NLL of every structure (B,), each block by a fit to the others. A way that raises ValueError for one of the blocks is left
    out; so are all for fewer structures than FOLDS."""
    if len(raw) < FOLDS:
        return {}
    structures, found = np.arange(len(raw)), {}
    blocks = [(raw.subset(np.setdiff1d(structures, block)), raw.subset(block)) for block in np.array_split(structures, FOLDS)]
    for name, fit in ways.items():
        try:
            found[name] = np.concatenate([fit(known)(new) for known, new in blocks])
        except ValueError:
            continue
    return {name: np.where(np.isnan(nll), np.inf, nll) for name, nll in found.items()}


def chosen(found: Mapping[str, np.ndarray], plain: str) -> str:
    """The best of the others, unless `plain` is better by more than one standard error of the difference: in doubt the one whose σ grows
    with the spread, as known structures cannot tell what unknown ones need."""
    others = {name: float(nll.mean()) for name, nll in found.items() if name != plain and np.isfinite(nll.mean())}
    if not others:
        return plain
    best = min(others, key=others.__getitem__)
    if plain not in found or not np.isfinite(found[plain].mean()):
        return best
    gain = found[best] - found[plain]
    return plain if gain.mean() > gain.std() / np.sqrt(len(gain)) else best


def told(found: Mapping[str, np.ndarray]) -> tuple[Told, ...]:
    """What there was to choose from; () where there was no choice."""
    return tuple(Told(name, float(nll.mean())) for name, nll in found.items()) if len(found) > 1 else ()
