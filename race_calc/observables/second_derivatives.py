"""Second derivatives of the energy of every member, by central differences. NumPy and ASE.

Six strains ε_i in Voigt's order, of which yz, xz and xy count twice in the matrix (engineering strains): cell vectors and positions
become (1 + ε) times themselves. Displacements u are on top of them.
"""

from itertools import combinations

import numpy as np
from ase import Atoms

from race_calc.observables.members import members_of
from race_calc.uncertainty.prediction import VOIGT
from race_calc.uncertainty.predictor import Predictor

STRAIN = 0.005
DISPLACEMENT = 0.01  # Å


def hessians(potential: Predictor, atoms: Atoms) -> np.ndarray:
    """∂²E/∂u∂u (M + 1, 3N, 3N) in eV/Å², of the potential itself first."""
    structures = [_displaced(atoms, i, sign) for i in range(3 * len(atoms)) for sign in (1, -1)]
    told = members_of(potential, structures)
    forces = np.concatenate([told.forces[:, None], told.forces_members], axis=1).reshape(len(structures), -1, 3 * len(atoms))
    found = -(forces[0::2] - forces[1::2]).swapaxes(0, 1) / (2 * DISPLACEMENT)
    return 0.5 * (found + found.swapaxes(1, 2))


def strain_derivatives(potential: Predictor, atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """∂²E/∂ε∂ε (M + 1, 6, 6) in eV and ∂²E/∂u∂ε (M + 1, 3N, 6) in eV/Å, of the potential itself first."""
    pairs = list(combinations(range(6), 2))
    steps: list[dict[int, int]] = (
        [{}] + [{i: sign} for i in range(6) for sign in (1, -1)] + [{i: s, j: s} for i, j in pairs for s in (1, -1)]
    )
    matrices = [_strain(step) for step in steps]
    told = members_of(potential, [_strained(atoms, matrix) for matrix in matrices])
    energies = np.concatenate([told.energy[:, None], told.energies_members], axis=1)  # (S, M + 1)
    middle, single, double = energies[0], energies[1:13].reshape(6, 2, -1), energies[13:].reshape(len(pairs), 2, -1)
    second = np.zeros((6, 6, energies.shape[1]))
    both = single.sum(axis=1)
    for i in range(6):
        second[i, i] = both[i] - 2 * middle
    for k, (i, j) in enumerate(pairs):
        second[i, j] = second[j, i] = 0.5 * (double[k].sum(axis=0) - both[i] - both[j] + 2 * middle)
    forces = np.concatenate([told.forces[1:13, None], told.forces_members[1:13]], axis=1)  # (12, M + 1, N, 3)
    pulled = np.einsum("smnx,sxy->smny", forces, np.array(matrices[1:13]))  # ∂E/∂u of strained structures
    mixed = -(pulled[0::2] - pulled[1::2]) / (2 * STRAIN)
    return second.transpose(2, 0, 1) / STRAIN**2, mixed.reshape(6, energies.shape[1], -1).transpose(1, 2, 0)


def _displaced(atoms: Atoms, coordinate: int, sign: int) -> Atoms:
    moved = _bare(atoms)
    moved.positions[coordinate // 3, coordinate % 3] += sign * DISPLACEMENT
    return moved


def _strain(steps: dict[int, int]) -> np.ndarray:
    """1 + ε."""
    matrix = np.eye(3)
    for i, sign in steps.items():
        row, column = VOIGT[0][i], VOIGT[1][i]
        size = sign * STRAIN * (1.0 if row == column else 0.5)
        matrix[row, column] += size
        if row != column:
            matrix[column, row] += size
    return matrix


def _strained(atoms: Atoms, matrix: np.ndarray) -> Atoms:
    moved = _bare(atoms)
    moved.set_cell(atoms.cell.array @ matrix, scale_atoms=False)
    moved.positions = atoms.positions @ matrix
    return moved


def _bare(atoms: Atoms) -> Atoms:
    """Without constraints, which would keep atoms where they are."""
    copy = atoms.copy()
    copy.set_constraint()
    return copy
