"""What i-PI and OpenMM cost beside the model, and what torch-sim saves by batches. Needs the extras ipi, openmm, torch-sim.

    python benchmarks/engines.py [--steps 200] [--copies 64]

NVE of 27 atoms of 3BPA, `models/3bpa-de`, one thread. Model: time in `Served.evaluate`; adapter: what else this package does in a step
(units, criteria of the halt, extras as JSON); engine: the rest of the step, and whole: what it takes. torch-sim: a call with all copies
against as many calls of `RACECalculator`, interleaved.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from ase.io import read
from common import arguments

from race_calc import RACECalculator
from race_calc.interfaces.served import Served

MODEL = Path(__file__).resolve().parents[1] / "models" / "3bpa-de"


class Timed:
    """A callable whose time is added up."""

    def __init__(self, function):
        self.function, self.seconds = function, 0.0

    def __call__(self, *args, **kwargs):
        began = time.perf_counter()
        try:
            return self.function(*args, **kwargs)
        finally:
            self.seconds += time.perf_counter() - began


def row(name: str, steps: int, whole: float, adapter: float, model: float) -> str:
    told = [1e3 * seconds / steps for seconds in (model, adapter - model, whole - adapter, whole - model)]
    return f"| {name} | " + " | ".join(f"{ms:.2f}" for ms in told) + " |"


def openmm(steps: int) -> str:
    import openmm as mm

    from race_calc.interfaces.openmm import OpenMMRace

    atoms, served = read(MODEL / "start.xyz"), Served(MODEL, device="cpu")
    served.evaluate = model = Timed(served.evaluate)
    race = OpenMMRace(served, list(atoms.symbols))
    compute = Timed(race._compute)
    race.force = mm.PythonForce(lambda state: compute(state))
    system = mm.System()
    for mass in atoms.get_masses():
        system.addParticle(mass)
    system.addForce(race.force)
    context = mm.Context(system, mm.VerletIntegrator(5e-4), mm.Platform.getPlatformByName("Reference"))
    context.setPositions(0.1 * atoms.positions)
    context.setVelocitiesToTemperature(300, 1)
    context.getIntegrator().step(5)
    model.seconds = compute.seconds = 0.0
    began = time.perf_counter()
    context.getIntegrator().step(steps)
    return row("OpenMM", steps, time.perf_counter() - began, compute.seconds, model.seconds)


def ipi(steps: int, committee: bool) -> str:
    from ipi.engine.forcefields import FFDirect
    from ipi.scripting import InteractiveSimulation, simulation_xml

    import race_calc.interfaces.ipi_pes as pes

    atoms = read(MODEL / "start.xyz")
    atoms.set_cell([40, 40, 40])
    parameters = f"{{model: {MODEL}, template: {MODEL / 'start.xyz'}, committee_forces: {committee}}}"
    direct = f"<ffdirect name='race'><pes>custom</pes><pes_path>{pes.__file__}</pes_path><parameters>{parameters}</parameters></ffdirect>"
    motion = "<motion mode='dynamics'><dynamics mode='nve'><timestep units='femtosecond'>0.5</timestep></dynamics></motion>"
    output = "<output prefix='run'><checkpoint filename='chk' stride='100000'/></output>"
    simulation = InteractiveSimulation(simulation_xml(atoms, direct, motion, temperature=0.025, output=output, safe_stride=1000))
    (field,) = (one for one in simulation.fflist.values() if isinstance(one, FFDirect))
    driver = field.driver
    driver.served.evaluate = model = Timed(driver.served.evaluate)
    field.driver = compute = Timed(driver)
    simulation.run(5, write_outputs=False)
    model.seconds = compute.seconds = 0.0
    began = time.perf_counter()
    simulation.run(steps, write_outputs=False)
    return row(
        "i-PI" if committee else "i-PI, without committee forces", steps, time.perf_counter() - began, compute.seconds, model.seconds
    )


def torch_sim(copies: int, rounds: int = 5) -> str:
    sys.path.remove(str(Path(__file__).resolve().parent))  # torch-sim imports a module `tables`, and means another one
    import torch_sim as ts

    from race_calc.interfaces.torch_sim import RaceModel

    structures = [read(MODEL / "start.xyz") for _ in range(copies)]
    for k, atoms in enumerate(structures):
        atoms.rattle(0.02, seed=k)
    state, model, calc = ts.initialize_state(structures, torch.device("cpu"), torch.float64), RaceModel(MODEL), RACECalculator(MODEL, "cpu")
    together, alone = [], []
    for _ in range(rounds):
        for times, work in ((together, lambda: model(state)), (alone, lambda: [calc.prediction(atoms) for atoms in structures])):
            began = time.perf_counter()
            work()
            times.append(time.perf_counter() - began)
    one, other = (1e3 * float(np.median(times)) / copies for times in (together, alone))
    return f"torch-sim, {copies} copies: {one:.2f} ms each together, {other:.2f} ms one at a time, ratio {one / other:.2f}"


if __name__ == "__main__":
    given = arguments(__doc__, steps=200, copies=64)
    os.chdir(tempfile.mkdtemp())  # i-PI writes where it runs
    torch.set_num_threads(1)
    lines = ["| engine | model, ms a step | adapter | engine | both beside the model |", "|---|---|---|---|---|"]
    lines += [openmm(given.steps), ipi(given.steps, True), ipi(given.steps, False), "", torch_sim(given.copies)]
    print("\n".join(lines))
