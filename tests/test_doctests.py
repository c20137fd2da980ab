"""The examples in the docstrings do what they say."""

import doctest
from importlib import import_module
from pkgutil import walk_packages

import race_calc
from race_calc.model.kernels.build import NAME


def test_examples_in_docstrings():
    attempted = 0
    for module in walk_packages(race_calc.__path__, "race_calc."):
        if not module.name.endswith(("__main__", f".{NAME}")):  # the library of kernels is no module
            found = doctest.testmod(import_module(module.name))
            assert not found.failed, module.name
            attempted += found.attempted
    assert attempted
