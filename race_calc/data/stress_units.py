"""Are labelled stresses in eV/Å³ and positive under tension?

A pair potential is fitted to the energies and forces, and its virials are compared with the labelled ones. It is a crude model of most
matter, but units are off by a hundred and signs by −1. Only the traceless parts count: a pressure depends on what pairs do not tell.

============= ================================================ =================
quantity      equation                                         here
============= ================================================ =================
energy        E = Σ_pairs c_k φ_k(r) + Σ_i e(z_i)              `_features`
φ_k           Gaussian in r, times (1 − (r/r_c)²)²             `_functions`
virial        W = ½ Σ_ij c_k φ_k'(r) r_ij r_ijᵀ / r            `_features`
============= ================================================ =================
"""

from collections.abc import Sequence

import numpy as np
from ase import units

from race_calc.data.graph import Graph
from race_calc.data.targets import Example

FEWEST, MOST = 4, 40  # structures that are looked at
MOST_ATOMS = 8000  # of all of them
FUNCTIONS = 8
ALIKE = 0.6  # correlation above which they tell something: from 0.73 to 0.99 for liquid and solid Si and Li (tests)
RIGHT = 1 / 3, 3.0  # times those of the fit
HARTREE_PER_BOHR3 = units.Hartree / units.Bohr**3
UNITS = {"GPa": 1 / units.GPa, "kbar": 10 / units.GPa, "Hartree/Bohr³": 1 / HARTREE_PER_BOHR3}  # in which 1 eV/Å³ is so much


def check_stresses(examples: Sequence[Example]) -> None:
    """Raises ValueError where stresses of a training have the opposite sign, or another unit, than its energies and forces say.

    Says nothing where it cannot tell: of fewer than FEWEST structures, or where pairs do not describe the forces.
    """
    chosen = _chosen(examples)
    if len(chosen) < FEWEST:
        return
    fitted, labelled = _virials(chosen, int(max(max(example.graph.numbers) for example in chosen)))
    size = np.sqrt(np.sum(fitted**2) * np.sum(labelled**2))
    correlation = np.sum(fitted * labelled) / size if size > 0 else 0.0
    if not abs(correlation) >= ALIKE:
        return
    ratio, sign = float(np.sqrt(np.sum(labelled**2) / np.sum(fitted**2))), "the opposite sign" if correlation < 0 else ""
    unit = "" if RIGHT[0] < ratio < RIGHT[1] else _unit(ratio, chosen)
    if sign or unit:
        raise ValueError(
            f"stresses of the training have {' and '.join(filter(None, (sign, unit)))}: a first fit to energies and forces says so "
            f"(correlation {correlation:.2f}). A stress of ASE is in eV/Å³ and positive under tension: convert the labels, or leave them "
            "out with training.stress_weight: 0"
        )


def _unit(ratio: float, chosen: Sequence[Example]) -> str:
    """What stresses `ratio` times those in eV/Å³ are in."""
    known = UNITS | {"eV (a virial)": float(np.mean([example.graph.volume[0] for example in chosen]))}
    near = [name for name, one in known.items() if RIGHT[0] < ratio / one < RIGHT[1]]
    size = f"about {ratio:.1g} times too large" if ratio > 1 else f"about {1 / ratio:.1g} times too small"
    return "another unit" + (f", probably {' or '.join(near)}" if near else "") + f" ({size})"


def _chosen(examples: Sequence[Example]) -> list[Example]:
    """Some that have a stress, from all over the data."""
    having = [one for one in examples if np.isfinite(one.virial).all() and one.graph.volume[0] > 0 and one.graph.edge_index.size]
    if not having:
        return []
    each = max(example.graph.n_atoms for example in having)
    count = min(len(having), MOST, max(FEWEST, MOST_ATOMS // each))
    return [having[i] for i in np.linspace(0, len(having) - 1, count).round().astype(int)]


def _virials(chosen: Sequence[Example], largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Traceless virials (S, 3, 3) in eV of the fit and of the labels."""
    kinds = sorted({tuple(sorted(pair)) for one in chosen for pair in one.graph.numbers[one.graph.edge_index].T.tolist()})
    number = np.zeros((largest + 1, largest + 1), dtype=int)
    for i, (a, b) in enumerate(kinds):
        number[a, b] = number[b, a] = i
    cutoff = max(float(np.linalg.norm(one.graph.edge_vectors, axis=1).max()) for one in chosen)
    features = [_features(one.graph, number, len(kinds), cutoff) for one in chosen]
    atoms = np.array([np.bincount(one.graph.numbers, minlength=largest + 1) for one in chosen], dtype=float)
    of_energy = np.concatenate([np.array([energy for energy, _, _ in features]), atoms], axis=1)
    root = np.sqrt(atoms.sum(axis=1))
    forces = np.concatenate([force for _, force, _ in features])
    rows = np.concatenate([of_energy / root[:, None], np.pad(forces, ((0, 0), (0, largest + 1)))])
    targets = np.concatenate([np.array([one.energy for one in chosen]) / root, *(one.forces.ravel() for one in chosen)])
    coefficients = np.linalg.lstsq(rows, targets, rcond=1e-8)[0][: forces.shape[1]]
    fitted = np.array([virial @ coefficients for _, _, virial in features])
    return _traceless(fitted), _traceless(np.array([one.virial for one in chosen]))


def _features(graph: Graph, number: np.ndarray, kinds: int, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Energy (C,), forces (3 N, C) and virial (3, 3, C) of each function of each kind of pair, C = kinds · FUNCTIONS."""
    vectors, (centre, neighbour) = graph.edge_vectors, graph.edge_index
    distance = np.linalg.norm(vectors, axis=1)
    kind = number[graph.numbers[centre], graph.numbers[neighbour]]
    value, slope = _functions(distance, cutoff)
    pull = slope[:, :, None] * (vectors / distance[:, None])[:, None, :]  # (E, K, 3)
    energy, forces = np.zeros((kinds, FUNCTIONS)), np.zeros((graph.n_atoms, kinds, FUNCTIONS, 3))
    virial = np.zeros((kinds, FUNCTIONS, 3, 3))
    np.add.at(energy, kind, 0.5 * value)
    np.add.at(forces, (centre, kind), pull)
    np.add.at(virial, kind, 0.5 * pull[..., None] * vectors[:, None, None, :])
    return energy.ravel(), forces.transpose(0, 3, 1, 2).reshape(3 * graph.n_atoms, -1), virial.transpose(2, 3, 0, 1).reshape(3, 3, -1)


def _functions(distance: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """φ_k and φ_k' (E, K)."""
    places, width = np.linspace(0.3, 1.0, FUNCTIONS) * cutoff, 0.7 * cutoff / FUNCTIONS
    x, t = (distance / cutoff)[:, None], (distance[:, None] - places) / width
    gaussian, end = np.exp(-(t**2) / 2), 1 - x**2
    return gaussian * end**2, gaussian * (-t / width * end**2 - 4 * x / cutoff * end)


def _traceless(matrices: np.ndarray) -> np.ndarray:
    return np.asarray(matrices - np.trace(matrices, axis1=1, axis2=2)[:, None, None] / 3 * np.eye(3))
