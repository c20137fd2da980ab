"""The examples in the docstrings do what they say."""

import doctest
from importlib import import_module
from importlib.util import find_spec
from pkgutil import walk_packages

import race_calc

NEED = {"race_calc.interfaces.metatomic.": "metatomic", "race_calc.interfaces.torch_sim": "torch_sim"}  # cannot be imported without


def test_examples_in_docstrings():
    attempted = 0
    for module in walk_packages(race_calc.__path__, "race_calc."):
        wanted = next((extra for start, extra in NEED.items() if module.name.startswith(start)), "torch")
        if find_spec(wanted) and not module.name.endswith(("__main__", "._library")):  # C, no module of Python
            found = doctest.testmod(import_module(module.name))
            assert not found.failed, module.name
            attempted += found.attempted
    assert attempted
