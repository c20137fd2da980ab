"""Every dynamics and optimiser of ASE is watched at each step and ends at the halt."""

import numpy as np
import pytest
from ase import Atoms, optimize, units
from ase.build import bulk
from ase.calculators.morse import MorsePotential
from ase.filters import FrechetCellFilter
from ase.md import (
    andersen,
    bussi,
    contour_exploration,
    langevin,
    langevinbaoab,
    melchionna,
    nose_hoover_chain,
    nptberendsen,
    nvtberendsen,
    verlet,
)
from ase.mep.dimer import DimerControl, MinModeAtoms, MinModeTranslate
from ase.mep.neb import NEBOptimizer
from ase.optimize import cellawarebfgs, ode, sciopt
from ase.optimize.precon import PreconFIRE, PreconLBFGS
from ase.optimize.sciopt import OptimizerConvergenceError
from fake_calculator import HarmonicEnsemble, water
from test_broken_structures import neb_of

from race_calc import Committee, Criterion, UncertaintyMonitor

THIRD = [Criterion("forces_uncertainty_max_epistemic", 0.0, consecutive=3)]
DT, T, RNG = 0.5 * units.fs, {"temperature_K": 300}, {"rng": np.random.default_rng(0)}
MD = {
    "VelocityVerlet": lambda a: verlet.VelocityVerlet(a, DT),
    "Langevin": lambda a: langevin.Langevin(a, DT, friction=0.1, fixcm=False, **T, **RNG),
    "LangevinBAOAB": lambda a: langevinbaoab.LangevinBAOAB(a, DT, T_tau=10 * units.fs, **T, **RNG),
    "Andersen": lambda a: andersen.Andersen(a, DT, andersen_prob=0.1, **T, **RNG),
    "Bussi": lambda a: bussi.Bussi(a, DT, taut=10 * units.fs, **T, **RNG),
    "NVTBerendsen": lambda a: nvtberendsen.NVTBerendsen(a, DT, taut=10 * units.fs, **T),
    "NPTBerendsen": lambda a: nptberendsen.NPTBerendsen(a, DT, pressure_au=0.0, compressibility_au=1.0, **T),
    "NoseHooverChainNVT": lambda a: nose_hoover_chain.NoseHooverChainNVT(a, DT, tdamp=10 * units.fs, **T),
    "MTKNPT": lambda a: nose_hoover_chain.MTKNPT(a, DT, pressure_au=0.0, tdamp=50 * units.fs, pdamp=500 * units.fs, **T),
    "MelchionnaNPT": lambda a: melchionna.MelchionnaNPT(a, DT, externalstress=0.0, ttime=50 * units.fs, pfactor=1.0, **T),
    "ContourExploration": lambda a: contour_exploration.ContourExploration(a, maxstep=0.05, **RNG),
}
OPTIMISERS = {
    name: getattr(optimize, name)
    for name in ["BFGS", "BFGSLineSearch", "LBFGS", "LBFGSLineSearch", "FIRE", "FIRE2", "MDMin", "GPMin", "GoodOldQuasiNewton", "RFO"]
} | {
    "ODE12r": ode.ODE12r,
    "PreconFIRE": PreconFIRE,
    "PreconLBFGS": PreconLBFGS,
    **{name: getattr(sciopt, name) for name in ("SciPyFminCG", "SciPyFminBFGS", "SciPyFmin", "SciPyFminPowell")},
}


@pytest.mark.parametrize("name", MD)
@pytest.mark.filterwarnings("ignore")
def test_dynamics(name):
    atoms = bulk("Cu", cubic=True)
    atoms.calc = HarmonicEnsemble(atoms)
    atoms.rattle(0.1, seed=1)
    atoms.set_momenta(np.random.default_rng(1).normal(size=(4, 3)))
    dyn = MD[name](atoms)
    monitor = UncertaintyMonitor(dyn, THIRD, flagged=None)
    dyn.run(steps=9)
    assert dyn.nsteps == monitor.halt_reason.step == 2


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.filterwarnings("ignore")
def test_optimisers(name):
    atoms = Atoms("Cu3", [[0, 0, 0], [2.9, 0, 0], [0.9, 2.6, 0.3]])  # not harmonic: a line search would find its minimum at once
    atoms.calc = Committee([MorsePotential(epsilon=e, r0=2.5, rho0=4.0) for e in (0.9, 1.1)])
    opt = OPTIMISERS[name](atoms, logfile=None)
    opt.fmax = 0.0  # ASE's gradientless optimisers look for it without setting it
    monitor = UncertaintyMonitor(opt, THIRD, flagged=None)
    opt.run(steps=9, **({} if isinstance(opt, sciopt.SciPyGradientlessOptimizer) else {"fmax": 0.0}))
    assert monitor.halt_reason.step == monitor.record.step == 2 and monitor.halt_reason.in_a_row == 3


def test_a_cell_that_bfgs_knows_of():
    atoms = bulk("Cu", cubic=True)
    atoms.calc = HarmonicEnsemble(atoms)
    atoms.rattle(0.1, seed=1)
    opt = cellawarebfgs.CellAwareBFGS(FrechetCellFilter(atoms, exp_cell_factor=1.0), logfile=None)
    monitor = UncertaintyMonitor(opt, THIRD, flagged=None)
    opt.run(fmax=1e-9, smax=1e-9, steps=9)
    assert opt.nsteps == monitor.halt_reason.step == 2


def test_a_dimer():
    atoms = water()
    atoms.positions[0, 1] += 0.2
    control = DimerControl(logfile=None, displacement_method="vector", mask=[True] * 3)
    dimer = MinModeAtoms(atoms, control)
    dimer.displace(displacement_vector=np.full((3, 3), 0.01))
    opt = MinModeTranslate(dimer, logfile=None)
    monitor = UncertaintyMonitor(opt, THIRD, flagged=None)
    opt.run(fmax=1e-9, steps=9)
    assert opt.nsteps == monitor.halt_reason.step == 2


@pytest.mark.parametrize("method", ["ode", "static"])
def test_the_optimiser_of_a_neb_with_a_loop_of_its_own(method):
    neb = neb_of([HarmonicEnsemble(water()[:2]) for _ in range(2)])
    for image in neb.images[1:-1]:
        image.positions[1, 1] += 0.3
    opt = NEBOptimizer(neb, method=method, logfile=None)
    monitor = UncertaintyMonitor(opt, THIRD, flagged=None)
    if method == "ode":
        assert opt.run(fmax=1e-9, steps=50) is False
    else:
        with pytest.raises(OptimizerConvergenceError, match="the monitor ended the run: halt at step"):
            opt.run(fmax=1e-9, steps=50)
    assert monitor.halt_reason.in_a_row == 3 and opt.nsteps == monitor.halt_reason.step
    monitor.detach()
    assert opt.observers == []
