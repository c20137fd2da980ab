"""What a calibration is worth on structures that it was not fitted to, from one data set. NumPy and SciPy only.

The data are cut into FOLDS blocks of consecutive structures (those of an MD run are correlated), each block is
recalibrated with a fit to the others (K-fold cross-fitting; Stone 1974), and the blocks are judged together.
"""

import numpy as np

from race_calc.evaluate.reliability import OF_ATOMS, calibrated_levels
from race_calc.uncertainty.calibration import fit_calibration
from race_calc.uncertainty.held_back import FOLDS, blocks_of
from race_calc.uncertainty.residuals import Residuals


def cross_fitted_levels(raw: Residuals) -> dict[str, np.ndarray]:
    """`calibrated_levels` of every structure after a calibration fitted to the other blocks, in the order of `raw`.

    Raises ValueError for fewer structures than FOLDS, and as `fit_calibration` does.
    """
    if len(raw) < FOLDS:
        raise ValueError(f"{len(raw)} structures cannot be cut into {FOLDS} blocks: give more")
    structures, parts, blocks = np.arange(len(raw)), [], blocks_of(raw)
    for block in blocks:
        calibration = fit_calibration(raw.subset(np.setdiff1d(structures, block)))
        parts.append(calibrated_levels(raw.subset(block), calibration))
    order = np.argsort(np.concatenate([np.flatnonzero(np.isin(raw.frame, block)) for block in blocks]))  # of the atoms in the parts
    joined = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        having = [name in part for part in parts]
        if all(have or untold for have, untold in zip(having, _untold(raw, name, blocks))):
            joined[name] = np.concatenate([part[name] for part in parts if name in part])
    return {name: levels[order] if name in OF_ATOMS else levels for name, levels in joined.items()}


def _untold(raw: Residuals, name: str, blocks: list[np.ndarray]) -> list[bool]:
    """Blocks of which nobody expects the quantity: those without a label of the stress."""
    return [name.startswith("stress") and not raw.stress_labelled[block].any() for block in blocks]
