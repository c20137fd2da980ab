"""How far a number could have come out otherwise with other frames of the same kind. NumPy and SciPy only.

The atoms of a frame err together, so values are not independent but frames are (if they come from an MD run: once they are further apart
than its correlation time; otherwise number blocks of frames). Every function therefore draws whole frames with replacement (Efron 1979;
cluster bootstrap) and takes the spread of the number over RESAMPLES such sets.

=================== ==================== =========================================================
quantity            variable             formula
=================== ==================== =========================================================
frame of a value    frame                any integer, the same for all values of one frame, (N,)
s_f, n_f            sums, counts         sum and number of the values of frame f
w_f                 weights              how often frame f was drawn, Σ w_f = number of frames
mean of a resample  –                    Σ w_f s_f / Σ w_f n_f
=================== ==================== =========================================================
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from race_calc.uncertainty.metrics import NOMINAL_LEVELS, check_probability, level_error

RESAMPLES = 1000


@dataclass(frozen=True)
class Interval:
    """A measured number and the interval in which it is found with the stated confidence; in its own unit."""

    value: float
    low: float
    high: float


def mean_interval(values: np.ndarray, frame: np.ndarray, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Mean of `values` (N, ...) of any kind with its percentile interval over resampled frames; `frame` (N,).

    Flags give a share (of references inside an interval or an ellipsoid), squares a mean square, whose root
    is the RMSE. Raises ValueError for fewer than two frames, shapes that do not fit and a confidence outside 0 … 1.
    """
    values = np.asarray(values, dtype=np.float64)
    index, counts = _frames(frame, len(values) if values.ndim else 0, confidence)
    each = values.reshape(len(values), -1).mean(axis=1)
    sums = np.bincount(index, each)
    resampled = [w @ sums / (w @ counts) for w in _weights(len(counts), seed)]
    return Interval(float(each.mean()), *_quantiles(resampled, confidence))


def calibration_error_interval(pit: np.ndarray, frame: np.ndarray, confidence: float = 0.95, seed: int = 0) -> Interval:
    """`metrics.level_error` of `pit` (N, ...) with its interval; `frame` (N,).

    A squared deviation is raised by its own noise: the value by one sampling floor (`metrics.calibration_floor`), that
    of resampled frames by one more. The interval is therefore moved so that the mean over the resamples
    falls on the value, and cut at zero: compare it with the floor, not with zero. It is somewhat too wide.
    """
    value = level_error(pit)
    pit = np.asarray(pit, dtype=np.float64)
    index, counts = _frames(frame, len(pit) if pit.ndim else 0, confidence)
    place = np.where(np.isnan(pit), 2.0, pit).reshape(len(pit), -1)
    level = np.searchsorted(NOMINAL_LEVELS, place)  # the first level that a value is at or below, 99 if none
    cells = np.bincount((100 * index[:, None] + level).ravel(), minlength=100 * len(counts)).reshape(-1, 100)
    below = cells[:, :99].cumsum(axis=1).astype(np.float64)  # (F, 99) values of each frame at or below each level
    total = counts * float(place.shape[1])
    errors = [np.mean((w @ below / (w @ total) - NOMINAL_LEVELS) ** 2) for w in _weights(len(counts), seed)]
    low, high = _quantiles(np.array(errors) - np.mean(errors) + value, confidence)
    return Interval(value, max(low, 0.0), high)


def _frames(frame: np.ndarray, n: int, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    frame = np.asarray(frame)
    if frame.shape != (n,):
        raise ValueError(f"frame has the shape {frame.shape} for {n} values: give each value the number of its frame")
    check_probability(confidence, "confidence")
    _, index, counts = np.unique(frame, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        raise ValueError(f"there are values of {len(counts)} frames: give at least two, or no interval can be told")
    return index, counts


def _weights(n: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    for _ in range(RESAMPLES):
        yield np.bincount(rng.integers(n, size=n), minlength=n).astype(np.float64)


def _quantiles(resampled: Sequence[float] | np.ndarray, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(resampled, [0.5 * (1.0 - confidence), 1.0 - 0.5 * (1.0 - confidence)])
    return float(low), float(high)
