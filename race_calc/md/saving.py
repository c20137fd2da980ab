"""Which flagged frames are worth a place in the file: those that differ from the ones that are in it."""

from dataclasses import dataclass
from numbers import Real

import numpy as np
from ase import Atoms

from race_calc.uncertainty.checks import whole

REMEMBERED = 200  # last saved frames that a new one is compared with


@dataclass(frozen=True)
class Spacing:
    """How far apart saved frames are: `time` (fs, of MD) since the last one, `distance` (Å) from every saved one, the root mean
    square displacement of the atoms less its mean; `most`: frames of a run at the most. A halting frame is always saved.
    Raises TypeError for what is no number, ValueError for negative numbers and NaN."""

    time: float = 5.0
    distance: float = 0.05
    most: int = 1000

    def __post_init__(self) -> None:
        for name, value in (("time", self.time), ("distance", self.distance)):
            if isinstance(value, bool) or not isinstance(value, Real):
                raise TypeError(f"{name} of a Spacing must be a number, got {value!r}")
            if not float(value) >= 0.0:
                raise ValueError(f"{name} of a Spacing must be a number ≥ 0, got {value}")
        whole("most of a Spacing", self.most, least=0)


class SavedFrames:
    """Remembers what was saved in a run; images of a NEB apart."""

    def __init__(self, spacing: Spacing):
        if not isinstance(spacing, Spacing):
            raise TypeError(f"spacing must be a race_calc.md.saving.Spacing, got {spacing!r}")
        self.spacing = spacing
        self.count = 0
        self._last: dict[int | None, tuple[float | None, list[np.ndarray]]] = {}

    def admit(self, image: int | None, atoms: Atoms, time: float | None, always: bool = False) -> bool:
        """Whether the frame is to be saved; it then counts as saved. `time` in fs, None for an optimiser."""
        last, known = self._last.get(image, (None, []))
        centred = atoms.positions - atoms.positions.mean(axis=0)
        if not always and (self.count >= self.spacing.most or self._near(last, known, time, centred)):
            return False
        self.count += 1
        self._last[image] = time, [*known, centred][-REMEMBERED:]
        return True

    def _near(self, last: float | None, known: list[np.ndarray], time: float | None, centred: np.ndarray) -> bool:
        if last is not None and time is not None and 0 <= time - last < self.spacing.time:
            return True
        same = [frame for frame in known if frame.shape == centred.shape]
        return bool(same) and bool((((np.array(same) - centred) ** 2).sum(-1).mean(-1) < self.spacing.distance**2).any())
