"""RACE: a stack of M parameter sets on a batched graph gives energies, forces, stress and variances."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from race_calc.graph import Graph
from race_calc.model.derivatives import forces_and_virial
from race_calc.model.heads import atom_energy_variance, cholesky_factor, log_covariance, readout
from race_calc.model.interaction import interaction
from race_calc.model.layout import Dtypes, Layout, make_layout
from race_calc.model.parameters import Parameters, n_members
from race_calc.model.plan import Plan
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
    ============ ============== ======== =====================================================
    """

    energy: Tensor
    atom_energy: Tensor
    forces: Tensor
    virial: Tensor
    energy_var: Tensor | None
    log_cov: Tensor | None
    factor: Tensor | None


def layout_of(model: Race, graph: Graph, dtype: torch.dtype, device: torch.device, padded: bool = True,
              tables: bool = False, training: bool = False) -> Layout:
    """The graph in the model's order, `padded` for torch's operations, else for the kernels; for parameters with
    `tables` or not. At prediction the chain rule to the positions is finished in float64 whatever the dtype.
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
        if tables:
            place, slope = place_on_grid(distance, config.cutoff)
            return place[:, None], slope[:, None]
        values, slopes, _ = bessel(distance / config.cutoff, config.n_bessel)
        return values, slopes / config.cutoff

    dtypes = Dtypes(dtype, torch.float64 if tables else dtype, dtype if training else torch.float64)
    return make_layout(graph, species, len(model.species), config.l_max, basis, dtypes, device, padded)


def evaluate(model: Race, parameters: Parameters, layout: Layout, training: bool = False,
             detached: bool = False) -> Outputs:
    """All outputs of the stack. `training` keeps the graph for gradients to the parameters.

    `detached`: the variance heads send no gradient into the features (the "faithful" recipe).
    """
    members = n_members(parameters)
    angular = [b.angular.expand(members, -1, -1).requires_grad_() for b in layout.blocks]
    radial = [b.radial.expand(members, -1, -1).requires_grad_() for b in layout.blocks]
    with torch.set_grad_enabled(True):
        scalars, tensors = _readouts(model, parameters, layout, angular, radial, training, detached)
        atom_energy = scalars[..., 0] if training else scalars[..., 0].double()
        atom_energy = atom_energy.sum(0) * model.scale  # (M, N), sum over layers
        energy = sum_by_index(atom_energy, layout.batch, layout.n_structures)
        forces, virial = forces_and_virial(energy, layout, angular, radial, training)
    keep = (lambda x: x) if training else torch.Tensor.detach
    mean = keep(scalars).mean(0)  # (M, N, K), mean over layers
    energy_var = log_cov = factor = None
    if mean.shape[-1] > 1:
        variance = atom_energy_variance(mean[..., 1], parameters["energy_var_offset"])
        energy_var = sum_by_index(variance, layout.batch, layout.n_structures)
    if tensors is not None:
        offset = parameters["force_cov_offset"]
        log_cov = log_covariance(mean[..., 2], keep(tensors), offset)[:, layout.rank]
    elif mean.shape[-1] == 8:
        factor = cholesky_factor(mean[..., 2:], parameters["force_cov_offset"])[:, layout.rank]
    return Outputs(
        keep(energy), keep(atom_energy)[:, layout.rank], forces[:, layout.rank], virial, energy_var, log_cov, factor
    )


def _readouts(model, parameters, layout, angular, radial, training, detached) -> tuple[Tensor, Tensor | None]:
    """Scalars of every layer (layers, M, N, K), and the 2e components (M, N, 5), mean over the layers, or None."""
    embedding = parameters["embedding"] / len(model.species) ** 0.5
    features = [embedding[:, layout.species, None, :]]  # (M, N, 1, F)
    scalars, tensors = [], []
    for i, layer in enumerate(model.plan.layers):
        features = interaction(layer, f"layers.{i}", parameters, layout, features, angular, radial, model.neighbours,
                               training)
        out, tensor = readout(layer, f"layers.{i}", parameters, features, detached)
        scalars.append(out)
        if tensor is not None:
            tensors.append(tensor)
    scalars = torch.stack(scalars)
    if not model.plan.tensor:
        return scalars, None
    # the mean is over all layers: where 2e is out of reach its output is zero
    total = torch.stack(tensors).sum(0) if tensors else scalars.new_zeros(*scalars.shape[1:3], 5)
    return scalars, total / len(scalars)
