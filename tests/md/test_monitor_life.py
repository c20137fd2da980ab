"""After a halt: accept, detach, other criteria, another calculator; exploded structures; which frames are saved."""

import json

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.io import read
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.optimize.sciopt import SciPyFminCG
from fake_calculator import HarmonicEnsemble, water

from race_calc import Criterion, UncertaintyMonitor, read_log
from race_calc.data.dataset import read_dataset
from race_calc.md.guard import explosion

FORCE = "forces_uncertainty_max_epistemic"


def verlet(atoms):
    return VelocityVerlet(atoms, 0.5 * units.fs)


def pulled(limit, tmp_path, step_length=0.01, **options):
    """A run in which one atom is pulled away by `step_length` a step: its score grows linearly."""
    atoms = water()
    atoms.set_momenta(np.zeros((3, 3)))
    dyn = verlet(atoms)
    log = tmp_path / "m.jsonl"
    monitor = UncertaintyMonitor(dyn, [Criterion(FORCE, limit)], logfile=log, flagged=None, **options)

    def pull():
        atoms.positions[0, 0] += step_length

    dyn.insert_observer(pull, 0)
    return monitor, dyn, log


def events(log, kind):
    return [line for line in map(json.loads, log.read_text().splitlines()) if line["event"] == kind]


def test_accept_raises_the_threshold_to_what_was_seen(tmp_path):
    monitor, dyn, log = pulled(0.003, tmp_path)
    dyn.run(100)
    halted, value = dyn.nsteps, monitor.halt_reason.value
    assert 0 < halted < 20 and monitor.halt_reason.criterion == FORCE
    monitor.accept()
    assert monitor.halt_reason is None
    assert monitor.criteria == (Criterion(FORCE, value),)
    dyn.run(100)
    assert dyn.nsteps > halted and monitor.halt_reason.threshold == value
    (line,) = events(log, "criteria")
    assert line["why"] == "accepted" and line["step"] == halted and line["criteria"][0]["threshold"] == value


def test_accept_can_silence_for_some_checks(tmp_path):
    monitor, dyn, log = pulled(0.003, tmp_path)
    dyn.run(100)
    halted = dyn.nsteps
    monitor.accept(checks=7)
    dyn.run(100)
    assert dyn.nsteps == halted + 8 and monitor.criteria == (Criterion(FORCE, 0.003),)
    assert events(log, "silent")[0]["checks"] == 7
    run = read_log(log)[0]
    assert run.action[-9:] == ("halt", *[None] * 7, "halt") and all(run.violations[-9:])


def test_there_must_be_a_halt_that_can_be_accepted(tmp_path):
    monitor, dyn, _ = pulled(0.003, tmp_path)
    with pytest.raises(ValueError, match="no halt to accept"):
        monitor.accept()
    dyn.run(100)
    with pytest.raises(ValueError, match="at least 1"):
        monitor.accept(checks=0)
    atoms = water(broken_after=2)
    dyn = verlet(atoms)
    monitor = UncertaintyMonitor(dyn, [Criterion(FORCE, 1e9)], flagged=None)
    dyn.run(10)
    with pytest.raises(ValueError, match="cannot be accepted.*not finite"):
        monitor.accept()


def test_detach_leaves_the_run_alone_and_a_second_monitor_starts_fresh(tmp_path):
    monitor, dyn, log = pulled(0.003, tmp_path)
    dyn.run(100)
    halted = dyn.nsteps
    monitor.detach()
    monitor.detach()
    second = UncertaintyMonitor(dyn, [Criterion(FORCE, 1e9)], logfile=log, flagged=None)
    dyn.run(5)
    assert dyn.nsteps == halted + 5 and second.halt_reason is None and second.run_id != monitor.run_id
    assert monitor.record.step == halted
    first, other = read_log(log)
    assert (first.run, other.run) == (monitor.run_id, second.run_id)
    assert [event["event"] for event in first.events] == ["detach"]
    opt = SciPyFminCG(water(), logfile=None)
    opt.atoms.positions[0, 1] += 0.3
    one = UncertaintyMonitor(opt, [Criterion(FORCE, 1e-4)], flagged=None)
    opt.run(fmax=1e-6)
    assert opt.nsteps == 0 and one.halt_reason is not None
    one.detach()
    UncertaintyMonitor(opt, [Criterion(FORCE, 1.0)], flagged=None)
    opt.run(fmax=1e-6)
    assert opt.nsteps > 0


