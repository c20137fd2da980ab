"""Which irreps and paths a RACE model really needs: what is always zero or never read is left out."""

from dataclasses import dataclass
from typing import Any

from race_calc.model.channels import Channel, Output, channels_of, outputs_of_head
from race_calc.model.config import ModelConfig
from race_calc.model.e3nn_import import o3

READOUT_HIDDEN = 64  # scalars of the readout's hidden layer
READOUT_GATED = 16  # gated 2e channels of the readout's hidden layer


@dataclass(frozen=True)
class Irrep:
    """`mul` channels of degree l and parity p."""

    l: int
    p: int
    mul: int

    @property
    def key(self) -> tuple[int, int]:
        return self.l, self.p

    @property
    def name(self) -> str:
        return f"{self.l}{'e' if self.p == 1 else 'o'}"


@dataclass(frozen=True)
class Path:
    """inputs[source] ⊗ Y_l2 → outputs[target]; l2 = None passes the neighbour's features on as they are."""

    source: int
    l2: int | None
    target: int


@dataclass(frozen=True)
class LayerPlan:
    """One interaction: what comes in, what leaves, and the paths between, in the order of their weights."""

    inputs: tuple[Irrep, ...]
    outputs: tuple[Irrep, ...]
    up: tuple[int, ...]  # channels of each input after Lin_up
    paths: tuple[Path, ...]

    @property
    def radial_width(self) -> int:
        return sum(self.up[path.source] for path in self.paths)

    def collected(self, target: int) -> int:
        """Channels that the paths into outputs[target] bring, before Lin_down."""
        return sum(self.up[path.source] for path in self.paths if path.target == target)


@dataclass(frozen=True)
class Plan:
    """The whole model as a list of layers, and what is read from each: `channels`, in the order of the columns of an irrep."""

    config: ModelConfig
    n_species: int
    layers: tuple[LayerPlan, ...]
    outputs: tuple[Output, ...]  # besides the energy
    channels: tuple[Channel, ...]

    def output(self, name: str) -> Any:  # which kind of output it is, the caller knows
        """The output of that name; None for a head without it."""
        return next((output for output in self.outputs if output.name == name), None)

    def columns(self, irrep: str) -> int:
        """Width of all channels of an irrep."""
        return sum(channel.width for channel in self.channels if channel.irrep == irrep)


def make_plan(config: ModelConfig, n_species: int) -> Plan:
    """Alive irreps forward from the scalars of the embedding and backward from what the readouts need."""
    hidden = [Irrep(ir.l, ir.p, mul) for mul, ir in o3.Irreps(config.hidden_irreps).sort().irreps.simplify()]
    outputs = outputs_of_head(config.head, config.force_covariance)
    channels = channels_of(outputs)
    read = {(ir.l, ir.p) for ir in (o3.Irrep(channel.irrep) for channel in channels)}

    reachable = [{(0, 1)}]
    for _ in range(config.layers):
        known = reachable[-1]
        new = {ir.key for ir in hidden if any(_couples(k, ir.key, config.l_max) for k in known)}
        reachable.append({ir.key for ir in hidden if ir.key in new | known})

    needed = [read]
    for layer in range(config.layers - 1, 0, -1):
        sources = {k for k in reachable[layer] if any(_couples(k, t, config.l_max) for t in needed[0])}
        needed.insert(0, sources | (read & reachable[layer]))

    layers = []
    inputs: tuple[Irrep, ...] = (Irrep(0, 1, config.features_dim),)
    for layer in range(config.layers):
        kept = tuple(ir for ir in hidden if ir.key in needed[layer] & reachable[layer + 1])
        layers.append(_layer_plan(inputs, kept, {ir.key: ir.mul for ir in hidden}, config.l_max))
        inputs = kept
    return Plan(config, n_species, tuple(layers), outputs, channels)


def _couples(a: tuple[int, int], b: tuple[int, int], l_max: int) -> bool:
    """Is there a Y_l, l ≤ l_max, with a ⊗ Y_l → b? Y_l has parity (-1)^l."""
    degrees = range(abs(a[0] - b[0]), min(a[0] + b[0], l_max) + 1)
    return any(a[1] * (-1) ** l == b[1] for l in degrees)


def _layer_plan(inputs, outputs, channels, l_max) -> LayerPlan:
    paths = []
    for t, target in enumerate(outputs):
        for s, source in enumerate(inputs):
            if source.key == target.key:
                paths.append(Path(s, None, t))
            for l2 in range(abs(source.l - target.l), min(source.l + target.l, l_max) + 1):
                if source.p * (-1) ** l2 == target.p:
                    paths.append(Path(s, l2, t))
    return LayerPlan(inputs, outputs, tuple(channels[ir.key] for ir in inputs), tuple(paths))
