"""Training and validation sets as stored indices."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from race_calc.data.dataset import Dataset, check_indices


@dataclass(frozen=True)
class Split:
    """Indices of one data set; ``validation`` is empty when it comes from another file.

    Raises ``ValueError`` for an empty training set, negative or repeated indices and for indices in both parts.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    seed: int

    def __post_init__(self) -> None:
        if not self.train:
            raise ValueError("the split leaves no structure to train on: use fewer for validation")
        for name, indices in (("train", self.train), ("validation", self.validation)):
            if len(set(indices)) != len(indices):
                raise ValueError(f"the {name} indices of the split repeat: name each structure once")
            if indices and min(indices) < 0:
                raise ValueError(f"the {name} indices of the split hold {min(indices)}: count from 0")
        both = sorted(set(self.train) & set(self.validation))
        if both:
            shared = f"{len(both)} structures are in both parts of the split (first: {both[0]})"
            raise ValueError(f"{shared}: training and validation sets must be disjoint")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"train": list(self.train), "validation": list(self.validation), "seed": self.seed}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Split":
        """Inverse of :meth:`to_dict`. Raises ``ValueError`` for missing keys or wrong types."""
        try:
            train, validation, (seed,) = (tuple(map(_whole, values)) for values in (data["train"], data["validation"], [data["seed"]]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"not a stored split ({type(error).__name__}: {error}): expected lists of whole numbers "
                "'train' and 'validation' and a whole number 'seed'"
            ) from error
        return cls(train, validation, seed)


def make_split(n: int, validation: int | Sequence[int], seed: int = 0, validation_from: str = "last") -> Split:
    """Split ``n`` structures; both parts are sorted.

    ``validation``: how many structures to hold back, or their indices. 0 holds none back (the validation set is another file). A number
    takes the ``"last"`` structures of the file or ``"random"`` ones, drawn with ``seed``. Raises ``ValueError`` for a number or index
    out of range and for what :class:`Split` raises.
    """
    held: Iterable[int]
    if not isinstance(validation, (int, np.integer)):
        held = validation
    elif not 0 <= validation < n:
        raise ValueError(f"cannot hold back {validation} of {n} structures for validation: use 0 to {n - 1}")
    elif validation_from == "last":
        held = range(n - int(validation), n)
    elif validation_from == "random":
        held = np.random.default_rng(seed).permutation(n)[: int(validation)]
    else:
        raise ValueError(f"validation_from is {validation_from!r}: use 'last' or 'random'")
    held = sorted(int(i) for i in held)
    check_indices(held, n, " of the split")
    return Split(tuple(sorted(set(range(n)).difference(held))), tuple(held), int(seed))


def apply_split(dataset: Dataset, split: Split) -> tuple[Dataset, Dataset | None]:
    """(training set, validation set); ``None`` for a split without validation indices. Raises ``ValueError`` for an index outside."""
    check_indices(split.train + split.validation, len(dataset), " of the split")
    return dataset.subset(split.train), dataset.subset(split.validation) if split.validation else None


def _whole(value: Any) -> int:
    if isinstance(value, bool) or int(value) != value:
        raise ValueError(f"{value!r} is not a whole number")
    return int(value)
