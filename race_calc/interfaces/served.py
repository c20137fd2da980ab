"""A model served to engines with dynamics of their own: predictions, and when to halt. Members may be shared among MPI ranks."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from race_calc.data.structure import checked
from race_calc.interfaces.calculator import RACECalculator
from race_calc.model.kinds import ADDITIVE
from race_calc.posterior.local import Domain, domain_graph, evaluate_domain
from race_calc.posterior.shared import SharedMembers, share
from race_calc.posterior.stack import StackPosterior
from race_calc.uncertainty.decisions import Criterion, Violation
from race_calc.uncertainty.prediction import Prediction
from race_calc.uncertainty.scores import all_scores
from race_calc.uncertainty.watch import Watch


class Served:
    """What an adapter of an engine needs; it only converts units and passes the halt on.

    >>> served = Served("models/3bpa-de")  # doctest: +SKIP
    >>> prediction = served.evaluate(atoms)  # doctest: +SKIP
    >>> if violation := served.halted(prediction, atoms, step):  # doctest: +SKIP
    ...     print(violation)

    model: folder of a checkpoint. comm: a communicator of mpi4py, whose ranks share the members of a deep ensemble; all of them make the
    same calls with the same structures, and have the same results. criteria: of the halt, None for those of the default monitor. `options`
    of `RACECalculator`. Attributes: `calculator`, `elements`, `cutoff` (Å), `reach` (Å) of an
    atom's energy, `members`, `watch` (its criteria and last decision).

    Raises what `RACECalculator` raises.
    """

    def __init__(self, model: str | Path, comm: Any = None, criteria: Sequence[Criterion] | None = None, **options: Any):
        self.calculator = RACECalculator(model, **options)
        checkpoint = self.calculator.checkpoint
        self.comm, self.elements, self.members = comm, self.calculator.elements, checkpoint.members
        self.cutoff: float = checkpoint.model.plan.config.cutoff
        self.reach = self.cutoff * len(checkpoint.model.plan.layers)
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
        found = self.calculator.predictor.together(map(checked, structures))
        return found if self.calculator.calibration is None else self.calculator.calibration.apply(found)

    def check_elements(self, symbols: Iterable[str]) -> None:
        """Raises ValueError for chemical symbols that the model does not know."""
        if unknown := [symbol for symbol in dict.fromkeys(symbols) if symbol not in self.elements]:
            raise ValueError(f"the model does not know {', '.join(unknown)}; it knows {', '.join(self.elements)}")

    def scores(self, prediction: Prediction, structures: Atoms | Sequence[Atoms]) -> dict[str, np.ndarray]:
        """Everything that can be watched, by name (B,), in the units of `race_calc.uncertainty.scores`."""
        found = all_scores(prediction, [structures] if isinstance(structures, Atoms) else structures)
        return {name: values for name, (values, _) in found.items()}

    def evaluate_local(self, numbers: np.ndarray, positions: np.ndarray, edges: np.ndarray, n_local: int) -> Domain:
        """Of a domain: its `n_local` own atoms first, then copies of all atoms, periodic images too, within `reach` of them.

        numbers (N,); positions (N, 3) in Å; edges (2, E): centre and neighbour of all pairs within the cutoff of atoms that are there, each
        in both directions. Energies of the own atoms and forces on all, copies included: sent to the atoms that they are copies of, they
        add up to those of the whole. Uncalibrated, as a calibration is of the sum.

        Raises ValueError for what does not fit together, and for a model whose energy is no sum over atoms or has a calculated baseline.
        """
        posterior, config = self.calculator.posterior, self.calculator.checkpoint.model.plan.config
        if not isinstance(posterior, StackPosterior) or posterior.model.kind not in ADDITIVE or config.baseline not in ("zbl", "none"):
            why = f"its baseline {config.baseline} is calculated" if config.baseline not in ("zbl", "none") else "it has several states"
            why = "its members are shared among ranks" if isinstance(posterior, SharedMembers) else why
            raise ValueError(f"this model cannot be evaluated domain by domain, as {why}: use evaluate")
        return evaluate_domain(posterior, domain_graph(numbers, positions, edges, n_local, self.cutoff))

    def halted(self, prediction: Prediction, structures: Atoms | Sequence[Atoms], step: int) -> Violation | None:
        """Why the run is to end after this step, which is its next check, of one structure or of all together; None: go on."""
        return self.watch.check(prediction, [structures] if isinstance(structures, Atoms) else structures, step).halting
