"""Why a monitor ended a run, for whoever has to go on: atoms, distances, how the uncertainty grew, what to do. Uses ASE."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.neighborlist import neighbor_list

from race_calc.data.graph import from_atoms
from race_calc.md.images import monitored_images
from race_calc.md.record import SIGMA, MonitorRecord
from race_calc.uncertainty.environments import BOND, KINDS, Environments, Rare, Unknown

WORST = 3  # atoms, distances, angles, … that are named
ALONG, ACROSS = 0.85, 0.4  # |cos| of an angle to a bond
BACK = 50.0  # fs
PLURAL = {"distance": "Distances", "angle": "Bond angles", "coordination": "Numbers of bonds"}


@dataclass(frozen=True)
class Growth:
    """A score along a run: times (T,) in fs and values (T,)."""

    score: str
    times: np.ndarray
    values: np.ndarray


def explanation(reason: str, frame: Atoms, growth: Growth | None, known: Environments | None, flagged: str, model: str) -> list[str]:
    """Sentences. reason: of the halt; frame: the halting one, annotated; growth: of the score that ended the run; known: what the training
    had, where the model tells it; flagged, model: file and folder, for the commands."""
    lines = [f"{reason}."]
    if SIGMA in frame.arrays:
        sigma = frame.arrays[SIGMA]
        worst = np.argsort(sigma)[::-1][:WORST]
        named = ", ".join(f"{_atom(frame, i)} {sigma[i]:.3g} eV/Å" for i in worst)
        lines.append(f"Least known are the forces on {named} (σ; the median atom has {np.median(sigma):.3g}).")
        lines.append(_direction(frame, int(worst[0])))
    lines += _environments(frame, known)
    lines += [] if growth is None else _growth(growth)
    lines.append(f"Label what it saved: race-calc label {flagged} --with METHOD --out labelled.xyz")
    lines.append(f"Learn from it:       race-calc train --from {model} --add labelled.xyz --out FOLDER")
    return lines


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


def _environments(frame: Atoms, known: Environments | None) -> list[str]:
    if known is None:
        return ["This model does not say which distances and angles it was trained with (models of release 0.2 on do)."]
    try:
        graph = from_atoms(frame, known.cutoff)
    except ValueError:  # exploded
        return []
    unknown = known.unknown(graph, covalent_radii)
    lines = []
    for kind in KINDS:
        if mine := [one for one in unknown if one.kind is kind]:
            more = f", and {len(mine) - WORST} more" if len(mine) > WORST else ""
            lines.append(
                f"{PLURAL[kind.name]} that the training did not have: {'; '.join(_unknown(frame, one) for one in mine[:WORST])}{more}."
            )
    if lines:
        return lines
    had = "Every distance, bond angle and number of bonds, taken alone, is one that the training had"
    if rare := known.rare(graph, covalent_radii)[:WORST]:
        return [f"{had}. The rarest: {'; '.join(_rare(frame, one) for one in rare)}."]
    return [f"{had}, and none of them is rare: new is how they come together."]


def _rare(frame: Atoms, one: Rare) -> str:
    return f"{_value(frame, one)} ({100 * one.share:.2g} % of the training's are as far out)"


def _value(frame: Atoms, one: Rare | Unknown) -> str:
    digits, between = (2, " to ") if one.kind.name == "distance" else (0, ", ")
    return f"{between.join(_atom(frame, i) for i in one.atoms)} {one.value:.{digits}f} {one.kind.unit}".replace(" °", "°")


def _unknown(frame: Atoms, one: Unknown) -> str:
    names = " and ".join(chemical_symbols[z] for z in one.elements)
    if one.kind.name == "coordination":
        had = f"{names} never met in it" if one.known is None else "it had " + " to ".join(dict.fromkeys(f"{end:.0f}" for end in one.known))
        return f"{_atom(frame, one.atoms[0])} is bonded to {one.value:.0f} {chemical_symbols[one.elements[1]]} ({had})"
    digits = 2 if one.kind.name == "distance" else 0
    had = f"{names} never met in it" if one.known is None else "nearest it had: " + " to ".join(f"{end:.{digits}f}" for end in one.known)
    return f"{_value(frame, one)} ({had})"


def _growth(growth: Growth) -> list[str]:
    """Over the last BACK fs."""
    there = np.isfinite(growth.times) & np.isfinite(growth.values)
    times, values = growth.times[there], growth.values[there]
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
    calculator = atoms.calc
    checkpoint = getattr(calculator, "checkpoint", None)
    model = getattr(calculator, "parameters", {}).get("model", "MODEL")
    flagged = "flagged.xyz" if monitor.flagged is None else str(monitor.flagged)
    known, score = getattr(checkpoint, "environments", None), monitor.halt_reason.criterion
    timed = [(record.time, record.scores[score]) for record in records if record.time is not None and score in record.scores]
    growth = Growth(score, *np.array(timed, dtype=float).reshape(-1, 2).T)
    return "\n".join(explanation(str(monitor.halt_reason), monitor.halting_frame, growth, known, flagged, model))
