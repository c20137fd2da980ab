"""The data sets of the page: what was judged, under which name."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from race_calc.data.dataset import Dataset
from race_calc.data.hashes import data_hash
from race_calc.evaluate.assessment import Assessment, Comparison
from race_calc.report.evaluation_doubts import doubted_name, judged_name


@dataclass(frozen=True, eq=False)
class Judged:
    """A data set, without the structures that the model has seen, where that leaves some.

    `name`: on the page. `rows`: number of each structure in its file, from 0. `sha256`: of the whole file's content.
    """

    name: str
    file: str
    data: Dataset
    found: Assessment
    rows: tuple[int, ...]
    sha256: str

    @property
    def forces(self) -> np.ndarray:
        """References, (N, 3) eV/Å."""
        return np.concatenate(self.data.forces)


def judged_sets(compared: Comparison, short: Iterable[str]) -> list[Judged]:
    """In the order of the files, the known one first; `short`: what to call the files."""
    sets = []
    for (file, found), name in zip(compared.judged.items(), short, strict=True):
        data = compared.sets[file]
        rows = compared.overlaps[file].unseen if file in compared.unseen else tuple(range(len(data)))
        shown = doubted_name(judged_name(name, compared, file), found)
        sets.append(Judged(shown, file, data.subset(rows), found, tuple(rows), data_hash(data)))
    return sets
