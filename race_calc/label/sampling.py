"""Geometries to label: MD with the method itself, at several temperatures.

Every temperature has CHAINS trajectories, or one from each structure if there are more. A frame is what a segment of Langevin
dynamics ends with; each segment has a random state of its own, so the work can be stopped after any of them and goes on to the same
frames, on as many processes as there are.
"""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin

from race_calc.data.lock import locked
from race_calc.data.momenta import thermal_momenta
from race_calc.data.structure import checked
from race_calc.label.file import scratch_folder
from race_calc.label.frame import bare
from race_calc.label.journal import Journal, hash_of
from race_calc.label.methods import Method, in_folder
from race_calc.label.parallel import Failure, over_processes

CHAINS = 4  # trajectories for each temperature
TIMESTEP = 0.5  # fs
SPACING = 25.0  # fs from one frame of a trajectory to the next
START = 200.0  # fs before the first: a relaxed structure takes up half of the kinetic energy
FRICTION = 0.02  # 1/fs
ATTEMPTS = 5  # at a segment, each from the first structure with other velocities, before the sampling ends


@dataclass(frozen=True)
class Plan:
    """`temperatures` (K), `frames` in all, the seed of all random numbers. Raises ValueError for what is no sampling."""

    temperatures: tuple[float, ...]
    frames: int
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperatures or not all(0 < t < float("inf") for t in self.temperatures):
            raise ValueError(f"the temperatures are {self.temperatures}: give numbers > 0, in K, such as 600,1000,1500")
        if self.seed < 0:
            raise ValueError(f"the seed is {self.seed}: give a whole number >= 0")
        if self.frames < len(self.temperatures):
            raise ValueError(f"{self.frames} frames are fewer than one for each of {len(self.temperatures)} temperatures: give more")

    def chains(self, starts: int) -> int:
        return min(max(CHAINS, starts) * len(self.temperatures), self.frames)

    def temperature(self, chain: int) -> float:
        return self.temperatures[chain % len(self.temperatures)]

    def start(self, chain: int, starts: int) -> int:
        """Which structure a chain begins at: each is heated to every temperature."""
        return chain // len(self.temperatures) % starts

    def segments(self, chain: int, starts: int) -> int:
        """Frames of a chain: they differ by one at most."""
        return len(range(chain, self.frames, self.chains(starts)))


@dataclass(frozen=True)
class Segment:
    """Where a piece of a trajectory begins: `first` says that it is at the start, `attempt` how often it failed there."""

    chain: int
    number: int
    atoms: Atoms
    first: bool
    attempt: int = 0


def sample(
    starts: Sequence[Atoms], plan: Plan, method: Method, path: Path, processes: int, report: Callable[[int, int], None] = lambda *_: None
) -> list[Atoms]:
    """Frames of all chains, chain after chain, with elements, positions, cell, initial charges and moments of their starts and nothing
    else. Info: `temperature` (K) and `chain`.

    `path`: the journal, from which the same work goes on; who has used the frames deletes it. `report`: called with the numbers of
    frames that are there and of all. Raises ValueError for structures that cannot be moved, and where a segment fails ATTEMPTS times,
    RunningError where another process is at the same work.
    """
    for k, atoms in enumerate(starts):
        try:
            method.check(atoms)
            checked(atoms)
        except ValueError as error:
            raise ValueError(f"structure {k}: {error}") from None
    if not starts:
        raise ValueError("there is no structure to begin at")
    method.calculator()
    settings = [CHAINS, TIMESTEP, SPACING, START, FRICTION]
    task = {"structures": hash_of(starts), "plan": [*plan.temperatures, plan.frames, plan.seed], "settings": settings}
    journal = Journal(path, task | {"method": method.name, "code": method.code()})
    with locked(path.absolute().parent, path.name + ".lock"):
        try:
            done = _ends(starts, plan, method, journal, processes, report)
        except ValueError:
            if not journal.begin():
                path.unlink()  # there is nothing to go on with: other settings may begin
            raise
    return [_frame(plan, starts, *key, done[key]) for key in sorted(done)]


