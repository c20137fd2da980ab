"""The matrices of a layer as they are multiplied: divided by the root of their fan-in, and all that makes one irrep side by side.

A training makes them anew at every step; for prediction `ready` makes them once.
"""

import torch

from race_calc.model.parameters import Parameters
from race_calc.model.plan import Irrep, LayerPlan, Plan

READY = "ready"  # layers.i.ready.… in a stack for prediction


def ready(parameters: Parameters, plan: Plan) -> Parameters:
    """The stack with what `matrices` makes of it in place of what that is made of."""
    out, used = dict(parameters), set()
    for i, layer in enumerate(plan.layers):
        at = f"layers.{i}"
        out |= {f"{at}.{READY}.{name}": value for name, value in matrices(layer, at, parameters, plan.n_species).items()}
        used |= {f"{at}.{name}" for name in (*_linear(layer), *(name for names in _mixed(layer).values() for name in names))}
    return {name: value for name, value in out.items() if name not in used}


def matrices(layer: LayerPlan, at: str, parameters: Parameters, n_species: int) -> Parameters:
    """Of the layer `at` ("layers.0"): `up.…`, `down.…`, `factor.…`, `left3.…` (M, C, C'), and `mix.…` (M, S, ΣC, C') per irrep that
    leaves, with the rows of `sources`, one under the other."""
    stored = f"{at}.{READY}."
    if f"{stored}mix.0e" in parameters:
        return {name: parameters[stored + name] for name in (*_linear(layer), *_mixed(layer))}
    found = {}
    for name in _linear(layer):
        weight = parameters[f"{at}.{name}"]
        found[name] = weight / weight.shape[1] ** 0.5
    for name, parts in _mixed(layer).items():
        weights = [parameters[f"{at}.{part}"] for part in parts]
        scaled = [weight / (weight.shape[2] * n_species) ** 0.5 for weight in weights]
        found[name] = scaled[0] if len(scaled) == 1 else torch.cat(scaled, dim=2)
    return found


def sources(layer: LayerPlan, key: tuple[int, int]) -> list[str]:
    """What an irrep that leaves is made of: "product" of A itself, "skip" of what came in, "power2" and "power3" of products of A."""
    return [name for name, irreps in made(layer).items() if key in [ir.key for ir in irreps]]


def made(layer: LayerPlan) -> dict[str, tuple[Irrep, ...]]:
    """All that can be mixed into what leaves, in the order of `sources`."""
    return {"product": layer.sums, "skip": layer.inputs, **{f"power{product.order}": product.targets for product in layer.products}}


def _linear(layer: LayerPlan) -> list[str]:
    named = {"up": layer.inputs, "down": layer.sums, "factor": layer.factor}
    named |= {f"left{product.order}": product.left for product in layer.products if product.order > 2}
    return [f"{name}.{ir.name}" for name, irreps in named.items() for ir in irreps]


def _mixed(layer: LayerPlan) -> dict[str, list[str]]:
    """Irrep that leaves → the parameters that make it."""
    return {f"mix.{ir.name}": [f"{source}.{ir.name}" for source in sources(layer, ir.key)] for ir in layer.outputs}
