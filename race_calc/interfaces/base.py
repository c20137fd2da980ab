"""An ASE calculator around a Prediction: what all potentials with uncertainties share. Imports no torch."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes, all_properties
from ase.data import atomic_numbers, chemical_symbols
from ase.outputs import Properties

from race_calc.data.graph import from_atoms_with_skin
from race_calc.data.skin import SkinList
from race_calc.data.structure import check_geometry, real_arrays
from race_calc.uncertainty.calibration import Calibration
from race_calc.uncertainty.prediction import QUANTITIES, Prediction
from race_calc.uncertainty.predictor import BATCH, tell_refusal, whole_asked
from race_calc.uncertainty.storage import read_calibration
from race_calc.uncertainty.surroundings import REACH, spread_of_forces, with_surroundings

MEANS = ("energy", "free_energy", "energies", "forces", "stress")


class PredictingCalculator(Calculator):
    """An ASE calculator, and a `race_calc.uncertainty.predictor.Predictor`, from one method.

    A subclass gives `_raw(atoms)`, the uncalibrated Prediction of one structure, and says in the constructor which quantities
    that will have: `race_calc.uncertainty.prediction.quantities` tells them from the fields that it fills. One that can do many structures
    at once overrides `raw_predictions` too. `results` holds what the Prediction gives, by the names in
    `race_calc.uncertainty.prediction.QUANTITIES`. One whose means alone cost less overrides `_means`: between the checks of a monitor
    with an interval `results` then holds the MEANS, and everything else is predicted when it is asked for.

    Threads may share one: each calculation, with what is read of it, is done alone (`get_property`, `prediction`, and all that ASE's
    `get_…` methods give). The attribute `results` is of whichever structure came last.

    `thresholds`: what "auto" means for each criterion of the monitor, without a calibration; can be set. `calibration`: what is applied
    to the uncertainties, the path of one that `race-calc calibrate` stored, or None; an attribute that can be set before the first
    calculation. `model_hash`: what tells this potential from others, or None.
    """

    model_hash: str | None = None
    _near: SkinList | None = None  # pairs within REACH, where `_surrounded` needed them
    _inside: tuple[Any, ...] = ()  # ASE calculators that this one asks

    def __init__(
        self,
        quantities: Collection[str],
        thresholds: Mapping[str, float] | None = None,
        calibration: Calibration | str | Path | None = None,
    ):
        self._lock = RLock()  # around every use of atoms, results and _raw
        super().__init__()
        if isinstance(calibration, (str, Path)):
            calibration = read_calibration(calibration, self.model_hash)
        self.implemented_properties = [*filter(set(quantities).__contains__, QUANTITIES), *sorted(set(quantities) - set(QUANTITIES))]
        self.calibration = calibration
        self._thresholds = dict(thresholds or {})
        self._prediction: Any = None  # the Prediction of the current atoms

    def _raw(self, atoms: Atoms) -> Prediction:
        """The Prediction of one structure, as the potential is, without a calibration. Raises ValueError where there is none."""
        raise NotImplementedError(f"{type(self).__name__} must say how it predicts: define _raw(atoms)")

    def _means(self, atoms: Atoms) -> Prediction | None:
        """A Prediction of which only the MEANS are read, the same as those of `_raw`; None where it would save nothing."""
        return None

    @property
    def thresholds(self) -> dict[str, float]:
        """What "auto" means for each criterion of the monitor, from the calibration or else as given."""
        return dict(self._thresholds if self.calibration is None else self.calibration.thresholds)

    @thresholds.setter
    def thresholds(self, values: Mapping[str, float]) -> None:
        self._thresholds = dict(values)
        if self.calibration is not None:
            self.calibration = replace(self.calibration, thresholds=dict(values))

    def prediction(self, atoms: Atoms | None = None) -> Prediction:
        """The whole Prediction for `atoms` (default: the last ones); evaluates the model only if it is not current.

        Raises ValueError when there are no atoms yet.
        """
        if atoms is None and self.atoms is None:
            raise ValueError("nothing was calculated yet: give atoms")
        with self._lock:
            if not self._is_current(atoms) or self._prediction is None:
                self.calculate(self.atoms if atoms is None else atoms, ("prediction",), all_changes)
            return self._prediction

    def raw_predictions(self, structures: Iterable[Atoms], batch: int = BATCH) -> Iterator[Prediction]:
        """Uncalibrated, one structure after the other; `results` and the current structure stay as they are."""
        return map(self._raw_alone, structures)

    def _raw_alone(self, atoms: Atoms) -> Prediction:
        with self._lock:
            return self._surrounded(self._raw(atoms), atoms)

    def _surrounded(self, raw: Prediction, atoms: Atoms) -> Prediction:
        """With `forces_nearby` and `numbers`, which a calibration may ask for."""
        if spread_of_forces(raw) is None:
            return raw
        if raw.forces_nearby is not None:
            return raw if raw.numbers is not None else replace(raw, numbers=atoms.numbers)
        graph, self._near = from_atoms_with_skin(atoms, REACH, self._near)
        return with_surroundings(raw, graph)

    def calculate(self, atoms: Atoms | None = None, properties=("energy",), system_changes=all_changes) -> None:
        """Predict once and fill `results` with everything that gives, or between the checks of a monitor with the MEANS.

        Raises ValueError for no atoms and as `race_calc.data.structure.check_geometry` does, and what the potential raises; a monitor of
        a run with these atoms is told first (`race_calc.uncertainty.predictor.tell_refusal`).
        """
        with self._lock:
            self._calculate(atoms, properties, system_changes)

    def _calculate(self, atoms: Atoms | None, properties, system_changes) -> None:
        self.results, self._prediction = {}, None  # nothing stale if this fails
        with self._telling(atoms):
            if atoms is not None:
                real_arrays(atoms)
            super().calculate(atoms, properties, system_changes)
            now: Any = self.atoms  # set by ASE just now
            if len(now) == 0:
                raise ValueError("the structure has no atoms: give at least one atom")
            check_geometry(now.positions, now.cell.array, now.pbc)
            means = None if not {*(properties or ())} <= {*MEANS} or whole_asked(self, atoms) else self._means(now)
            if means is not None:
                self._fill(means, MEANS)
                return
            raw = self._raw(now)
            if self.calibration is not None and self.calibration.needs_surroundings:
                raw = self._surrounded(raw, now)
        self._prediction = raw if self.calibration is None else self.calibration.apply(raw)
        self._fill(self._prediction, self.implemented_properties)

    def _fill(self, prediction: Prediction, names: Collection[str]) -> None:
        known = results_of(prediction)
        self.results = {name: known[name] for name in self.implemented_properties if name in known and name in names}

    def _is_current(self, atoms: Atoms | None) -> bool:
        """Are the results those of these atoms?"""
        if atoms is not None:
            with self._telling(atoms):
                real_arrays(atoms)
        return bool(self.results) and (atoms is None or not self.check_state(atoms))

    @contextmanager
    def _telling(self, atoms: Atoms | None) -> Iterator[None]:
        """A monitor is told of whatever is raised, before it leaves."""
        try:
            yield
        except Exception as error:
            if atoms is not None:
                tell_refusal(self, atoms, error)
            raise

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """As in ASE; what a calculator inside this one counts as a change (some watch charges in `info`) is one."""
        found = self._own_changes(atoms, tol)
        inside = (one for one in self._inside if getattr(type(one), "check_state", Calculator.check_state) is not Calculator.check_state)
        return found or next(filter(None, (one.check_state(atoms, tol) for one in inside)), [])

    def _own_changes(self, atoms: Atoms, tol: float) -> list[str]:
        """ASE's comparison within `tol` takes a tenth of a step of a small molecule: equal bits do without it."""
        last: Any = self.atoms
        if last is not None and tol <= 1e-15 and all(np.array_equal(getattr(last, name), getattr(atoms, name)) for name in ("cell", "pbc")):
            checked = [name for name in all_changes if name not in self.ignored_changes]
            both = [(last.arrays[name], atoms.arrays[name]) for name in checked if name in last.arrays and name in atoms.arrays]
            alone = [name for name in checked if (name in last.arrays) != (name in atoms.arrays)]
            if not alone and all(np.array_equal(one, other) for one, other in both):
                return []
        return super().check_state(atoms, tol)

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True):
        """As in ASE; a stress that the structure does not have is refused without evaluating the model again."""
        with self._lock:
            whole = self._prediction is not None or name in MEANS
            if self._is_current(atoms) and whole and name in self.implemented_properties and name not in self.results:
                raise PropertyNotImplementedError(f"{name} needs a periodic cell with a volume")
            return super().get_property(name, atoms, allow_calculation)

    def get_potential_energy(self, atoms: Atoms | None = None, force_consistent: bool = False) -> float:
        """As in ASE, which reads the free energy from the results."""
        with self._lock:
            return super().get_potential_energy(atoms, force_consistent)

    def calculate_properties(self, atoms: Atoms, properties) -> Properties:
        """As in ASE, which calculates and then reads the results."""
        with self._lock:
            return super().calculate_properties(atoms, properties)

    def set(self, **changes):
        """Refuses changes: everything is fixed when the calculator is made."""
        if changes:
            raise ValueError(f"cannot change {', '.join(changes)} of a {type(self).__name__}: make a new one")
        return super().set()

    def reset(self) -> None:
        with self._lock:
            super().reset()
            self._prediction = None

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: all but the lock, of which each has its own."""
        with self._lock:
            return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=RLock())

    def export_properties(self) -> Properties:
        """The results that have a standard ASE name."""
        return Properties({name: value for name, value in self.results.items() if name in all_properties})


def results_of(prediction: Prediction) -> dict[str, float | bool | np.ndarray]:
    """A Prediction of one structure as ASE results; keys and units as in `race_calc.interfaces.calculator.RACECalculator`."""
    found: dict[str, Any] = {}
    for name, extra in prediction.extra.items():
        mean = np.array(extra.mean[0] if extra.per_structure else extra.mean)
        found[name] = float(mean) if mean.ndim == 0 else mean
    for name, axis in QUANTITIES.items():
        if name in prediction.available:
            value: Any = prediction.value(name)
            value = value if axis is None else np.take(value, 0, axis)
            found[name] = value if isinstance(value, bool) else float(value) if np.ndim(value) == 0 else np.array(value)
    return found


def elements_of(calculator) -> tuple[str, ...] | None:
    """Chemical symbols that a calculator says it knows, in the order of the atomic numbers; None where it does not say.

    `elements` may hold symbols or atomic numbers; a method of that name is not called.
    """
    known = getattr(calculator, "elements", None)
    if known is None or not isinstance(known, Iterable):
        return None
    symbols = [
        chemical_symbols[int(one)] if isinstance(one, Integral) and 0 < int(one) < len(chemical_symbols) else str(one) for one in known
    ]
    return tuple(sorted(symbols, key=lambda symbol: atomic_numbers.get(symbol, 0)))
