"""Muon (Jordan et al. 2024): a weight matrix moves along its momentum with all singular values set to about one.

Adam looks at every number alone; the matrices of a RACE model then learn their few strong directions long before
the weak ones. Embedding, output layers and single numbers keep Adam's direction, as the method advises.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

ITERATIONS = 5
WEIGHT_DECAY = 0.02  # per unit of learning rate; keeps weights from growing without end
SMALLEST = 1e-30  # largest entry of a matrix that counts as one
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the published quintic: steep at 0, ends between 0.7 and 1.2


def orthogonalise(matrices: Tensor) -> Tensor:
    """(…, n, m) with singular values U diag(s) Vᵀ → about U Vᵀ, by a Newton-Schulz iteration.

    Zero, and what is smaller than 1e-30 throughout, gives zero.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.transpose(-1, -2) if tall else matrices
    shape = x.shape
    x = x.reshape(-1, *shape[-2:])
    largest = x.abs().amax((1, 2), keepdim=True)  # first: the squares of a norm underflow early
    x = torch.where(largest > SMALLEST, x / largest.clamp(min=SMALLEST), torch.zeros_like(x))
    x = x / x.flatten(1).norm(dim=1).clamp(min=1.0)[:, None, None]
    for _ in range(ITERATIONS):
        gram = torch.bmm(x, x.transpose(1, 2))
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x.view(shape)
    return x.transpose(-1, -2) if tall else x


def is_matrix(name: str, shape: Sequence[int]) -> bool:
    """Does Muon move this parameter of one member? Leading axes of its shape count matrices (one per species)."""
    if name == "embedding" or name.endswith((".readout.out", ".readout.tensor")):
        return False
    return len(shape) >= 2 and min(shape[-2:]) > 1


def muon_direction(
    weights: Tensor, gradient: Tensor, momentum: Tensor, adam: Callable[[slice], Tensor], shapes: dict[str, Sequence[int]]
) -> Tensor:
    """(M, D) weights, gradient and momentum → (M, D) direction; `adam` gives the columns that are no matrices.

    Entries of a moved matrix have a root mean square of about one, as Adam's have, so that both use one learning
    rate; WEIGHT_DECAY times the matrix is added. A matrix without a gradient now (a species that is not in the batch)
    stays: its old momentum would move it at full length. `shapes` as in `unflatten`. Matrices of one shape are done together.
    """
    out = torch.empty_like(momentum)
    groups: dict[tuple[int, int], list[slice]] = {}
    start = 0
    for name, shape in shapes.items():
        columns = slice(start, start := start + torch.Size(shape).numel())
        if is_matrix(name, shape):
            groups.setdefault((shape[-2], shape[-1]), []).append(columns)
        else:
            out[:, columns] = adam(columns)
    for (n, m), matrices in groups.items():
        moving, now, held = (
            torch.cat([rows[:, columns] for columns in matrices], dim=1).view(len(rows), -1, n, m) for rows in (momentum, gradient, weights)
        )
        moved = now.abs().amax((2, 3), keepdim=True) > 0
        done = ((orthogonalise(moving) * max(n, m) ** 0.5 + WEIGHT_DECAY * held) * moved).flatten(1)
        for columns, part in zip(matrices, done.split([c.stop - c.start for c in matrices], dim=1)):
            out[:, columns] = part
    return out
