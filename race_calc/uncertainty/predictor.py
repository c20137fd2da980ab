"""What monitor, calibration and evaluation need of a potential. Imports no torch, and whoever serves it need not."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary, WeakSet

from race_calc.uncertainty.prediction import Prediction

if TYPE_CHECKING:
    from ase import Atoms

    from race_calc.uncertainty.calibration import Calibration

BATCH = 256  # atoms that are predicted together, unless another number is given


class Predictor(Protocol):
    """A potential that knows its uncertainty; `race_calc.interfaces.base.PredictingCalculator` is one for ASE too.

    Optional, and asked for by the functions below: `raw_predictions(structures, batch)`, an iterator over many structures in
    their order, never calibrated, each Prediction with the next one or more of them, together at most `batch` atoms unless one
    alone has more; `thresholds`, criterion of the monitor → what "auto" stands for; `calibration`, what recalibrates
    `prediction`. Both raise ValueError for a structure that cannot be predicted; `tell_refusal` lets a monitor know first.
    """

    def prediction(self, atoms: "Atoms") -> Prediction: ...


def raw_predictions(predictor: Predictor, structures: Iterable["Atoms"], batch: int = BATCH) -> Iterator[Prediction]:
    """Of all structures, together where the predictor can; never calibrated. Raises ValueError where only calibrated ones can be had."""
    if hasattr(predictor, "raw_predictions"):
        yield from predictor.raw_predictions(structures, batch)
        return
    for atoms in structures:
        prediction = predictor.prediction(atoms)
        if prediction.calibrated:
            raise ValueError(f"{type(predictor).__name__} gives calibrated predictions only: it needs raw_predictions as well")
        yield prediction


def calibration_of(predictor: Predictor) -> "Calibration | None":
    """What recalibrates its predictions, if anything does."""
    return getattr(predictor, "calibration", None)


def thresholds_of(predictor: Predictor) -> Mapping[str, float]:
    """Criterion → what "auto" stands for; empty where nothing is known."""
    return getattr(predictor, "thresholds", None) or {}


class Listener(Protocol):
    """Who follows a predictor, such as the monitor of a run: wants to know of structures that it cannot predict, and says whether it will
    look at the whole of a prediction that is made now."""

    def refused(self, atoms: "Atoms", error: Exception) -> None: ...

    def looks_at(self, atoms: "Atoms | None") -> bool: ...


_LISTENERS: WeakKeyDictionary[Any, WeakSet[Any]] = WeakKeyDictionary()  # here, not in the predictor: copies of one have none


def listen(predictor: Predictor, listener: Listener) -> None:
    """Have the listener told of refusals and asked what it looks at, as long as both live. A predictor that cannot be a key of a
    dictionary tells nobody."""
    with suppress(TypeError):
        _LISTENERS.setdefault(predictor, WeakSet()).add(listener)


def stop_listening(predictor: Predictor, listener: Listener) -> None:
    """Undo `listen`; nothing happens where there is nothing to undo."""
    with suppress(TypeError):
        _LISTENERS.get(predictor, WeakSet()).discard(listener)


def tell_refusal(predictor: Predictor, atoms: "Atoms", error: Exception) -> None:
    """For a predictor that is about to raise `error` for `atoms` (the very object it was given)."""
    for listener in _listeners(predictor):
        listener.refused(atoms, error)


def whole_asked(predictor: Predictor, atoms: "Atoms | None") -> bool:
    """Whether more than means will be asked of the prediction for these atoms: where a listener says so, and where none is there to say."""
    listeners = _listeners(predictor)
    return not listeners or any(listener.looks_at(atoms) for listener in listeners)


def _listeners(predictor: Predictor) -> tuple[Listener, ...]:
    with suppress(TypeError):  # that cannot be a key; errors of a listener are not hidden
        return tuple(_LISTENERS.get(predictor, ()))
    return ()
