"""Choosing from a pool: against enumerations and cases that can be told by eye."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from race_calc.uncertainty.acquisition import METHODS, choose
from race_calc.uncertainty.candidates import Pool
from race_calc.uncertainty.farthest import to_known


def full(size: int, seed: int = 0, known: int = 3) -> Pool:
    """A pool that tells everything."""
    rng = np.random.default_rng(seed)
    scores = {name: rng.exponential(size=size) for name in ("variance-energy", "variance-forces", "bald-energy", "bald-forces")}
    d = rng.normal(size=(size, 5, 4)) * rng.exponential(size=(size, 1, 1))
    places = {name: rng.normal(size=(size, 3)) for name in ("distances", "features")}
    return Pool(size, scores, np.einsum("pim,pin->pmn", d, d), places, {name: rng.normal(size=(known, 3)) for name in places})


@given(size=st.integers(1, 12), seed=st.integers(0, 99), known=st.integers(0, 3), method=st.sampled_from(sorted(METHODS)), data=st.data())
@settings(max_examples=120, deadline=None)
def test_whatever_the_method(size, seed, known, method, data):
    pool, n = full(size, seed, known), data.draw(st.integers(1, size))
    chosen = choose(pool, method, n, seed)
    assert len(chosen.indices) == len(chosen.scores) == n == len(set(chosen.indices.tolist()))
    assert chosen.indices.min() >= 0 and chosen.indices.max() < size and np.isfinite(chosen.scores).all()
    again = choose(pool, method, n, seed)
    np.testing.assert_array_equal(chosen.indices, again.indices)
    if method != "bald":
        np.testing.assert_array_equal(choose(pool, method, size, seed).indices[:n], chosen.indices)  # one after the other


def test_the_largest_come_first_and_of_equal_ones_the_first():
    pool = Pool(5, {"bald-forces": np.array([1.0, 3.0, np.nan, 3.0, np.inf])})
    chosen = choose(pool, "bald-forces", 3)
    assert chosen.indices.tolist() == [1, 3, 0] and chosen.scores.tolist() == [3.0, 3.0, 1.0]
    with pytest.raises(ValueError, match="only 3 structures"):
        choose(pool, "bald-forces", 4)


def test_both_kinds_by_turns_without_a_structure_twice():
    scores = {"bald-energy": np.array([9.0, 8.0, 7.0, 0.0, np.nan]), "bald-forces": np.array([9.0, 1.0, 8.0, 7.0, 99.0])}
    chosen = choose(Pool(5, scores), "bald", 4)
    assert chosen.indices.tolist() == [0, 2, 1, 3] and chosen.by == ("energy", "forces") * 2
    assert chosen.scores.tolist() == [9.0, 8.0, 8.0, 7.0]
    with pytest.raises(ValueError, match="only 4 structures"):  # the energy of the last says nothing
        choose(Pool(5, scores), "bald", 5)


@pytest.mark.parametrize("seed", range(5))
def test_the_batch_is_that_of_the_largest_determinants(seed):
    pool = full(6, seed)
    told = lambda some: 0.5 * np.linalg.slogdet(np.eye(4) + sum(pool.information[i] for i in some))[1]  # noqa: E731
    chosen = choose(pool, "batch", 3)
    taken: list[int] = []
    for index, gain in zip(chosen.indices, chosen.scores):
        gains = {i: told([*taken, i]) - (told(taken) if taken else 0.0) for i in range(6) if i not in taken}
        assert index == max(gains, key=gains.get) and gain == pytest.approx(gains[index])
        taken.append(int(index))
    best = max(told(some) for some in permutations(range(6), 3))
    assert told(taken) >= (1 - 1 / np.e) * best  # Nemhauser et al. 1978, of any submodular gain


def test_a_batch_does_not_buy_the_same_twice():
    one, other = np.diag([9.0, 0.0, 0.0]), np.diag([0.0, 5.0, 0.0])
    pool = Pool(4, {"bald-forces": np.array([9.0, 9.0, 5.0, 1.0])}, np.stack([one, one, other, np.full((3, 3), np.nan)]))
    assert choose(pool, "bald-forces", 2).indices.tolist() == [0, 1]
    assert choose(pool, "batch", 2).indices.tolist() == [0, 2]
    assert 3 not in choose(pool, "batch", 3).indices


def test_the_farthest_on_a_line():
    line = np.array([[0.0], [1.0], [2.0], [10.0], [11.0]])
    pool = Pool(5, places={"distances": line}, known={"distances": np.array([[0.5]])})
    chosen = choose(pool, "farthest-point", 3)
    assert chosen.indices.tolist() == [4, 2, 3] and chosen.scores.tolist() == [10.5, 1.5, 1.0]
    assert choose(Pool(5, places={"distances": line}), "farthest-point", 2).indices.tolist() == [2, 4]  # from the middle
    np.testing.assert_array_equal(to_known(pool), [0.5, 0.5, 1.5, 9.5, 10.5])
    assert to_known(Pool(5, places={"distances": line})) is None


def test_the_largest_cluster_gives_its_farthest():
    """Three near 10 are together farther than the single one at -6."""
    places = np.array([[-6.0], [9.0], [10.0], [9.5]])
    pool = Pool(4, places={"features": places}, known={"features": np.array([[0.0], [3.0]])})
    assert choose(pool, "lcmd", 3).indices.tolist() == [2, 0, 1]
    assert choose(Pool(3, places={"features": np.zeros((3, 2))}), "lcmd", 3).indices.tolist() == [0, 1, 2]  # all alike


@pytest.mark.parametrize(
    "method, said",
    [
        ("magic", "there is no method 'magic': take one of random"),
        ("batch", "several members"),
        ("bald", "members that predict variances"),
        ("variance-forces", "several members"),
        ("lcmd", "no last-layer features"),
        ("farthest-point", "of one composition"),
    ],
)
def test_what_the_pool_does_not_tell(method, said):
    with pytest.raises(ValueError, match=said):
        choose(Pool(3), method, 1)


def test_impossible_numbers():
    for n in (0, 4):
        with pytest.raises(ValueError, match="ask for 1 to 3"):
            choose(Pool(3), "random", n)
    broken = Pool(2, places={"features": np.array([[np.nan], [1.0]])})
    with pytest.raises(ValueError, match="of the pool are not finite"):
        choose(broken, "lcmd", 1)
    unknown = Pool(2, places={"features": np.ones((2, 1))}, known={"features": np.array([[np.nan]])})
    with pytest.raises(ValueError, match="of the known structures are not finite"):
        choose(unknown, "farthest-features", 1)
