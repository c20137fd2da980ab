"""A posterior as a stack of parameter sets: graph → members' outputs → Prediction."""

from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch

from race_calc import moved_names
from race_calc.data.contribution import Baseline, Contribution
from race_calc.data.graph import Graph
from race_calc.data.references import References
from race_calc.model.channels import Output, Spread
from race_calc.model.compiled import Evaluate
from race_calc.model.hardware import one_main_thread
from race_calc.model.kernels.step import CompiledStep
from race_calc.model.kinds import ADDITIVE
from race_calc.model.layout import MAX_BLOCKS, Layout, Numerics
from race_calc.model.outputs import Outputs
from race_calc.model.parameters import Parameters, n_members
from race_calc.model.race import Race, energies_of, geometry, layout_of, species_of
from race_calc.model.surfaces import Constants
from race_calc.model.table import table_knots
from race_calc.posterior.checkpoint import Noise
from race_calc.posterior.evaluated import evaluated
from race_calc.posterior.pairs import unfolded
from race_calc.uncertainty.aggregate import MemberOutputs, aggregate, aggregate_around
from race_calc.uncertainty.feature_distance import FeatureDistance
from race_calc.uncertainty.known_distances import KnownDistances
from race_calc.uncertainty.prediction import Prediction
from race_calc.uncertainty.surroundings import with_surroundings


