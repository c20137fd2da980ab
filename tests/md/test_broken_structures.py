"""Numbers that are not finite end a run as a halt: in the log, in `halt_reason`, with the frame kept."""

import re
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read
from ase.md.verlet import VelocityVerlet
from ase.mep import NEB
from ase.optimize import FIRE
from fake_calculator import HarmonicEnsemble, water

from race_calc import Committee, Criterion, RACECalculator, UncertaintyMonitor, from_results, read_log
from race_calc.interfaces.from_results import Layout

FORCE = "forces_uncertainty_max_epistemic"
HIGH = [Criterion(FORCE, 1e9)]


def argon_of(calc):
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    atoms.rattle(0.05, seed=1)
    atoms.calc = calc
    return atoms


def committee():
    return Committee([LennardJones(epsilon=0.01 * e, sigma=3.4, rc=8.0, smooth=True) for e in (0.9, 1.1)])


class Told(LennardJones):
    """Tells the forces of two members."""

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        for name in ("energy", "forces"):
            self.results[f"{name}_both"] = np.array([0.9 * self.results[name], 1.1 * self.results[name]])


def ethanol(folder):
    atoms = molecule("CH3CH2OH")
    atoms.calc = RACECalculator(folder)
    return atoms


@pytest.mark.parametrize("potential", ["race", "committee", "from_results"])
@pytest.mark.parametrize("optimiser", [False, True])
def test_positions_that_a_calculator_refuses_are_a_halt(potential, optimiser, tiny_model, tmp_path):
    layout = Layout("both", "of this test", "energy_both", "forces_both")
    atoms = (
        ethanol(tiny_model)
        if potential == "race"
        else argon_of(committee() if potential == "committee" else from_results(Told(epsilon=0.01, sigma=3.4, rc=8.0), layout))
    )
    dyn = FIRE(atoms, logfile=None) if optimiser else VelocityVerlet(atoms, 0.1 * units.fs)
    log, flagged = tmp_path / "m.jsonl", tmp_path / "f.xyz"
    monitor = UncertaintyMonitor(dyn, HIGH, logfile=log, flagged=flagged)
    other = atoms.copy()
    other.calc = atoms.calc
    good = []

    def break_it():
        if dyn.nsteps == 3 and not good:
            good.append(atoms.positions.copy())
            atoms.positions[1, 2] = np.nan

    dyn.attach(break_it)
    with pytest.raises(ValueError, match="positions of atom 1 are not finite"):
        dyn.run(steps=9, **({"fmax": 1e-9} if optimiser else {}))
    assert monitor.record.step == 3 and monitor.halt_reason.criterion == "structure"
    assert "halt at step 3: the calculator refuses the structure: positions of atom 1 are not finite" in str(monitor.halt_reason)
    assert monitor.halting_frame.info["violations"] == "structure" and np.isnan(monitor.halting_frame.positions[1, 2])
    (run,) = read_log(log)
    assert run.action[-1] == "halt" and run.action.count("halt") == 1 and np.isnan(run.energy[-1]) and not flagged.exists()
    with pytest.raises(ValueError, match="cannot be accepted"):
        monitor.accept()

    other.positions[0, 0] = np.nan  # no structure of this run
    with pytest.raises(ValueError, match="positions of atom 0"):
        other.get_forces()
    assert len(read_log(log)[0].action) == len(run.action) and "atom 1" in str(monitor.halt_reason)
    atoms.positions = good[0]
    atoms.set_velocities(np.zeros((len(atoms), 3)))
    dyn.run(steps=2, **({"fmax": 1e-9} if optimiser else {}))
    assert monitor.halt_reason is None and monitor.halting_frame is None
    monitor.detach()
    atoms.positions[1, 2] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        atoms.get_forces()
    assert monitor.halt_reason is None


def test_a_cell_that_is_not_finite(tmp_path):
    atoms = argon_of(committee())
    dyn = VelocityVerlet(atoms, 0.1 * units.fs)
    monitor = UncertaintyMonitor(dyn, HIGH, flagged=None)
    dyn.attach(lambda: dyn.nsteps == 2 and atoms.cell.__setitem__((0, 0), np.inf))
    with pytest.raises(ValueError, match="the cell is not finite: the run has blown up"):
        dyn.run(9)
    assert "the cell is not finite" in str(monitor.halt_reason) and np.isinf(monitor.halting_frame.cell[0, 0])


@pytest.mark.filterwarnings("ignore:invalid value encountered in det")
@pytest.mark.parametrize(("what", "message"), [("cell", "the cell is not finite"), ("positions", r"position of atom 0 \(Cu\) is not")])
def test_a_potential_that_predicts_whatever_it_is_given(what, message, tmp_path):
    """The guard sees it, though no score can."""
    atoms = bulk("Cu", cubic=True)
    atoms.calc = HarmonicEnsemble(atoms)
    dyn = VelocityVerlet(atoms, 0.5 * units.fs)
    monitor = UncertaintyMonitor(dyn, HIGH, logfile=tmp_path / "m.jsonl", flagged=tmp_path / "f.xyz")

    def break_it():
        if dyn.nsteps == 2:
            (atoms.cell if what == "cell" else atoms.positions)[0, 0] = np.nan

    dyn.insert_observer(break_it, 0)
    dyn.run(9)
    assert dyn.nsteps == 2
    assert re.search(message, str(monitor.halt_reason))
    assert monitor.halting_frame.info["violations"] == "structure" and read_log(tmp_path / "m.jsonl")[0].action[-1] == "halt"
    assert not (tmp_path / "f.xyz").exists()


