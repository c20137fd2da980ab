"""Why a monitor ended a run, for whoever has to go on: atoms, distances, how the uncertainty grew, what to do. Uses ASE."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.neighborlist import neighbor_list

from race_calc.data.graph import from_atoms
from race_calc.md.images import monitored_images
from race_calc.md.judge import STRUCTURE
from race_calc.md.record import SIGMA, MonitorRecord
from race_calc.uncertainty.environments import Compared, Environments, Unusual
from race_calc.uncertainty.geometry import BOND, COORDINATION, DISTANCE, KINDS

WORST = 3  # atoms, distances, angles, … that are named
ALONG, ACROSS = 0.85, 0.4  # |cos| of an angle to a bond
BACK = 50.0  # fs
OLDER = "This model does not say which distances and angles it was trained with (models of release 0.2 on do)."
PLURAL = {"distance": "Distances", "angle": "Bond angles", "coordination": "Numbers of bonds"}


@dataclass(frozen=True)
class Growth:
    """A score along a run: times (T,) in fs and values (T,)."""

    score: str
    times: np.ndarray
    values: np.ndarray


def compared(frame: Atoms, known: Environments | None) -> Compared | None:
    """The frame beside the training; None where the model does not tell, and for a frame that has no neighbours to speak of (exploded)."""
    if known is None:
        return None
    try:
        return known.compare(from_atoms(frame, known.cutoff), covalent_radii)
    except ValueError:
        return None


def explanation(reason: str, frame: Atoms, growth: Growth | None, beside: Compared | None, then: Sequence[str] = ()) -> list[str]:
    """Sentences. reason: of the halt; frame: the halting one, annotated; growth: of the score that ended the run; beside: the frame and the
    training; then: what to do (`commands`), or why there is no comparison."""
    lines = [f"{reason}."]
    if SIGMA in frame.arrays:
        lines += _least_known(frame, frame.arrays[SIGMA])
    lines += [] if beside is None else _beside(frame, beside)
    lines += [] if growth is None else _growth(growth)
    return [*lines, *then]


def commands(criterion: str, flagged: str | None, model: str | None) -> list[str]:
    """What to do after a halt, with the frames that were saved in `flagged`, for a model of this package."""
    if criterion == STRUCTURE:
        return ["Such a structure is not saved: go back to an earlier frame, and take a shorter time step."]
    label = [] if flagged is None else [f"Label what it saved: race-calc label {flagged} --with METHOD --out labelled.xyz"]
    if not label or not model:
        return label
    data = "" if (Path(model) / "data").is_dir() else " --data FOLDER_OF_ITS_DATA"
    return [*label, f"Learn from it:       race-calc train --from {model} --add labelled.xyz{data} --out FOLDER"]


def _least_known(frame: Atoms, sigma: np.ndarray) -> list[str]:
    if broken := np.flatnonzero(~np.isfinite(sigma)).tolist():
        return [f"σ of the forces on {', '.join(_atom(frame, i) for i in broken[:WORST])} is not a finite number."]
    worst = np.argsort(sigma)[::-1][:WORST].tolist()
    named = ", ".join(f"{_atom(frame, i)} {sigma[i]:.3g} eV/Å" for i in worst)
    return [f"Least known are the forces on {named} (σ; the median atom has {np.median(sigma):.3g}).", _direction(frame, worst[0])]


def _atom(frame: Atoms, i: int) -> str:
    return f"atom {i} ({frame.symbols[i]})"


def _direction(frame: Atoms, i: int) -> str:
    """How the longest axis of its covariance lies to its bonds."""
    axis = np.linalg.eigh(frame.arrays["forces_covariance"][i].reshape(3, 3))[1][:, -1]
    first, other, vectors = neighbor_list("ijD", frame, 6.0)
    radii, distances = covalent_radii[frame.numbers], np.linalg.norm(vectors, axis=1)
    mine = (first == i) & (distances < BOND * (radii[i] + radii[other]))
    if not mine.any():
        near = [(distances[k], other[k]) for k in np.flatnonzero(first == i)]
        nearest = "" if not near else f": the nearest is {_atom(frame, int(min(near)[1]))} at {min(near)[0]:.2f} Å"
        return f"Atom {i} is bonded to none{nearest}."
    bonds, lengths = vectors[mine], np.linalg.norm(vectors[mine], axis=1)
    cosines = np.abs(bonds @ axis) / lengths
    best = int(np.argmax(cosines))
    if cosines[best] > ALONG:
        bond = f"to {_atom(frame, int(other[mine][best]))}, {lengths[best]:.2f} Å"
        return f"The force on atom {i} is uncertain along its bond {bond}."
    if cosines[best] < ACROSS:
        return f"The force on atom {i} is uncertain across its bonds: angles or dihedrals, not a length."
    return f"The force on atom {i} is uncertain in a direction between its bonds."


def _beside(frame: Atoms, beside: Compared) -> list[str]:
    symbols = ", ".join(chemical_symbols[z] for z in beside.new_elements)
    lines = [f"The training had no {symbols}."] if symbols else []
    for kind in KINDS:
        if mine := [one for one in beside.unknown if one.kind is kind]:
            more = f"; and {len(mine) - WORST} more" if len(mine) > WORST else ""
            lines.append(
                f"{PLURAL[kind.name]} that the training did not have: {'; '.join(_unknown(frame, one) for one in mine[:WORST])}{more}."
            )
    if lines:
        return lines
    had = "Every distance, bond angle and number of bonds, taken alone, is one that the training had"
    if beside.rare:
        return [f"{had}. Nearest to its end: {'; '.join(_rare(frame, one) for one in beside.rare[:WORST])}."]
    return [f"{had}, and none is near its end: new is how they come together."]


def _rare(frame: Atoms, one: Unusual) -> str:
    often = f"1 in {1 / one.expected:.0f} such structures has" if one.expected else "none of the training's is"
    return f"{_value(frame, one)} ({often} {'one ' if one.expected else ''}as far out)"


def _unknown(frame: Atoms, one: Unusual) -> str:
    return f"{_value(frame, one)} ({_had(one)})"


def _had(one: Unusual) -> str:
    symbols = [chemical_symbols[z] for z in one.elements]
    if one.known is None:
        return f"{' and '.join(symbols)} never met in it" if one.kind is DISTANCE else f"it had no {'–'.join(symbols)}"
    ends = list(dict.fromkeys(f"{end:.{2 if one.kind is DISTANCE else 0}f}" for end in one.known))
    return ("it had " if one.kind is COORDINATION else "nearest it had: ") + " to ".join(ends)


def _value(frame: Atoms, one: Unusual) -> str:
    atoms = [_atom(frame, i) for i in one.atoms]
    if one.kind is COORDINATION:
        return f"{atoms[0]} is bonded to {one.value:.0f} {chemical_symbols[one.elements[1]]}"
    return f"{' to '.join(atoms)} {one.value:.2f} Å" if one.kind is DISTANCE else f"{', '.join(atoms)} {one.value:.0f}°"


def _growth(growth: Growth) -> list[str]:
    """Over the last BACK fs, since the time last went back."""
    there = np.isfinite(growth.times) & np.isfinite(growth.values)
    times, values = growth.times[there], growth.values[there]
    back = np.flatnonzero(np.diff(times) < 0)
    times, values = (times[back[-1] + 1 :], values[back[-1] + 1 :]) if len(back) else (times, values)
    late = times[-1:] - times <= BACK if len(times) else np.zeros(0, dtype=bool)
    times, values = times[late], values[late]
    if len(times) < 2 or not values[0] > 0:
        return []
    ratio = f"{values[-1] / values[0]:.1f} times as much"
    return [f"In the last {times[-1] - times[0]:.0f} fs {growth.score} went from {values[0]:.3g} to {values[-1]:.3g}, {ratio}."]


def explained(monitor: Any, records: Sequence[MonitorRecord]) -> str:
    """Of a monitor that ended a run. Raises ValueError where it did not, or nothing was predicted."""
    if monitor.halt_reason is None or monitor.halting_frame is None:
        raise ValueError("there is no halt to explain: ask after a run that the monitor ended")
    (_, atoms), *_ = monitored_images(monitor.dynamics)
    checkpoint = getattr(atoms.calc, "checkpoint", None)
    known, score = getattr(checkpoint, "environments", None), monitor.halt_reason.criterion
    timed = [(record.time, record.scores[score]) for record in records if record.time is not None and score in record.scores]
    growth = Growth(score, *np.array(timed, dtype=float).reshape(-1, 2).T)
    then = [OLDER] if checkpoint is not None and known is None else []
    model = None if checkpoint is None else str(atoms.calc.parameters.get("model", "MODEL"))
    then += commands(score, None if monitor.flagged is None else str(monitor.flagged), model)
    frame = monitor.halting_frame
    return "\n".join(explanation(str(monitor.halt_reason), frame, growth, compared(frame, known), then))
