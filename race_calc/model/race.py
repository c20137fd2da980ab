"""RACE: a stack of M parameter sets on a batched graph gives energies, forces, stress and variances."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from race_calc.data.graph import Graph
from race_calc.model.channels import READ, by_name
from race_calc.model.derivatives import forces_and_virial, geometry_gradients
from race_calc.model.interaction import interaction, readout
from race_calc.model.kinds import beside_energy
from race_calc.model.layout import Geometry, Layout, Numerics, make_layout
from race_calc.model.outputs import Outputs
from race_calc.model.parameters import Parameters
from race_calc.model.plan import READOUT_HIDDEN, Plan
from race_calc.model.pooling import POOLINGS, Atomic
from race_calc.model.radial import bessel
from race_calc.model.scatter import sum_by_index
from race_calc.model.table import place_on_grid


@dataclass(frozen=True)
class Race:
    """What a RACE model is besides its parameters.

    species: atomic numbers in the order of the species index. scale: s in eV, the unit of the readouts.
    neighbours: n̄, average number of neighbours. References (E0, shift) are not part of it: all energies
    here are what the network gives; see `race_calc.data.references` and `race_calc.model.repulsion`.
    kind: how atoms make what stands in the place of the energy (`race_calc.model.pooling`).
    """

    plan: Plan
    species: tuple[int, ...]
    scale: float
    neighbours: float
    kind: str = "energy"


def species_of(model: Race, numbers: np.ndarray) -> np.ndarray:
    """Species index of every atomic number. Raises ValueError for an element that the model does not know."""
    table = np.full(max(model.species + (int(numbers.max()),)) + 1, -1)
    table[list(model.species)] = np.arange(len(model.species))
    species = table[numbers]
    if (species < 0).any():
        from ase.data import chemical_symbols as symbols

        unknown = sorted({symbols[z] for z in numbers[species < 0]})
        known = ", ".join(symbols[z] for z in model.species)
        elements = f"element{'s' * (len(unknown) > 1)} {', '.join(unknown)}"
        raise ValueError(f"the model does not know the {elements}; it was trained on {known}: use another model")
    return species


def layout_of(model: Race, graph: Graph, numerics: Numerics) -> Layout:
    """The graph in the model's order. Raises ValueError for an element that the model does not know."""
    species, config = species_of(model, graph.numbers), model.plan.config

    def basis(distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if numerics.table_knots:
            place, slope = place_on_grid(distance, config.cutoff, numerics.table_knots)
            return place[:, None], slope[:, None]
        values, slopes = bessel(distance / config.cutoff, config.n_bessel)
        return values, slopes / config.cutoff

    return make_layout(graph, species, len(model.species), config.l_max, basis, numerics)


def evaluate(model: Race, parameters: Parameters, layout: Layout, training: bool = False, detached: bool = False) -> Outputs:
    """All outputs of the stack. `training` keeps the graph for gradients to the parameters.

    `detached`: the variance heads send no gradient into the features (the "faithful" recipe).
    """
    return evaluate_surfaces([model], [parameters], layout, training, detached)[0]


def evaluate_surfaces(
    models: Sequence[Race],
    stacks: Sequence[Parameters],
    layout: Layout,
    training: bool = False,
    detached: bool = False,
    with_forces: Sequence[bool] | None = None,
) -> tuple[Outputs, ...]:
    """`evaluate` of several models that share their trunk (`race_calc.model.surfaces`): one forward pass, a backward pass of each.

    `with_forces`: of which of them, None: of all; forces and virials of the others are zero.
    """
    around = geometry(stacks[0], layout, training)
    wanted = [k for k in range(len(models)) if with_forces is None or with_forces[k]]
    for leaf in (*around.angular, *around.radial) if wanted else ():
        leaf.requires_grad_()
    outputs = []
    with torch.set_grad_enabled(training or bool(wanted)):
        of_each = [_energies(model, read, around) for model, read in zip(models, _readouts(models, stacks, around, detached))]
        for k, (model, stack, energies) in enumerate(zip(models, stacks, of_each)):
            if k in wanted:
                gradients = geometry_gradients(energies.total, around.angular, around.radial, training, again=k < wanted[-1])
                derivatives = forces_and_virial(gradients, layout)
            else:
                rows, like = len(around.angular[0]), layout.positions
                derivatives = like.new_zeros(rows, *like.shape), like.new_zeros(rows, layout.n_structures, 3, 3)
            outputs.append((model, stack, layout, energies, derivatives))
    return tuple(outputs_of(*each, training) for each in outputs)


def geometry(parameters: Parameters, layout: Layout, training: bool = False) -> Geometry:
    """The leaves of the backward pass, a row for every member, or one where they share their trunk."""
    trunks = len(parameters["embedding"])
    angular, radial = ([getattr(block, name).expand(trunks, -1, -1) for block in layout.blocks] for name in ("angular", "radial"))
    return Geometry(layout, angular, radial, training)


@dataclass(frozen=True)
class Energies:
    """What the network gives, atoms in model order.

    =========== ================== ==== ==================================================================
    total       ()                 eV   what is differentiated: the sum over structures and members, over
                                        structures of the mean member where they share their trunk
    energy      (M, B)             eV
    atom_energy (M, N)             eV
    scalars     (layers, M, N, K)       outputs of every layer
    features    (1, N, 64·layers)  eV   of the first member, what its atom energies are linear in: features · last-layer
                                        weights; no gradient
    equivariant irrep → (M, N, 2 l + 1, K)  of those that are read: mean over the layers
    =========== ================== ==== ==================================================================
    """

    total: Tensor
    energy: Tensor
    atom_energy: Tensor
    scalars: Tensor
    features: Tensor
    equivariant: dict[str, Tensor]


def energies_of(model: Race, parameters: Parameters, around: Geometry, detached: bool = False) -> Energies:
    """The network, without derivatives."""
    return _energies(model, _readouts([model], [parameters], around, detached)[0], around)


def _energies(model: Race, read: "_Readouts", around: Geometry) -> Energies:
    layout = around.layout
    scalars, equivariant, hidden = read
    atom_energy = scalars[..., 0] if around.training else scalars[..., 0].double()
    atom_energy = atom_energy.sum(0) * model.scale  # sum over layers
    more = by_name(model.plan.channels, {"0e": scalars.mean(0)} | equivariant) if beside_energy(model.kind) else {}
    energy = POOLINGS[model.kind](Atomic(atom_energy, more, model.species, layout, model.scale))
    total = energy.sum() * (len(hidden[0]) / len(energy))  # rows of a shared trunk: one
    features = torch.cat([layer[:1].detach() for layer in hidden], dim=-1) * (model.scale / READOUT_HIDDEN**0.5)
    return Energies(total, energy, atom_energy, scalars, features, equivariant)


def outputs_of(
    model: Race, parameters: Parameters, layout: Layout, energies: Energies, derivatives: tuple[Tensor, Tensor], training: bool = False
) -> Outputs:
    """The outputs of the head from the readouts, and everything in the order of the graph; `derivatives`: forces and virial."""
    keep = (lambda x: x) if training else torch.Tensor.detach
    columns = {"0e": keep(energies.scalars).mean(0)}  # (M, N, K), mean over layers
    columns |= {irrep: keep(values) for irrep, values in energies.equivariant.items()}
    channels, heads = by_name(model.plan.channels, columns), {}
    for output in model.plan.outputs:
        value = output.value(channels, parameters[output.offset] if output.offset else None)
        if output.per_structure:
            heads[output.name] = output.of_structures(sum_by_index(value, layout.batch, layout.n_structures), layout)
        else:
            heads[output.name] = value[:, layout.rank]
    forces, virial = derivatives
    energy, atom_energy = keep(energies.energy), keep(energies.atom_energy)[:, layout.rank]
    return Outputs(energy, atom_energy, forces[:, layout.rank], virial, energies.features[:, layout.rank], heads)


_Readouts = tuple[Tensor, dict[str, Tensor], list[Tensor]]


def _readouts(models: Sequence[Race], stacks: Sequence[Parameters], around: Geometry, detached: bool) -> list[_Readouts]:
    """Of every stack on one trunk: scalars of every layer (layers, M, N, K); what is read of other irreps (M, N, 2 l + 1, K), mean over
    the layers; the last-layer features of every layer (M, N, 64)."""
    model, parameters = models[0], stacks[0]
    embedding = parameters["embedding"] / len(model.species) ** 0.5
    features = [embedding[:, around.layout.species, None, :]]  # (M, N, 1, F)
    read: list[list[tuple[dict[str, Tensor], Tensor]]] = [[] for _ in stacks]
    for i, layer in enumerate(model.plan.layers):
        features = interaction(layer, f"layers.{i}", parameters, features, around, model.neighbours)
        for of_stack, own in zip(read, readout(layer, f"layers.{i}", stacks, features, detached)):
            of_stack.append(own)
    return [_joined(model.plan, of_stack) for model, of_stack in zip(models, read)]


def _joined(plan: Plan, layers: list[tuple[dict[str, Tensor], Tensor]]) -> _Readouts:
    scalars, last_features = torch.stack([columns["0e"] for columns, _ in layers]), [last for _, last in layers]
    equivariant = {}
    for irrep in READ:
        if width := plan.columns(irrep):
            # the mean is over all layers: where an irrep is out of reach its output is zero
            values = [columns[irrep] for columns, _ in layers if irrep in columns]
            zero = scalars.new_zeros(*last_features[0].shape[:2], 2 * int(irrep[0]) + 1, width)
            equivariant[irrep] = (torch.stack(values).sum(0) if values else zero) / len(scalars)
    return scalars, equivariant, last_features
