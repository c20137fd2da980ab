"""Several surfaces on one trunk: electronic states, and scalars that are never negative, such as the square of a coupling.

Each has last layers and offsets of its own, all else is shared; what belongs to one is named as in a plain model, of all but the first
with `surfaces.k.` before it. A surface taken alone is a plain model (`of_surface`, `plain`), so that whatever works for an energy and its
forces works for it.
"""

from dataclasses import dataclass, replace
from typing import Any

from race_calc.data.references import References
from race_calc.model.config import ModelConfig
from race_calc.model.parameters import Parameters, is_own, surface_prefix
from race_calc.model.race import Race


@dataclass(frozen=True)
class Surface:
    """`positive`: a scalar that is never negative, in place of an energy."""

    name: str
    positive: bool = False


def surfaces_of(config: ModelConfig) -> tuple[Surface, ...]:
    """The states in their order, then the scalars; () for a model of one energy."""
    return (*map(Surface, config.states), *(Surface(name, positive=True) for name in config.scalars))


def plain(model: Race, k: int = 0, scale: float | None = None) -> Race:
    """The model of surface k alone; `scale`: of its own, None: that of all."""
    surfaces = surfaces_of(model.plan.config)
    config = model.plan.config.model_copy(update={"states": (), "scalars": ()})
    positive = bool(surfaces) and surfaces[k].positive
    return replace(model, plan=replace(model.plan, config=config), positive=positive, scale=model.scale if scale is None else scale)


def of_surface(parameters: Parameters, k: int = 0) -> Parameters:
    """The plain model's parameters; gradients pass through."""
    found = {name: value for name, value in parameters.items() if not name.startswith("surfaces.")}
    if k:
        before = surface_prefix(k)
        found |= {name.removeprefix(before): value for name, value in parameters.items() if name.startswith(before)}
    return found


def with_surface(parameters: Parameters, k: int, one: Parameters) -> Parameters:
    """With what belongs to surface k replaced by that of a plain model."""
    return parameters | {surface_prefix(k) + name: value for name, value in one.items() if is_own(name)}


@dataclass(frozen=True)
class Constants:
    """What a surface has of its own besides weights. `unit`: what one eV of the network stands for, 1 for states; `has_forces`: whether
    it learned from gradients."""

    references: References
    unit: float = 1.0
    has_forces: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"references": self.references.to_dict(), "unit": self.unit, "has_forces": self.has_forces}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Constants":
        """Inverse of `to_dict`. Raises KeyError, TypeError or ValueError for what it did not write."""
        unit, has_forces = data["unit"], data["has_forces"]
        if isinstance(unit, bool) or not isinstance(unit, (int, float)) or not 0 < unit < float("inf") or not isinstance(has_forces, bool):
            raise ValueError(f"surfaces hold the unit {unit!r} and has_forces {has_forces!r}: a number > 0 and true or false are needed")
        return cls(References.from_dict(data["references"]), float(unit), has_forces)
