"""Warnings about the structures of a training: copies, and labels far from all others."""

import warnings
from collections.abc import Callable

import numpy as np

from race_calc.data.dataset import Dataset
from race_calc.data.references import compositions

FEWEST = 10  # structures, below which nothing is far from the others
SHARE = 0.05  # of the structures may be far out; more of them are another kind
GAP = 10.0  # times the largest of the rest
FORCE, ENERGY = 20.0, 1.0  # eV/Å; eV per atom: less than that is never called far


def warn_of_copies(structures: dict[str, str]) -> None:
    """structures: hashes of "train", "validation" and, where there is one, "low_level"."""
    train, validation = (structures[name].split() for name in ("train", "validation"))
    twice, shared = len(train) - len(set(train)), len(set(train) & set(validation))
    if cheap := len(set(structures.get("low_level", "").split()) & set(validation)):
        warnings.warn(
            f"{cheap} structures of data.low_level are in the validation set too, which then tells less of new ones: leave them out of "
            "data.low_level",
            stacklevel=3,
        )
    if shared:
        warnings.warn(
            f"{shared} structures are in both training and validation set, which then tells nothing of new ones: look at data.train and "
            "data.validation",
            stacklevel=3,
        )
    if twice:
        warnings.warn(f"{twice} structures of the training occur more than once: look at data.train", stacklevel=3)


def warn_of_outliers(data: Dataset, name_of: Callable[[int], str]) -> None:
    """Of a few structures whose forces or energies are far from those of all others; they would decide what is learned. name_of: the place
    of a structure in its file."""
    forces = np.array([np.abs(one).max(initial=0.0) for one in data.forces])
    many = np.array([len(atoms) > 1 for atoms in data.structures])  # an atom alone has no bonds: its energy is far from the others
    energies = np.where(many, _away(data), 0.0)
    for what, sizes, least, unit in (("forces", forces, FORCE, "eV/Å"), ("energies", energies, ENERGY, "eV per atom off")):
        if found := far_out(sizes, least):
            shown = ", ".join(f"{name_of(i)} ({sizes[i]:.3g} {unit})" for i in found[:3])
            warnings.warn(
                f"{what} of {len(found)} structures are more than {GAP:.0f} times as large as those of all others: {shown}; they decide "
                "what is learned: look at them, and leave them out if they are broken",
                stacklevel=3,
            )


def far_out(sizes: np.ndarray, least: float) -> list[int]:
    """Which few are above `least` and GAP times the largest of the rest, by size."""
    if len(sizes) < FEWEST:
        return []
    order = np.argsort(sizes)[::-1]
    for k in range(max(1, int(SHARE * len(sizes))), 0, -1):
        smallest, rest = sizes[order[k - 1]], sizes[order[k]]
        if smallest > max(least, GAP * rest):
            return [int(i) for i in order[:k]]
    return []


def _away(data: Dataset) -> np.ndarray:
    """How far each energy is from the median of what the composition does not explain, eV per atom."""
    counts = compositions(data)
    rest = (data.energy - counts @ np.linalg.lstsq(counts, data.energy, rcond=None)[0]) / counts.sum(axis=1)
    return np.asarray(np.abs(rest - np.median(rest)))
