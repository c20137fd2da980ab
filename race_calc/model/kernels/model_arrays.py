"""A model for the compiled step: its plan and its parameters as arrays, by the names that model.c asks for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from race_calc.model.angular import clebsch_gordan, harmonic_terms
from race_calc.model.channels import READ, Channel, Output
from race_calc.model.kernels.live import Live, live_of
from race_calc.model.kernels.product_recipe import ProductRecipe, product_recipe
from race_calc.model.kernels.recipe import Recipe, recipe
from race_calc.model.parameters import Parameters, gate_names, n_members
from race_calc.model.plan import READOUT_HIDDEN, Irrep, LayerPlan, Product
from race_calc.model.race import Race
from race_calc.model.table import SOFTENING, table_knots
from race_calc.model.weights import made, matrices, sources

Arrays = dict[str, np.ndarray]
KINDS = {"product": 0, "skip": 1, "power2": 2, "power3": 3}  # SUM, SKIP, POWER and POWER + 1 of step.h


def arrays_of(models: Sequence[Race], stacks: Sequence[Parameters]) -> Arrays:
    """The arrays of a stack with tables, and of all its surfaces, which share their trunk.

    Members that share their trunk have one, with all their last layers, those of the first surface first. What can be differentiated of a
    trunk: the energies of its members, surface by surface, and then, where it has several members, their mean of each surface.
    """
    model, parameters = models[0], stacks[0]
    plan, trunks = model.plan, len(parameters["embedding"])
    members = n_members(parameters) // trunks
    columns = [one.plan.columns("0e") for one in models for _ in range(members)]
    widths = [sum(one.plan.columns(irrep) for one in models) for irrep in READ]
    energies = len(models) * (members + (members > 1))
    sizes = [trunks, len(columns), energies, plan.n_species, len(plan.layers), plan.config.l_max, plan.config.features_dim]
    terms, values = harmonic_terms(plan.config.l_max)
    found: Arrays = {
        "sizes": _integers([*sizes, table_knots(parameters), sum(columns), *widths]),
        "constants": np.array([plan.config.cutoff, SOFTENING]),
        "scale": np.repeat([one.scale for one in models], members).astype(np.float64),
        "energy_column": _integers(np.cumsum([0, *columns])[:-1]),
        **_heads(models, stacks, trunks, members),
        "embedding": _numbers(parameters["embedding"]) / plan.n_species**0.5,
        "harmonic": _integers(terms),
        "harmonic_value": np.array(values),
    }
    real = "float" if parameters["embedding"].dtype == torch.float32 else "double"
    for i, (layer, live) in enumerate(zip(plan.layers, live_of(plan))):
        of_layer = _plan(layer, live, plan.config.l_max, real) | _weights(layer, f"layers.{i}", parameters, model)
        of_layer |= _readout(layer, f"layers.{i}", models, stacks)
        found |= {f"{i}.{name}": value for name, value in of_layer.items()}
    dtype = np.float32 if real == "float" else np.float64
    kept = ("constants", "scale", "harmonic_value", "variance_offset", "trace_offset", "traceless")
    return {name: value.astype(dtype) if value.dtype.kind == "f" and name not in kept else value for name, value in found.items()}


def _heads(models: Sequence[Race], stacks: Sequence[Parameters], trunks: int, members: int) -> Arrays:
    """Where the channels are of which the library makes outputs, -1 where it makes none, and their offsets; for every last layer."""
    names = ("variance_column", "trace_column", "tensor_column", "variance_offset", "trace_offset")
    found: dict[str, list[Any]] = {name: [] for name in names}
    scalars, tensors = 0, 0
    for model, stack in zip(models, stacks):
        variance, covariance = (_compiled(model, kind) for kind in ("variance", "log_covariance"))
        for m in range(members):
            for name, output in (("variance", variance), ("trace", covariance)):
                found[f"{name}_column"].append(-1 if output is None else scalars + _column(model, output.channels[0]))
                found[f"{name}_offset"].append(np.zeros(trunks) if output is None else _offset(stack[str(output.offset)], trunks, m))
            found["tensor_column"].append(-1 if covariance is None else tensors + _column(model, covariance.channels[1]))
            scalars += model.plan.columns("0e")
        tensors += model.plan.columns("2e")
    columns = {name: _integers(values) for name, values in found.items() if name.endswith("column")}
    offsets = {name: np.stack(values, axis=1) for name, values in found.items() if name.endswith("offset")}
    return columns | offsets | {"traceless": clebsch_gordan(1, 1, 2).transpose(2, 0, 1)}


def _compiled(model: Race, kind: str) -> Output | None:
    """The output that the library makes as that."""
    return next((output for output in model.plan.outputs if output.compiled == kind), None)


def _column(model: Race, channel: Channel) -> int:
    """The first of a channel among those of its irrep."""
    channels = [one for one in model.plan.channels if one.irrep == channel.irrep]
    return sum(one.width for one in channels[: channels.index(channel)])


def _offset(values: torch.Tensor, trunks: int, m: int) -> np.ndarray:
    """(trunks,) of member m of each; members that share their trunk may share the offset, too."""
    rows = _numbers(values).reshape(trunks, -1)
    return rows[:, m if rows.shape[1] > 1 else 0]


def _plan(layer: LayerPlan, live: Live, l_max: int, real: str) -> Arrays:
    parts = [[(KINDS[name], *_place(layer, name, ir)) for name in sources(layer, ir.key)] for ir in layer.outputs]
    sums = [ir.key for ir in layer.sums]
    found = {
        "in": _irreps(layer.inputs, live.inputs, layer.up),
        "sum": _irreps(layer.sums, live.sums, [layer.collected(t) for t in range(len(layer.sums))]),
        "out": _irreps(layer.outputs, live.outputs, [len(of_output) for of_output in parts]),
        "parts": _integers([part for of_output in parts for part in of_output]),
        "scalar": _integers([[ir.key for ir in layer.outputs].index((0, 1))]),
        "radial_width": _integers([layer.radial_width]),
        "orders": _integers([len(layer.products)]),
        "factor": _integers([sums.index(ir.key) for ir in layer.factor]),
    }
    into_live = tuple(t for t, ir in enumerate(layer.sums) if ir.key in live.sums)
    found |= _messages("forward", recipe(layer, l_max, real))
    found |= _messages("backward", recipe(layer, l_max, real, into_live))
    for o, (product, targets) in enumerate(zip(layer.products, live.targets)):
        before = layer.products[o - 1].targets if o else product.left
        found |= {f"order{o}.{name}": value for name, value in _product(layer, product, before, targets, real).items()}
    return found


def _product(layer: LayerPlan, product: Product, before: Sequence[Irrep], live: frozenset[tuple[int, int]], real: str) -> Arrays:
    whole = product_recipe(product, real)
    part = product_recipe(product, real, tuple(t for t, ir in enumerate(product.targets) if ir.key in live))
    keys, factors = [ir.key for ir in before], [ir.key for ir in layer.factor]
    return {
        "left": _integers([keys.index(ir.key) for ir in product.left]),
        "right": _integers([factors.index(ir.key) for ir in product.right]),
        "target": _irreps(product.targets, live, [0] * len(product.targets)),
        "channels": _integers([product.left[0].mul]),
        "x_at": whole.x_at,
        "y_at": whole.y_at,
        **_terms("forward", whole),
        **_terms("backward", part),
    }


def _weights(layer: LayerPlan, at: str, parameters: Parameters, model: Race) -> Arrays:
    """The matrices of a layer as they are multiplied."""
    ready = {name: _numbers(value) for name, value in matrices(layer, at, parameters, model.plan.n_species).items()}
    found = {"table": _numbers(parameters[f"{at}.table"])}
    found |= {f"up.{s}": ready[f"up.{ir.name}"] for s, ir in enumerate(layer.inputs)}
    found |= {f"down.{s}": ready[f"down.{ir.name}"] / model.neighbours for s, ir in enumerate(layer.sums)}
    found |= {f"into_factor.{f}": ready[f"factor.{ir.name}"] for f, ir in enumerate(layer.factor)}
    found |= {f"mix.{o}": ready[f"mix.{ir.name}"] for o, ir in enumerate(layer.outputs)}
    for o, product in enumerate(layer.products):
        if product.order > 2:
            found |= {f"order{o}.from_before.{f}": ready[f"left{product.order}.{ir.name}"] for f, ir in enumerate(product.left)}
    return found


def _readout(layer: LayerPlan, at: str, models: Sequence[Race], stacks: Sequence[Parameters]) -> Arrays:
    """Last layers of one trunk side by side, and what can be differentiated."""
    parameters, trunks = stacks[0], len(stacks[0]["embedding"])
    out, energies, means = [], [], []
    for model, stack in zip(models, stacks):
        weight = _scaled(stack[f"{at}.readout.out"])  # (members of all trunks, 64, columns)
        weight = weight.reshape(trunks, -1, *weight.shape[1:])  # (trunks, members, 64, columns)
        out.append(weight.transpose(0, 2, 1, 3).reshape(trunks, READOUT_HIDDEN, -1))
        energies.append(weight[..., 0] * model.scale)
        means.append(energies[-1].mean(1, keepdims=True))
    several = energies[0].shape[1] > 1
    found = {
        "hidden": _scaled(parameters[f"{at}.readout.hidden"]),
        "read_out": np.concatenate(out, axis=2),
        "energy": np.concatenate(energies + (means if several else []), axis=1),
    }
    keys, read_from = [ir.key for ir in layer.outputs], []
    for irrep, name in READ.items():
        of = [f"{at}.readout.{part}" for part in gate_names(name)]
        alive = all(part in parameters for part in of) and any(f"{at}.readout.{name}" in stack for stack in stacks)
        read_from.append(keys.index((int(irrep[0]), 1 if irrep[1] == "e" else -1)) if alive else -1)
        if alive:
            found |= {f"{name}.{part}": _scaled(parameters[full]) for part, full in zip(("gates", "gated"), of)}
            found[name] = np.concatenate(
                [_scaled(stack[f"{at}.readout.{name}"]) for stack in stacks if f"{at}.readout.{name}" in stack], axis=2
            )
    return found | {"read_from": _integers(read_from)}


def _place(layer: LayerPlan, name: str, ir: Irrep) -> tuple[int, int]:
    """Which of its kind a part of an output is, and how many channels it has."""
    irreps = made(layer)[name]
    index = [other.key for other in irreps].index(ir.key)
    return index, irreps[index].mul


def _irreps(irreps: Sequence[Irrep], live: frozenset[tuple[int, int]], more: Sequence[int]) -> np.ndarray:
    """Components, channels, whether they are live, and one number more, of each."""
    return _integers([(2 * ir.l + 1, ir.mul, ir.key in live, number) for ir, number in zip(irreps, more)])


def _messages(name: str, of: Recipe) -> Arrays:
    fields = ("paths", "couplings", "first_coupling", "source_width", "target_width", "target_channels")
    return {f"{name}.{field}": getattr(of, field) for field in fields} | {f"{name}.n_k": _integers([of.n_k])}


def _terms(name: str, of: ProductRecipe) -> Arrays:
    return {f"{name}.{field}": getattr(of, field) for field in ("g_at", "terms", "first_term")}


def _integers(values) -> np.ndarray:
    return np.array(list(values), dtype=np.int64)


def _numbers(value: torch.Tensor) -> np.ndarray:
    return value.detach().double().cpu().numpy()


def _scaled(weight: torch.Tensor) -> np.ndarray:
    """As `race_calc.model.linear.dense` multiplies by it."""
    return _numbers(weight) / weight.shape[-2] ** 0.5
