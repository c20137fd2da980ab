"""A molecule drawn flat, its atoms coloured by a number. NumPy and matplotlib only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Circle

from race_calc.uncertainty.geometry import BOND

ATOM_SIZE = 0.5  # drawn radius / covalent radius
COLOURS = colormaps["YlOrBr"]  # light to dark: also readable in grey
RING = "#0072B2"


@dataclass(frozen=True, eq=False)
class Molecule:
    """symbols (N,); positions (N, 3) Å; radii (N,) covalent, Å; values (N,), one for each atom, with the
    meaning and unit in `label`; ringed: index of an atom to be ringed, or None."""

    symbols: Sequence[str]
    positions: np.ndarray
    radii: np.ndarray
    values: np.ndarray
    label: str
    ringed: int | None = None


def bonds(positions: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Pairs of bonded atoms (K, 2), by distance."""
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    near = distance < BOND * (radii[:, None] + radii[None])
    return np.argwhere(np.triu(near, k=1))


def principal_view(positions: np.ndarray) -> np.ndarray:
    """Positions (N, 3) along the principal axes: the longest upwards, the shortest towards the reader.

    The sign of each axis is fixed by its first large component, so that the view does not flip by chance.
    """
    centred = positions - positions.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)  # columns, shortest first
    signs = np.sign(axes[np.argmax(np.abs(axes) > 0.5 * np.abs(axes).max(axis=0), axis=0), range(3)])
    axes = axes * signs
    across, up = axes[:, 1], axes[:, 2]
    return centred @ np.stack([across, up, np.cross(across, up)], axis=1)


def draw_molecule(ax, molecule: Molecule) -> ScalarMappable:
    """Draw into the axes, far atoms first; returns what a colour bar needs."""
    view = principal_view(np.asarray(molecule.positions, dtype=float))
    radii = np.asarray(molecule.radii, dtype=float)
    values = np.asarray(molecule.values, dtype=float)
    finite = values[np.isfinite(values)]
    norm = Normalize(0.0, finite.max() if finite.size and finite.max() > 0 else 1.0)
    depth = 2 + np.argsort(np.argsort(view[:, 2]))  # zorder, nearest atom last
    for i, j in bonds(view, radii):
        middle = (view[i] + view[j]) / 2
        for k in (i, j):  # two halves, each as deep as its atom
            line = np.stack([view[k], middle])
            ax.plot(line[:, 0], line[:, 1], color="0.45", lw=2.2, zorder=depth[k] - 0.3, solid_capstyle="round")
    for i, symbol in enumerate(molecule.symbols):
        colour = COLOURS(norm(values[i])) if np.isfinite(values[i]) else (1.0, 1.0, 1.0, 1.0)
        size = ATOM_SIZE * radii[i]
        ax.add_patch(Circle(tuple(view[i, :2]), size, facecolor=colour, edgecolor="0.25", lw=0.7, zorder=depth[i]))
        if symbol != "H":
            ink = "black" if np.dot(colour[:3], (0.299, 0.587, 0.114)) > 0.5 else "white"
            ax.text(*view[i, :2], symbol, color=ink, ha="center", va="center", fontsize=7, zorder=depth[i] + 0.1)
        if i == molecule.ringed:
            ring = Circle(tuple(view[i, :2]), size + 0.28, fill=False, edgecolor=RING, lw=2.0, zorder=depth[-1] + len(view) + 5)
            ax.add_patch(ring)
    low, high = view[:, :2].min(axis=0) - 0.7, view[:, :2].max(axis=0) + 0.7
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    ax.axis("off")
    return ScalarMappable(norm, COLOURS)
