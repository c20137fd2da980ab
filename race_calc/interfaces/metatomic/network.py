"""In TorchScript: the whole network, from species and vectors to what every parameter set says of every atom."""

from typing import Final, NamedTuple

import torch
from torch import Tensor

from race_calc.interfaces.metatomic.around import Around
from race_calc.interfaces.metatomic.bases import Bases
from race_calc.interfaces.metatomic.layers import Channels, Interaction, Perceptron
from race_calc.model.parameters import Parameters, gate_names, n_members
from race_calc.model.plan import READOUT_HIDDEN
from race_calc.model.race import Race


class Said(NamedTuple):
    """Of N atoms in the order of the input, by R parameter sets.

    ======== ================== ====================================================================
    energy   (R, N)             eV, float64, what the network gives
    scalars  (R, N, K)          mean over the layers, the energy's column first
    tensors  (R, N, 5, K')      the same of 2e; of no columns where none are read
    features (N, 64·layers)     eV, float64, of the first set: times the last-layer weights its energies
    ======== ================== ====================================================================
    """

    energy: Tensor
    scalars: Tensor
    tensors: Tensor
    features: Tensor


class Readout(torch.nn.Module):
    """From h of one layer to its columns: 0e (R, N, K), the hidden layer (T, N, 64), 2e (R, N, 5, K')."""

    reads: Final[bool]

    def __init__(self, at: str, parameters: Parameters, scalar: int, tensor: int, columns: int):
        super().__init__()
        self.scalar, self.tensor, self.columns = scalar, tensor, columns
        self.hidden = Perceptron([parameters[f"{at}.readout.hidden"]], silu_at_end=True)
        self.out = Perceptron([parameters[f"{at}.readout.out"]])
        self.rows = n_members(parameters)
        gates, gated = gate_names("tensor")
        self.reads = f"{at}.readout.tensor" in parameters
        if self.reads:
            self.gates = Perceptron([parameters[f"{at}.readout.{gates}"]], silu_at_end=True)
            self.gated = Channels(scaled(parameters[f"{at}.readout.{gated}"]))
            self.tensors = Channels(scaled(parameters[f"{at}.readout.tensor"]))

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        scalars = features[self.scalar].squeeze(2)
        hidden = self.hidden(scalars)
        columns = self.out(hidden.expand(self.rows, -1, -1))
        if self.reads:
            inner = self.gated(features[self.tensor]) * self.gates(scalars).unsqueeze(2)
            return columns, hidden, self.tensors(inner).expand(self.rows, -1, -1, -1)
        return columns, hidden, columns.new_zeros(columns.shape[0], columns.shape[1], 5, self.columns)


def scaled(weight: Tensor) -> Tensor:
    return weight / weight.shape[1] ** 0.5


class Network(torch.nn.Module):
    """`parameters` in the dtype of the network; the geometry is in the dtype of the vectors."""

    embedding: Tensor
    degrees: list[int]

    def __init__(self, model: Race, parameters: Parameters):
        super().__init__()
        plan, config = model.plan, model.plan.config
        self.scale, self.unit = model.scale, model.scale / READOUT_HIDDEN**0.5
        self.rows, self.layers = n_members(parameters), config.layers
        self.trunks = len(parameters["embedding"])  # 1 where the sets share it
        self.register_buffer("embedding", parameters["embedding"] / len(model.species) ** 0.5)
        self.degrees = [2 * l + 1 for l in range(config.l_max + 1)]
        self.bases = Bases(config.l_max, config.n_bessel, config.cutoff)
        self.interactions = torch.nn.ModuleList(
            [Interaction(layer, f"layers.{i}", parameters, plan.n_species, model.neighbours) for i, layer in enumerate(plan.layers)]
        )
        columns, readouts = plan.columns("2e"), []
        for i, layer in enumerate(plan.layers):
            keys = [ir.key for ir in layer.outputs]
            readouts.append(Readout(f"layers.{i}", parameters, keys.index((0, 1)), keys.index((2, 1)) if (2, 1) in keys else 0, columns))
        self.readouts = torch.nn.ModuleList(readouts)

    def forward(self, vectors: Tensor, around: Around) -> Said:
        """Of vectors (T, E, 3), a row for every set or one for a shared trunk."""
        rows = vectors.shape[0]
        y, b = self.bases(vectors)
        angular = [block.split(self.degrees, 2) for block in self.padded(y, around)]
        radial = self.padded(b, around)
        features = [self.embedding.expand(rows, -1, -1).index_select(1, around.species).unsqueeze(2)]
        scalars: list[Tensor] = []
        tensors: list[Tensor] = []
        hidden: list[Tensor] = []
        for interaction, readout in zip(self.interactions, self.readouts):
            features = interaction(features, angular, radial, around)
            columns, inner, tensor = readout(features)
            scalars.append(columns)
            tensors.append(tensor)
            hidden.append(inner[0])
        energy = torch.stack(scalars)[:, :, :, 0].double().sum(0) * self.scale
        last = torch.cat(hidden, -1).double() * self.unit
        mean_scalars, mean_tensors = torch.stack(scalars).mean(0), torch.stack(tensors).mean(0)
        return Said(
            energy.index_select(1, around.rank),
            mean_scalars.index_select(1, around.rank),
            mean_tensors.index_select(1, around.rank),
            last.index_select(0, around.rank),
        )

    def padded(self, values: Tensor, around: Around) -> list[Tensor]:
        """(T, E, …) → of every block (T, P, …), zero in empty slots, in the dtype of the network."""
        inside = values.index_select(1, around.order).to(self.embedding.dtype)
        empty = torch.zeros([values.shape[0], sum(around.slots), values.shape[2]], dtype=inside.dtype, device=inside.device)
        return empty.index_copy(1, around.slot, inside).split(around.slots, 1)
