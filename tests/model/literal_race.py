"""A literal RACE: the equations of the method, sections 1 and 2, written with e3nn modules.

One member, nothing dropped, nothing precomputed: paths that are always zero stay, the last layer keeps
all irreps, a_i ⊗ A_i is a full tensor product, forces and stress come from autograd to positions and
strain, and the neighbours from ASE. Slow; only a reference for the tests. `convert` turns its weights
into the parameters of race_calc.
"""

import math

import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from e3nn import nn, o3
from e3nn.io import CartesianTensor
from torch.nn.functional import silu, softplus

from race_calc.model.config import ModelConfig
from race_calc.model.parameters import Parameters, offset_names
from race_calc.model.plan import READOUT_GATED, READOUT_HIDDEN, LayerPlan, Plan

N_OUTPUTS = {"mse": 1, "energy": 2}


class LiteralLayer(torch.nn.Module):
    """up, message, aggregate, restratify, residual and readout of one layer."""

    def __init__(self, config: ModelConfig, inputs: o3.Irreps, n_species: int):
        super().__init__()
        hidden = o3.Irreps(config.hidden_irreps)
        kept = [ir for _, ir in hidden]
        present = [ir for _, ir in inputs]
        irreps_up = o3.Irreps([(mul, ir) for mul, ir in hidden if ir in present])
        harmonics = o3.Irreps.spherical_harmonics(config.l_max)
        self.up = o3.Linear(inputs, irreps_up)

        paths, instructions = [], []  # one slot of the output per path
        for i, (mul, ir1) in enumerate(irreps_up):
            for j, (_, ir2) in enumerate(harmonics):
                if ir2.l == 0 and config.correlation > 1:
                    continue  # the same as u itself
                for ir3 in ir1 * ir2:
                    if ir3 in kept:
                        instructions.append((i, j, len(paths), "uvu", False))
                        paths.append((mul, ir3))
        self.product_y = o3.TensorProduct(irreps_up, harmonics, o3.Irreps(paths), instructions)
        self.slots = [(ir, None, ir) for _, ir in irreps_up]  # (source, l2, target) in the order of the weights
        self.slots += [(irreps_up[i].ir, j, paths[k][1]) for i, j, k, *_ in instructions]

        message = irreps_up + o3.Irreps(paths)
        self.channels = [mul for mul, _ in message]
        self.radial = nn.FullyConnectedNet([config.n_bessel, *config.radial_hidden, message.num_irreps], silu)
        self.weigh = o3.ElementwiseTensorProduct(message, o3.Irreps([(message.num_irreps, "0e")]))
        self.down = o3.Linear(message, hidden)
        one_body = o3.Irreps([(config.features_dim, "0e")])
        self.product = o3.FullyConnectedTensorProduct(one_body, hidden, hidden)
        self.powers = torch.nn.ModuleList()
        if config.correlation > 1:
            factor = o3.Irreps([(config.product_channels, ir) for ir in kept])
            self.factor = o3.Linear(hidden, factor)
            self.powers.extend(LiteralPower(k, factor, hidden, n_species) for k in range(2, config.correlation + 1))
        self.skip = o3.FullyConnectedTensorProduct(inputs, o3.Irreps([(n_species, "0e")]), hidden)

        tensor = config.head == "joint" and config.force_covariance == "matrix-log"
        k = N_OUTPUTS.get(config.head, 3 if tensor else 8)
        self.gate = nn.Gate(
            f"{READOUT_HIDDEN}x0e",
            [silu],
            f"{READOUT_GATED}x0e" if tensor else "",
            [silu] if tensor else [],
            f"{READOUT_GATED}x2e" if tensor else "",
        )
        self.readout_in = o3.Linear(hidden, self.gate.irreps_in)
        self.readout_out = o3.Linear(self.gate.irreps_out, o3.Irreps(f"{k}x0e" + ("+1x2e" if tensor else "")))

    def forward(self, h, a, one_hot, centre, neighbour, y, basis, neighbours):
        u = self.up(h)[neighbour]  # (E, dim)
        message = self.weigh(torch.cat([u, self.product_y(u, y)], dim=-1), self.radial(basis))
        total = message.new_zeros(len(h), message.shape[1]).index_add(0, centre, message)
        aggregated = self.down(total) / neighbours
        h = self.product(a, aggregated) + self.skip(h, one_hot)
        below = None
        for power in self.powers:
            below = power.multiply(power.left(below) if power.order > 2 else self.factor(aggregated), self.factor(aggregated))
            h = h + power.mix(below, one_hot)
        return h, self.readout_out(self.gate(self.readout_in(h)))


