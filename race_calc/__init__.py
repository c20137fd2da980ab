"""race_calc: an ASE calculator for the Bayesian, E(3)-equivariant RACE potential, and a monitor for its runs."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from race_calc.interfaces.calculator import RACECalculator
    from race_calc.interfaces.committee import Committee
    from race_calc.interfaces.from_results import from_results
    from race_calc.md.attach import UncertaintyMonitor
    from race_calc.md.log import read_log
    from race_calc.uncertainty.decisions import Criterion
    from race_calc.uncertainty.prediction import Prediction

__version__ = "0.1.0"
_HOME = {
    "RACECalculator": "race_calc.interfaces.calculator",
    "UncertaintyMonitor": "race_calc.md.attach",
    "Committee": "race_calc.interfaces.committee",
    "Criterion": "race_calc.uncertainty.decisions",
    "from_results": "race_calc.interfaces.from_results",
    "Prediction": "race_calc.uncertainty.prediction",
    "read_log": "race_calc.md.log",
}
__all__ = ["Committee", "Criterion", "Prediction", "RACECalculator", "UncertaintyMonitor", "from_results", "read_log"]


def __getattr__(name: str):
    """Load a public name when it is first used, so that `import race_calc` does not load torch."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'race_calc' has no attribute {name!r}")
