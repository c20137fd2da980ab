"""Screened repulsion of nuclei at short range (Ziegler, Biersack & Littmark, The Stopping and Range of Ions in Solids, 1985).

A model that learned bond lengths at one temperature has never seen a bond much shorter, and guesses there. The
repulsion is known: it is taken from the labels, the model learns the rest, and it is added again at prediction.
It is the same for all members and adds no uncertainty.

================ ========================================================= ==============================
method           formula                                                   here
================ ========================================================= ==============================
energy           Σ_pairs k z_i z_j / r · φ(r / a) · u(r / r_c)             `_pair`
k                e² / (4πε₀)                                               `COULOMB`
screening        φ(x) = Σ_n c_n exp(-d_n x)                                `AMPLITUDES`, `DECAYS`
its length       a = 0.46850 Å / (z_i^0.23 + z_j^0.23)                     `LENGTH`, `EXPONENT`
end              u(x) = 1 - 6x² + 8x³ - 3x⁴, as in the radial basis        `race_calc.model.cutoff`
reach            r_c = 1.5 (R_i + R_j), at most the cutoff of the model    `REACH`, ASE's `covalent_radii`
================ ========================================================= ==============================
"""

import numpy as np
from ase import units
from ase.data import covalent_radii

from race_calc.data.contribution import Contribution
from race_calc.data.graph import Graph
from race_calc.model.cutoff import envelope

COULOMB = units.Hartree * units.Bohr  # e²/(4πε₀), eV Å
AMPLITUDES = np.array([0.18175, 0.50986, 0.28022, 0.02817])
DECAYS = np.array([3.19980, 0.94229, 0.40290, 0.20162])
LENGTH, EXPONENT = 0.46850, 0.23  # Å
REACH = 1.5  # r_c in sums of covalent radii


def repulsion(graph: Graph, cutoff: float) -> Contribution:
    """Of every structure of the graph, which holds the pairs within `cutoff` (Å); of each pair half to each atom."""
    centre, neighbour = graph.edge_index
    z_i, z_j = graph.numbers[centre], graph.numbers[neighbour]
    vectors, r = graph.edge_vectors, graph.edge_lengths
    reach = reaches(z_i, z_j, cutoff)
    near = r < reach
    centre, neighbour, vectors, r = centre[near], neighbour[near], vectors[near], r[near]
    energy, slope = _pair(z_i[near], z_j[near], r, reach[near])
    half = 0.5 * (slope / r)[:, None] * vectors  # (P, 3): of each directed pair half of dE/dr_ij
    forces = np.zeros((graph.n_atoms, 3))
    np.add.at(forces, centre, half)
    np.add.at(forces, neighbour, -half)
    virial = np.zeros((graph.n_structures, 3, 3))
    np.add.at(virial, graph.batch[centre], half[:, :, None] * vectors[:, None, :])
    return Contribution(np.bincount(centre, weights=0.5 * energy, minlength=graph.n_atoms), forces, virial)


def reaches(z_i: np.ndarray, z_j: np.ndarray, cutoff: float) -> np.ndarray:
    """r_c of pairs of elements in Å, at most the cutoff of the model."""
    return np.asarray(np.minimum(REACH * (covalent_radii[z_i] + covalent_radii[z_j]), cutoff))


def screening_lengths(z_i: np.ndarray, z_j: np.ndarray) -> np.ndarray:
    """a of pairs of elements in Å."""
    return np.asarray(LENGTH / (z_i**EXPONENT + z_j**EXPONENT))


def _pair(z_i: np.ndarray, z_j: np.ndarray, r: np.ndarray, reach: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energies (P,) eV of pairs within their reach and dE/dr (P,) eV/Å."""
    length = screening_lengths(z_i, z_j)
    waves = AMPLITUDES * np.exp(-DECAYS * (r / length)[:, None])  # (P, 4)
    screen, screen_slope = waves.sum(1), -(waves * DECAYS).sum(1) / length
    u, u_slope = envelope(r / reach)
    bare = COULOMB * z_i * z_j / r
    slope = bare * (screen_slope * u + screen * u_slope / reach - screen * u / r)
    return bare * screen * u, slope
