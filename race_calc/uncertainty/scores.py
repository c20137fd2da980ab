"""One number per structure that says how little the model knows: a row for each criterion, at the end. NumPy only.

`register(Score(...))` adds another: monitor, thresholds, tables, figures and sentences read the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from race_calc.uncertainty import score_values as compute
from race_calc.uncertainty.prediction import Prediction, available
from race_calc.uncertainty.score_values import Structures, Values

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True)
class Score:
    """A criterion.

    =============== ==========================================================================================
    field           meaning
    =============== ==========================================================================================
    label, unit     in figures and sentences, such as "largest force σ" and "eV/Å"
    needs           quantities of `race_calc.uncertainty.prediction.available`, and "atoms" where it needs the structures, "volume"
                    where each of them must fill space
    values          (prediction, structures) → values (B,), larger = less known, and the worst atoms (B,) or None;
                    NaN must win over every number, so that a broken atom is never hidden
    of              what the model does not know when it is large, in a sentence: "energy", "forces", "stress" or "gap"; or "volume",
                    of which models know nothing: its threshold is a number of the user, and evaluations leave it out
    worst_atom      whether it is a maximum over atoms, and tells which one
    epistemic       whether it is of the epistemic part only
    least           a threshold "auto" is never below it, in the unit of the score
    short           name on the line of a running demo, or None: not shown there
    =============== ==========================================================================================
    """

    name: str
    label: str
    unit: str
    needs: tuple[str, ...]
    values: Callable[[Prediction, Structures], Values]
    of: str = "forces"
    worst_atom: bool = False
    epistemic: bool = False
    least: float = 0.0
    short: str | None = None

    def text(self, value: float) -> str:
        """A value of it with its unit, for example "0.43 nat"."""
        return f"{value:.3g} {self.unit}".rstrip()


SCORES: dict[str, Score] = {}  # in the order of tables and files
LEAST_GAP = 1e-2  # Å: smaller gaps are as frequent in runs of the same kind as the training (`docs/thresholds.md`)
CRITERIA = SCORES.keys()  # their names, of all that are registered at the moment


def register(row: Score) -> None:
    """Add a criterion, at the end. Raises ValueError for a name that is taken."""
    if row.name in SCORES:
        raise ValueError(f"there is a criterion {row.name!r} already: give another name, or unregister it first")
    SCORES[row.name] = row


def unregister(name: str) -> None:
    """Remove a criterion; nothing happens where there is none."""
    SCORES.pop(name, None)


def available_criteria(prediction: Prediction, structures: Structures = None) -> tuple[str, ...]:
    """The names in CRITERIA that can be told of this prediction and, where they are given, its structures: of slabs, wires and molecules,
    whose volume is a matter of the vacuum around them, no stress and no volume."""
    given, bulk = set(available(prediction)), structures is None or all(fills_space(atoms) for atoms in structures)
    if structures is not None:
        given |= {"atoms", "volume"} if bulk else {"atoms"}
    return tuple(name for name, row in SCORES.items() if given.issuperset(row.needs) and (bulk or row.of != "stress"))


def fills_space(atoms: Atoms) -> bool:
    """Whether a structure repeats in three directions, so that its volume is its own."""
    return bool(atoms.pbc.all()) and has_volume(atoms)


def has_volume(atoms: Atoms) -> bool:
    """Whether a structure has a stress: a cell with a volume that repeats along some direction."""
    return bool(atoms.pbc.any()) and int(atoms.cell.rank) == 3


def score(prediction: Prediction, criterion: str, structures: Structures = None) -> Values:
    """Values (B,) of a criterion and, for a maximum over atoms, which atom (B,); see `Score`.

    Raises ValueError for an unknown criterion, or one this posterior cannot give.
    """
    check_available((criterion,), available_criteria(prediction, structures))
    return SCORES[criterion].values(prediction, structures)


def all_scores(prediction: Prediction, structures: Structures = None) -> dict[str, Values]:
    """`score` of every available criterion, by name."""
    return {name: SCORES[name].values(prediction, structures) for name in available_criteria(prediction, structures)}


def scores_of_one(prediction: Prediction, atoms: Atoms) -> dict[str, tuple[float, int | None]]:
    """Value, and worst atom or None, of everything in `all_scores` for a prediction of one structure."""
    return {
        name: (float(values[0]), None if worst is None else int(worst[0]))
        for name, (values, worst) in all_scores(prediction, [atoms]).items()
    }


def atom_scores(prediction: Prediction) -> dict[str, np.ndarray]:
    """Scores of single atoms, (N,): √(tr Σ / 3) in eV/Å and the BALD of the force in nat, where there are such."""
    given = available(prediction)
    scores = {"forces_uncertainty_rms": np.sqrt(compute.mean_square(prediction, ""))} if "forces_covariance" in given else {}
    return scores | ({"bald_forces": compute.told(prediction, "bald_forces")} if "bald_forces" in given else {})


def check_available(wanted: Iterable[str], available: Collection[str]) -> None:
    """Raise ValueError when a wanted criterion is unknown or not among the available ones."""
    for name in wanted:
        if name not in CRITERIA:
            raise ValueError(f"unknown criterion {name!r}; known: {', '.join(CRITERIA)}")
        if name not in available:
            raise ValueError(
                f"this posterior cannot give the criterion {name!r} (BALD needs several members and a predicted variance, epistemic parts "
                "need several members, forces those of every member: not with forces_epistemic=False; a feature distance needs a "
                "RACE model of release 0.2 or later; those of stress and volume need a cell that repeats in three directions); "
                f"available: {', '.join(available) or 'none'}"
            )


def _with_epistemic(row: Score, values: Callable[[str], Callable[[Prediction, Structures], Values]]) -> tuple[Score, Score]:
    """A score of the total uncertainty and the same of its epistemic part."""
    name, label, needs = f"{row.name}_epistemic", f"{row.label}, epistemic", (f"{row.needs[0]}_epistemic",)
    return row, replace(row, name=name, label=label, needs=needs, values=values("_epistemic"), epistemic=True, short=None)


_E, _F, _BALD = ("energy_uncertainty",), ("forces_covariance",), ("bald_forces",)
_D, _S = ("feature_distance",), ("stress_covariance",)
for _row in (
    Score("bald_energy", "BALD of the energy", "nat", ("bald_energy",), lambda p, _: (compute.told(p, "bald_energy"), None), "energy"),
    Score(
        "bald_forces_max",
        "largest force BALD",
        "nat",
        _BALD,
        lambda p, _: compute.largest_atom(compute.told(p, *_BALD), p),
        worst_atom=True,
    ),
    Score("bald_forces_mean", "mean force BALD", "nat", _BALD, lambda p, _: (compute.mean_over_atoms(compute.told(p, *_BALD), p), None)),
    *_with_epistemic(
        Score("energy_uncertainty_per_atom", "energy σ per atom", "eV/atom", _E, compute.energy(""), "energy"), compute.energy
    ),
    *_with_epistemic(
        Score("forces_uncertainty_max", "largest force σ", "eV/Å", _F, compute.forces_max(""), worst_atom=True, short="largest"),
        compute.forces_max,
    ),
    *_with_epistemic(
        Score("forces_uncertainty_rms", "force σ of all atoms", "eV/Å", _F, compute.forces_rms(""), short="force σ"), compute.forces_rms
    ),
    Score("feature_distance_max", "largest feature distance", "", _D, compute.feature_distance_max, worst_atom=True, short="distance"),
    Score(
        "distance_gap_max", "largest gap of distances", "Å", ("distance_gap",), compute.distance_gap_max, worst_atom=True, least=LEAST_GAP
    ),
    *_with_epistemic(
        Score("stress_uncertainty_max", "largest stress σ", "eV/Å³", _S, compute.stress_max(""), "stress"), compute.stress_max
    ),
    *_with_epistemic(Score("pressure_uncertainty", "pressure σ", "eV/Å³", _S, compute.pressure(""), "stress"), compute.pressure),
    *_with_epistemic(Score("gap_uncertainty", "gap σ", "eV", ("gap_uncertainty",), compute.state_gap(""), "gap"), compute.state_gap),
    Score("gap_unresolved", "gap σ over the gap", "", ("gap_uncertainty", "gap"), compute.state_gap_unresolved, "gap"),
    Score("volume_per_atom", "volume per atom", "Å³", ("atoms", "volume"), compute.volume_per_atom, "volume"),
):
    register(_row)
