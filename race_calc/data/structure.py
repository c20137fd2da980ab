"""What every structure must be before anything is computed for it: elements, and numbers that float64 holds well enough."""

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

LARGEST = 1e6  # Å, of a coordinate or cell vector: there float64 still holds 1e-10 Å
SMALLEST_HEIGHT = 1e-6  # Å, of a periodic cell
BLOWN_UP = "the run has blown up; go back to the last good frame, use a shorter time step"


def checked(atoms: Atoms) -> Atoms:
    """`atoms` itself, or a copy with the same numbers where an array is not contiguous float64 (atomic numbers: int64).

    Raises ValueError, with what to do, for a structure that no potential can evaluate: no atoms; arrays of another shape, masked, or
    of what are no real numbers; atomic numbers that are no integers from 1 to 118; coordinates and cell vectors that are not finite
    or beyond 1e6 Å; periodic cell vectors that are zero or linearly dependent.
    """
    if len(atoms) == 0:
        raise ValueError("the structure has no atoms: give at least one atom")
    given = real_arrays(atoms)
    numbers = _elements(given[0])
    positions, cell = (np.ascontiguousarray(values, dtype=np.float64) for values in given[1:])
    check_geometry(positions, cell, atoms.pbc)
    if numbers is atoms.numbers and positions is atoms.positions and cell is atoms.cell.array:
        return atoms
    return Atoms(numbers, positions, cell=cell, pbc=atoms.pbc)


def check_geometry(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> None:
    """Raise ValueError for coordinates (N, 3) and cell vectors (3, 3) that are not finite or too large, or periodic and no cell."""
    _check_positions(positions)
    _check_cell(cell, pbc)


def real_arrays(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Atomic numbers (N,), positions (N, 3) and cell vectors (3, 3) as they are.

    Raises ValueError for one of another shape, masked, or of what are no real numbers. To be asked before ASE compares or copies the
    structure: it compares strings and complex numbers, and copies a complex cell as a real one.
    """
    n = len(atoms)
    numbers, positions = _real("atomic numbers", atoms.numbers, (n,)), _real("positions", atoms.positions, (n, 3))
    return numbers, positions, _real("cell vectors", atoms.cell.array, (3, 3))


def _real(name: str, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The same, as a plain array of real numbers of this shape. Raises ValueError for anything else."""
    if np.ma.is_masked(values):
        raise ValueError(f"{name}: {np.ma.count_masked(values)} values are masked: give plain numbers, or remove these atoms")
    if values.dtype.kind not in "fiu":
        raise ValueError(f"{name} have the type {values.dtype}: give real numbers, such as float64")
    if values.shape != shape:
        raise ValueError(f"{name} have the shape {values.shape}, expected {shape}: make the structure anew")
    return np.asarray(values)


def _elements(numbers: np.ndarray) -> np.ndarray:
    bad = np.flatnonzero(~((numbers >= 1) & (numbers < len(chemical_symbols)) & (numbers % 1 == 0)))
    if len(bad):
        raise ValueError(
            f"atom {bad[0]} has the atomic number {numbers[bad[0]]} ({len(bad)} atoms are no element): elements have the integers "
            f"1 to {len(chemical_symbols) - 1}; remove dummy atoms (X)"
        )
    return np.ascontiguousarray(numbers, dtype=np.int64)


def _check_positions(positions: np.ndarray) -> None:
    if np.abs(positions).max() <= LARGEST:  # false for NaN, too
        return
    bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if len(bad):
        raise ValueError(
            f"positions of atom {bad[0]} are not finite ({positions[bad[0]]}), {len(bad)} atoms in all: the file is damaged or {BLOWN_UP}"
        )
    far = np.abs(positions).max(axis=1)
    atom = int(far.argmax())
    raise ValueError(
        f"atom {atom} lies at {far[atom]:.3g} Å, where float64 holds only {np.spacing(far[atom]):.1g} Å (the limit is {LARGEST:.0e} Å): "
        f"{BLOWN_UP}, or wrap it into the cell each step"
    )


def _check_cell(cell: np.ndarray, pbc: np.ndarray) -> None:
    largest = np.abs(cell).max()
    if not np.isfinite(largest):
        raise ValueError(f"the cell is not finite: {BLOWN_UP}")
    if largest > LARGEST:
        raise ValueError(
            f"a cell vector is {largest:.3g} Å long (the limit is {LARGEST:.0e} Å): the cell has another unit, or {BLOWN_UP}; "
            "for vacuum set atoms.pbc = False along it"
        )
    if not pbc.any():
        return
    for axis in np.flatnonzero(pbc):
        if np.abs(cell[axis]).max() < SMALLEST_HEIGHT:
            raise ValueError(f"pbc is set along cell vector {axis} but that vector is zero: set the cell, or atoms.pbc = False")
    if np.linalg.svd(cell[pbc], compute_uv=False)[-1] < SMALLEST_HEIGHT:
        raise ValueError("the periodic cell vectors are linearly dependent: mend the cell")
