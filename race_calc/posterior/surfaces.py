"""A model of several electronic states, of which one moves the atoms: its Prediction, with what the others say beside it."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from race_calc.data.graph import Graph
from race_calc.model.hardware import one_main_thread
from race_calc.model.kernels.step import CompiledStep
from race_calc.model.parameters import Parameters, surface_prefix
from race_calc.model.surfaces import Surface, of_surface, plain, surfaces_of
from race_calc.posterior.checkpoint import Checkpoint
from race_calc.posterior.evaluated import evaluated
from race_calc.posterior.stack import StackPosterior
from race_calc.uncertainty.prediction import Extra, Prediction


@dataclass(frozen=True)
class SurfacesPosterior:
    """`each` surface alone, whose weights are those of `parameters`; `active`: the state that is predicted; `step`: of all of them."""

    each: tuple[StackPosterior, ...]
    surfaces: tuple[Surface, ...]
    parameters: Parameters
    active: int
    step: CompiledStep | None = None

    @property
    def model(self):
        return self.each[self.active].model

    @property
    def baseline(self):
        return self.each[self.active].baseline

    def predict(self, graph: Graph) -> Prediction:
        """That of the active state, forces of it alone; with the gap, the energies of all states and the scalars."""
        return joined(self._told(graph, [k == self.active for k in range(len(self.each))]), self.surfaces, self.active)

    def predict_each(self, graph: Graph, scalars: bool = True) -> tuple[Prediction, ...]:
        """Of every surface with its forces: one forward pass, a backward pass of each. `scalars`: the gradients of these, too."""
        return self._told(graph, [surface.has_forces and (scalars or surface.is_state) for surface in self.surfaces])

    @torch.inference_mode(False)
    def _told(self, graph: Graph, with_forces: Sequence[bool]) -> tuple[Prediction, ...]:
        """`with_forces`: of which surfaces those, and what else belongs to the atoms, are wanted; of the others zeros stand there."""
        first = self.each[0]
        known, threads = first.known(graph), torch.get_num_threads()
        with torch.no_grad(), nullcontext() if self.step is None else one_main_thread():
            if self.step is not None:
                outputs = self.step(graph, threads, with_forces)
            else:
                outputs = evaluated([one.model for one in self.each], self.parameters, first.layout(graph), with_forces)
            distance = first.distance(outputs[0], graph)  # of the trunk
        return tuple(
            one.told(own, graph, known if surface.is_state else None, distance, whole)
            for one, own, surface, whole in zip(self.each, outputs, self.surfaces, with_forces)
        )


def with_surfaces(first: StackPosterior, checkpoint: Checkpoint, active: int) -> SurfacesPosterior:
    """The posterior of a model of several states from what `load_stack` made of it."""
    whole = first.parameters
    each = []
    for k, known in enumerate(checkpoint.surfaces):
        model = plain(checkpoint.model, k, known.references.scale)
        one = replace(first, model=model, references=known.references, parameters=of_surface(whole, k), alone=known, step=None)
        each.append(one if model.kind == "energy" else replace(one, baseline=None))
    return SurfacesPosterior(tuple(each), surfaces_of(checkpoint.model.plan.config), whole, active, first.step)


def thresholds_of(checkpoint: Checkpoint) -> dict[str, float]:
    """What "auto" means for its state."""
    before, all_known = surface_prefix(checkpoint.state), checkpoint.thresholds
    known = {name.removeprefix(before): value for name, value in all_known.items() if name.startswith(before)}
    return {name: value for name, value in known.items() if not name.startswith("surfaces.")}


def joined(predictions: Sequence[Prediction], surfaces: Sequence[Surface], active: int) -> Prediction:
    """The Prediction of the active state with the gap to the nearest other one, the energies of all states, and the scalars.

    The variance of a gap between the members is that of their gaps, so that what two states share cancels; the variances that they predict
    for the two energies are added.
    """
    one = predictions[active]
    states = [p for p, surface in zip(predictions, surfaces) if surface.is_state]
    energies = np.stack([p.energy for p in states])  # (S, B)
    distance = np.abs(energies - energies[active])
    distance[active] = np.inf
    nearest, at = distance.argmin(0), np.arange(energies.shape[1])
    gap: dict[str, Any] = {"gap": distance[nearest, at]}
    members = [p.energies_members for p in states]
    if all(values is not None for values in members):
        gaps = np.stack(members)[nearest, :, at].T - members[active]  # type: ignore[arg-type]  # (M, B)
        gap["gap_epistemic"] = gaps.var(axis=0)
    aleatoric = [p.energy_aleatoric for p in states]
    if all(values is not None for values in aleatoric):
        gap["gap_aleatoric"] = np.stack(aleatoric)[nearest, at] + aleatoric[active]  # type: ignore[arg-type]
    unknown = np.full(energies.shape[1], np.nan)
    extra = {"energies_states": _extra(states, unknown)}
    for p, surface in zip(predictions, surfaces):
        if not surface.is_state:
            extra[surface.name] = Extra(p.energy, unknown if p.energy_epistemic is None else p.energy_epistemic, True)
            if (sigma := p.energy_uncertainty) is not None:
                extra[f"{surface.name}_uncertainty"] = Extra(sigma, np.zeros_like(sigma), True)
    return replace(one, **gap, extra=one.extra | extra)


def _extra(states: Sequence[Prediction], unknown: np.ndarray) -> Extra:
    """Energies (B, S) and their variances between the members."""
    epistemic = [unknown if p.energy_epistemic is None else p.energy_epistemic for p in states]
    return Extra(np.stack([p.energy for p in states], axis=1), np.stack(epistemic, axis=1), True)
