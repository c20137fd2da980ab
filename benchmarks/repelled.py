"""A deep ensemble whose members' forces are pushed apart on rattled frames, for diversity.py."""

import itertools

import numpy as np
import torch
from torch import Tensor

from race_calc.data.graph import collate, from_atoms, structures_of
from race_calc.model.kernels.messages import kernels_usable
from race_calc.model.layout import Layout, Numerics
from race_calc.model.race import evaluate, layout_of
from race_calc.posterior.ensemble import DeepEnsemble
from race_calc.posterior.given import Step
from race_calc.posterior.state import StackState, flatten, unflatten
from race_calc.train.prepare import Prepared

SIZE, TOGETHER, SMALLEST = 0.15, 5, 0.02  # Å of every displacement; frames in a step; eV/Å: members that are closer are not pushed harder


class Repelled(DeepEnsemble):
    """The loss of every member has −weight · mean over atoms of log(|F_m − mean F|² + SMALLEST²) on frames that no label is known of."""

    name = "repelled"

    def __init__(self, weight: float, prepared: Prepared):
        rng, cutoff = np.random.default_rng(0), prepared.model.plan.config.cutoff
        frames = [structures_of(example.graph)[0] for example in prepared.train]
        for atoms in frames:
            atoms.positions += rng.normal(scale=SIZE, size=atoms.positions.shape)
        rattled = [from_atoms(atoms, cutoff) for atoms in frames]
        numerics = Numerics(torch.float32, torch.device("cpu"), padded=not kernels_usable(torch.device("cpu")), training=True)
        groups = (collate(rattled[i : i + TOGETHER]) for i in range(0, len(rattled), TOGETHER))
        self.layouts = itertools.cycle([layout_of(prepared.model, group, numerics) for group in groups])
        self.weight, self.model = weight, prepared.model
        self.shapes = {name: value.shape[1:] for name, value in prepared.parameters.items()}

    def step(self, old: StackState, step: Step) -> tuple[Tensor, StackState]:
        losses, gradients = step.gradients(old.weights)
        return losses, step.optimise(old, losses, gradients + self.push(old.weights, next(self.layouts)))

    def push(self, weights: Tensor, layout: Layout) -> Tensor:
        """Gradient (M, D) of the term; the mean of the members counts as fixed."""
        leaves = {name: value.detach().requires_grad_() for name, value in unflatten(weights, self.shapes).items()}
        forces = evaluate(self.model, leaves, layout, training=True).forces
        apart = (forces - forces.mean(0).detach()).square().sum(-1)
        term = -self.weight * (apart + SMALLEST**2).log().mean(1).sum()
        return flatten(torch.autograd.grad(term, list(leaves.values()), materialize_grads=True, allow_unused=True)).detach()
