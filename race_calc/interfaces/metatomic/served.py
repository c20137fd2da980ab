"""The model that metatomic scripts: systems in, the quantities of a `RACECalculator` out. Imports metatomic."""

from typing import Dict, List, NamedTuple, Optional  # noqa: UP035  # metatomic compares the signature of forward with these

import torch
from metatensor.torch import Labels, TensorMap
from metatomic.torch import ModelOutput, NeighborListOptions, System
from torch import Tensor

from race_calc.interfaces.metatomic.around import around
from race_calc.interfaces.metatomic.bases import Repulsion
from race_calc.interfaces.metatomic.blocks import asked, labelled
from race_calc.interfaces.metatomic.heads import Heads
from race_calc.interfaces.metatomic.network import Network, Said
from race_calc.interfaces.metatomic.pairs import Pairs, pairs_of, samples_of
from race_calc.interfaces.metatomic.sets import Sets
from race_calc.interfaces.metatomic.spread import EnergyVariance, ForceCovariance, axes_of, covariance_of, local_mean, mean_variance, sums
from race_calc.model.parameters import shares_trunk
from race_calc.posterior.checkpoint import Checkpoint

SIGMA, COVARIANCE = "race_calc::force_sigma", "race_calc::force_covariance"


class Evaluated(NamedTuple):
    """said: by the sets. gradient (E, 3): of the mean energy of all atoms to the vectors. covariance: epistemic, of forces (N, 3, 3), and
    e and ē of their spread (N,). Without the spread of forces the gradient has no rows, and the rest is zero."""

    said: Said
    gradient: Tensor
    covariance: Tensor
    e: Tensor
    nearby: Tensor


