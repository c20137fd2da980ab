"""A RACE model as a learner: continued training, calibration and thresholds on what is held back of every labelled batch."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from race_calc.data.dataset import Dataset, dataset_from_atoms, read_dataset
from race_calc.data.files import read_json, write_atomically
from race_calc.evaluate.calibrate import calibrate, thresholds_from
from race_calc.evaluate.predict import predict_dataset, residuals_of, scores_of
from race_calc.interfaces.calculator import RACECalculator
from race_calc.learning.learner import Lesson
from race_calc.model.hardware import torch_device
from race_calc.posterior.calibrations import save_calibration
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.train.config import load_config
from race_calc.train.continued import CALIBRATION, CONFIG, DATA, continued, frames_of, has_begun, training_data
from race_calc.train.finish import finish
from race_calc.train.loop import train
from race_calc.train.prepare import prepare
from race_calc.uncertainty.thresholds import FEWEST

KIND, VERSION, LESSON = "race_calc lesson", 1, "lesson.json"
FEW = 1.5  # times the largest score of a few held-back structures: the threshold where they are too few to tell a rate of false alarms


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
    report: Callable[[dict], None] = lambda record: None

    def potential(self, folder: Path | None) -> RACECalculator:
        """The calculator that was learned in `folder`, calibrated where FEWEST structures are held back, with thresholds in any case."""
        path = Path(self.model if folder is None else folder)
        made = RACECalculator(path, self.device)
        if not made.thresholds:
            made.thresholds = _thresholds(made, self._held_back(folder))
        return made

    def known(self, folder: Path | None) -> Sequence[Atoms]:
        """The structures of the training, and then those that are held back."""
        return [*frames_of(self._data(folder)[0]), *frames_of(self._held_back(folder))]

    def learn(self, labelled: Sequence[Path], before: Path | None, folder: Path) -> Lesson:
        """A lesson; its `before` and `after` are on validation and calibration structures, of which the first chose the epochs."""
        told = folder / LESSON
        if told.exists():
            found = read_json(told, KIND, VERSION)
            return Lesson(found["before"], found["after"], tuple(found["notes"]))
        self._trained(labelled, before, folder)
        held = self._held_back(folder)
        old, new = (_rmse(RACECalculator(path, self.device, calibrated=False), held) for path in (before or Path(self.model), folder))
        lesson = Lesson(old, new, self._calibrated(folder, held))
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

    def _calibrated(self, folder: Path, held: Dataset) -> tuple[str, ...]:
        """Calibrate, thresholds too, with all that is held back."""
        if len(held) < FEWEST:
            return (f"not calibrated: {len(held)} structures are held back, {FEWEST} are the fewest",)
        found, _ = calibrate(RACECalculator(folder, self.device, calibrated=False), held)
        save_calibration(folder, found)
        return ()

    def _data(self, folder: Path | None) -> tuple[Dataset, Dataset]:
        """Training and validation structures."""
        if folder is not None:
            return read_dataset(folder / DATA / "train.xyz"), read_dataset(folder / DATA / "validation.xyz")
        path = Path(self.model)
        _, found = training_data(load_checkpoint(path, calibration=False), path, None if self.data is None else Path(self.data))
        return found.train, found.validation

    def _held_back(self, folder: Path | None) -> Dataset:
        """Validation structures, and those that calibrate."""
        path = Path(self.model if folder is None else folder) / DATA / CALIBRATION
        more = frames_of(read_dataset(path)) if path.is_file() else []
        return dataset_from_atoms([*frames_of(self._data(folder)[1]), *more])


def _thresholds(potential: RACECalculator, held: Dataset) -> dict[str, float]:
    """As `thresholds_from`; FEW times the largest score for what so few structures do not tell."""
    predicted = predict_dataset(potential, held)
    predicted = predicted if potential.calibration is None else predicted.calibrated(potential.calibration)
    largest: Mapping[str, np.ndarray] = scores_of(predicted)
    return {name: FEW * float(values.max()) for name, values in largest.items() if np.isfinite(values).all()} | thresholds_from(predicted)


def _rmse(potential: RACECalculator, dataset: Dataset) -> float:
    residuals = residuals_of(predict_dataset(potential, dataset), dataset)
    return float(np.sqrt((residuals.forces**2).mean()))
