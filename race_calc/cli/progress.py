"""Progress of a training: a bar with losses and time left, and a line per epoch."""

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from race_calc.posterior.validation import errors_text
from race_calc.train.config import TrainConfig
from race_calc.train.prepare import Prepared


class TrainingProgress:
    """Callable that the training loop reports to; a context manager around the bar."""

    def __init__(self, config: TrainConfig, prepared: Prepared):
        self._epochs = config.training.epochs
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]}  {task.fields[skipped]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        weights = sum(value[0].numel() for value in prepared.parameters.values())
        self._bar.console.print(
            f"{config.posterior}: {config.trained} model{'s' * (config.trained > 1)} of {weights} weights, "
            f"{len(prepared.train)} structures to train on, "
            + (f"{len(prepared.low)} of the low level beside them, " if prepared.low else "")
            + f"{len(prepared.validation)} to validate"
        )
        self._task: TaskID | None = None

    def __enter__(self) -> "TrainingProgress":
        self._bar.start()
        return self

    def __exit__(self, *exception) -> None:
        self._bar.stop()

    def __call__(self, record: dict) -> None:
        if record["kind"] == "step":
            done = (record["epoch"] - 1) * record["steps"] + record["step"]
            skipped = f"{record['skipped']} steps skipped (not finite)" if record["skipped"] else ""
            fields = {"epoch": record["epoch"], "loss": f"{record['loss']:.4g}", "skipped": skipped}
            if self._task is None:
                total = self._epochs * record["steps"]
                self._task = self._bar.add_task("", total=total, completed=done - 1, epochs=self._epochs, **fields)
            self._bar.update(self._task, completed=done, **fields)
        else:
            self._bar.console.print(
                f"epoch {record['epoch']}/{record['epochs']}: validation RMSE of the mean of the members {errors_text(record)} "
                f"({record['seconds']:.0f} s)"
            )
