"""In TorchScript: one interaction for all members, as `race_calc.model.interaction` and `race_calc.model.products` have it, with the
matrices of `race_calc.model.weights` and the coefficients of `race_calc.model.coupling`."""

import torch
from torch import Tensor

from race_calc.interfaces.metatomic.around import Around
from race_calc.model.angular import coupling_matrix
from race_calc.model.coupling import matrix_of
from race_calc.model.parameters import Parameters, radial_weights
from race_calc.model.plan import Irrep, LayerPlan, Path, Product
from race_calc.model.radial import SILU_GAIN
from race_calc.model.weights import made, matrices, sources


class Channels(torch.nn.Module):
    """(T, n, k, C) · (M, C, C') on the channels; where the members share the weight, it is one for all T."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, x: Tensor) -> Tensor:
        t, n, k, c = x.shape
        return torch.bmm(x.reshape(t, n * k, c), self.weight.expand(t, -1, -1)).view(t, n, k, self.weight.shape[2])


class Perceptron(torch.nn.Module):
    """`race_calc.model.radial.perceptron`, or a part of it: (T, n, C) → (T, n, C')."""

    def __init__(self, weights: list[Tensor], silu_at_end: bool = False):
        super().__init__()
        steps = [Channels(weight / weight.shape[1] ** 0.5) for weight in weights]
        self.between, self.last, self.silu_at_end, self.gain = torch.nn.ModuleList(steps[:-1]), steps[-1], silu_at_end, SILU_GAIN

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, None]
        for step in self.between:
            x = torch.nn.functional.silu(step(x)) * self.gain
        x = self.last(x)[:, :, 0]
        return torch.nn.functional.silu(x) * self.gain if self.silu_at_end else x


class SumOverNeighbours(torch.nn.Module):
    """Σ_j of one path's messages to n atoms with P/n slots each: w (T, P, C), u_j (T, P, 2 l1 + 1, C) → (T, n, 2 l3 + 1, C)."""

    coefficients: Tensor

    def __init__(self, layer: LayerPlan, path: Path, like: Tensor):
        super().__init__()
        self.source, self.target = path.source, path.target
        self.l1, self.l2, self.l3 = layer.inputs[path.source].l, path.l2 or 0, layer.sums[path.target].l
        coefficients = coupling_matrix(self.l1, self.l2, self.l3, like) if self.l1 and self.l2 else torch.zeros(0).to(like)
        self.register_buffer("coefficients", coefficients.clone())

    def forward(self, weights: Tensor, gathered: list[Tensor], harmonics: list[Tensor], n: int) -> Tensor:
        messages = weights.unsqueeze(2) * gathered[self.source]
        t, p, k, c = messages.shape
        width = p // n
        if self.l2 == 0:  # Y_0 = 1
            return messages.view(t, n, width, k, c).sum(2)
        y = harmonics[self.l2]
        if self.l1 > 0:
            y = y @ self.coefficients
        coupling = y.reshape(t * n, width * k, 2 * self.l3 + 1).transpose(1, 2)
        return torch.bmm(coupling, messages.view(t * n, width * k, c)).view(t, n, 2 * self.l3 + 1, c)


