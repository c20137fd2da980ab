"""What methods of choosing structures are given, and give back. NumPy only."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class Pool:
    """Of P candidates; None where the potential, or the structures, do not tell.

    ============== =============== =====================================================================================
    field          shape           meaning
    ============== =============== =====================================================================================
    size           P
    scores         name → (P,)     of the methods that take the largest
    information    (P, M, M)       D_iᵀ Σ_i⁻¹ D_i / M, what labels of a structure tell about the members
    places         name → (P, K)   where a structure lies: "distances" in Å, sorted, "features"
    known          name → (Q, K)   the same of structures that have labels
    ============== =============== =====================================================================================
    """

    size: int
    scores: dict[str, np.ndarray] = field(default_factory=dict)
    information: np.ndarray | None = None
    places: dict[str, np.ndarray] = field(default_factory=dict)
    known: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Chosen:
    """`indices` (n,) in the order of the choice; `scores` (n,): why, each when it was chosen; `by`: of several kinds of scores,
    which."""

    indices: np.ndarray
    scores: np.ndarray
    by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Method:
    """`choose`: pool, how many, seed → Chosen; the unit of its scores; the `Pool.places` that it needs."""

    choose: Callable[[Pool, int, int], Chosen]
    unit: str = ""
    place: str | None = None