class LiteralPower(torch.nn.Module):
    """Every coupling of the order below with the factor, channel by channel, and one matrix per species on what comes out."""

    def __init__(self, order: int, factor: o3.Irreps, hidden: o3.Irreps, n_species: int):
        super().__init__()
        self.order, kept = order, [ir for _, ir in hidden]
        self.slots, instructions = [], []  # (left, right, target)
        for i, (_, ir1) in enumerate(factor):
            for j, (_, ir2) in enumerate(factor):
                for ir3 in ir1 * ir2:
                    if ir3 in kept:
                        instructions.append((i, j, len(self.slots), "uuu", False))
                        self.slots.append((str(ir1), str(ir2), str(ir3)))
        made = o3.Irreps([(factor[0].mul, ir3) for _, _, ir3 in self.slots])
        self.multiply = o3.TensorProduct(factor, factor, made, instructions)
        self.mix = o3.FullyConnectedTensorProduct(made, o3.Irreps([(n_species, "0e")]), hidden)
        self.left = o3.Linear(made, factor) if order > 2 else None  # of the order below, which has the same slots


class LiteralRace(torch.nn.Module):
    """The whole model. Make it with `make_literal`."""

    def __init__(self, config: ModelConfig, species: tuple[int, ...], scale: float, neighbours: float):
        super().__init__()
        self.config, self.species, self.scale, self.neighbours = config, species, scale, neighbours
        scalars = o3.Irreps([(config.features_dim, "0e")])
        hidden = o3.Irreps(config.hidden_irreps)
        self.embedding = o3.Linear(o3.Irreps([(len(species), "0e")]), scalars)
        self.one_body = o3.Linear(scalars, scalars)
        inputs = [scalars] + [hidden] * (config.layers - 1)
        self.layers = torch.nn.ModuleList(LiteralLayer(config, irreps, len(species)) for irreps in inputs)
        self.offset_energy = torch.nn.Parameter(torch.tensor(-1.3))
        self.offset_force = torch.nn.Parameter(torch.tensor(0.4))

    def forward(self, atoms: Atoms) -> dict[str, torch.Tensor]:
        """Energy (), forces (N, 3), virial (3, 3) and what the head gives."""
        config = self.config
        i, j, shifts = (torch.as_tensor(x) for x in neighbor_list("ijS", atoms, config.cutoff))
        positions = torch.tensor(atoms.positions, requires_grad=True)
        strain = torch.zeros(3, 3, requires_grad=True)
        deform = torch.eye(3) + (strain + strain.T) / 2
        strained, cell = positions @ deform.T, torch.tensor(atoms.cell.array) @ deform.T
        vectors = strained[j] - strained[i] + shifts.to(cell.dtype) @ cell
        x = vectors.norm(dim=1) / config.cutoff
        n = torch.arange(1, config.n_bessel + 1)
        u = 1 - 6 * x**2 + 8 * x**3 - 3 * x**4
        basis = math.sqrt(2) * torch.sin(n * math.pi * x[:, None]) / x[:, None] * u[:, None]
        degrees = list(range(config.l_max + 1))
        y = o3.spherical_harmonics(degrees, vectors, normalize=True, normalization="component")

        index = torch.tensor([self.species.index(z) for z in atoms.numbers])
        one_hot = torch.nn.functional.one_hot(index, len(self.species)).to(positions.dtype)
        h = self.embedding(one_hot)
        a = self.one_body(h)
        outputs = []
        for layer in self.layers:
            h, out = layer(h, a, one_hot, i, j, y, basis, self.neighbours)
            outputs.append(out)
        outputs = torch.stack(outputs)  # (layers, N, K)
        energy = self.scale * outputs[..., 0].sum()
        forces, virial = torch.autograd.grad(energy, [positions, strain])
        result = {"energy": energy, "forces": -forces, "virial": virial}
        return {name: x.detach() for name, x in (result | self._variances(outputs.mean(0))).items()}

    def _variances(self, mean: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.config.head == "mse":
            return {}
        result = {"energy_var": softplus(mean[:, 1] + self.offset_energy).sum()}
        if self.config.head == "joint" and self.config.force_covariance == "matrix-log":
            trace, tensor = mean[:, 2] + self.offset_force, mean[:, 3:]
            irreps = torch.cat([math.sqrt(3) * trace[:, None], tensor], dim=1)  # 0e is eye / √3
            result["force_cov"] = CartesianTensor("ij=ji").to_cartesian(irreps)
        elif self.config.head == "joint":
            lower = torch.zeros(len(mean), 3, 3)
            lower[:, [0, 1, 2], [0, 1, 2]] = torch.exp(mean[:, 2:5] + self.offset_force / 2)
            lower[:, [1, 2, 2], [0, 0, 1]] = mean[:, 5:8]
            result["force_cov"] = lower
        return result


def make_literal(config: ModelConfig, species: tuple[int, ...], scale: float, neighbours: float, seed: int) -> LiteralRace:
    """A literal model in float64, weights N(0, 1), messages stronger so that every path has a say.

    Products square what comes in at every layer: there the same is reached by less.
    """
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        model = LiteralRace(config, species, scale, neighbours)
    finally:
        torch.set_default_dtype(dtype)
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if "offset" not in name:
            weight.data = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    for layer in model.layers:
        list(layer.radial.children())[-1].weight.data *= 10 if config.correlation == 1 else 2
    return model


def run_literal(model: LiteralRace, atoms: Atoms) -> dict[str, torch.Tensor]:
    """Evaluate with float64 as default dtype (e3nn makes its constants in the default dtype)."""
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return model(atoms)
    finally:
        torch.set_default_dtype(dtype)


def convert(literal: LiteralRace, plan: Plan) -> Parameters:
    """Parameters of race_calc (M = 1) that must give the same outputs: only alive paths, W_z instead of (W_k, a)."""
    n_species, features = plan.n_species, plan.config.features_dim
    embedding = _blocks(literal.embedding)["0e", "0e"]
    h0 = embedding / n_species**0.5
    one_body = h0 @ _blocks(literal.one_body)["0e", "0e"] / features**0.5  # a_z (S, F)
    out = {"embedding": embedding}
    for i, (mine, theirs) in enumerate(zip(plan.layers, literal.layers)):
        for name, value in _layer(mine, theirs, one_body).items():
            out[f"layers.{i}.{name}"] = value
    offsets = {"energy_var_offset": literal.offset_energy, "force_cov_offset": literal.offset_force}
    out |= {name: offsets[name] for name in offset_names(plan)}
    return {name: value.detach().clone()[None] for name, value in out.items()}


def _layer(mine: LayerPlan, theirs: LiteralLayer, one_body: torch.Tensor) -> Parameters:
    n_species, features = one_body.shape
    out = {f"up.{ir.name}": _blocks(theirs.up)[ir.name, ir.name] for ir in mine.inputs}

    slot_of = {(str(a), l2, str(c)): k for k, (a, l2, c) in enumerate(theirs.slots)}
    alive = [slot_of[mine.inputs[p.source].name, p.l2, mine.sums[p.target].name] for p in mine.paths]
    weights = [layer.weight for layer in theirs.radial.children()]
    columns = weights[-1].split(theirs.channels, dim=1)
    weights[-1] = torch.cat([columns[k] for k in alive], dim=1)
    out |= {f"radial.{k}": weight for k, weight in enumerate(weights)}

    down = {(ins.i_in, ins.i_out): w for _, ins, w in theirs.down.weight_views(yield_instruction=True)}
    hidden = [str(ir) for _, ir in theirs.down.irreps_out]
    product = {hidden[ins.i_in2]: w for _, ins, w in theirs.product.weight_views(yield_instruction=True)}
    skip = {hidden[ins.i_out]: w for _, ins, w in theirs.skip.weight_views(yield_instruction=True)}
    for t, ir in enumerate(mine.sums):
        o = hidden.index(ir.name)
        rows = torch.cat([down[k, o] for k, p in zip(alive, mine.paths) if p.target == t])
        fan_in = sum(w.shape[0] for (_, i_out), w in down.items() if i_out == o)  # with the dead paths
        out[f"down.{ir.name}"] = rows * (len(rows) / fan_in) ** 0.5
        # W_z = Σ_k a_z[k] W_k / √(F C); race_calc divides by √(S C)
        if ir not in mine.outputs:
            continue
        out[f"product.{ir.name}"] = torch.einsum("zk,kuw->zuw", one_body, product[ir.name]) * (n_species / features) ** 0.5
    for ir in mine.outputs:
        if ir.name in [source.name for source in mine.inputs]:
            out[f"skip.{ir.name}"] = skip[ir.name].transpose(0, 1)
    out |= _powers(mine, theirs)

    inner, outer = _blocks(theirs.readout_in), _blocks(theirs.readout_out)
    scalars = inner["0e", "0e"]
    out["readout.hidden"], out["readout.out"] = scalars[:, :READOUT_HIDDEN], outer["0e", "0e"]
    if ("2e", "2e") in outer and "2e" in [ir.name for ir in mine.outputs]:
        out["readout.gates"], out["readout.gated"] = scalars[:, READOUT_HIDDEN:], inner["2e", "2e"]
        out["readout.tensor"] = outer["2e", "2e"]
    return out


def _powers(mine: LayerPlan, theirs: LiteralLayer) -> Parameters:
    """Of the products: rows of the couplings that the plan keeps.

    Of the literal model two couplings (a, b → c) and (b, a → c) of order 2 are one number, up to a sign; the plan has the first.
    """
    out = {f"factor.{ir.name}": _blocks(theirs.factor)[ir.name, ir.name] for ir in mine.factor}
    below = None
    for product, power in zip(mine.products, theirs.powers):
        kept = {c.name: [] for c in product.targets}  # target → [(slot, sign)] of every coupling
        for coupling in product.couplings:
            a, b = product.left[coupling.left].name, product.right[coupling.right].name
            c = product.targets[coupling.target].name
            same = [(power.slots.index((a, b, c)), 1)]
            if product.order == 2 and a != b:
                same.append((power.slots.index((b, a, c)), (-1) ** (int(a[0]) + int(b[0]) - int(c[0]))))
            kept[c].append(same)
        if product.order > 2:
            left, names = {}, [str(ir) for _, ir in power.left.irreps_out]
            for _, ins, weight in power.left.weight_views(yield_instruction=True):
                left[ins.i_in, names[ins.i_out]] = weight
            out |= {f"left{product.order}.{ir.name}": _rows(left, ir.name, below[ir.name]) for ir in product.left}
        mix, names = {}, [str(ir) for _, ir in power.mix.irreps_out]
        for _, ins, weight in power.mix.weight_views(yield_instruction=True):
            mix[ins.i_in1, names[ins.i_out]] = weight.transpose(0, 1)  # (S, P, C)
        leaving = [ir.name for ir in mine.outputs]
        out |= {f"power{product.order}.{name}": _rows(mix, name, slots) for name, slots in kept.items() if name in leaving}
        below = kept
    return out


def _rows(weights: dict[tuple[int, str], torch.Tensor], name: str, kept: list[list[tuple[int, int]]]) -> torch.Tensor:
    """Rows of the kept slots of the target `name`, one under the other; race_calc divides by the root of their number only."""
    rows = [sum(sign * weights[slot, name] for slot, sign in same) for same in kept]
    fan_in = sum(target == name for _, target in weights)
    return torch.cat(rows, dim=-2) * (len(rows) / fan_in) ** 0.5


def _blocks(linear: o3.Linear) -> dict[tuple[str, str], torch.Tensor]:
    """Weights (C, C') of a linear whose irreps occur once each, by the names of the irreps."""
    names_in, names_out = [str(ir) for _, ir in linear.irreps_in], [str(ir) for _, ir in linear.irreps_out]
    return {(names_in[ins.i_in], names_out[ins.i_out]): weight for _, ins, weight in linear.weight_views(yield_instruction=True)}
