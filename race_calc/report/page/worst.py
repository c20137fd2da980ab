"""The worst structures and atoms, and what the 3-D viewer needs of a structure.

=========== ================= ==========================================================
key         shape             meaning
=========== ================= ==========================================================
id, label                     in the list of the viewer
group                         heading in the list
symbols     N
atoms       N, where cut      number of each atom in its structure
positions   3 N               Å
cell        9 numbers or None Å, rows are the vectors
sigma       N                 √tr Σ, meV/Å: the size of force error to be expected; None without a Σ
root        6 N or None       xx yy zz yz xz xy of the symmetric square root of Σ, meV/Å
error       3 N or None       reference − prediction, meV/Å
squared     N or None         dᵀ Σ⁻¹ d
=========== ================= ==========================================================
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from race_calc.evaluate.assessment import force_rmse
from race_calc.evaluate.groups import squared_distances
from race_calc.report.page.judged import Judged
from race_calc.report.page.parts import Grid, Section, Viewer, rounded
from race_calc.report.tables import plain
from race_calc.uncertainty.metrics import sharpness
from race_calc.uncertainty.prediction import VOIGT

WORST = 10
MOST_ATOMS = 500  # of a structure in the viewer: of larger ones those around the largest error

Structure = dict[str, Any]


def worst_section(sets: Sequence[Judged], more: Sequence[Structure]) -> Section:
    """The ten worst of the known data, and the ten worst of the others; `more`: structures of a run, for the viewer."""
    structures: dict[str, Structure] = {}
    grids = []
    for title, some in (("known data", sets[:1]), ("other data", sets[1:])):
        if some:
            grids += [_structures(title, some, structures), _atoms(title, some, structures)]
    caption = (
        "Arrows are force errors (reference − prediction), ellipsoids the covariance Σ, of a size that holds 90 % of the errors where Σ is "
        "right: an arrow that ends inside its ellipsoid is an error that the model warned of."
    )
    lead = "What goes wrong where it goes most wrong, and did σ say so? Colours: what force error the model expects at each atom."
    return Section("worst", "The worst structures and atoms", lead, [Viewer([*structures.values(), *more], caption), *grids])


def _structures(title: str, sets: Sequence[Judged], structures: dict[str, Structure]) -> Grid:
    each = [(float(error), one, b) for one in sets for b, error in enumerate(force_rmse(one.found.raw))]
    rows, links = [], {}
    for i, (error, one, b) in enumerate(sorted(each, key=lambda item: -item[0])[:WORST]):
        atoms = np.flatnonzero(one.found.raw.frame == b)
        std = one.found.residuals.forces_std
        key = _add(structures, one, b, title)
        energy_std = one.found.residuals.energy_std
        rows.append([
            f"{one.name}, structure {one.rows[b]}",
            one.data.structures[b].get_chemical_formula(),
            plain(1e3 * error),
            "–" if std is None else plain(1e3 * sharpness(std[atoms])),
            plain(1e3 * float(one.found.raw.energy[b])),
            "–" if energy_std is None else plain(1e3 * float(energy_std[b])),
        ])  # fmt: skip
        links[i] = key
    head = ["structure (counted from 0)", "formula", "force RMSE, meV/Å", "σ, meV/Å", "energy error, meV", "σ, meV"]
    return Grid(f"Worst {len(rows)} structures, {title}", head, rows, "By force RMSE.", links=links)


def _atoms(title: str, sets: Sequence[Judged], structures: dict[str, Structure]) -> Grid:
    each = [(float(size), one, n) for one in sets for n, size in enumerate(np.linalg.norm(one.found.raw.forces, axis=1))]
    rows, links = [], {}
    for i, (size, one, n) in enumerate(sorted(each, key=lambda item: -item[0])[:WORST]):
        b = int(one.found.raw.frame[n])
        within = n - int(np.flatnonzero(one.found.raw.frame == b)[0])
        covariance, squared = one.found.residuals.forces_covariance, squared_distances(one.found.residuals)
        links[i] = _add(structures, one, b, title)
        rows.append([
            f"{one.name}, structure {one.rows[b]}",
            f"{within} ({one.data.structures[b].symbols[within]})",
            plain(1e3 * size),
            "–" if covariance is None else plain(1e3 * float(np.sqrt(np.trace(covariance[n])))),
            "–" if squared is None else plain(float(squared[n])),
        ])  # fmt: skip
    head = ["structure", "atom", "|ΔF|, meV/Å", "expected √tr Σ, meV/Å", "d²"]
    return Grid(f"Worst {len(rows)} atoms, {title}", head, rows, "d² above 11.3 should happen once in a hundred atoms.", links=links)


def _add(structures: dict[str, Structure], one: Judged, b: int, group: str) -> str:
    """The id of a structure in the viewer, which has it from now on."""
    key = f"{one.name} {one.rows[b]}"
    if key not in structures:
        residuals, atoms = one.found.residuals, np.flatnonzero(one.found.raw.frame == b)
        covariance, squared = residuals.forces_covariance, squared_distances(residuals)
        label = f"{one.name}, structure {one.rows[b]}"
        structures[key] = structure(
            key,
            label,
            f"Worst of the {group}",
            one.data.structures[b],
            None if covariance is None else covariance[atoms],
            residuals.forces[atoms],
            None if squared is None else squared[atoms],
        )
    return key


def frame_structures(frames: Mapping[str, Atoms]) -> list[Structure]:
    """Frames of a monitored run for the viewer: id → frame."""
    made = []
    for key, atoms in frames.items():
        covariance = atoms.arrays.get("forces_covariance")
        covariance = None if covariance is None else np.asarray(covariance, dtype=float).reshape(-1, 3, 3)
        time = f", {atoms.info['time_fs']:.0f} fs" if "time_fs" in atoms.info else ""
        made.append(structure(key, f"run, step {atoms.info['step']}{time}", "Saved by the monitor", atoms, covariance, None, None))
    return made


def structure(
    key: str, label: str, group: str, atoms: Atoms, covariance: np.ndarray | None, error: np.ndarray | None, squared: np.ndarray | None
) -> Structure:
    """For the viewer; covariance (N, 3, 3) (eV/Å)², error (N, 3) eV/Å, squared (N,)."""
    found: Structure = {"id": key, "label": label, "group": group}
    if len(atoms) > MOST_ATOMS:
        size = (
            np.linalg.norm(error, axis=1) if error is not None else None if covariance is None else np.trace(covariance, axis1=1, axis2=2)
        )
        kept = _around(atoms, 0 if size is None else int(np.argmax(np.nan_to_num(size))))
        found |= {"label": f"{label}, {len(kept)} of {len(atoms)} atoms", "atoms": kept.tolist()}
        atoms = atoms[kept]
        covariance, error, squared = (None if each is None else each[kept] for each in (covariance, error, squared))
    found["symbols"] = list(atoms.symbols)
    found["positions"] = [round(float(x), 3) for x in (atoms.positions - atoms.positions.mean(axis=0)).ravel()]
    if atoms.pbc.any():
        found["cell"] = [round(float(x), 3) for x in atoms.cell.array.ravel()]
        found["origin"] = [round(float(x), 3) for x in -atoms.positions.mean(axis=0)]
    found["sigma"] = None if covariance is None else rounded(1e3 * np.sqrt(np.trace(covariance, axis1=1, axis2=2)), 3)
    found["root"] = None if covariance is None else rounded(1e3 * _root(covariance), 3)
    found["error"] = None if error is None else rounded(1e3 * error, 3)
    found["squared"] = None if squared is None else rounded(squared, 3)
    return found


def _around(atoms: Atoms, centre: int) -> np.ndarray:
    """Indices of the MOST_ATOMS atoms nearest to one, sorted."""
    return np.sort(np.argsort(atoms.get_distances(centre, range(len(atoms)), mic=bool(atoms.pbc.any())), kind="stable")[:MOST_ATOMS])


def _root(covariance: np.ndarray) -> np.ndarray:
    """Symmetric square roots, (N, 6); zero where an entry is not finite."""
    finite = np.isfinite(covariance).all(axis=(1, 2))
    values, vectors = np.linalg.eigh(np.where(finite[:, None, None], covariance, 0.0))
    roots = np.einsum("nij,nj,nkj->nik", vectors, np.sqrt(np.maximum(values, 0.0)), vectors)
    return np.asarray(roots[:, VOIGT[0], VOIGT[1]])
