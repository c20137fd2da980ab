"""What a run must have in common with the training that it goes on with."""

import pytest

from race_calc.train.config import parse_config
from race_calc.train.fingerprint import fingerprint

PLAIN = {"data": {"train": "a.xyz", "validation": 4}, "training": {"epochs": 2}}


def of(content=PLAIN, species=1, hashes="data"):
    return fingerprint(parse_config(content), {"species": [species]}, hashes, ())


def test_it_stays_what_it_was():
    """Otherwise no run that began before could go on: a new key of the configuration counts only where it is used."""
    assert of() == "5bfe931844b878de4925d8cee3f8bb6f7f5eb84420fd766ed3f2b6b7ecbd256c"


@pytest.mark.parametrize(
    "other",
    [
        {"content": PLAIN | {"members": 3}},
        {"content": PLAIN | {"training": {"epochs": 3}}},
        {"content": PLAIN | {"data": PLAIN["data"] | {"keys": {"energy": "dft_energy"}}}},
        {"species": 6},
        {"hashes": "others"},
    ],
)
def test_all_that_counts(other):
    assert of(**other) != of()
