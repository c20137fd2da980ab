"""A predictor against labelled structures."""

import warnings
from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """Names of the module that `race_calc.evaluate` was in version 0.1; gone with version 0.3."""
    for place in () if name.startswith("__") else ("errors", "predict"):
        found = vars(import_module(f"race_calc.evaluate.{place}")).get(name)
        if found is not None:
            warnings.warn(f"race_calc.evaluate.{name} is now in race_calc.evaluate.{place}", DeprecationWarning, stacklevel=2)
            return found
    raise AttributeError(f"module 'race_calc.evaluate' has no attribute {name!r}")