class RaceModel(torch.nn.Module):
    """Energies are differentiated by the engine; the spread of the members' forces by one backward pass of its own, where it is asked for.

    Then the energy of whole systems takes its derivatives from that pass, too: the network is not differentiated twice. They are exact;
    second derivatives of it raise, which those of an energy that is asked for alone do not.
    """

    def __init__(self, checkpoint: Checkpoint, sets: Sets, dtype: torch.dtype):
        super().__init__()
        model, config = checkpoint.model, checkpoint.model.plan.config
        self.cutoff, self.rows = config.cutoff, len(sets.mean)
        self.repelled, self.several = config.baseline == "zbl", checkpoint.members > 1
        self.sigma, self.covariance = SIGMA, COVARIANCE
        self.network = Network(model, {name: value.to(dtype) for name, value in sets.parameters.items()})
        self.heads = Heads(checkpoint, sets.heads)
        self.repulsion = Repulsion(model.species, config.cutoff)
        self.energy_variance = EnergyVariance(checkpoint, has_forces=not shares_trunk(checkpoint.parameters))
        self.force_covariance = ForceCovariance(checkpoint, self.heads.has_forces)
        species = torch.full((max(model.species) + 1,), -1)
        species[list(model.species)] = torch.arange(len(model.species))
        reference = torch.tensor(checkpoint.references.per_atom(model.species))
        for name, value in (("species", species), ("reference", reference), ("members", sets.members), ("mean", sets.mean)):
            self.register_buffer(name, value)

    def requested_neighbor_lists(self) -> List[NeighborListOptions]:  # noqa: UP006
        return [NeighborListOptions(cutoff=self.cutoff, full_list=True, strict=True)]

    def forward(
        self,
        systems: List[System],  # noqa: UP006
        outputs: Dict[str, ModelOutput],  # noqa: UP006
        selected_atoms: Optional[Labels] = None,  # noqa: UP045
    ) -> Dict[str, TensorMap]:  # noqa: UP006
        results: Dict[str, TensorMap] = {}  # noqa: UP006
        if len(systems) == 0 or len(outputs) == 0:
            return results
        of_forces = self.sigma in outputs or self.covariance in outputs
        spread = self.several and (of_forces or ("energy_uncertainty" in outputs and len(self.energy_variance.forces) > 0))
        pairs = pairs_of(systems, self.requested_neighbor_lists()[0])
        species, samples = self.species.index_select(0, pairs.numbers), samples_of(pairs, selected_atoms)
        known = self.reference.index_select(0, species)
        if self.repelled:
            known = known + self.repulsion(species, pairs.centre, pairs.neighbour, pairs.vectors)
        found = self.evaluated(pairs, species, spread)
        said = found.said
        for name, output in outputs.items():
            per_atom = output.sample_kind == "atom"
            axes: List[str] = []  # noqa: UP006
            if name == "energy":
                energy = self.mean @ said.energy
                values = asked(energy + known, samples, per_atom)
                if spread and not per_atom and selected_atoms is None:
                    values = once(sums(energy.detach() + known, pairs.system, samples.systems), pairs, found.gradient)
                values = values[:, None]
            elif name == "energy_ensemble":
                values = asked((self.members @ said.energy + known).transpose(0, 1), samples, per_atom)
            elif name == "energy_uncertainty":
                members, aleatoric = self.members @ said.energy, self.heads.energy(said)
                shares = self.energy_variance(members, aleatoric, said.features, found.e, found.nearby, pairs.system, samples.systems)
                values = asked(shares, samples, per_atom).sqrt()[:, None]
            else:
                covariance = self.force_covariance(found.covariance, self.heads.forces(said), found.e, found.nearby, species)
                covariance = covariance.index_select(0, samples.atoms).detach()
                if name == self.sigma:
                    values = axes_of(covariance)[0][:, 2:].sqrt()
                else:
                    values, axes = covariance[:, :, :, None], ["xyz_1", "xyz_2"]
            results[name] = labelled(values, samples, per_atom, axes, name.split("::")[-1] if "::" in name else "energy")
        return results

    def evaluated(self, pairs: Pairs, species: Tensor, spread: bool) -> Evaluated:
        n, shape = species.shape[0], around(species, self.reference.shape[0], pairs.centre, pairs.neighbour)
        rows = self.rows if spread else self.network.trunks
        vectors = pairs.vectors.expand(rows, -1, -1)
        if not spread:
            zero = pairs.vectors.new_zeros(n)
            return Evaluated(self.network(vectors, shape), pairs.vectors[:0], pairs.vectors.new_zeros(n, 3, 3), zero, zero)
        outside, follows = torch.is_grad_enabled(), vectors.requires_grad
        torch.set_grad_enabled(True)
        if not follows:
            vectors = vectors.detach().requires_grad_(True)
        said = self.network(vectors, shape)
        slopes = torch.autograd.grad([said.energy.sum()], [vectors], retain_graph=follows)[0]
        torch.set_grad_enabled(outside)
        assert slopes is not None
        slopes = slopes.detach()
        if not follows:
            said = Said(said.energy.detach(), said.scalars.detach(), said.tensors.detach(), said.features.detach())
        forces = vectors.new_zeros([rows, n, 3]).index_add(1, pairs.centre, slopes).index_add(1, pairs.neighbour, -slopes)
        covariance = covariance_of((self.members @ forces.flatten(1)).view(-1, n, 3))
        e, distance = mean_variance(covariance), (pairs.vectors * pairs.vectors).sum(1).sqrt().detach()
        nearby = local_mean(e, pairs.centre, pairs.neighbour, distance, self.cutoff)
        return Evaluated(said, torch.einsum("r,rex->ex", self.mean, slopes), covariance, e, nearby)


def once(energies: Tensor, pairs: Pairs, gradient: Tensor) -> Tensor:
    """The energies (B,) with the derivatives of the network that are known (E, 3) in place of a second pass through it."""
    zero = ((pairs.vectors - pairs.vectors.detach()) * gradient).sum(1)
    return energies + torch.segment_reduce(zero, "sum", lengths=pairs.lengths)  # a reduction whose second derivatives raise
