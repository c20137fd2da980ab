"""Which structures of a pool are worth a label: methods, each a function of the pool, by name. NumPy only.

================== ==================================================================== ==========================================
name               chooses                                                              needs
================== ==================================================================== ==========================================
random             at random                                                            nothing
farthest-point     the farthest from what is known and chosen, in sorted distances      structures of one size
farthest-features  the same in last-layer features                                      features
variance-energy    the largest variance of the energy between members, per atom         members
variance-forces    the largest mean variance of the forces between members              members with forces
bald-energy        the largest BALD of the energy                                       members that predict variances
bald-forces        the largest mean BALD of the forces                                  the same
bald               half by bald-energy, half by bald-forces, no structure twice         the same
batch              greedily, the most that all labels together tell about the members   members with forces
lcmd               the farthest from its centre in the largest cluster, in features     features
================== ==================================================================== ==========================================

`bald` is the balanced choice of Willow et al. (there BALD-EF), `lcmd` that of Holzmüller et al. 2023 (arXiv:2203.09410), `batch` that of
BatchBALD (Kirsch et al. 2019, arXiv:1906.08158) for Gaussian members: with the deviations D_i (outputs, M) of the members from their mean
in structure i and the noise Σ_i of its labels, labels of a set S tell ½ log det(1 + Σ_i∈S D_iᵀ Σ_i⁻¹ D_i / M), an M × M determinant.
Every method chooses one after the other; of equal scores the structure that comes first in the pool. Scores that are not finite, as of
exploded structures, are never chosen.
"""

from collections.abc import Callable

import numpy as np

from race_calc.uncertainty.candidates import Chosen, Method, Pool
from race_calc.uncertainty.farthest import farthest, lcmd


def choose(pool: Pool, method: str, n: int, seed: int = 0) -> Chosen:
    """n structures of the pool.

    Raises ValueError for an unknown method, a pool with fewer structures, or with fewer that can be chosen, and where the pool lacks what
    the method needs.
    """
    check(method)
    if not 0 < n <= pool.size:
        raise ValueError(f"{n} structures cannot be chosen from a pool of {pool.size}: ask for 1 to {pool.size}")
    return METHODS[method].choose(pool, n, seed)


def check(method: str) -> None:
    """Raises ValueError for an unknown method."""
    if method not in METHODS:
        raise ValueError(f"there is no method {method!r}: take one of {', '.join(METHODS)}")


def random(pool: Pool, n: int, seed: int) -> Chosen:
    return Chosen(np.random.default_rng(seed).permutation(pool.size)[:n], np.zeros(n))


def largest(name: str) -> Callable[[Pool, int, int], Chosen]:
    """Those with the largest score of that name."""

    def method(pool: Pool, n: int, seed: int) -> Chosen:
        scores = score_of(pool, name)
        order = _ranked(scores, n)
        return Chosen(order, scores[order])

    return method


def balanced(pool: Pool, n: int, seed: int) -> Chosen:
    """By turns the largest of both that is not taken yet, energies first."""
    names = ("energy", "forces")
    scores = [score_of(pool, f"bald-{name}") for name in names]
    usable = np.isfinite(scores[0]) & np.isfinite(scores[1])
    _enough(int(usable.sum()), n)
    ranked = [iter(_ranked(np.where(usable, one, np.nan), int(usable.sum()))) for one in scores]
    found: dict[int, float] = {}
    while len(found) < n:
        turn = len(found) % 2
        following = next(i for i in ranked[turn] if i not in found)
        found[int(following)] = float(scores[turn][following])
    return Chosen(np.array([*found]), np.array([*found.values()]), tuple(names[k % 2] for k in range(n)))


def batch(pool: Pool, n: int, seed: int) -> Chosen:
    """The gain of the information (nat) of the whole batch."""
    if pool.information is None:
        raise ValueError("batch needs several members and the forces of each: take another method, such as farthest-point")
    usable = np.isfinite(pool.information).all(axis=(1, 2))
    _enough(int(usable.sum()), n)
    told = np.where(usable[:, None, None], pool.information, 0.0)
    have, before = np.eye(told.shape[1]), 0.0
    indices, gains, free = [], [], usable.copy()
    for _ in range(n):
        whole = 0.5 * np.linalg.slogdet(have + told)[1]
        best = int(np.argmax(np.where(free, whole, -np.inf)))
        indices.append(best)
        gains.append(whole[best] - before)
        have, before, free[best] = have + told[best], whole[best], False
    return Chosen(np.array(indices), np.array(gains))


METHODS: dict[str, Method] = {
    "random": Method(random),
    "farthest-point": Method(farthest("distances"), "Å", "distances"),
    "farthest-features": Method(farthest("features"), place="features"),
    "variance-energy": Method(largest("variance-energy"), "eV²/atom"),
    "variance-forces": Method(largest("variance-forces"), "(eV/Å)²"),
    "bald-energy": Method(largest("bald-energy"), "nat"),
    "bald-forces": Method(largest("bald-forces"), "nat/atom"),
    "bald": Method(balanced, "nat, nat/atom"),
    "batch": Method(batch, "nat"),
    "lcmd": Method(lcmd, place="features"),
}


def score_of(pool: Pool, name: str) -> np.ndarray:
    """Raises ValueError where the potential does not tell it."""
    if name not in pool.scores:
        needs = "members that predict variances" if name.startswith("bald") else "several members"
        raise ValueError(f"{name} needs {needs}, and this potential does not tell it: take another method, or another model")
    return pool.scores[name]


def _ranked(scores: np.ndarray, n: int) -> np.ndarray:
    """Indices of the n largest, the largest first, of equal ones the first. Raises ValueError where fewer are finite."""
    finite = np.isfinite(scores)
    _enough(int(finite.sum()), n)
    return np.argsort(np.where(finite, -scores, np.inf), kind="stable")[:n]


def _enough(usable: int, n: int) -> None:
    if usable < n:
        raise ValueError(f"only {usable} structures of the pool have scores that are finite numbers: ask for at most so many")
