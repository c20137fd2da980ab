"""Relaxations under the monitor: a structure, with its cell, or the band between two. Uses ASE."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.mep import NEB
from ase.optimize import FIRE

from race_calc.md.attach import UncertaintyMonitor
from race_calc.md.record import MonitorRecord, annotate
from race_calc.uncertainty.decisions import Violation
from race_calc.uncertainty.scores import fills_space

RELAXED, BAND, LOG, FLAGGED = "relaxed.xyz", "band.xyz", "monitor.jsonl", "flagged.xyz"


@dataclass(frozen=True)
class Relaxed:
    """The structure, or the images of the band, with predictions; steps; whether the forces came below fmax; why it was halted, or None,
    and what `UncertaintyMonitor.explain` said then."""

    images: tuple[Atoms, ...]
    steps: int
    converged: bool
    halt: Violation | None
    explanation: str = ""


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
    calculator = first.calc
    for end in ends:
        end.calc = calculator
        FIRE(end, logfile=None).run(fmax=fmax, steps=steps)
    band = [first, *(first.copy() for _ in range(images - 2)), last]
    neb = NEB(band, climb=climb, method="improvedtangent", allow_shared_calculator=True)
    neb.interpolate("idpp", mic=bool(first.pbc.any()), apply_constraint=True)
    for image in band:
        image.calc = calculator
    return _run(FIRE(neb, logfile=None), band, out / BAND, fmax, steps, callback)


def _check(fmax: float) -> None:
    if not fmax > 0:
        raise ValueError(f"fmax must be above 0 eV/Å, got {fmax}")


def _run(optimiser: Any, images: Sequence[Atoms], path: Path, fmax: float, steps: int, callback: Any) -> Relaxed:
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in (LOG, FLAGGED):
        (path.parent / name).unlink(missing_ok=True)
    monitor = UncertaintyMonitor(optimiser, logfile=path.parent / LOG, flagged=path.parent / FLAGGED, callback=callback)
    converged = bool(optimiser.run(fmax=fmax, steps=steps)) and monitor.halt_reason is None
    monitor.detach()  # the log tells the end
    frames = tuple(annotate(atoms) for atoms in images)
    ase.io.write(path, frames, format="extxyz")
    said = "" if monitor.halt_reason is None else monitor.explain()
    return Relaxed(frames, int(optimiser.nsteps), converged, monitor.halt_reason, said)
