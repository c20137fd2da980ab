"""Why a monitor ended a run, for whoever has to go on: atoms, distances, how the uncertainty grew, what to do. Uses ASE."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.neighborlist import neighbor_list

from race_calc.md.images import monitored_images
from race_calc.md.record import SIGMA, MonitorRecord
from race_calc.uncertainty.decisions import Violation
from race_calc.uncertainty.known_distances import KnownDistances

WORST = 3  # atoms, and distances, that are named
BOND = 1.25  # times the sum of the covalent radii
ALONG, ACROSS = 0.85, 0.4  # |cos| of an angle to a bond
BACK = 50.0  # fs


def explanation(
    halt: Violation, frame: Atoms, records: Sequence[MonitorRecord], known: KnownDistances | None, flagged: str, model: str
) -> list[str]:
    """Sentences. frame: the halting one, annotated; records: of the checks before it; known: the distances of the training, where the model
    has them; flagged, model: file and folder, for the commands."""
    lines = [f"{halt}."]
    if SIGMA in frame.arrays:
        sigma = frame.arrays[SIGMA]
        worst = np.argsort(sigma)[::-1][:WORST]
        named = ", ".join(f"{_atom(frame, i)} {sigma[i]:.3g} eV/Å" for i in worst)
        lines.append(f"Least known are the forces on {named} (σ; the median atom has {np.median(sigma):.3g}).")
        lines.append(_direction(frame, int(worst[0])))
    lines += _distances(frame, known)
    lines += _growth(halt, records)
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
        return f"The force on atom {i} is uncertain along its bond {bond}: the model does not know this length."
    if cosines[best] < ACROSS:
        return f"The force on atom {i} is uncertain across its bonds: the model does not know these angles or dihedrals."
    return f"The force on atom {i} is uncertain in a direction between its bonds."


def _distances(frame: Atoms, known: KnownDistances | None) -> list[str]:
    if known is None:
        return ["This model does not say which distances it was trained with (models of release 0.2 on do)."]
    first, other, distance = neighbor_list("ijd", frame, known.cutoff)
    outside = []
    for i, j, r in zip(first, other, distance):
        pair = int(min(frame.numbers[[i, j]])), int(max(frame.numbers[[i, j]]))
        intervals = known.intervals.get(pair, np.zeros((0, 2)))
        if i < j and not any(low <= r <= high for low, high in intervals):
            gap = min((abs(r - end) for end in intervals.ravel()), default=np.inf)
            outside.append((gap, f"{_atom(frame, i)} to {_atom(frame, j)} {r:.2f} Å ({_known(pair, intervals, r)})"))
    if not outside:
        return ["Every distance is one that the training had."]
    outside.sort(key=lambda one: -one[0])
    return ["Distances that the training did not have: " + "; ".join(text for _, text in outside[:WORST]) + "."]


def _known(pair: tuple[int, int], intervals: np.ndarray, r: float) -> str:
    if not len(intervals):
        return f"{chemical_symbols[pair[0]]} and {chemical_symbols[pair[1]]} never met in it"
    low, high = min(intervals, key=lambda one: min(abs(r - one[0]), abs(r - one[1])))
    return f"nearest it had: {low:.2f} to {high:.2f}"


def _growth(halt: Violation, records: Sequence[MonitorRecord]) -> list[str]:
    """Of the score that ended the run, over the last BACK fs."""
    timed = [
        (record.time, record.scores[halt.criterion]) for record in records if record.time is not None and halt.criterion in record.scores
    ]
    before = [(time, value) for time, value in timed if timed[-1][0] - time <= BACK] if timed else []
    if len(before) < 2 or not before[0][1] > 0:
        return []
    (begin, first), (end, last) = before[0], before[-1]
    return [f"In the last {end - begin:.0f} fs {halt.criterion} went from {first:.3g} to {last:.3g}, {last / first:.1f} times as much."]


def explained(monitor: Any, records: Sequence[MonitorRecord]) -> str:
    """Of a monitor that ended a run. Raises ValueError where it did not, or nothing was predicted."""
    if monitor.halt_reason is None or monitor.halting_frame is None:
        raise ValueError("there is no halt to explain: ask after a run that the monitor ended")
    (_, atoms), *_ = monitored_images(monitor.dynamics)
    calculator = atoms.calc
    checkpoint = getattr(calculator, "checkpoint", None)
    model = getattr(calculator, "parameters", {}).get("model", "MODEL")
    flagged = "flagged.xyz" if monitor.flagged is None else str(monitor.flagged)
    known = getattr(checkpoint, "known_distances", None)
    return "\n".join(explanation(monitor.halt_reason, monitor.halting_frame, records, known, flagged, model))
