"""Several surfaces on one trunk: electronic states with scalars that are never negative, or molecular properties.

Each has last layers and offsets of its own, all else is shared; what belongs to one is named as in a plain model, of all but the first
with `surfaces.k.` before it. A surface taken alone is a plain model (`of_surface`, `plain`), so that whatever works for an energy and its
forces works for it.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from race_calc.data.graph import Graph
from race_calc.data.references import References
from race_calc.model.config import ModelConfig
from race_calc.model.kinds import PROPERTIES
from race_calc.model.parameters import Parameters, surface_prefix
from race_calc.model.race import Race


@dataclass(frozen=True)
class Surface:
    """`kind`: a key of `race_calc.model.pooling.POOLINGS`."""

    name: str
    kind: str = "energy"

    @property
    def is_state(self) -> bool:
        return self.kind == "energy"

    @property
    def is_property(self) -> bool:
        return self.kind in PROPERTIES

    @property
    def has_forces(self) -> bool:
        return not self.is_property


def surfaces_of(config: ModelConfig) -> tuple[Surface, ...]:
    """The states in their order, then the scalars; or the properties; () for a model of one energy."""
    return tuple(map(Surface, (*config.states, *config.scalars, *config.targets), config.kinds))


def plain(model: Race, k: int = 0, scale: float | None = None) -> Race:
    """The model of surface k alone; `scale`: of its own, None: that of all."""
    plan, kind = model.plan, model.plan.config.kinds[k]
    config = plan.config.model_copy(update={"states": (), "scalars": (), "targets": {}})
    alone = replace(plan, config=config, of_surfaces=(plan.of_surfaces[k],))
    return replace(model, plan=alone, kind=kind, scale=model.scale if scale is None else scale)


def of_surface(parameters: Parameters, k: int = 0) -> Parameters:
    """The plain model's parameters; gradients pass through."""
    found = {name: value for name, value in parameters.items() if not name.startswith("surfaces.")}
    if k:
        before = surface_prefix(k)
        found |= {name.removeprefix(before): value for name, value in parameters.items() if name.startswith(before)}
    return found


@dataclass(frozen=True)
class Constants:
    """What a surface has of its own besides weights.

    ========== ==================================================================================================
    field      meaning
    ========== ==================================================================================================
    references energies of the elements and the scale of the network; of properties in their unit
    unit       what one eV of the network stands for, 1 for states
    has_forces whether it learned from gradients
    constant   what every structure has, of the kind mean
    extent     of the kind extent: factor of Σ Z |r − c|², in the unit of the property over Å²
    ========== ==================================================================================================
    """

    references: References
    unit: float = 1.0
    has_forces: bool = True
    constant: float = 0.0
    extent: float = 0.0

    def known(self, graph: Graph) -> np.ndarray:
        """What is known of each structure before the network says anything, beside the references (B,)."""
        return self.constant + (self.extent * charge_extent(graph) if self.extent else np.zeros(graph.n_structures))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        rest = {name: getattr(self, name) for name in ("unit", "has_forces", "constant", "extent")}
        return {"references": self.references.to_dict(), **rest}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Constants":
        """Inverse of `to_dict`. Raises KeyError, TypeError or ValueError for what it did not write."""
        numbers, has_forces = [data[name] for name in ("unit", "constant", "extent")], data["has_forces"]
        real = all(isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf") for value in numbers)
        if not real or not numbers[0] > 0 or not isinstance(has_forces, bool):
            raise ValueError(
                f"the constants of a surface are {numbers} and has_forces {has_forces!r}: finite numbers and a truth are needed"
            )
        unit, constant, extent = map(float, numbers)
        return cls(References.from_dict(data["references"]), unit, has_forces, constant, extent)


def charge_extent(graph: Graph) -> np.ndarray:
    """Σ_i Z_i |r_i − c|² (B,) in Å², c the centre of the nuclear charge."""
    charges = graph.numbers.astype(np.float64)
    weighted = np.column_stack([charges[:, None] * graph.positions, charges])
    sums = np.zeros((graph.n_structures, 4))
    np.add.at(sums, graph.batch, weighted)
    distance = graph.positions - (sums[:, :3] / sums[:, 3:])[graph.batch]
    return np.bincount(graph.batch, charges * (distance**2).sum(1), minlength=graph.n_structures)
