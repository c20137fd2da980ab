"""Which irreps and paths a RACE model really needs: what is always zero or never read is left out."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from race_calc.model.channels import Channel, Output, channels_of, outputs_of_head
from race_calc.model.config import ModelConfig
from race_calc.model.e3nn_import import o3
from race_calc.model.kinds import beside_energy

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
    """inputs[source] ⊗ Y_l2 → sums[target]; l2 = None passes the neighbour's features on as they are."""

    source: int
    l2: int | None
    target: int


@dataclass(frozen=True)
class Coupling:
    """left[left] ⊗ right[right] → targets[target], channel by channel."""

    left: int
    right: int
    target: int


@dataclass(frozen=True)
class Product:
    """One order of the products of A with itself: every way to couple the left factor with the right one.

    Order 2 is symmetric: the left factor is the right one, and every pair of irreps stands once.
    """

    order: int
    left: tuple[Irrep, ...]  # the right factor of order 2; beyond, the order before, brought down to as many channels
    right: tuple[Irrep, ...]
    targets: tuple[Irrep, ...]  # with the channels of all their couplings, side by side
    couplings: tuple[Coupling, ...]


@dataclass(frozen=True)
class LayerPlan:
    """One interaction: what comes in, A, what leaves, and the paths into A in the order of their weights."""

    inputs: tuple[Irrep, ...]
    sums: tuple[Irrep, ...]  # of A; what leaves is made of A, its products and the inputs
    outputs: tuple[Irrep, ...]
    up: tuple[int, ...]  # channels of each input after Lin_up
    paths: tuple[Path, ...]
    products: tuple[Product, ...]  # of order 2 up to `model.correlation`

    @property
    def factor(self) -> tuple[Irrep, ...]:
        """What of A the products are made of, with their channels."""
        return tuple(sorted({ir for product in self.products for ir in product.right}, key=lambda ir: ir.key))

    @property
    def radial_width(self) -> int:
        return sum(self.up[path.source] for path in self.paths)

    def collected(self, target: int) -> int:
        """Channels that the paths into sums[target] bring, before Lin_down."""
        return sum(self.up[path.source] for path in self.paths if path.target == target)


