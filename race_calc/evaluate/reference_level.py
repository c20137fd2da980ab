"""Is a data set labelled at the level of theory of the training? A constant of each element tells. NumPy only.

Another functional, pseudopotential or code moves the energy by nearly a constant of each atom, Σ_z n_z δ_z, and leaves forces nearly
alone. So energy errors that the compositions explain almost wholly are doubted:

=================== ======================= ===========================================================
quantity            variable                formula
=================== ======================= ===========================================================
d                   raw.energy              reference − prediction, (B,) eV
C                   compositions            atoms of each element, (B, S)
δ                                           minimum-norm least squares of C δ = d
offset              offset                  root mean square of C δ
spread              spread                  √(Σ (d − C δ)² / (B − rank C))
=================== ======================= ===========================================================
"""

from dataclasses import dataclass

import numpy as np

from race_calc.uncertainty.residuals import Residuals

FEWEST = 5  # structures beyond the rank of the compositions, below which nothing is told
DOUBTFUL = 3.0  # spreads


@dataclass(frozen=True)
class ReferenceLevel:
    """offset, spread, in eV of a structure; offset_per_atom: signed mean of (C δ)_b / N_b, eV; rmse: of d − C δ, eV."""

    offset: float
    spread: float
    offset_per_atom: float
    rmse: float

    @property
    def doubted(self) -> bool:
        return self.offset > DOUBTFUL * self.spread


def reference_level(raw: Residuals) -> ReferenceLevel | None:
    """The part of the energy errors that compositions explain; None for too few structures (rank + FEWEST) to tell, or broken numbers."""
    elements = np.unique(raw.numbers)
    compositions = np.zeros((len(raw), len(elements)))
    np.add.at(compositions, (raw.frame, np.searchsorted(elements, raw.numbers)), 1.0)
    rank = int(np.linalg.matrix_rank(compositions))
    if len(raw) < rank + FEWEST or not np.isfinite(raw.energy).all():
        return None
    explained = compositions @ np.linalg.lstsq(compositions, raw.energy, rcond=None)[0]  # (B,)
    rest = raw.energy - explained
    return ReferenceLevel(
        offset=float(np.sqrt(np.mean(explained**2))),
        spread=float(np.sqrt(np.sum(rest**2) / (len(raw) - rank))),
        offset_per_atom=float(np.mean(explained / compositions.sum(axis=1))),
        rmse=float(np.sqrt(np.mean(rest**2))),
    )


def other_level(raw: Residuals) -> list[str]:
    """A warning where nearly all of the energy errors is a constant of each element."""
    level = reference_level(raw)
    if level is None or not level.doubted:
        return []
    return [
        f"energies are off by about {1e3 * level.offset_per_atom:.3g} meV per atom ({level.offset:.3g} eV a structure), which compositions "
        f"explain but for a spread of {level.spread:.2g} eV: look whether they were computed like those of the training data (functional, "
        f"pseudopotentials, code); without that constant the RMSE is {1e3 * level.rmse:.3g} meV"
    ]