def test_criteria_set_between_runs_are_resolved_and_checked(tmp_path):
    atoms = water(thresholds={FORCE: 0.5})
    monitor = UncertaintyMonitor(verlet(atoms), [Criterion(FORCE, 1.0)], flagged=None)
    monitor.criteria = [Criterion(FORCE, "auto", "flag")]
    assert monitor.criteria == (Criterion(FORCE, 0.5, "flag"),)
    with pytest.raises(ValueError, match="there is no threshold"):
        monitor.criteria = [Criterion("bald_energy", "auto")]


def test_another_calculator_brings_its_own_thresholds(tmp_path):
    atoms = water(thresholds={FORCE: 0.5})
    other = HarmonicEnsemble(atoms, thresholds={FORCE: 0.7})
    other.model_hash = "abc"
    log = tmp_path / "m.jsonl"
    dyn = verlet(atoms)
    monitor = UncertaintyMonitor(dyn, [Criterion(FORCE, "auto", "flag")], logfile=log, flagged=None)

    def swap():
        if dyn.nsteps == 3:
            atoms.calc = other

    dyn.attach(swap)
    dyn.run(6)
    assert monitor.criteria == (Criterion(FORCE, 0.7, "flag"),)
    (line,) = events(log, "criteria")
    assert (line["step"], line["why"], line["model"]) == (4, "another calculator", "abc")


def test_what_has_exploded():
    calc = HarmonicEnsemble(Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]))
    for distance, exploded in ((0.74, False), (0.32, False), (0.31, False), (0.30, True)):
        atoms = Atoms("H2", [[0, 0, 0], [0, 0, distance]])
        assert (explosion(atoms, calc.prediction(atoms)) is not None) == exploded
    crystal = bulk("Cu")
    assert explosion(crystal, HarmonicEnsemble(crystal).prediction(crystal)) is None
    crystal.set_cell(crystal.cell * 0.5, scale_atoms=True)  # its own images come too close
    assert "less than 0.5" in explosion(crystal, HarmonicEnsemble(crystal).prediction(crystal)).message
    lone = Atoms("H")
    assert explosion(lone, HarmonicEnsemble(lone).prediction(lone)) is None


def test_an_exploded_structure_halts_and_is_not_saved(tmp_path):
    atoms = water()
    flagged, log = tmp_path / "flagged.xyz", tmp_path / "m.jsonl"
    dyn = verlet(atoms)
    monitor = UncertaintyMonitor(dyn, [Criterion(FORCE, 0.0, "flag")], logfile=log, flagged=flagged)

    def squeeze():
        if dyn.nsteps == 3:
            atoms.positions[1] = atoms.positions[0] + [0, 0, 0.2]

    dyn.insert_observer(squeeze, 0)
    dyn.run(20)
    assert dyn.nsteps == 3
    assert str(monitor.halt_reason) == (
        "halt at step 3: atoms 0 (O) and 1 (H) are 0.20 Å apart, less than 0.5 of the sum of their "
        "covalent radii: the structure has exploded"
    )
    with pytest.raises(ValueError, match="cannot be accepted .*exploded"):
        monitor.accept()
    assert all(frame.info["step"] < 3 for frame in read(flagged, ":"))
    assert read_log(log)[0].violations[-1][0]["message"] in str(monitor.halt_reason)