@dataclass(frozen=True)
class Plan:
    """The whole model as a list of layers, and what is read from each: `channels`, in the order of the columns of an irrep."""

    config: ModelConfig
    n_species: int
    layers: tuple[LayerPlan, ...]
    outputs: tuple[Output, ...]  # besides the energy
    of_surfaces: tuple[tuple[Channel, ...], ...]  # the channels of each surface, of most models one

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Of the first surface."""
        return self.of_surfaces[0]

    def output(self, name: str) -> Any:  # which kind of output it is, the caller knows
        """The output of that name; None for a head without it."""
        return next((output for output in self.outputs if output.name == name), None)

    def columns(self, irrep: str, surface: int = 0) -> int:
        """Width of all channels of an irrep."""
        return sum(channel.width for channel in self.of_surfaces[surface] if channel.irrep == irrep)


def make_plan(config: ModelConfig, n_species: int) -> Plan:
    """Alive irreps forward from the scalars of the embedding and backward from what the readouts need."""
    hidden = [Irrep(ir.l, ir.p, mul) for mul, ir in o3.Irreps(config.hidden_irreps).sort().irreps.simplify()]
    outputs = outputs_of_head(config.head, config.force_covariance)
    of_surfaces = tuple((*channels_of(outputs), *beside_energy(kind)) for kind in config.kinds)
    read = {(ir.l, ir.p) for ir in (o3.Irrep(channel.irrep) for channels in of_surfaces for channel in channels)}

    rules = _Rules(tuple(ir.key for ir in hidden), config.l_max, config.correlation)
    reachable = [{(0, 1)}]
    for _ in range(config.layers):
        reachable.append(rules.leaving(reachable[-1]))

    needed = [read & reachable[-1]]
    for known in reversed(reachable[1:-1]):
        needed.insert(0, rules.sources(known, needed[0]) | (read & known))

    layers = []
    inputs: tuple[Irrep, ...] = (Irrep(0, 1, config.features_dim),)
    for wanted in needed:
        layers.append(_layer_plan(inputs, wanted, hidden, rules, config.product_channels))
        inputs = layers[-1].outputs
    return Plan(config, n_species, tuple(layers), outputs, of_surfaces)


Key = tuple[int, int]  # degree and parity
Triple = tuple[Key, Key, Key]  # left, right, target


@dataclass(frozen=True)
class _Rules:
    """What can come of what in one layer, by degree and parity."""

    hidden: tuple[Key, ...]
    l_max: int
    correlation: int

    def sums(self, known: set[Key]) -> set[Key]:
        """What A can hold."""
        return {k for k in self.hidden if any(_couples(source, k, self.l_max) for source in known)}

    def products(self, sums: set[Key], wanted: set[Key]) -> list[list[Triple]]:
        """The couplings of every order from 2 that help to make what is wanted.

        Of one channel with itself the odd couplings of equal irreps are zero.
        """
        right = [k for k in self.hidden if k in sums]
        orders, left = [], right
        for order in range(2, self.correlation + 1):
            reached = [
                (a, b, c)
                for a in left
                for b in right
                for c in self.hidden
                if abs(a[0] - b[0]) <= c[0] <= a[0] + b[0]
                and a[1] * b[1] == c[1]
                and (order > 2 or a < b or (a == b and (2 * a[0] - c[0]) % 2 == 0))
            ]
            orders.append(reached)
            left = [k for k in self.hidden if k in {c for _, _, c in reached}]
        for k in range(len(orders) - 1, -1, -1):  # a lower order is wanted for itself and as the left factor of the next
            ahead = {a for a, _, _ in orders[k + 1]} if k + 1 < len(orders) else set()
            orders[k] = [triple for triple in orders[k] if triple[2] in wanted | ahead]
        return orders

    def leaving(self, known: set[Key]) -> set[Key]:
        """What can leave a layer."""
        sums = self.sums(known)
        return sums | {c for order in self.products(sums, set(self.hidden)) for _, _, c in order}

    def used(self, sums: set[Key], wanted: set[Key]) -> set[Key]:
        """What of A is read, directly or by a product."""
        orders = self.products(sums, wanted)
        left = {a for a, _, _ in orders[0]} if orders else set()  # beyond order 2 it is a product
        return (sums & wanted) | left | {b for order in orders for _, b, _ in order}

    def sources(self, known: set[Key], wanted: set[Key]) -> set[Key]:
        """What must come in for what is wanted."""
        read = self.used(self.sums(known), wanted)
        return {k for k in known if k in wanted or any(_couples(k, target, self.l_max) for target in read)}


def _couples(a: Key, b: Key, l_max: int) -> bool:
    """Is there a Y_l, l ≤ l_max, with a ⊗ Y_l → b? Y_l has parity (-1)^l."""
    degrees = range(abs(a[0] - b[0]), min(a[0] + b[0], l_max) + 1)
    return any(a[1] * (-1) ** l == b[1] for l in degrees)


def _layer_plan(inputs: tuple[Irrep, ...], wanted: set[Key], hidden: list[Irrep], rules: _Rules, width: int) -> LayerPlan:
    channels = {ir.key: ir.mul for ir in hidden}
    reached = rules.sums({ir.key for ir in inputs})
    read = rules.used(reached, wanted)
    sums = tuple(ir for ir in hidden if ir.key in read)
    outputs = tuple(ir for ir in hidden if ir.key in wanted)
    paths = []
    for t, target in enumerate(sums):
        for s, source in enumerate(inputs):
            if source.key == target.key:
                paths.append(Path(s, None, t))
            for l2 in range(abs(source.l - target.l), min(source.l + target.l, rules.l_max) + 1):
                if l2 == 0 and rules.correlation > 1:
                    continue  # Y_0 = 1: the path without harmonics once more
                if source.p * (-1) ** l2 == target.p:
                    paths.append(Path(s, l2, t))
    products = tuple(_product(k + 2, found, width) for k, found in enumerate(rules.products(reached, wanted)) if found)
    return LayerPlan(inputs, sums, outputs, tuple(channels[ir.key] for ir in inputs), tuple(paths), products)


def _product(order: int, triples: list[Triple], width: int) -> Product:
    left, right, targets = (sorted({triple[k] for triple in triples}) for k in range(3))
    if order == 2:
        left = right = sorted({*left, *right})
    count = Counter(c for _, _, c in triples)
    return Product(
        order,
        tuple(Irrep(*k, width) for k in left),
        tuple(Irrep(*k, width) for k in right),
        tuple(Irrep(*k, width * count[k]) for k in targets),
        tuple(Coupling(left.index(a), right.index(b), targets.index(c)) for a, b, c in triples),
    )