def test_a_foreign_predictor_that_refuses():
    atoms = water()
    dyn = VelocityVerlet(atoms, 0.5 * units.fs)
    monitor = UncertaintyMonitor(dyn, HIGH, flagged=None)

    def refuse(atoms):
        raise ValueError("too far from home")

    def swap():
        if dyn.nsteps == 2:
            atoms.calc.prediction = refuse

    dyn.attach(swap)
    with pytest.raises(ValueError, match="too far from home"):
        dyn.run(9)
    assert str(monitor.halt_reason) == "halt at step 3: the calculator refuses the structure: too far from home"


class Broken(HarmonicEnsemble):
    """Its mean is fine, one of its uncertainties or forces is not a number."""

    what: str

    def prediction(self, atoms):
        good = super().prediction(atoms)
        field = {"covariance": "forces_covariance_epistemic", "forces": "forces", "energy": "energy"}[self.what]
        values = np.array(getattr(good, field))
        values.flat[-1] = np.nan
        return replace(good, **{field: values})


def neb_of(calculators):
    first, last = (Atoms("CuH", positions=[[0, 0, 0], [x, 0, 0]]) for x in (1.5, 2.5))
    images = [first, *(first.copy() for _ in calculators), last]
    neb = NEB(images, method="improvedtangent")
    neb.interpolate()
    for image, calculator in zip(images[1:-1], calculators, strict=True):
        image.calc = calculator
    for image in (first, last):
        image.calc = SinglePointCalculator(image, energy=0.0, forces=np.zeros((2, 3)))
    return neb


@pytest.mark.parametrize("image", [1, 2, 3])
@pytest.mark.parametrize("what", ["covariance", "forces", "energy"])
def test_an_image_with_a_number_that_is_none_is_noticed(image, what):
    reference = Atoms("CuH", positions=[[0, 0, 0], [1.5, 0, 0]])
    calculators = [HarmonicEnsemble(reference) for _ in range(3)]
    calculators[image - 1] = Broken(reference)
    calculators[image - 1].what = what
    opt = FIRE(neb_of(calculators), logfile=None)
    monitor = UncertaintyMonitor(opt, HIGH, flagged=None)
    opt.run(fmax=1e-9, steps=5)
    assert opt.nsteps == 0 and monitor.halt_reason.image == image and monitor.halting_frame.info["image"] == image
    if what == "covariance":
        assert monitor.halt_reason.criterion == FORCE and np.isnan(monitor.record.scores[FORCE])
        assert np.isfinite(monitor.record.scores["energy_uncertainty_per_atom"])
    else:
        assert monitor.halt_reason.criterion == "structure" and "is not finite" in str(monitor.halt_reason)


@pytest.mark.parametrize("odd", [0, 2])
def test_images_whose_calculators_give_other_scores_are_compared_in_those_of_all(odd):
    reference = Atoms("CuH", positions=[[0, 0, 0], [1.5, 0, 0]])
    calculators = [HarmonicEnsemble(reference, aleatoric=k != odd) for k in range(3)]
    opt = FIRE(neb_of(calculators), logfile=None)
    with pytest.raises(ValueError, match="cannot give the criterion 'bald_energy'"):
        UncertaintyMonitor(opt, [Criterion("bald_energy", 1.0)], flagged=None)
    monitor = UncertaintyMonitor(opt, HIGH, flagged=None)
    opt.run(fmax=1e-9, steps=1)
    assert FORCE in monitor.record.scores and "bald_energy" not in monitor.record.scores


def test_images_with_different_thresholds_need_numbers(tmp_path):
    reference = Atoms("CuH", positions=[[0, 0, 0], [1.5, 0, 0]])
    made = [HarmonicEnsemble(reference, thresholds={FORCE: limit, "bald_energy": 5.0}) for limit in (0.5, 0.5, 0.7)]
    for k, calculator in enumerate(made):
        calculator.model_hash = f"model {k}"
    opt = FIRE(neb_of(made), logfile=None)
    for asked in ([Criterion(FORCE)], None):
        with pytest.raises(ValueError, match=r"different thresholds \(image 1: .* 0.5.*; image 3: .* 0.7.*give the criteria with numbers"):
            UncertaintyMonitor(opt, asked, flagged=None)
    UncertaintyMonitor(opt, [Criterion("bald_energy")], flagged=None)  # the same one for all
    UncertaintyMonitor(opt, [Criterion(FORCE, 0.0)], logfile=tmp_path / "m.jsonl", flagged=tmp_path / "f.xyz")
    opt.run(fmax=1e-9, steps=1)
    (frame,) = read(tmp_path / "f.xyz", ":")
    assert frame.info["model"] == f"model {frame.info['image'] - 1}" and read_log(tmp_path / "m.jsonl")[0].model is None
