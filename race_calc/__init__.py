"""race_calc: an ASE calculator for the Bayesian, E(3)-equivariant RACE potential, and a monitor for the runs of any potential."""

import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from race_calc.interfaces.calculator import RACECalculator
    from race_calc.interfaces.committee import Committee
    from race_calc.interfaces.from_results import from_results
    from race_calc.interfaces.properties import PropertyModel
    from race_calc.learning.continual import RACELearner
    from race_calc.learning.on_the_fly import OnTheFly
    from race_calc.md.attach import UncertaintyMonitor
    from race_calc.md.log import read_log
    from race_calc.md.record import annotate
    from race_calc.observables.difference import difference
    from race_calc.observables.elastic import elastic_constants
    from race_calc.observables.vibrations import vibrations
    from race_calc.uncertainty.decisions import Criterion
    from race_calc.uncertainty.prediction import Prediction

    __version__: str

_HOME = {
    "Committee": "interfaces.committee",
    "Criterion": "uncertainty.decisions",
    "OnTheFly": "learning.on_the_fly",
    "Prediction": "uncertainty.prediction",
    "PropertyModel": "interfaces.properties",
    "RACECalculator": "interfaces.calculator",
    "RACELearner": "learning.continual",
    "UncertaintyMonitor": "md.attach",
    "annotate": "md.record",
    "difference": "observables.difference",
    "elastic_constants": "observables.elastic",
    "from_results": "interfaces.from_results",
    "read_log": "md.log",
    "vibrations": "observables.vibrations",
}
__all__ = [
    "Committee",
    "Criterion",
    "OnTheFly",
    "Prediction",
    "PropertyModel",
    "RACECalculator",
    "RACELearner",
    "UncertaintyMonitor",
    "annotate",
    "difference",
    "elastic_constants",
    "from_results",
    "read_log",
    "vibrations",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used, so that `import race_calc` does not load torch. `__version__`: as it was installed."""
    if name == "__version__":
        metadata = import_module("importlib.metadata")
        try:
            return metadata.version("race_calc")
        except metadata.PackageNotFoundError:  # a checkout on the path
            return "unknown"
    if name in _HOME:
        return getattr(import_module(f"race_calc.{_HOME[name]}"), name)
    raise AttributeError(f"module 'race_calc' has no attribute {name!r}")


_MOVED = {  # modules of version 0.1 → where their names are; gone with version 0.3
    "assessment": "evaluate.assessment",
    "calculator": "interfaces.calculator interfaces.base",
    "calibrate": "",
    "cli.calibrate_report": "report.calibration",
    "cli.demo_report": "report.demo",
    "cli.evaluate_report": "report.evaluation",
    **{f"cli.{name}": f"report.{name.replace('evaluate', 'evaluation')}" for name in ("evaluate_figures", "evaluate_json", "tables")},
    "checkpoint": "posterior.checkpoint posterior.calibrations",
    "device": "model.hardware",
    "envelope": "model.cutoff",
    "graph": "data.graph",
    "kernels": "",
    "kernels.build": "model.kernels.build",
    "kernels.messages": "model.kernels.messages",
    "md.demo_run": "md.run",
    "md.extxyz": "data.extxyz",
    "md.monitor": "uncertainty.decisions",
    "memory": "model.hardware",
    "neighbours": "data.neighbours",
    "ood": "",
    "parallel": "model.hardware",
    "posterior.aggregate": "uncertainty.aggregate",
    "posterior.bald": "uncertainty.bald",
    "prediction": "uncertainty.prediction",
    "recalibrate": "evaluate.calibrate",
    "report.labels": "uncertainty.scores",
    "repulsion": "model.repulsion",
    "skin": "data.skin",
    "train.posthoc": "posterior.posthoc posterior.base posterior.given posterior.llpr posterior.last_layer",
    "train.steps": "train.loop",
    **{f"ood.{name}": f"uncertainty.{name}" for name in ("detection", "scores", "thresholds")},
    **{f"calibrate.{name}": f"uncertainty.{name}" for name in ("bootstrap", "calibration", "conformal", "metrics", "ranking", "residuals")},
    **{f"calibrate.{name}": f"evaluate.{name}" for name in ("cross_fit", "groups", "reliability")},
    "calibrate.recalibration": "uncertainty.scaling uncertainty.level_map",
    "calibrate.score": "evaluate.unified_score",
    "calibrate.storage": "uncertainty.storage",
}

_MOVED_NAMES = {  # names that left a module of version 0.1 which is still there → where they are; gone with version 0.3
    "data.dataset": dict.fromkeys(("data_hash", "geometry_hashes", "structure_hashes"), "data.hashes"),
    "md.record": dict.fromkeys(("append_line", "json_line"), "md.log"),
    "model.heads": {"readout": "model.interaction"},
    "posterior.stack": {"load_stack": "posterior.load"},
}


def moved_names(module: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module that some names left: it serves them from their new places, with a DeprecationWarning."""
    here = _MOVED_NAMES[module.removeprefix("race_calc.")]

    def __getattr__(name: str) -> Any:
        if name not in here:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        text = f"{module}.{name} is now in race_calc.{here[name]}; the old name goes with version 0.3"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return getattr(import_module(f"race_calc.{here[name]}"), name)

    return __getattr__


def _save_calibration(folder: Any, calibration: Any, weights_sha256: str) -> None:
    """As version 0.1 had it: the calibration of the model in `folder`. Raises ValueError for the hash of other weights."""
    from race_calc.posterior.calibrations import save_calibration
    from race_calc.posterior.manifest import hash_weights

    if weights_sha256 != hash_weights(folder):
        raise ValueError(f"the weights in {folder} are not those that were calibrated: calibrate again")
    save_calibration(folder, calibration)


def _replaced(old: str) -> dict[str, Any]:
    """Names of a module of version 0.1 in place of which there is now something of another form."""
    if old == "checkpoint":
        return {"save_calibration": _save_calibration}
    if old == "report.labels":
        rows = import_module("race_calc.uncertainty.scores").SCORES
        labels = {name: (row.label, row.unit) for name, row in rows.items()}
        return {"LABELS": labels, "with_unit": lambda criterion, value: rows[criterion].text(value)}
    return {}


class _Moved(MetaPathFinder, Loader):
    """Serves old module names from the new places, with a DeprecationWarning."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        old = fullname.removeprefix("race_calc.")
        return ModuleSpec(fullname, self, is_package=not _MOVED[old]) if old != fullname and old in _MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        for new in _MOVED[module.__name__.removeprefix("race_calc.")].split():
            warnings.warn(f"{module.__name__} is now race_calc.{new}; the old name goes with version 0.3", DeprecationWarning, stacklevel=2)
            names = vars(import_module(f"race_calc.{new}"))
            vars(module).update({name: value for name, value in names.items() if not name.startswith("__")})
        vars(module).update(_replaced(module.__name__.removeprefix("race_calc.")))


sys.meta_path.append(_Moved())