class Coupled(torch.nn.Module):
    """Every coupling of two factors, as `race_calc.model.products.coupled`. factors: R of every irrep; below: the order before."""

    left: list[int]
    right: list[int]
    degrees: list[int]
    widths: list[int]

    def __init__(self, layer: LayerPlan, product: Product, below: tuple[Irrep, ...], weights: Parameters, like: Tensor):
        super().__init__()
        first, second, coefficients = matrix_of(product, like)
        for name, values in (("first", first), ("second", second), ("coefficients", coefficients)):
            self.register_buffer(name, values.clone())
        self.order = product.order
        self.right = places(product.right, layer.factor)
        self.left = places(product.left, below)
        self.down = torch.nn.ModuleList([Channels(weights[f"left{product.order}.{ir.name}"]) for ir in product.left if product.order > 2])
        self.degrees = [ir.l for ir in product.targets]
        self.widths = [(2 * ir.l + 1) * ir.mul // product.right[0].mul for ir in product.targets]

    def forward(self, factors: list[Tensor], below: list[Tensor]) -> list[Tensor]:
        right, left = [factors[i] for i in self.right], [below[i] for i in self.left]
        for i, down in enumerate(self.down):
            left[i] = down(left[i])
        pairs = torch.cat(left, 2).index_select(2, self.first) * torch.cat(right, 2).index_select(2, self.second)
        t, n, _, p = pairs.shape
        parts = (self.coefficients @ pairs).split(self.widths, 2)  # split: the derivative of slices is slow
        found: list[Tensor] = []
        for i, part in enumerate(parts):
            k = 2 * self.degrees[i] + 1
            found.append(part.view(t, n, self.widths[i] // k, k, p).transpose(2, 3).reshape(t, n, k, self.widths[i] // k * p))
        return found


class Mixed(torch.nn.Module):
    """All that makes one irrep, side by side, times the matrix (M, S, ΣC, C') of each species."""

    of: list[int]

    def __init__(self, of: list[int], weight: Tensor):
        super().__init__()
        self.of = of
        self.register_buffer("weight", weight)

    def forward(self, made: list[Tensor], around: Around) -> Tensor:
        x = torch.cat([made[i] for i in self.of], -1)
        t, _, k, c = x.shape
        weight = self.weight.expand(t, -1, -1, -1)
        x = x.index_select(1, around.by_species)
        done: list[Tensor] = []
        for s, part in enumerate(x.split(around.counts, 1)):
            n = part.shape[1]
            done.append(torch.bmm(part.reshape(t, n * k, c), weight[:, s]).view(t, n, k, weight.shape[3]))
        return torch.cat(done, 1).index_select(1, around.from_species)


class Interaction(torch.nn.Module):
    """h of the next layer, (T, N, 2l + 1, C) per irrep, from h and, of every block, Y by degree (T, P, 2l + 1) and B (T, P, n_bessel)."""

    factor_of: list[int]
    path_channels: list[int]

    def __init__(self, layer: LayerPlan, at: str, parameters: Parameters, n_species: int, neighbours: float):
        super().__init__()
        weights, like = matrices(layer, at, parameters, n_species), parameters["embedding"]
        self.neighbours, self.targets = neighbours, len(layer.sums)
        self.up = torch.nn.ModuleList([Channels(weights[f"up.{ir.name}"]) for ir in layer.inputs])
        self.radial = Perceptron(radial_weights(parameters, at))
        self.path_channels = [layer.up[path.source] for path in layer.paths]
        self.paths = torch.nn.ModuleList([SumOverNeighbours(layer, path, like) for path in layer.paths])
        self.down = torch.nn.ModuleList([Channels(weights[f"down.{ir.name}"]) for ir in layer.sums])
        self.factor_of = places(layer.factor, layer.sums)
        self.factor = torch.nn.ModuleList([Channels(weights[f"factor.{ir.name}"]) for ir in layer.factor])
        below = [layer.factor, *(product.targets for product in layer.products)]
        self.products = torch.nn.ModuleList([Coupled(layer, product, b, weights, like) for product, b in zip(layer.products, below)])
        place = {(name, ir.key): i for i, (name, ir) in enumerate((name, ir) for name, irreps in made(layer).items() for ir in irreps)}
        self.mixed = torch.nn.ModuleList(
            [Mixed([place[name, ir.key] for name in sources(layer, ir.key)], weights[f"mix.{ir.name}"]) for ir in layer.outputs]
        )

    def forward(self, features: list[Tensor], angular: list[list[Tensor]], radial: list[Tensor], around: Around) -> list[Tensor]:
        u: list[Tensor] = []
        for i, up in enumerate(self.up):
            u.append(up(features[i]))
        parts: list[list[Tensor]] = []  # of every block, then of every target
        for b, radial_of_block in enumerate(radial):
            weights = self.radial(radial_of_block).split(self.path_channels, 2)
            gathered = [x.index_select(1, around.neighbours[b]) for x in u]
            sums: list[list[Tensor]] = []
            for _ in range(self.targets):
                of_target: list[Tensor] = []
                sums.append(of_target)
            for i, path in enumerate(self.paths):
                sums[path.target].append(path(weights[i], gathered, angular[b], around.sizes[b]))
            parts.append([torch.cat(one, -1) for one in sums])
        found: list[Tensor] = []
        for t, down in enumerate(self.down):
            found.append(down(torch.cat([one[t] for one in parts], 1)) / self.neighbours)
        factors: list[Tensor] = []
        for i, factor in enumerate(self.factor):
            factors.append(factor(found[self.factor_of[i]]))
        found.extend(features)
        below = factors
        for product in self.products:
            below = product(factors, below)
            found.extend(below)
        new: list[Tensor] = []
        for mixed in self.mixed:
            new.append(mixed(found, around))
        return new


def places(some: tuple[Irrep, ...], among: tuple[Irrep, ...]) -> list[int]:
    keys = [ir.key for ir in among]
    return [keys.index(ir.key) for ir in some]
