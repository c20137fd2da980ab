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

FEWEST, MOST = 8, 40  # structures that are looked at
MOST_ATOMS, MOST_COLUMNS = 8000, 400  # of all of them; of the fit
ROWS = 5  # times the columns: forces that are needed
MOVED, ALL_WAYS = 0.05, 0.2  # eV/Å; smallest over largest axis: forces of a structure without symmetry
FUNCTIONS = 8
ALIKE = 0.6  # correlation above which they tell something: from 0.73 to 0.99 for liquid and solid Si and Li (tests)
AGREE = 2.0  # ratio of the sizes that four fits find
RIGHT = 1 / 3, 3.0  # times those of the fit
FEW, SAME = 3, 0.9  # structures, and correlation, that tell something beside a trained model
HARTREE_PER_BOHR3 = units.Hartree / units.Bohr**3
UNITS = {"GPa": 1 / units.GPa, "kbar": 10 / units.GPa, "Hartree/Bohr³": 1 / HARTREE_PER_BOHR3}  # in which 1 eV/Å³ is so much


def doubt_of_stresses(examples: Sequence[Example]) -> str | None:
    """What is wrong with stresses of a training that have the opposite sign, or another unit, than its energies and forces say.

    None where they are right, and where nothing can be told: of structures with the symmetry of a crystal or a slab, of fewer than
    FEWEST others, of too many elements, where pairs do not describe the forces, and where fits to all, to forces alone and to each half
    of the structures do not agree.
    """
    chosen = _chosen(examples)
    if len(chosen) < FEWEST:
        return None
    fits, labelled = _virials(chosen)
    found = [_compared(fitted, labelled) for fitted in fits]
    if not found or min(abs(one) for one, _ in found) < ALIKE or len({one > 0 for one, _ in found}) > 1:
        return None
    sizes = [size for _, size in found]
    if max(sizes) > AGREE * min(sizes):
        return None
    correlation, ratio = found[0]
    wrong = _wrong(correlation, ratio, float(np.mean([example.graph.volume[0] for example in chosen])))
    return (
        f"stresses of the training have {wrong}, as a first fit to energies and forces says (correlation {correlation:.2f}); a stress of "
        "ASE is in eV/Å³ and positive under tension: convert the labels"
        if wrong
        else None
    )


def doubt_of_labels(predicted: np.ndarray, labelled: np.ndarray, volume: float) -> str | None:
    """The same of stresses (S, 3, 3) beside those that a trained model predicts, in eV/Å³. volume: mean of the structures, Å³."""
    correlation, ratio = _compared(_traceless(predicted), _traceless(labelled))
    wrong = _wrong(correlation, ratio, volume) if len(labelled) >= FEW and abs(correlation) > SAME else ""
    return (
        f"the labelled stresses have {wrong}, as the model says (correlation {correlation:.2f}); a stress of ASE is in eV/Å³ and positive "
        "under tension: convert the labels"
        if wrong
        else None
    )


def _wrong(correlation: float, ratio: float, volume: float) -> str:
    """ratio: size of the labels over what it should be; "" where nothing is wrong."""
    unit = "" if RIGHT[0] < ratio < RIGHT[1] else _unit(ratio, volume)
    return " and ".join(filter(None, ("the opposite sign" if correlation < 0 else "", unit)))


def _compared(fitted: np.ndarray, labelled: np.ndarray) -> tuple[float, float]:
    """Correlation, and size of the labels over that of the fit."""
    squares = float(np.sum(fitted**2)), float(np.sum(labelled**2))
    if min(squares) <= 0:
        return 0.0, 1.0
    return float(np.sum(fitted * labelled)) / float(np.sqrt(squares[0] * squares[1])), float(np.sqrt(squares[1] / squares[0]))


def _unit(ratio: float, volume: float) -> str:
    """What stresses `ratio` times those in eV/Å³ are in, "" where no unit fits."""
    known = UNITS | {"eV (a virial)": volume}
    near = [name for name, one in known.items() if RIGHT[0] < ratio / one < RIGHT[1]]
    size = f"about {ratio:.1g} times too large" if ratio > 1 else f"about {1 / ratio:.1g} times too small"
    return f"another unit, probably {' or '.join(near)} ({size})" if near else ""


def _chosen(examples: Sequence[Example]) -> list[Example]:
    """Some that have a stress and no symmetry, from all over the data, none twice."""
    distinct: dict[tuple[int, float], Example] = {}
    for one in examples:
        if one.has_stress and one.graph.edge_index.size:
            axes = np.sqrt(np.mean(one.forces**2, axis=0))
            if axes.max() > MOVED and axes.min() > ALL_WAYS * axes.max():
                distinct.setdefault((one.graph.n_atoms, round(one.energy, 4)), one)
    having = list(distinct.values())
    if not having:
        return []
    each = max(example.graph.n_atoms for example in having)
    count = min(len(having), MOST, max(FEWEST, MOST_ATOMS // each))
    return [having[i] for i in np.linspace(0, len(having) - 1, count).round().astype(int)]


def _virials(chosen: Sequence[Example]) -> tuple[list[np.ndarray], np.ndarray]:
    """Traceless virials (S, 3, 3) in eV of the fits to all, to forces alone, to every second structure and to the others, and of the
    labels. No fits where there are too many kinds of pairs for the forces."""
    kinds = sorted({tuple(sorted(pair)) for one in chosen for pair in one.graph.numbers[one.graph.edge_index].T.tolist()})
    columns = len(kinds) * FUNCTIONS
    labelled = _traceless(np.array([one.virial for one in chosen]))
    if columns > MOST_COLUMNS or sum(one.forces.size for one in chosen) < ROWS * columns:
        return [], labelled
    largest = max(int(one.graph.numbers.max()) for one in chosen)
    number = np.zeros((largest + 1, largest + 1), dtype=int)
    for i, (a, b) in enumerate(kinds):
        number[a, b] = number[b, a] = i
    cutoff = max(float(np.linalg.norm(one.graph.edge_vectors, axis=1).max()) for one in chosen)
    features = [_features(one.graph, number, len(kinds), cutoff) for one in chosen]
    elements = sorted({int(z) for one in chosen for z in one.graph.numbers})
    parts = []
    for one, (energy, forces, _) in zip(chosen, features):
        root = np.sqrt(one.graph.n_atoms)
        atoms = np.array([np.count_nonzero(one.graph.numbers == z) for z in elements])
        rows = np.concatenate([(np.concatenate([energy, atoms]) / root)[None], np.pad(forces, ((0, 0), (0, len(elements))))])
        parts.append((rows, np.append(one.energy / root, one.forces)))
    virials = np.array([virial for _, _, virial in features])

    def fit(rows: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
        found = np.linalg.lstsq(np.concatenate(rows), np.concatenate(targets), rcond=1e-8)[0]
        return _traceless(virials @ found[:columns])

    every, targets = zip(*parts)
    fits = [fit(every, targets), fit([rows[1:] for rows in every], [target[1:] for target in targets])]
    return [*fits, fit(every[0::2], targets[0::2]), fit(every[1::2], targets[1::2])], labelled


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
