"""Which of the frames that a round collected are labelled."""

from collections.abc import Collection, Sequence
from typing import Any

from ase import Atoms

from race_calc.data.hashes import geometry_hash
from race_calc.evaluate.pool import pool_of, usual_method
from race_calc.uncertainty.acquisition import choose


def chosen(potential: Any, candidates: Sequence[Atoms], known: Sequence[Atoms], taken: Collection[str], n: int) -> list[Atoms]:
    """At most n candidates, none whose geometry hash is `taken` and none twice; `known`: structures of the training.

    By `usual_method`; at random where the potential has neither features nor members.
    """
    free = {geometry_hash(atoms): atoms for atoms in candidates}
    pool = [atoms for told, atoms in free.items() if told not in taken]
    if len(pool) <= n:
        return pool
    method = usual_method(potential)
    told = pool_of(potential, pool, known, scored=method == "batch")
    if method == "batch" and told.information is None:
        method = "random"
    return [pool[i] for i in choose(told, method, n).indices]
