"""Structures of a data set that a model has seen before, by the hash of their geometry. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass

from race_calc.data.dataset import Dataset
from race_calc.data.hashes import data_hash, geometry_hashes
from race_calc.uncertainty.calibration import Calibration


@dataclass(frozen=True)
class Overlap:
    """Indices of the structures of a data set that were seen before, and what cannot be told.

    ================== =====================================================================
    field              meaning
    ================== =====================================================================
    structures         of the data set, B
    trained_on         they were trained on
    chosen_on          they are validation structures of the training
    calibrated_on      they were calibrated with
    untold             what the model keeps no record of: "training", "calibration" or both
    ================== =====================================================================
    """

    structures: int
    trained_on: tuple[int, ...] = ()
    chosen_on: tuple[int, ...] = ()
    calibrated_on: tuple[int, ...] = ()
    untold: tuple[str, ...] = ()

    @property
    def seen(self) -> tuple[int, ...]:
        """Those that were seen in any way, sorted."""
        return tuple(sorted({*self.trained_on, *self.chosen_on, *self.calibrated_on}))

    @property
    def unseen(self) -> tuple[int, ...]:
        """The others, sorted."""
        return tuple(sorted(set(range(self.structures)) - set(self.seen)))


def overlap(dataset: Dataset, known: Mapping[str, str] | None, calibration: Calibration | None) -> Overlap:
    """Which structures of `dataset` the training and the calibration have seen (`geometry_hashes`: same atoms at the same places).

    `known`: "train", "validation" and "low_level" (trained on with cheap labels) → hashes with blanks between them, as the record of
    a model has them, or None. A calibration of an older version names no structures: then only the very same data set is
    recognised.
    """
    hashes = geometry_hashes(dataset)

    def among(stored: str) -> tuple[int, ...]:
        values = set(stored.split())
        return tuple(i for i, value in enumerate(hashes) if value in values)

    told = known or {}
    trained, chosen = among(f"{told.get('train', '')} {told.get('low_level', '')}"), among(told.get("validation", ""))
    calibrated: tuple[int, ...] = ()
    untold = ["training"] if known is None else []
    if calibration is not None and calibration.structures:
        calibrated = among(calibration.structures)
    elif calibration is not None and calibration.data_hash == data_hash(dataset):
        calibrated = tuple(range(len(dataset)))
    elif calibration is not None:
        untold.append("calibration")
    return Overlap(len(dataset), trained, chosen, calibrated, tuple(untold))
