"""What a model predicts besides its energy: channels that are read from every layer, and one object for each output.

A head is a tuple of outputs with a name. A new output is one subclass of `Output`; put into a head with `register_head` it is
drawn, trained, saved, loaded and predicted.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from race_calc.model.likelihood import gaussian_nll
from race_calc.model.outputs import Labels

READ = {"1o": "vector", "2e": "tensor"}  # irreps that are read through gates → how their weights are named


@dataclass(frozen=True)
class Channel:
    """`width` components of one irrep, read from every atom in every layer where the irrep is alive."""

    name: str
    irrep: str = "0e"
    width: int = 1

    def __post_init__(self):
        if self.irrep not in ("0e", *READ):
            raise ValueError(f"channel {self.name} is {self.irrep}: readouts give 0e, {' and '.join(READ)}")


ENERGY = Channel("energy")  # of every model, the first: summed over layers and atoms and differentiated


class Output:
    """One quantity that is made from channels, averaged over the layers; subclasses say how. One object serves all models."""

    name: str  # in `Outputs.heads`, `Plan.output` and `Prediction.extra`
    channels: tuple[Channel, ...]
    offset: str | None = None  # name of the learnable number that every member has for it
    per_structure = False  # `value`, of each atom, is summed over the atoms of a structure, and `of_structures` ends it
    compiled: str | None = None  # what the compiled step gives for it: "variance" or "log_covariance" (heads.c)
    label: str | None = None  # key in `atoms.arrays` or `atoms.info` that `loss` learns from

    def start(self, energy_var_per_atom: float, force_var: float, virial_var_per_atom: float) -> float:
        """Offset at the start of a training, from the residual variances of the data (eV² per atom, (eV/Å)², eV² per atom)."""
        return 0.0

    def value(self, channels: dict[str, Tensor], offset: Any) -> Tensor:
        """(M, N, …) from channels (M, N, width), or (M, N, 2 l + 1, width) for 1o and 2e, and the offset (M,), None without one."""
        raise NotImplementedError

    def of_structures(self, total: Tensor, layout: Any) -> Tensor:
        """From the sum over the atoms of each structure (M, B, …); `layout`: the `race_calc.model.layout.Layout` of the structures."""
        return total

    def loss(self, value: Tensor, labels: Labels) -> Tensor | None:
        """Loss of every member (M,), with its weight, beside those of energies and forces; None: it has none."""
        return None

    def members(self, value: np.ndarray) -> np.ndarray:
        """What each member predicts, float64 (M, …), from `value` as it stands in `Outputs`."""
        return value


class Spread(Output):
    """The variance that a member predicts for its own energies (output `energy_var`), forces (`force_cov`) or stresses (`stress_cov`)."""

    dimension: int  # k, of what it is the covariance of

    def parts(self, difference: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """dᵀ Σ⁻¹ d and log det Σ (M, n) of the differences d of labels and predictions (M, n, k), or (M, n) for k = 1."""
        raise NotImplementedError

    def nll(self, difference: Tensor, value: Tensor, beta: float = 0.0) -> Tensor:
        """Gaussian negative log-likelihood (M,) of the differences, without ½ log 2π; `beta` of the β-NLL."""
        return gaussian_nll(*self.parts(difference, value), self.dimension, beta)

    def covariance(self, value: Tensor) -> Tensor:
        """The variance or covariance itself, differentiable; `members` is the same for predictions."""
        return value


_HEADS: dict[str, tuple[Output | Mapping[str, Output], ...]] = {}


def register_head(name: str, *outputs: Output | Mapping[str, Output]) -> None:
    """Make `outputs` the head `name` of `model.head`; a mapping holds one output for each `model.force_covariance`."""
    if name in _HEADS:
        raise ValueError(f"there is a head {name} already: give another name")
    _HEADS[name] = outputs


def heads() -> tuple[str, ...]:
    """Names of all heads."""
    return tuple(_HEADS)


def outputs_of_head(name: str, form: str) -> tuple[Output, ...]:
    """The outputs of a head besides the energy; `form` of the force covariance. Raises ValueError for a name that occurs twice."""
    outputs = tuple(output[form] if isinstance(output, Mapping) else output for output in _HEADS[name])
    for names in ([output.name for output in outputs], [channel.name for channel in channels_of(outputs)]):
        if len(set(names)) < len(names):
            raise ValueError(f"head {name}: a name occurs twice in {', '.join(names)}")
    return outputs


def channels_of(outputs: Iterable[Output]) -> tuple[Channel, ...]:
    """All channels of a model, in the order of the columns of its readouts; the energy first."""
    return ENERGY, *(channel for output in outputs for channel in output.channels)


def by_name(channels: Iterable[Channel], columns: dict[str, Tensor]) -> dict[str, Tensor]:
    """Irrep → (…, columns) to name of the channel → (…, width)."""
    found: dict[str, Tensor] = {}
    for irrep, values in columns.items():
        own = [channel for channel in channels if channel.irrep == irrep]
        found |= zip((c.name for c in own), values.split([c.width for c in own], dim=-1))
    return found
