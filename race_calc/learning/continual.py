"""A RACE model as a learner: continued training, calibration and thresholds on what is held back of every labelled batch."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from race_calc.data.dataset import Dataset, dataset_from_atoms, read_dataset
from race_calc.data.files import read_json, write_atomically
from race_calc.evaluate.calibrate import calibrate, not_too_low, thresholds_from
from race_calc.evaluate.predict import predict_dataset, residuals_of, scores_of
from race_calc.interfaces.calculator import RACECalculator
from race_calc.learning.learner import Lesson
from race_calc.model.hardware import torch_device
from race_calc.posterior.calibrations import save_calibration
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.train.config import load_config
from race_calc.train.continued import CALIBRATION, CONFIG, DATA, continued, frames_of, has_begun, training_data
from race_calc.train.finish import finish
from race_calc.train.labels import read_labelled
from race_calc.train.loop import train
from race_calc.train.prepare import prepare
from race_calc.uncertainty.metrics import rmse
from race_calc.uncertainty.thresholds import FEWEST

KIND, VERSION, LESSON = "race_calc lesson", 1, "lesson.json"
FEW = 1.5  # times the largest score of a few held-back structures: the threshold where they are too few to tell a rate of false alarms


def _silent(record: dict) -> None:
    """Tell nobody: a function with a name, which another process can be given."""


@dataclass(frozen=True)
class RACELearner:
    """model: folder of a model of `race-calc train` (or of `train --from`); data: what the paths of its training are relative to, None
    where the model holds its data. epochs: of each lesson, None for what `race_calc.train.continued` takes. report: called with
    what the training loop tells.

    Raises ValueError for a model that cannot go on and for data other than those of its training.
    """

    model: str | Path
    data: str | Path | None = None
    epochs: int | None = None
    device: str = "cpu"
    report: Callable[[dict], None] = _silent

    def potential(self, folder: Path | None) -> RACECalculator:
        """The calculator that was learned in `folder`, calibrated where FEWEST structures are held back, with thresholds in any case."""
        path = Path(self.model if folder is None else folder)
        made = RACECalculator(path, self.device)
        if not made.thresholds:
            made.thresholds = _thresholds(made, self._data(folder)[1])
        return made

    def known(self, folder: Path | None) -> Sequence[Atoms]:
        """The structures of the training, and then those that are held back."""
        train, held = self._data(folder)
        return [*frames_of(train), *frames_of(held)]

    def learn(self, labelled: Sequence[Path], before: Path | None, folder: Path) -> Lesson:
        """A lesson; its `before` and `after` are on validation and calibration structures, of which the first chose the epochs."""
        told = folder / LESSON
        if told.exists():
            found = read_json(told, KIND, VERSION)
            return Lesson(found["before"], found["after"], tuple(found["notes"]))
        self._trained(labelled, before, folder)
        held = self._data(folder)[1]
        old, new = (RACECalculator(path, self.device, calibrated=False) for path in (before or Path(self.model), folder))
        lesson = Lesson(_rmse(old, held), _rmse(new, held), _calibrated(folder, new, held))
        write_atomically(told, json.dumps({"format": KIND, "version": VERSION, **asdict(lesson)}).encode())
        return lesson

    def _trained(self, labelled: Sequence[Path], before: Path | None, folder: Path) -> None:
        """Go on with a training that has begun there, or begin it."""
        begun = has_begun(folder)
        if begun:
            config = load_config(folder / CONFIG)
        else:
            start = before or Path(self.model)
            data = None if before or self.data is None else Path(self.data)
            config = continued(load_checkpoint(start, calibration=False), start, labelled, data, folder, self.epochs).config
        device = torch_device(self.device)
        prepared = prepare(config, folder)
        finish(config, prepared, train(config, prepared, folder, device, begun, self.report), folder, device)

    def _data(self, folder: Path | None) -> tuple[Dataset, Dataset]:
        """Structures that are trained on, and that are held back: those of the validation, and those that calibrate."""
        path = Path(self.model if folder is None else folder)
        if folder is None:
            data = None if self.data is None else Path(self.data)
            _, found = training_data(load_checkpoint(path, calibration=False), path, data)
        else:
            found = read_labelled(load_config(path / CONFIG), path, [])
        kept = path / DATA / CALIBRATION
        more = frames_of(read_dataset(kept)) if kept.is_file() else []
        return found.train, dataset_from_atoms([*frames_of(found.validation), *more])


def _calibrated(folder: Path, raw: RACECalculator, held: Dataset) -> tuple[str, ...]:
    """Calibrate the model in the folder, thresholds too, with all that is held back."""
    if len(held) < FEWEST:
        return (f"not calibrated: {len(held)} structures are held back, {FEWEST} are the fewest",)
    found, _ = calibrate(raw, held)
    save_calibration(folder, found)
    return ()


def _thresholds(potential: RACECalculator, held: Dataset) -> dict[str, float]:
    """As `thresholds_from`; FEW times the largest score for what so few structures do not tell."""
    predicted = predict_dataset(potential, held)
    predicted = predicted if potential.calibration is None else predicted.calibrated(potential.calibration)
    largest: Mapping[str, np.ndarray] = scores_of(predicted)
    few = {name: FEW * float(values.max()) for name, values in largest.items() if np.isfinite(values).all()}
    return not_too_low(few) | thresholds_from(predicted)


def _rmse(potential: RACECalculator, dataset: Dataset) -> float:
    return rmse(residuals_of(predict_dataset(potential, dataset), dataset).forces)
