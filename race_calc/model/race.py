"""RACE: a stack of M parameter sets on a batched graph gives energies, forces, stress and variances."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from race_calc.graph import Graph
from race_calc.model.derivatives import forces_and_virial, geometry_gradients
from race_calc.model.heads import atom_energy_variance, cholesky_factor, log_covariance, readout
from race_calc.model.interaction import interaction
from race_calc.model.layout import MAX_BLOCKS, Dtypes, Layout, make_layout
from race_calc.model.parameters import Parameters
from race_calc.model.plan import READOUT_HIDDEN, Plan
from race_calc.model.radial import bessel
from race_calc.model.scatter import sum_by_index
from race_calc.model.table import place_on_grid


@dataclass(frozen=True)
class Race:
    """What a RACE model is besides its parameters.

    species: atomic numbers in the order of the species index. scale: s in eV, the unit of the readouts.
    neighbours: n̄, average number of neighbours. References (E0, shift) are not part of it: all energies
    here are what the network gives; see `race_calc.data.references` and `race_calc.repulsion`.
    """

    plan: Plan
    species: tuple[int, ...]
    scale: float
    neighbours: float


@dataclass(frozen=True)
class Outputs:
    """Raw outputs per member, references and repulsion left out; graph order of atoms. Energies and forces are summed in float64
    at prediction, in the dtype of the parameters in training.

    ============ ============== ======== =====================================================
    field        shape          unit     meaning
    ============ ============== ======== =====================================================
    energy       (M, B)         eV
    atom_energy  (M, N)         eV
    forces       (M, N, 3)      eV/Å     exact -dE/dr
    virial       (M, B, 3, 3)   eV       dE/dε of a symmetric strain; stress = virial / volume
    energy_var   (M, B)         eV²      None for the head `mse`
    log_cov      (M, N, 3, 3)   log      Σ = exp(log_cov) in (eV/Å)²; head `matrix-log` only
    factor       (M, N, 3, 3)   eV/Å     Σ = L Lᵀ + jitter; head `cholesky` only
    features     (M, B, L)      eV       the energy is linear in them, see `Energies`; no gradient
    ============ ============== ======== =====================================================

    Of members that share their trunk, forces and virial have one row, of the mean energy, and features too.
    """

    energy: Tensor
    atom_energy: Tensor
    forces: Tensor
    virial: Tensor
    energy_var: Tensor | None
    log_cov: Tensor | None
    factor: Tensor | None
    features: Tensor


def layout_of(model: Race, graph: Graph, dtype: torch.dtype, device: torch.device, padded: bool = True,
              table_knots: int = 0, training: bool = False, blocks: int = MAX_BLOCKS) -> Layout:
    """The graph in the model's order, `padded` for torch's operations in at most so many `blocks`, else for the kernels;
    `table_knots`: of the tables that the parameters have, 0 for none. At prediction the chain rule to the positions is
    finished in float64 whatever the dtype.
    Raises ValueError for an element that the model does not know.
    """
    table = np.full(max(model.species + (int(graph.numbers.max()),)) + 1, -1)
    table[list(model.species)] = np.arange(len(model.species))
    species = table[graph.numbers]
    if (species < 0).any():
        from ase.data import chemical_symbols as symbols

        unknown = sorted({symbols[z] for z in graph.numbers[species < 0]})
        known = ", ".join(symbols[z] for z in model.species)
        raise ValueError(
            f"the model does not know the element {', '.join(unknown)}; it was trained on {known}: use another model"
        )
    config = model.plan.config

    def basis(distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if table_knots:
            place, slope = place_on_grid(distance, config.cutoff, table_knots)
            return place[:, None], slope[:, None]
        values, slopes = bessel(distance / config.cutoff, config.n_bessel)
        return values, slopes / config.cutoff

    dtypes = Dtypes(dtype, torch.float64 if table_knots else dtype, dtype if training else torch.float64)
    return make_layout(graph, species, len(model.species), config.l_max, basis, dtypes, device, padded, blocks)


def evaluate(model: Race, parameters: Parameters, layout: Layout, training: bool = False,
             detached: bool = False) -> Outputs:
    """All outputs of the stack. `training` keeps the graph for gradients to the parameters.

    `detached`: the variance heads send no gradient into the features (the "faithful" recipe).
    """
    angular, radial = geometry(parameters, layout)
    for leaf in (*angular, *radial):
        leaf.requires_grad_()
    with torch.set_grad_enabled(True):
        energies = energies_of(model, parameters, layout, angular, radial, training, detached)
        gradients = geometry_gradients(energies.total, angular, radial, training)
        forces, virial = forces_and_virial(gradients, layout)
    return outputs_of(parameters, layout, energies, forces, virial, training)


def geometry(parameters: Parameters, layout: Layout) -> tuple[list[Tensor], list[Tensor]]:
    """Angular and radial basis of every block, expanded along the member axis: leaves for the backward pass."""
    trunks = len(parameters["embedding"])
    return tuple(
        [getattr(block, name).expand(trunks, -1, -1) for block in layout.blocks]
        for name in ("angular", "radial")
    )


@dataclass(frozen=True)
class Energies:
    """What the network gives, atoms in model order.

    =========== ================== ==== ==================================================================
    total       ()                 eV   what is differentiated: the sum over structures and members, over
                                        structures of the mean member where they share their trunk
    energy      (M, B)             eV
    atom_energy (M, N)             eV
    scalars     (layers, M, N, K)       outputs of every layer
    features    (M, B, 64·layers)  eV   what the energy is linear in: energy = features · last-layer weights;
                                        one row for a shared trunk
    tensors     (M, N, 5) or None       2e outputs, mean over the layers
    =========== ================== ==== ==================================================================
    """

    total: Tensor
    energy: Tensor
    atom_energy: Tensor
    scalars: Tensor
    features: Tensor
    tensors: Tensor | None = None


def energies_of(model: Race, parameters: Parameters, layout: Layout, angular: list[Tensor], radial: list[Tensor],
                training: bool = False, detached: bool = False) -> Energies:
    """The network, without derivatives."""
    scalars, tensors, hidden = _readouts(model, parameters, layout, angular, radial, training, detached)
    atom_energy = scalars[..., 0] if training else scalars[..., 0].double()
    atom_energy = atom_energy.sum(0) * model.scale  # sum over layers
    energy = sum_by_index(atom_energy, layout.batch, layout.n_structures)
    total = energy.sum() * (len(hidden) / len(energy))
    features = sum_by_index(hidden.detach(), layout.batch, layout.n_structures) * (model.scale / READOUT_HIDDEN**0.5)
    return Energies(total, energy, atom_energy, scalars, features, tensors)


def outputs_of(parameters: Parameters, layout: Layout, energies: Energies, forces: Tensor, virial: Tensor,
               training: bool = False) -> Outputs:
    """Variances from the readouts, and everything in the order of the graph."""
    keep = (lambda x: x) if training else torch.Tensor.detach
    mean = keep(energies.scalars).mean(0)  # (M, N, K), mean over layers
    energy_var = log_cov = factor = None
    if mean.shape[-1] > 1:
        variance = atom_energy_variance(mean[..., 1], parameters["energy_var_offset"])
        energy_var = sum_by_index(variance, layout.batch, layout.n_structures)
    if energies.tensors is not None:
        offset = parameters["force_cov_offset"]
        log_cov = log_covariance(mean[..., 2], keep(energies.tensors), offset)[:, layout.rank]
    elif mean.shape[-1] == 8:
        factor = cholesky_factor(mean[..., 2:], parameters["force_cov_offset"])[:, layout.rank]
    energy, atom_energy = keep(energies.energy), keep(energies.atom_energy)[:, layout.rank]
    return Outputs(energy, atom_energy, forces[:, layout.rank], virial, energy_var, log_cov, factor, energies.features)


def _readouts(model, parameters, layout, angular, radial, training, detached) -> tuple[Tensor, Tensor | None, Tensor]:
    """Scalars of every layer (layers, M, N, K); the 2e components (M, N, 5), mean over the layers, or None; the last-layer
    features of all layers (M, N, 64·layers)."""
    embedding = parameters["embedding"] / len(model.species) ** 0.5
    features = [embedding[:, layout.species, None, :]]  # (M, N, 1, F)
    scalars, tensors, hidden = [], [], []
    for i, layer in enumerate(model.plan.layers):
        features = interaction(layer, f"layers.{i}", parameters, layout, features, angular, radial, model.neighbours,
                               training)
        out, tensor, last = readout(layer, f"layers.{i}", parameters, features, detached)
        scalars.append(out)
        hidden.append(last)
        if tensor is not None:
            tensors.append(tensor)
    scalars, hidden = torch.stack(scalars), torch.cat(hidden, dim=-1)
    if not model.plan.tensor:
        return scalars, None, hidden
    # the mean is over all layers: where 2e is out of reach its output is zero
    total = torch.stack(tensors).sum(0) if tensors else hidden.new_zeros(*hidden.shape[:2], 5)
    return scalars, total / len(scalars), hidden
