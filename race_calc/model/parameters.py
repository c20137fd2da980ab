"""The parameters of a stack of M models: a flat dictionary name → tensor (M, …), or (1, …) for what the members share.

Weights are drawn from N(0, 1); the forward pass divides by √fan_in (e3nn's parametrisation). Member m
depends on its own seed only, so a member of a stack equals the model that is made alone.
"""

import torch
from torch import Tensor

from race_calc.model.channels import READ
from race_calc.model.plan import READOUT_GATED, READOUT_HIDDEN, LayerPlan, Plan

Parameters = dict[str, Tensor]
SPREAD = 0.1  # of last layers on one trunk at the start, in units of the weights
LAST_LAYER = "layers.0.readout.out"  # every member has its own


def parameter_shapes(plan: Plan) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter of one member, in the order in which they are drawn."""
    config = plan.config
    shapes: dict[str, tuple[int, ...]] = {"embedding": (plan.n_species, config.features_dim)}
    widths = [config.n_bessel, *config.radial_hidden]
    for i, layer in enumerate(plan.layers):
        at = f"layers.{i}"
        for ir, up in zip(layer.inputs, layer.up):
            shapes[f"{at}.up.{ir.name}"] = (ir.mul, up)
        for k, (n_in, n_out) in enumerate(zip(widths, [*widths[1:], layer.radial_width])):
            shapes[f"{at}.radial.{k}"] = (n_in, n_out)
        channels = {ir.key: ir.mul for ir in layer.outputs}
        for t, ir in enumerate(layer.sums):
            shapes[f"{at}.down.{ir.name}"] = (layer.collected(t), ir.mul)
            if ir.key in channels:
                shapes[f"{at}.product.{ir.name}"] = (plan.n_species, ir.mul, ir.mul)
        for ir in layer.inputs:
            if ir.key in channels:
                shapes[f"{at}.skip.{ir.name}"] = (plan.n_species, ir.mul, channels[ir.key])
        shapes |= _product_shapes(layer, at, plan.n_species)
        shapes[f"{at}.readout.hidden"] = (channels[0, 1], READOUT_HIDDEN)
        shapes[f"{at}.readout.out"] = (READOUT_HIDDEN, plan.columns("0e"))
        for irrep, name in reversed(READ.items()):
            key = int(irrep[0]), 1 if irrep[1] == "e" else -1
            if key in channels and any(channel.irrep == irrep for surface in plan.of_surfaces for channel in surface):
                gates, gated = gate_names(name)
                shapes[f"{at}.readout.{gates}"] = (channels[0, 1], READOUT_GATED)
                shapes[f"{at}.readout.{gated}"] = (channels[key], READOUT_GATED)
                if width := plan.columns(irrep):
                    shapes[f"{at}.readout.{name}"] = (READOUT_GATED, width)
    for k in range(1, len(plan.of_surfaces)):
        shapes |= _of_surface(shapes, plan, k)
    return shapes


def _of_surface(shapes: dict[str, tuple[int, ...]], plan: Plan, k: int) -> dict[str, tuple[int, ...]]:
    """What surface k has of its own."""
    found = {}
    for i in range(len(plan.layers)):
        at = f"layers.{i}.readout."
        found[f"{at}out"] = (READOUT_HIDDEN, plan.columns("0e", k))
        for irrep, name in reversed(READ.items()):
            if at + gate_names(name)[0] in shapes and (width := plan.columns(irrep, k)):
                found[at + name] = (READOUT_GATED, width)
    return {surface_prefix(k) + name: shape for name, shape in found.items()}


def gate_names(name: str) -> tuple[str, str]:
    """Of what is read as `name` in `channels.READ`: the weights of the gates, and those of what they let through."""
    return ("gates", "gated") if name == "tensor" else (f"{name}_gates", f"{name}_gated")


def surface_prefix(k: int) -> str:
    """Before the names of what belongs to surface k alone (`race_calc.model.surfaces`)."""
    return f"surfaces.{k}." if k else ""


def is_own(name: str) -> bool:
    """Does every surface have one of its own, of the parameters of a plain model?"""
    return name.endswith((".readout.out", *(f".readout.{read}" for read in READ.values()), "_offset"))


def _product_shapes(layer: LayerPlan, at: str, n_species: int) -> dict[str, tuple[int, ...]]:
    """Of the products of A: into their factors, and from each order to what leaves."""
    channels = {ir.key: ir.mul for ir in layer.sums}
    shapes: dict[str, tuple[int, ...]] = {f"{at}.factor.{ir.name}": (channels[ir.key], ir.mul) for ir in layer.factor}
    made: dict[tuple[int, int], int] = {}
    leaving = {ir.key: ir.mul for ir in layer.outputs}
    for product in layer.products:
        if product.order > 2:
            shapes |= {f"{at}.left{product.order}.{ir.name}": (made[ir.key], ir.mul) for ir in product.left}
        made = {ir.key: ir.mul for ir in product.targets}
        shapes |= {
            f"{at}.power{product.order}.{ir.name}": (n_species, ir.mul, leaving[ir.key]) for ir in product.targets if ir.key in leaving
        }
    return shapes


def offset_names(plan: Plan) -> tuple[str, ...]:
    """Learnable offsets of the outputs, one number per member each."""
    names = [output.offset for output in plan.outputs if output.offset]
    return tuple(surface_prefix(k) + name for k in range(len(plan.of_surfaces)) for name in names)


def initialise(plan: Plan, seeds: list[int], offsets: dict[str, float], last_layers: int | None = None) -> Parameters:
    """Draw M = len(seeds) members, float64 on the CPU. `offsets` gives the start of every one of `offset_names`.

    `last_layers`: draw a mean and so many deviations of every last layer, an axis after that of the members (`unstacked`).
    """
    members = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        member = {
            name: torch.randn(
                (1 + last_layers, *shape) if last_layers and is_last_layer(name) else shape, generator=generator, dtype=torch.float64
            )
            for name, shape in parameter_shapes(plan).items()
        }
        for name in offset_names(plan):
            member[name] = torch.tensor(offsets[name], dtype=torch.float64)
        members.append(member)
    return {name: torch.stack([member[name] for member in members]) for name in members[0]}


def radial_weights(parameters: Parameters, at: str) -> list[Tensor]:
    """Weights of the radial perceptron of the layer `at` ("layers.0"), in order; none where a table replaces them."""
    found: list[Tensor] = []
    while (name := f"{at}.radial.{len(found)}") in parameters:
        found.append(parameters[name])
    return found


def select_members(parameters: Parameters, members: list[int]) -> Parameters:
    """The sub-stack of the given members; what they share stays."""
    return {name: value if is_shared(parameters, name) else value[members] for name, value in parameters.items()}


def n_members(parameters: Parameters) -> int:
    return parameters[LAST_LAYER].shape[0]


def is_shared(parameters: Parameters, name: str) -> bool:
    """Is this parameter one for all members?"""
    return parameters[name].shape[0] < n_members(parameters)


def shares_trunk(parameters: Parameters) -> bool:
    """Do the members differ in their last layers only? All else then has one row."""
    return is_shared(parameters, "embedding")


def expanded(parameters: Parameters) -> Parameters:
    """A row for every member, also of what they share, without copying."""
    members = n_members(parameters)
    return {name: value.expand(members, *value.shape[1:]) for name, value in parameters.items()}


def unstacked(parameters: Parameters) -> Parameters:
    """One model with a mean and S deviations of its last layers (1, 1 + S, …) as a stack of S members that share a trunk.

    Member m: mean + SPREAD · (deviation m - their mean). What acts on the mean alone, such as forces of the mean energy, then
    leaves the deviations to what acts on their spread.
    """
    stack = dict(parameters)
    for name in filter(is_last_layer, parameters):
        mean, deviations = parameters[name][0, :1], parameters[name][0, 1:]
        stack[name] = mean + SPREAD * (deviations - deviations.mean(0, keepdim=True))
    return stack


def is_last_layer(name: str) -> bool:
    """Outputs are linear in these weights (layers.i.readout.out)."""
    return name.endswith(".readout.out")