def test_flagged_frames_tell_where_they_are_from_and_are_no_labels(tmp_path):
    atoms = water()
    atoms.calc.model_hash = "abc"
    flagged = tmp_path / "flagged.xyz"
    dyn = verlet(atoms)
    monitor = UncertaintyMonitor(dyn, [Criterion(FORCE, 0.0, "flag")], flagged=flagged)
    atoms.rattle(0.01)
    dyn.run(40)
    frames = read(flagged, ":")
    times = [frame.info["time_fs"] for frame in frames]
    assert 1 < len(frames) < 6 and (np.diff(times) >= 5.0).all()
    assert {frame.info["run"] for frame in frames} == {monitor.run_id}
    assert {frame.info["model"] for frame in frames} == {"abc"} and all("date" in frame.info for frame in frames)
    with pytest.raises(ValueError, match="frame 0 of .* are predictions of a model"):
        read_dataset(flagged)


def test_quiet_checks_are_logged_at_an_interval(tmp_path):
    log = tmp_path / "m.jsonl"
    dyn = verlet(water())
    UncertaintyMonitor(dyn, [Criterion(FORCE, 1e9)], logfile=log, quiet=10)
    dyn.run(45)
    assert read_log(log)[0].step.tolist() == [0, 10, 20, 30, 40]
    with pytest.raises(ValueError, match="quiet must be at least 1"):
        UncertaintyMonitor(dyn, [Criterion(FORCE, 1e9)], quiet=0)


def test_an_optimiser_is_logged_without_time(tmp_path):
    log = tmp_path / "m.jsonl"
    atoms = water()
    atoms.positions[0, 1] += 0.1
    opt = BFGS(atoms, logfile=None)
    UncertaintyMonitor(opt, [Criterion(FORCE, 1e9)], logfile=log, quiet=1)
    opt.run(fmax=0.01, steps=5)
    run = read_log(log)[0]
    assert np.isnan(run.time).all() and np.isfinite(run.energy).all()


def test_a_calculator_that_is_refused_is_refused_again(tmp_path):
    atoms = water(thresholds={FORCE: 0.5})
    dyn = verlet(atoms)
    monitor = UncertaintyMonitor(dyn, [Criterion(FORCE, "auto")], logfile=None, flagged=None)
    dyn.run(2)
    good, atoms.calc = atoms.calc, HarmonicEnsemble(atoms)
    for _ in range(2):  # a run that is started again must not go on with the old thresholds
        with pytest.raises(ValueError, match="there is no threshold"):
            dyn.run(2)
    atoms.calc = good
    dyn.run(2)
    assert monitor.criteria == (Criterion(FORCE, 0.5),)


def test_a_frame_whose_check_failed_is_checked_again(monkeypatch):
    atoms = water()
    dyn = verlet(atoms)
    monitor = UncertaintyMonitor(dyn, [Criterion(FORCE, 0.0)], logfile=None, flagged=None)
    with monkeypatch.context() as patch:
        patch.setattr("race_calc.md.attach.judge", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            dyn.run(2)
    dyn.run(0)
    assert monitor.record is not None and monitor.record.step == 0


def test_detach_in_a_run_leaves_the_other_observers_alone():
    atoms = water()
    dyn, seen = verlet(atoms), []
    monitor = UncertaintyMonitor(
        dyn, [Criterion(FORCE, 9.0)], logfile=None, flagged=None, callback=lambda r: r.step == 2 and monitor.detach()
    )
    dyn.attach(lambda: seen.append(dyn.nsteps))
    dyn.run(4)
    assert seen == [0, 1, 2, 3, 4] and monitor.record.step == 2


def test_accept_in_a_callback_goes_on(tmp_path):
    accepted = []

    def callback(record):
        if monitor.halt_reason is not None and not accepted:
            accepted.append(record.step)
            monitor.accept(checks=5)

    monitor, dyn, _ = pulled(0.003, tmp_path, callback=callback)
    dyn.run(100)
    assert accepted and dyn.nsteps == accepted[0] + 6 and monitor.halt_reason is not None
