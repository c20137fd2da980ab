"""One check of a run: from what its images predict to a record. Uses ASE."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ase import Atoms, units

from race_calc.data.contribution import BaselineError
from race_calc.md.guard import CLOSEST, broken_geometry, explosion
from race_calc.md.record import MonitorRecord
from race_calc.uncertainty.decisions import Criterion, Decision, MonitorState, Violation, decide, silenced
from race_calc.uncertainty.prediction import Prediction
from race_calc.uncertainty.scores import fills_space, scores_of_one

STRUCTURE = "structure"  # what an exploded structure violates, in the place of a score
GRAM_PER_CM3 = 1e-3 * units.kg / (1e-2 * units.m) ** 3  # in ASE's units of mass and length
BASELINE = "baseline"  # the same of a structure for which the baseline of the model fails


@dataclass(frozen=True, eq=False)
class Sight:
    """What there is to judge: the dynamics, and atoms and predictions by image (None where there is no NEB)."""

    dynamics: Any
    atoms: dict[int | None, Atoms]
    predictions: dict[int | None, Prediction]


def judge(seen: Sight, criteria: Sequence[Criterion], state: MonitorState, silent: bool) -> tuple[MonitorRecord, MonitorState]:
    """The record, and the violations in a row after it. `silent`: scores have no consequence, explosions have.

    Raises ValueError as `decide` does.
    """
    step = seen.dynamics.nsteps
    scores = {
        image: scores_of_one(p, seen.atoms[image]) for image, p in seen.predictions.items() if broken_geometry(seen.atoms[image]) is None
    }
    worst_scores: dict[str, tuple[float, int | None]] = {}
    violations: list[Violation] = []
    if len(scores) == len(seen.predictions):  # else it ends here: there is nothing to compare
        names = [name for name in next(iter(scores.values())) if all(name in of_image for of_image in scores.values())]
        worst = {name: max(scores, key=lambda image: _rank(scores[image][name][0])) for name in names}
        worst_scores = {name: scores[image][name] for name, image in worst.items()}
        decision, state = decide(criteria, worst_scores, state, step)
        violations = [_locate(v, worst[v.criterion], seen) for v in (silenced(decision) if silent else decision).violations]
    record = MonitorRecord(
        step=step,
        **_clock(seen),
        energy=max(float(p.energy[0]) for p in seen.predictions.values()),
        scores={name: value for name, (value, _) in worst_scores.items()},
        decision=Decision((*_exploded(seen), *violations)),
        **_cell(seen),
    )
    return record, state


def refusal(seen: Sight, image: int | None, error: Exception) -> MonitorRecord:
    """The record of a halt because a calculator refuses an image; there are no scores, and the energy is NaN."""
    criterion = BASELINE if isinstance(error, BaselineError) else STRUCTURE
    message = str(error) if criterion == BASELINE else f"the calculator refuses the structure: {error}"
    violation = Violation(seen.dynamics.nsteps, criterion, math.nan, CLOSEST, image=image, action="halt", message=message)
    return MonitorRecord(step=violation.step, **_clock(seen), energy=math.nan, scores={}, decision=Decision((violation,)))


def _exploded(seen: Sight) -> list[Violation]:
    found = {image: explosion(atoms, seen.predictions[image]) for image, atoms in seen.atoms.items()}
    return [
        _locate(
            Violation(seen.dynamics.nsteps, STRUCTURE, one.value, CLOSEST, one.atom_index, action="halt", message=one.message), image, seen
        )
        for image, one in found.items()
        if one is not None
    ]


def _rank(value: float) -> float:
    return value if math.isfinite(value) else math.inf


def _locate(violation: Violation, image: int | None, seen: Sight) -> Violation:
    index = violation.atom_index
    return replace(violation, image=image, element=None if index is None else seen.atoms[image][index].symbol)


def _cell(seen: Sight) -> dict[str, float | None]:
    """Volume, density and pressure, as far as there are such."""
    atoms, prediction = next(iter(seen.atoms.values())), next(iter(seen.predictions.values()))
    if not fills_space(atoms):
        return {}
    volume = float(atoms.cell.volume)
    found: dict[str, float | None] = {"volume": volume, "density": float(atoms.get_masses().sum() / volume / GRAM_PER_CM3)}
    if prediction.stress is not None:
        pressure = -float(prediction.stress[0, :3].mean())
        if hasattr(seen.dynamics, "get_time"):  # an optimiser moves nothing
            pressure += 2.0 * float(atoms.get_kinetic_energy()) / (3.0 * volume)
        found["pressure"] = pressure / units.GPa
    return found


def _clock(seen: Sight) -> dict[str, float | None]:
    if not hasattr(seen.dynamics, "get_time"):
        return {"time": None, "temperature": None}
    atoms = next(iter(seen.atoms.values()))
    return {"time": float(seen.dynamics.get_time() / units.fs), "temperature": float(atoms.get_temperature())}
