"""A model served to engines with dynamics of their own: predictions, and when to halt. Members may be shared among MPI ranks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from race_calc.data.graph import collate, from_atoms
from race_calc.data.structure import checked
from race_calc.interfaces.calculator import RACECalculator
from race_calc.posterior.shared import share
from race_calc.posterior.stack import StackPosterior
from race_calc.uncertainty.decisions import Criterion, Violation
from race_calc.uncertainty.prediction import Prediction
from race_calc.uncertainty.watch import Watch


class Served:
    """What an adapter of an engine needs; it only converts units and passes the halt on.

    >>> served = Served("models/3bpa-de")  # doctest: +SKIP
    >>> prediction = served.evaluate(atoms)  # doctest: +SKIP
    >>> if violation := served.halted(prediction, atoms, step):  # doctest: +SKIP
    ...     print(violation)

    model: folder of a checkpoint. comm: a communicator of mpi4py, whose ranks share the members of a deep ensemble; all of them make the
    same calls with the same structures, and have the same results. criteria: of the halt, None for those of the default monitor. `options`
    of `RACECalculator`. Attributes: `calculator`, `elements`, `cutoff` (Å), `members`, `watch` (its criteria and last decision).

    Raises what `RACECalculator` raises.
    """

    def __init__(self, model: str | Path, comm: Any = None, criteria: Sequence[Criterion] | None = None, **options: Any):
        self.calculator = RACECalculator(model, **options)
        checkpoint = self.calculator.checkpoint
        self.comm, self.elements, self.members = comm, self.calculator.elements, checkpoint.members
        self.cutoff: float = checkpoint.model.plan.config.cutoff
        self.watch = Watch(self.calculator.thresholds, criteria)
        if comm is not None and isinstance(self.calculator.posterior, StackPosterior):
            settings = options.get("compile"), options.get("tables", True)
            self.calculator.posterior = share(checkpoint, self.calculator.posterior, comm, *settings)

    def evaluate(self, structures: Atoms | Sequence[Atoms]) -> Prediction:
        """Of one structure, whose pairs are kept while nothing moves far, or of several at once; calibrated where the model is.

        Raises ValueError for a structure that cannot be evaluated.
        """
        if isinstance(structures, Atoms):
            return self.calculator.prediction(structures)
        if not structures:
            raise ValueError("there are no structures: give at least one")
        found = self.calculator.posterior.predict(collate([from_atoms(checked(atoms), self.cutoff) for atoms in structures]))
        return found if self.calculator.calibration is None else self.calculator.calibration.apply(found)

    def halted(self, prediction: Prediction, structures: Atoms | Sequence[Atoms], step: int) -> Violation | None:
        """Why the run is to end after this step, which is its next check, of one structure or of all together; None: go on."""
        return self.watch.check(prediction, [structures] if isinstance(structures, Atoms) else structures, step).halting
