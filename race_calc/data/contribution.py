"""What is known of a structure without a network: taken from the labels, added again at prediction."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from race_calc.data.graph import Graph


@dataclass(frozen=True)
class Contribution:
    """atom_energy (N,) eV, forces (N, 3) eV/Å; virial (B, 3, 3) eV, dE/dε of a symmetric strain, NaN where it is not known."""

    atom_energy: np.ndarray
    forces: np.ndarray
    virial: np.ndarray


class BaselineError(ValueError):
    """The baseline gave no usable energies or forces for a structure that may be sound."""


Baseline = Callable[[Graph], Contribution]