def _ends(
    starts: Sequence[Atoms], plan: Plan, method: Method, journal: Journal, processes: int, report: Callable[[int, int], None]
) -> dict[tuple[int, int], dict[str, Any]]:
    """(chain, number) → what `_run` gives for a segment, of all; those in the journal are not run again."""
    done = {divmod(piece, plan.frames): entry for piece, entry in journal.begin().items()}
    first = (_next(plan, starts, chain, done) for chain in range(plan.chains(len(starts))))
    waiting = deque(segment for segment in first if segment is not None)
    report(len(done), plan.frames)
    with scratch_folder() as scratch, closing(over_processes(partial(_run, plan, method, scratch), waiting, processes)) as results:
        for segment, result in results:
            if isinstance(result, Failure):
                waiting.append(_again(plan, starts, segment, result.reason))
                continue
            done[segment.chain, segment.number] = result
            journal.append(segment.chain * plan.frames + segment.number, result)
            report(len(done), plan.frames)
            following = _next(plan, starts, segment.chain, done)
            if following is not None:
                waiting.append(following)
    return done


def _begin(plan: Plan, starts: Sequence[Atoms], chain: int) -> Atoms:
    """A bare copy of the structure that a chain begins at."""
    return bare(starts[plan.start(chain, len(starts))])


def _next(plan: Plan, starts: Sequence[Atoms], chain: int, done: dict[tuple[int, int], dict[str, Any]]) -> Segment | None:
    """The segment after the last one of a chain; None at its end."""
    segments = plan.segments(chain, len(starts))
    number = next(k for k in range(segments + 1) if (chain, k) not in done)
    if number == segments:
        return None
    atoms = _begin(plan, starts, chain)
    if number == 0:
        return Segment(chain, 0, atoms, first=True)
    last = done[chain, number - 1]
    atoms.positions = np.array(last["positions"])
    atoms.set_momenta(np.array(last["momenta"]), apply_constraint=False)
    return Segment(chain, number, atoms, first=False)


def _again(plan: Plan, starts: Sequence[Atoms], segment: Segment, why: str) -> Segment:
    """The same segment from the start of the chain, with other velocities. Raises ValueError after ATTEMPTS."""
    if segment.attempt + 1 == ATTEMPTS:
        raise ValueError(
            f"MD at {plan.temperature(segment.chain):g} K fails {ATTEMPTS} times in frame {segment.number} of chain {segment.chain} "
            f"({why}): lower the temperature, or relax the structure first"
        )
    return Segment(segment.chain, segment.number, _begin(plan, starts, segment.chain), True, segment.attempt + 1)


def _run(plan: Plan, method: Method, scratch: Path, segment: Segment) -> dict[str, Any]:
    """In a process of its own: positions and momenta at the end of a segment."""
    atoms, temperature = segment.atoms, plan.temperature(segment.chain)
    random = np.random.default_rng([plan.seed, segment.chain, segment.number, segment.attempt])
    if segment.first:
        atoms.set_momenta(thermal_momenta(atoms, temperature, random))
    with scratch_folder(scratch) as folder:
        atoms.calc = in_folder(method.calculator(), folder)
        dynamics = Langevin(atoms, TIMESTEP * units.fs, temperature_K=temperature, friction=FRICTION / units.fs, fixcm=False, rng=random)
        dynamics.run(round((START if segment.first else SPACING) / TIMESTEP))
    checked(atoms)
    return {"positions": atoms.positions.tolist(), "momenta": atoms.get_momenta().tolist()}


def _frame(plan: Plan, starts: Sequence[Atoms], chain: int, number: int, entry: dict[str, Any]) -> Atoms:
    atoms = _begin(plan, starts, chain)
    atoms.positions = np.array(entry["positions"])
    atoms.info |= {"temperature": plan.temperature(chain), "chain": chain}
    return atoms
