"""The monitor on ASE optimisers, cell filters and NEB, with a fake ensemble."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.filters import FrechetCellFilter
from ase.io import read
from ase.mep import NEB
from ase.optimize import BFGS, FIRE
from ase.optimize.sciopt import SciPyFminCG
from fake_calculator import HarmonicEnsemble, water

from race_calc.md.attach import UncertaintyMonitor
from race_calc.uncertainty.decisions import Criterion

FORCE = "forces_uncertainty_max_epistemic"


@pytest.mark.parametrize("optimiser", [BFGS, FIRE, SciPyFminCG])
def test_an_optimiser_halts_and_goes_on(optimiser):
    atoms = water()
    atoms.positions[0, 1] += 0.3
    opt = optimiser(atoms, logfile=None)
    monitor = UncertaintyMonitor(opt, [Criterion(FORCE, 1e-4)], flagged=None)
    opt.run(fmax=1e-6)
    assert opt.nsteps == 0 and monitor.halt_reason.element == "O"
    assert monitor.record.time is None and monitor.record.temperature is None
    monitor.criteria = (Criterion(FORCE, 1.0),)
    opt.run(fmax=1e-6)
    assert opt.nsteps > 0 and monitor.halt_reason is None
    np.testing.assert_allclose(atoms.positions, atoms.calc.reference.positions, atol=1e-5)


def test_scipy_halts_in_the_middle_with_the_frame_in_the_trajectory(tmp_path):
    atoms = water()
    atoms.positions[0, 1] += 0.3
    opt = SciPyFminCG(atoms, logfile=None, trajectory=str(tmp_path / "opt.traj"))
    monitor = UncertaintyMonitor(opt, [Criterion(FORCE, 0.0, "halt", consecutive=2)], flagged=None)
    opt.run(fmax=1e-9)
    assert opt.nsteps == 1 == monitor.halt_reason.step
    assert len(read(tmp_path / "opt.traj", ":")) == 2


def test_bfgs_with_a_cell_filter(tmp_path):
    atoms = bulk("Cu", cubic=True)
    calc = HarmonicEnsemble(atoms)
    atoms.set_cell(atoms.cell * 1.02, scale_atoms=True)
    atoms.rattle(0.1, seed=3)
    atoms.calc = calc
    opt = BFGS(FrechetCellFilter(atoms), logfile=None)
    monitor = UncertaintyMonitor(opt, [Criterion(FORCE, 0.0, consecutive=4)], flagged=tmp_path / "flagged.xyz")
    opt.run(fmax=1e-3, steps=50)
    assert opt.nsteps == 3 and monitor.halt_reason.element == "Cu"
    frame = read(tmp_path / "flagged.xyz")
    assert len(frame) == 4
    np.testing.assert_allclose(frame.get_stress(), atoms.get_stress(), atol=1e-7)


def make_neb(shared):
    first = Atoms("CuH", positions=[[0, 0, 0], [1.5, 0, 0]])
    last = Atoms("CuH", positions=[[0, 0, 0], [2.5, 0, 0]])
    images = [first, *(first.copy() for _ in range(3)), last]
    neb = NEB(images, allow_shared_calculator=shared, method="improvedtangent")
    neb.interpolate()
    for image in images[1:-1]:
        image.positions[1, 1] += 0.2  # off the line, so that the band has to relax
    one = HarmonicEnsemble(first)
    for image in images[1:-1]:
        image.calc = one if shared else HarmonicEnsemble(first)
    for image in (first, last):
        image.calc = SinglePointCalculator(image, energy=0.0, forces=np.zeros((2, 3)))
    return neb


@pytest.mark.parametrize("shared", [False, True])
def test_fire_on_neb_reports_the_image(shared, tmp_path):
    neb = make_neb(shared)
    opt = FIRE(neb, logfile=None)
    monitor = UncertaintyMonitor(opt, [Criterion(FORCE, 0.01, consecutive=3)], flagged=tmp_path / "flagged.xyz")
    opt.run(fmax=1e-6, steps=20)
    assert opt.nsteps == 2
    reason = monitor.halt_reason
    assert (reason.image, reason.atom_index, reason.element) == (3, 1, "H")
    assert "of image 3" in str(reason)
    frame = read(tmp_path / "flagged.xyz")
    assert frame.info["image"] == 3
    np.testing.assert_allclose(frame.positions, neb.images[3].positions, atol=1e-7)
    opt.run(fmax=1e-6, steps=20)
    assert opt.nsteps == 3
