"""StackPredictor: a posterior that is in no folder, for evaluations."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ase import Atoms

from race_calc.data.graph import Graph, batches, collate, from_atoms
from race_calc.interfaces.reference_watch import ReferenceWatch
from race_calc.label.calculated import Calculated, check_neutral
from race_calc.posterior.stack import StackPosterior
from race_calc.posterior.surfaces import SurfacesPosterior
from race_calc.uncertainty.prediction import Prediction
from race_calc.uncertainty.predictor import BATCH


@dataclass(frozen=True)
class StackPredictor:
    """A posterior as a `race_calc.uncertainty.predictor.Predictor`, without a calibration. `watch`: warns of reference energies."""

    posterior: StackPosterior | SurfacesPosterior
    watch: ReferenceWatch | None = None

    def prediction(self, atoms: Atoms) -> Prediction:
        return next(self.raw_predictions([atoms]))

    def together(self, structures: Iterable[Atoms]) -> Prediction:
        """Of all structures in one evaluation."""
        graphs = map(self._graph, structures)
        return self.posterior.predict(collate([graph if self.watch is None else self.watch.watched(graph) for graph in graphs]))

    def _graph(self, atoms: Atoms) -> Graph:
        check_charge(self.posterior, atoms)
        return from_atoms(atoms, self.posterior.model.plan.config.cutoff)

    def raw_predictions(self, structures: Iterable[Atoms], batch: int = BATCH) -> Iterator[Prediction]:
        graphs = map(self._graph, structures)
        return map(self.posterior.predict, batches(graphs if self.watch is None else map(self.watch.watched, graphs), batch))


def check_charge(posterior: StackPosterior | SurfacesPosterior, atoms: Atoms) -> None:
    """Raises BaselineError for a structure that a calculated baseline would take for a neutral one."""
    if isinstance(posterior.baseline, Calculated):
        check_neutral(atoms)
