"""In TorchScript: the variances and covariances that the members predict, or that were given to the model as noise."""

import torch
from torch import Tensor

from race_calc.interfaces.metatomic.network import Said
from race_calc.model.heads import FORCE_NOISE, Cholesky, _traceless_basis
from race_calc.model.kernels.symmetric import LARGEST
from race_calc.model.plan import Plan
from race_calc.posterior.checkpoint import Checkpoint


class Heads(torch.nn.Module):
    """Variances (N,) eV² of atoms' energies and covariances (N, 3, 3) (eV/Å)² of forces, mean over the sets `rows`; zero without a head.

    has_energy, has_forces: whether there is one.
    """

    def __init__(self, checkpoint: Checkpoint, rows: list[int]):
        super().__init__()
        plan, noise, offsets = checkpoint.model.plan, checkpoint.noise, checkpoint.parameters
        energy, forces = plan.output("energy_var"), plan.output("force_cov")
        self.has_energy, self.has_forces = energy is not None or noise is not None, forces is not None or noise is not None
        self.noise_energy, self.noise_forces = (0.0, 0.0) if noise is None else (noise.energy, noise.forces)
        self.reads_energy, self.reads_forces = energy is not None and noise is None, forces is not None and noise is None
        self.largest = LARGEST
        self.cholesky, self.jitter = isinstance(forces, Cholesky), FORCE_NOISE
        self.energy_at = first_column(plan, "energy_var")
        self.forces_at = first_column(plan, "force_cov_triangle" if self.cholesky else "force_cov_trace")
        self.tensor_at = first_column(plan, "force_cov_tensor")
        self.register_buffer("rows", torch.tensor(rows))
        for name in ("energy_var_offset", "force_cov_offset"):
            self.register_buffer(name, offsets[name].double() if name in offsets else torch.zeros(1, dtype=torch.float64))
        self.register_buffer("basis", torch.tensor(_traceless_basis().copy()))

    def energy(self, said: Said) -> Tensor:
        if not self.reads_energy:
            return torch.full_like(said.energy[0], self.noise_energy)
        raw = said.scalars[:, :, self.energy_at].index_select(0, self.rows).double()
        return torch.nn.functional.softplus(raw + self.energy_var_offset[:, None]).mean(0)

    def forces(self, said: Said) -> Tensor:
        eye = torch.eye(3, dtype=torch.float64, device=said.energy.device)
        if not self.reads_forces:
            return self.noise_forces * eye.expand(said.energy.shape[1], -1, -1)
        scalars = said.scalars.index_select(0, self.rows).double()
        offset = self.force_cov_offset[:, None]
        if self.cholesky:
            x, y, z = torch.exp(scalars[:, :, self.forces_at : self.forces_at + 3] + 0.5 * offset[:, :, None]).unbind(-1)
            a, b, c = scalars[:, :, self.forces_at + 3 : self.forces_at + 6].unbind(-1)
            zero = torch.zeros_like(x)
            lower = torch.stack([x, zero, zero, a, y, zero, b, c, z], -1).unflatten(-1, (3, 3))
            return (lower @ lower.transpose(-1, -2)).mean(0) + self.jitter * eye
        tensor = said.tensors[:, :, :, self.tensor_at].index_select(0, self.rows).double()
        log = (scalars[:, :, self.forces_at] + offset)[:, :, None, None] * eye + torch.einsum("mna,aij->mnij", tensor, self.basis)
        known = torch.isfinite(log).all(-1).all(-1)
        values, axes = torch.linalg.eigh(torch.where(known[:, :, None, None], log, eye))  # eigh may raise on NaN
        raised = torch.where(known[:, :, None], torch.exp(values.clamp(max=self.largest)), float("nan"))
        return ((axes * raised[:, :, None, :]) @ axes.transpose(-1, -2)).mean(0)


def first_column(plan: Plan, name: str) -> int:
    """Of the channel of that name among those of its irrep; 0 where there is none."""
    named = {channel.name: channel for channel in plan.channels}
    if name not in named:
        return 0
    before = [channel for channel in plan.channels[: plan.channels.index(named[name])] if channel.irrep == named[name].irrep]
    return sum(channel.width for channel in before)
