"""A posterior as a stack of parameter sets: graph → members' outputs → Prediction."""

from dataclasses import dataclass

import numpy as np
import torch

from race_calc.checkpoint import Checkpoint
from race_calc.data.references import References
from race_calc.graph import Graph
from race_calc.model.heads import CHOLESKY_JITTER
from race_calc.model.parameters import Parameters
from race_calc.model.race import Outputs, Race, evaluate, layout_of
from race_calc.posterior.aggregate import aggregate
from race_calc.prediction import Prediction


@dataclass(frozen=True)
class StackPosterior:
    """M parameter sets on a device, ready to predict (deep ensemble; M = 1 is a plain or MVE model)."""

    model: Race
    references: References
    parameters: Parameters

    @property
    def members(self) -> int:
        return len(self._first)

    @property
    def _first(self) -> torch.Tensor:
        return next(iter(self.parameters.values()))

    def predict(self, graph: Graph) -> Prediction:
        """Mean, covariances and BALD for every structure of the graph; one forward and one backward pass.

        Raises ValueError for an element that the model does not know.
        """
        first = self._first
        with torch.no_grad():
            outputs = evaluate(self.model, self.parameters, layout_of(self.model, graph, first.dtype, first.device))
            return _prediction(outputs, graph, self.references)


def load_stack(checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> StackPosterior:
    """The stack of a checkpoint, cast to `dtype` on `device`."""
    parameters = {name: value.to(device=device, dtype=dtype) for name, value in checkpoint.parameters.items()}
    return StackPosterior(checkpoint.model, checkpoint.references, parameters)


def force_covariance(outputs: Outputs) -> torch.Tensor | None:
    """Σ_m (M, N, 3, 3) in (eV/Å)², float64; None for heads without it."""
    if outputs.log_cov is not None:
        return torch.linalg.matrix_exp(outputs.log_cov.double())
    if outputs.factor is not None:
        factor = outputs.factor.double()
        eye = torch.eye(3, dtype=torch.float64, device=factor.device)
        return factor @ factor.transpose(-1, -2) + CHOLESKY_JITTER * eye
    return None


def _prediction(outputs: Outputs, graph: Graph, references: References) -> Prediction:
    def array(tensor: torch.Tensor | None) -> np.ndarray | None:
        return None if tensor is None else tensor.double().cpu().numpy()

    per_atom = references.per_atom(graph.numbers)  # float64: never mixed with float32 energies
    per_structure = np.bincount(graph.batch, weights=per_atom, minlength=graph.n_structures)
    volume = graph.volume
    stress = None
    if (volume > 0).any():
        with np.errstate(divide="ignore", invalid="ignore"):
            stress = array(outputs.virial) / np.where(volume > 0, volume, np.nan)[:, None, None]
    return aggregate(
        array(outputs.energy) + per_structure,
        array(outputs.atom_energy) + per_atom,
        array(outputs.forces),
        stress,
        array(outputs.energy_var),
        array(force_covariance(outputs)),
        graph.batch,
    )