@dataclass(frozen=True)
class StackPosterior:
    """M parameter sets on a device, ready to predict; M = 1 is a plain or MVE model.

    `kernels`: by the compiled kernels. `parameters` may hold tables then; where the members share their trunk, the forces of each are not
    computed. `step`: the whole prediction as one compiled call; None: torch calls kernel by kernel. `compiled`: the model as one
    function compiled by torch, for a GPU, or None. `noise`: variances of the labels, for heads without an aleatoric part, or None.
    `last_layer`: covariance (L, L) of the last-layer weights, which gives the epistemic variance of energies in closed form, or None.
    `paired`: the sets are draws in antithetic pairs. `centered`: `parameters` has one row more, the first, which gives the means.
    `folded`: `parameters` has the mean of the sets and one set of each pair (`race_calc.posterior.pairs`). `forces_closed_form`: the
    spread of the sets is that of `last_layer`, not of a sample of it. `baseline`: what is added to the network, or None.
    `forces_optional`: the posterior can be loaded without the forces of every member, and what is calibrated must hold either way.
    `feature_distance`, `known_distances`: how far an atom, and its distances, are from those of the training, or None. `alone`: where the
    model is one surface of several.
    """

    model: Race
    references: References
    parameters: Parameters
    kernels: bool = False
    compiled: Evaluate | None = None
    noise: Noise | None = None
    last_layer: np.ndarray | None = None
    paired: bool = False
    centered: bool = False
    folded: bool = False
    forces_closed_form: bool = False
    baseline: Baseline | None = None
    forces_optional: bool = False
    feature_distance: FeatureDistance | None = None
    known_distances: KnownDistances | None = None
    alone: Constants | None = None
    step: CompiledStep | None = None

    def __post_init__(self) -> None:
        """With other parameters or another model (`dataclasses.replace`) there is no step."""
        same_model = self.step is None or self.alone is not None or self.step.models[0] is self.model
        if self.step is not None and not (same_model and self.step.stands_for is self.parameters):
            object.__setattr__(self, "step", None)

    @property
    def members(self) -> int:
        rows = n_members(self.parameters)
        return 2 * (rows - 1) if self.folded else rows - self.centered

    @torch.inference_mode(False)  # forces are gradients: also for a caller who is in that mode
    def predict(self, graph: Graph) -> Prediction:
        """Mean, covariances and BALD for every structure of the graph; one forward and one backward pass.

        Raises ValueError for an element that the model does not know.
        """
        threads = torch.get_num_threads()
        with nullcontext() if self.step is None else one_main_thread():  # torch's would wait for work on the cores that the step needs
            outputs = self.outputs(graph, threads)
            return self.told(outputs, graph, self.known(graph), self.distance(outputs, graph))

    @torch.inference_mode(False)
    def outputs(self, graph: Graph, threads: int) -> Outputs:
        """What the network gives for every member, in the order of the graph. Raises ValueError as `predict` does."""
        with torch.no_grad():
            if self.step is not None:
                (outputs,) = self.step(graph, threads)
            elif self.compiled is not None:
                outputs = self.compiled(self.parameters, self.layout(graph))
            else:
                (outputs,) = evaluated([self.model], self.parameters, self.layout(graph))
        return outputs

    def known(self, graph: Graph) -> Contribution | None:
        """What is added to the network."""
        return None if self.baseline is None else self.baseline(graph)

    def distance(self, outputs: Outputs, graph: Graph) -> np.ndarray | None:
        """Of every atom from those of the training (N,)."""
        if self.feature_distance is None:
            return None
        return self.feature_distance(array(outputs.features[0]), species_of(self.model, graph.numbers), _product)

    def told(
        self, outputs: Outputs, graph: Graph, known: Contribution | None, distance: np.ndarray | None, whole: bool = True
    ) -> Prediction:
        """What the outputs of the network say; without `whole` only what belongs to the structure can be read of it."""
        found = self._prediction(unfolded(outputs) if self.folded else outputs, graph, known)
        gap = self.known_distances(graph) if whole and self.known_distances else None
        found = replace(found, forces_optional=self.forces_optional, feature_distance=distance, distance_gap=gap)
        return with_surroundings(found, graph, self.model.plan.config.cutoff) if whole else found

    @torch.inference_mode(False)
    def features(self, graph: Graph) -> np.ndarray:
        """Last-layer features (N, 64·layers) of the first set, which `feature_distance` is about: one forward pass of one set.

        Raises ValueError for an element that the model does not know.
        """
        layout, first = self.layout(graph), {name: value[:1] for name, value in self.parameters.items()}
        with torch.no_grad():
            return array(energies_of(self.model, first, geometry(first, layout)).features[0, layout.rank])

    def structure_features(self, graph: Graph) -> np.ndarray:
        """Where structures lie (B, L): sums of their atoms' features over √N, measured from those of the training in the metric of
        `feature_distance` where the model has it."""
        features, species = self.features(graph), np.searchsorted(np.array(self.model.species), graph.numbers)
        if self.feature_distance is not None:
            features = self.feature_distance.whitened(features, species)
        sums = np.zeros((graph.n_structures, features.shape[1]))
        np.add.at(sums, graph.batch, features)
        return sums / np.sqrt(np.bincount(graph.batch))[:, None]

    def layout(self, graph: Graph) -> Layout:
        """The graph as the network takes it."""
        first = self.parameters["embedding"]
        blocks = MAX_BLOCKS if self.compiled is None else 1
        return layout_of(self.model, graph, Numerics(first.dtype, first.device, not self.kernels, blocks, table_knots(self.parameters)))

    def _prediction(self, outputs: Outputs, graph: Graph, known: Contribution | None) -> Prediction:
        unit, per_atom = self.alone.unit if self.alone else 1.0, self.references.per_atom(graph.numbers)
        forces, virial = unit * array(outputs.forces), unit * array(outputs.virial)
        if known is not None:  # float64: never mixed with float32 energies
            per_atom, forces, virial = per_atom + known.atom_energy, forces + known.forces, virial + known.virial
        per_structure = np.bincount(graph.batch, weights=per_atom, minlength=graph.n_structures)
        if self.alone:
            per_structure = per_structure + self.alone.known(graph)
        volume = graph.volume
        stress = None
        if (volume > 0).any():
            with np.errstate(divide="ignore", invalid="ignore"):
                stress = virial / np.where(volume > 0, volume, np.nan)[:, None, None]
            if known is not None and np.isnan(known.virial).any():  # of a calculator without a stress
                stress = None
        members, atoms = outputs.atom_energy.shape
        heads = {output.name: _members(output, array(outputs.heads[output.name])) for output in self.model.plan.outputs}
        if self.alone:
            spreads = {output.name for output in self.model.plan.outputs if isinstance(output, Spread)}
            heads = {name: unit**2 * value if name in spreads else value for name, value in heads.items()}
            if not self.alone.has_forces:
                heads.pop("force_cov", None)
        if self.folded:
            heads = {name: np.broadcast_to(values, (members, *values.shape[1:])) for name, values in heads.items()}
        if self.noise is not None:
            heads["energy_var"] = np.broadcast_to(self.noise.energy * np.diff(graph.ptr), (members, graph.n_structures))
            heads["force_cov"] = np.broadcast_to(self.noise.forces * np.eye(3), (members, atoms, 3, 3))
        epistemic = None
        if self.last_layer is not None:
            features = np.zeros((graph.n_structures, len(self.last_layer)))
            np.add.at(features, graph.batch, array(outputs.features[0]))
            epistemic = np.einsum("bk,kl,bl->b", features, self.last_layer, features)
        everything = MemberOutputs(
            energy=unit * array(outputs.energy) + per_structure,
            atom_energy=None if self.model.kind not in ADDITIVE else unit * array(outputs.atom_energy) + per_atom,
            forces=forces,
            stress=stress,
            energy_var=heads.pop("energy_var", None),
            force_cov=heads.pop("force_cov", None),
            stress_cov=None if stress is None else heads.pop("stress_cov", None),
            batch=graph.batch,
            energy_epistemic=epistemic,
            forces_closed_form=self.forces_closed_form,
            paired=self.paired,
            extra={name: value for name, value in heads.items() if name != "stress_cov"},
        )
        if self.centered:
            return aggregate_around(everything.rows(slice(1, None)), everything.rows(slice(1)))
        return aggregate(everything)


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """By torch: NumPy's BLAS threads wait for more work for up to 50 ms, on the cores that the next step needs."""
    return (torch.from_numpy(a) @ torch.from_numpy(b)).numpy()


def _members(output: Output, values: np.ndarray) -> np.ndarray:
    """What every member predicts; once where all say the same, as draws of the energy's last layer do."""
    if len(values) == 1 or not (values == values[:1]).all():
        return output.members(values)
    one = output.members(values[:1])
    return np.broadcast_to(one, (len(values), *one.shape[1:]))


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.double().cpu().numpy()


__getattr__ = moved_names(__name__)
