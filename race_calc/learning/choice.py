"""Which of the frames that a round collected are labelled."""

from collections.abc import Collection, Sequence
from typing import Any

from ase import Atoms

from race_calc.data.hashes import geometry_hash
from race_calc.evaluate.pool import pool_of
from race_calc.uncertainty.acquisition import choose
from race_calc.uncertainty.candidates import Pool


def chosen(potential: Any, candidates: Sequence[Atoms], known: Sequence[Atoms], taken: Collection[str], n: int) -> list[Atoms]:
    """At most n candidates, none whose geometry hash is `taken` and none twice; `known`: structures of the training."""
    free = {geometry_hash(atoms): atoms for atoms in candidates}
    pool = [atoms for told, atoms in free.items() if told not in taken]
    if len(pool) <= n:
        return pool
    told = pool_of(potential, pool, known)
    return [pool[i] for i in choose(told, _method(told), n).indices]


def _method(pool: Pool) -> str:
    """The best that the potential has features or members for; none of them buys near duplicates twice."""
    if "features" in pool.places:
        return "lcmd"
    return "random" if pool.information is None else "batch"
