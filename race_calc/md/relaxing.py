"""Relaxations under the monitor: a structure, with its cell, or the band between two. Uses ASE.

The monitor flags, and ends only what has exploded: what counts is what it says of the last structure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.mep import NEB
from ase.optimize import FIRE

from race_calc.data.extxyz import as_extxyz
from race_calc.data.files import write_atomically
from race_calc.data.lock import locked
from race_calc.md.attach import UncertaintyMonitor
from race_calc.md.record import MonitorRecord, annotate
from race_calc.md.session_files import FLAGGED, LOCK, LOG, STATE
from race_calc.uncertainty.decisions import Violation
from race_calc.uncertainty.scores import fills_space

RELAXED, BAND = "relaxed.xyz", "band.xyz"


@dataclass(frozen=True)
class Relaxed:
    """The structure, or the images of the band, with predictions; steps; whether the forces came below fmax; why it was halted, or None,
    and what `UncertaintyMonitor.explain` said then; flags of the last check."""

    images: tuple[Atoms, ...]
    steps: int
    converged: bool
    halt: Violation | None
    explanation: str = ""
    flags: tuple[Violation, ...] = ()


def relax(
    atoms: Atoms, out: Path, fmax: float, steps: int, cell: bool = False, callback: Callable[[MonitorRecord], None] | None = None
) -> Relaxed:
    """With FIRE to forces below `fmax` (eV/Å), with `cell` also the stress. atoms: with a calculator that has predictions; they are moved.

    Writes relaxed.xyz, monitor.jsonl and flagged.xyz into the folder `out`. Raises ValueError for a cell that does not fill space.
    """
    _check(fmax)
    if cell and not fills_space(atoms):
        raise ValueError("only a cell that repeats in three directions can be relaxed: leave out --cell")
    optimiser = FIRE(FrechetCellFilter(atoms) if cell else atoms, logfile=None)
    return _run(optimiser, [atoms], out / RELAXED, fmax, steps, callback)


def relax_band(
    ends: tuple[Atoms, Atoms],
    images: int,
    out: Path,
    fmax: float,
    steps: int,
    climb: bool = True,
    callback: Callable[[MonitorRecord], None] | None = None,
) -> Relaxed:
    """A nudged elastic band of so many images between two structures, which are relaxed first; `ends[0]` brings the calculator.

    Writes band.xyz, monitor.jsonl and flagged.xyz into `out`. Raises ValueError for ends of other atoms and fewer than 3 images.
    """
    _check(fmax)
    first, last = ends
    if images < 3:
        raise ValueError(f"a band needs its two ends and an image between them, at least 3 images: got {images}")
    if first.get_chemical_symbols() != last.get_chemical_symbols():
        raise ValueError("the two structures have other atoms, or the same in another order: give the same atoms in the same order")
    if not np.allclose(first.cell, last.cell, atol=1e-6) or (first.pbc != last.pbc).any():
        raise ValueError("the two structures have other cells: give both in the same one")
    calculator = first.calc
    last.calc = calculator
    ready = [bool(FIRE(end, logfile=None).run(fmax=fmax, steps=steps)) for end in ends]
    band = [first, *(first.copy() for _ in range(images - 2)), last]
    neb = NEB(band, climb=climb, method="improvedtangent", allow_shared_calculator=True)
    neb.interpolate("idpp", mic=bool(first.pbc.any()), apply_constraint=True)
    for image in band:
        image.calc = calculator
    found = _run(FIRE(neb, logfile=None), band, out / BAND, fmax, steps, callback)
    return replace(found, converged=found.converged and all(ready))


def _check(fmax: float) -> None:
    if not fmax > 0:
        raise ValueError(f"fmax must be above 0 eV/Å, got {fmax}")


def _run(optimiser: Any, images: Sequence[Atoms], path: Path, fmax: float, steps: int, callback: Any) -> Relaxed:
    with locked(path.parent, LOCK):
        if (path.parent / STATE).exists():
            raise ValueError(f"{path.parent} holds a run of MD: give another folder")
        for name in (LOG, FLAGGED):
            (path.parent / name).unlink(missing_ok=True)
        monitor = UncertaintyMonitor(optimiser, logfile=path.parent / LOG, flagged=path.parent / FLAGGED, callback=callback)
        monitor.criteria = [one for one in monitor.criteria if one.action == "flag"]  # the way may lead through the unknown
        converged = bool(optimiser.run(fmax=fmax, steps=steps)) and monitor.halt_reason is None
        monitor.detach()  # the log tells the end
        frames = tuple(annotate(atoms) for atoms in images)
        write_atomically(path, as_extxyz(frames))
    said = "" if monitor.halt_reason is None else monitor.explain()
    flags = () if monitor.record is None else monitor.record.decision.acting
    return Relaxed(frames, int(optimiser.nsteps), converged, monitor.halt_reason, said, flags)
