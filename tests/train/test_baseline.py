"""Models that learn the difference to a calculator: what is learned, what is predicted, which calculator is refused."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from ase.md.verlet import VelocityVerlet
from small_run import frame, write_run
from typer.testing import CliRunner

from race_calc import Criterion, RACECalculator, UncertaintyMonitor
from race_calc.cli import app
from race_calc.data.contribution import BaselineError
from race_calc.data.graph import from_atoms
from race_calc.label.calculated import Calculated
from race_calc.model.baseline import check, record
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.load import load_stack
from race_calc.posterior.manifest import write_manifest
from race_calc.train.config import load_config
from race_calc.train.finish import finish
from race_calc.train.loop import train
from race_calc.train.prepare import prepare

CPU = torch.device("cpu")
OFF = 1.5  # Å: at this x of the first atom the failing calculator fails


def morse() -> MorsePotential:
    return MorsePotential(epsilon=0.3, r0=2.6, rho0=4.0, rcut1=3.0, rcut2=4.0)


class Failing(MorsePotential):
    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        if abs(atoms.positions[0, 0]) > OFF:
            raise RuntimeError("SCF not converged")
        super().calculate(atoms, properties, system_changes)


class Without(MorsePotential):
    implemented_properties = ["energy", "forces"]

    def get_stress(self, atoms=None):
        raise NotImplementedError

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.results.pop("stress", None)


def trained(folder, name="out", baseline=None, resume=False, **changes):
    config = load_config(write_run(folder, model__baseline="external", training__epochs=3, **changes))
    prepared = prepare(config, folder, baseline or morse())
    return finish(config, prepared, train(config, prepared, folder / name, CPU, resume), folder / name, CPU)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("external")
    trained(folder, periodic=True)
    return folder / "out"


@pytest.fixture
def atoms():
    return frame(40, periodic=True)


def test_the_labels_are_less_by_the_baseline(tmp_path):
    config = load_config(write_run(tmp_path, periodic=True, model__baseline="external"))
    rest, whole = (
        prepare(config, tmp_path, morse()),
        prepare(load_config(write_run(tmp_path, periodic=True, model__baseline="none")), tmp_path),
    )
    labelled = read(tmp_path / "data.xyz", ":")
    for k, i in enumerate(rest.split.train):
        one = labelled[i].copy()
        one.calc = morse()
        np.testing.assert_allclose(whole.train[k].forces - rest.train[k].forces, one.get_forces(), atol=1e-12)
        np.testing.assert_allclose(whole.train[k].virial - rest.train[k].virial, one.get_stress(voigt=False) * one.cell.volume, atol=1e-12)
        known = [p.train[k].energy + p.references.reference_energy(one.numbers) for p in (whole, rest)]
        assert known[0] - known[1] == pytest.approx(one.get_potential_energy(), abs=1e-9)


def test_a_prediction_is_network_and_baseline(model, atoms):
    stack = load_stack(load_checkpoint(model), torch.float64, CPU, baseline=morse())
    graph = from_atoms(atoms, stack.model.plan.config.cutoff)
    whole, network = stack.predict(graph), copy.copy(stack)
    object.__setattr__(network, "baseline", None)
    rest = network.predict(graph)
    atoms.calc = morse()
    np.testing.assert_allclose(whole.energy - rest.energy, atoms.get_potential_energy(), atol=1e-9)
    np.testing.assert_allclose(whole.forces - rest.forces, atoms.get_forces(), atol=1e-9)
    np.testing.assert_allclose((whole.stress - rest.stress)[0], atoms.get_stress(), atol=1e-9)
    for part in ("energy_epistemic", "forces_covariance_epistemic", "stress_covariance_epistemic"):
        np.testing.assert_allclose(getattr(whole, part), getattr(rest, part), atol=1e-12)


def test_forces_are_the_gradient(model, atoms):
    atoms.calc = RACECalculator(model, "cpu", tables=False, baseline=morse())
    forces, step = atoms.get_forces(), 1e-4
    energies = []
    for sign in (1, -1):
        atoms.positions[1, 0] += sign * step
        energies.append(atoms.get_potential_energy())
        atoms.positions[1, 0] -= sign * step
    assert forces[1, 0] == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=1e-6)


def test_float32_adds_the_baseline_in_float64(model, atoms):
    exact, rounded = (RACECalculator(model, "cpu", dtype, baseline=morse()).prediction(atoms).energy[0] for dtype in ("float64", "float32"))
    assert rounded == pytest.approx(exact, abs=1e-5)


def test_another_calculator_is_refused(model):
    with pytest.raises(ValueError, match=r"hand it in, in a script as RACECalculator\(…, baseline=calculator\)"):
        RACECalculator(model)
    with pytest.raises(ValueError, match=r"is not that of the training: for a structure of it energies differ by .* eV and forces by"):
        RACECalculator(model, baseline=MorsePotential(epsilon=0.31, r0=2.6, rho0=4.0, rcut1=3.0, rcut2=4.0))
    with pytest.raises(ValueError, match="the baseline is a dict, which is no ASE calculator"):
        RACECalculator(model, baseline={})


def test_a_calculator_that_nobody_asks_for(tmp_path):
    write_run(tmp_path)
    with pytest.raises(ValueError, match="the model's baseline is zbl: leave out the calculator"):
        prepare(load_config(tmp_path / "train.yaml"), tmp_path, morse())


@pytest.mark.parametrize("spoil", [lambda kept: kept.pop("energy"), lambda kept: kept.update(forces=[[1.0]]), lambda kept: kept.clear()])
def test_a_record_that_cannot_be_read(model, tmp_path, spoil):
    folder = tmp_path / "model"
    import shutil

    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    spoil(config["baseline"])
    (folder / "config.json").write_text(json.dumps(config))
    write_manifest(folder)
    with pytest.raises(ValueError, match="does not tell what its baseline gave in training"):
        RACECalculator(folder, baseline=morse())


def test_copies_and_pickles(model, atoms):
    calculator = RACECalculator(model, "cpu", baseline=morse())
    energy = calculator.prediction(atoms).energy[0]
    for twin in (copy.deepcopy(calculator), pickle.loads(pickle.dumps(calculator))):
        assert twin.prediction(atoms).energy[0] == energy


def test_a_failure_names_the_baseline_and_halts_the_run(tmp_path):
    trained(tmp_path, baseline=Failing(epsilon=0.3, r0=2.6, rho0=4.0, rcut1=3.0, rcut2=4.0))
    atoms = frame(40)
    atoms.calc = RACECalculator(tmp_path / "out", "cpu", baseline=Failing(epsilon=0.3, r0=2.6, rho0=4.0, rcut1=3.0, rcut2=4.0))
    atoms.set_velocities(np.full((3, 3), 0.05))
    dynamics = VelocityVerlet(atoms, 1.0)
    monitor = UncertaintyMonitor(dynamics, [Criterion("energy_uncertainty_per_atom", 1e9)], flagged=tmp_path / "flagged.xyz")
    with pytest.raises(BaselineError, match=r"the baseline Failing gives nothing for this structure \(RuntimeError: SCF not converged\)"):
        dynamics.run(50)
    assert monitor.halt_reason.criterion == "baseline" and "SCF not converged" in str(monitor.halt_reason)
    saved = read(tmp_path / "flagged.xyz")
    assert saved.info["violations"] == "baseline" and saved.calc is None and "labels" not in saved.info
    np.testing.assert_allclose(saved.positions, atoms.positions, atol=1e-7)
    with pytest.raises(ValueError, match="cannot be accepted .*go back to an earlier frame"):
        monitor.accept()


def test_a_structure_of_the_data_for_which_it_fails_is_named(tmp_path):
    config = load_config(write_run(tmp_path, model__baseline="external"))
    frames = read(tmp_path / "data.xyz", ":")
    frames[5].positions += [OFF + 0.5, 0, 0]
    write(tmp_path / "data.xyz", frames)
    with pytest.raises(BaselineError, match=r"^frame 5 of data.xyz: the baseline Failing gives nothing .* leave that frame out"):
        prepare(config, tmp_path, Failing(epsilon=0.3, r0=2.6, rho0=4.0, rcut1=3.0, rcut2=4.0))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"data__low_level": {"file": "absent.xyz"}}, "absent.xyz does not exist"),
        ({"data__isolated_atoms": "absent.xyz"}, "absent.xyz does not exist"),
        ({"training__start_from": "absent"}, "training.start_from, which is relative to the data folder: no model folder"),
    ],
)
def test_what_is_missing_is_told_before_the_first_scf(tmp_path, changes, message):
    config, done = load_config(write_run(tmp_path, model__baseline="external", **changes)), []
    with pytest.raises(FileNotFoundError, match=message):
        prepare(config, tmp_path, morse(), lambda *numbers: done.append(numbers))
    assert not done


def test_atoms_at_one_place_are_named_with_their_frame(tmp_path):
    for changes in ({}, {"model__baseline": "external"}):
        path = write_run(tmp_path, **changes)
        frames = read(tmp_path / "data.xyz", ":")
        frames[10].positions[1] = frames[10].positions[0]
        write(tmp_path / "data.xyz", frames)
        with pytest.raises(ValueError, match=r"^frame 10 of data.xyz: atoms 0 \(Cu\) and 1 \(Cu\)"):
            prepare(load_config(path), tmp_path, morse() if changes else None)


def test_isolated_atoms_are_less_by_theirs(tmp_path):
    write_run(tmp_path, model__baseline="external", data__isolated_atoms="atoms.xyz")
    singles = []
    for symbol in ("Cu", "Ag"):
        one = frame(0)[:1]
        one.symbols = symbol
        one.calc = SinglePointCalculator(one, energy=7.0, forces=np.zeros((1, 3)))
        singles.append(one)
    write(tmp_path / "atoms.xyz", singles)
    config = load_config(tmp_path / "train.yaml")
    lone = frame(0)[:1]
    lone.calc = EMT()
    found = prepare(config, tmp_path, EMT()).references
    assert dict(zip(found.species, found.energies))[29] == pytest.approx(7.0 - lone.get_potential_energy(), abs=1e-12)


def test_a_resumed_run_takes_the_calculator_that_it_began_with(tmp_path):
    config = load_config(write_run(tmp_path, model__baseline="external", training__epochs=1))
    train(config, prepare(config, tmp_path, morse()), tmp_path / "out", CPU, False)
    train(config, prepare(config, tmp_path, morse()), tmp_path / "out", CPU, True)
    other = MorsePotential(epsilon=0.9, r0=2.6, rho0=4.0, rcut1=3.0, rcut2=4.0)
    with pytest.raises(ValueError, match="is not that of the training"):
        train(config, prepare(config, tmp_path, other), tmp_path / "out", CPU, True)


def test_what_is_kept_of_a_calculator_tells_it_from_others(tmp_path):
    """Of a single atom a pair potential says nothing: a larger structure is kept."""
    lone = frame(0)[:1]
    kept = record("external", Calculated(morse()), [lone, frame(1), frame(2)])
    assert len(kept["numbers"]) == 3
    check("external", Calculated(morse()), kept)
    with pytest.raises(ValueError, match="is not that of the training"):
        check("external", Calculated(MorsePotential(epsilon=0.9, r0=2.6, rho0=4.0, rcut1=3.0, rcut2=4.0)), kept)


def test_charged_structures_are_refused(model, atoms, tmp_path):
    write_run(tmp_path, model__baseline="external")
    frames = read(tmp_path / "data.xyz", ":")
    frames[2].set_initial_charges([1, 0, 0])
    write(tmp_path / "data.xyz", frames)
    with pytest.raises(BaselineError, match=r"frame 2 of data.xyz: it has the charge 1 and the magnetic moment 0"):
        prepare(load_config(tmp_path / "train.yaml"), tmp_path, morse())
    frames[2].set_initial_charges(None)
    frames[9].info["charge"] = -1  # validates
    frames[9].set_initial_charges([0.1, 0.2, -0.3])  # whose sum is not exactly 0
    write(tmp_path / "data.xyz", frames)
    with pytest.raises(BaselineError, match=r"frame 9 of data.xyz: it has the charge -1"):
        prepare(load_config(tmp_path / "train.yaml"), tmp_path, morse())
    atoms.set_initial_magnetic_moments([1, 0, 0])
    atoms.calc = RACECalculator(model, "cpu", baseline=morse())
    with pytest.raises(BaselineError, match="the magnetic moment 1, and the baseline is computed for neutral structures"):
        atoms.get_potential_energy()
    with pytest.raises(BaselineError, match="the magnetic moment 1"):
        list(atoms.calc.raw_predictions([atoms]))


def test_a_stress_that_the_baseline_lacks_is_not_lost_in_silence(tmp_path):
    config = load_config(write_run(tmp_path, periodic=True, model__baseline="external"))
    with pytest.raises(BaselineError, match=r"frame 0 of data.xyz: it has a stress, the baseline has none"):
        prepare(config, tmp_path, Without(epsilon=0.3, r0=2.6, rho0=4.0, rcut1=3.0, rcut2=4.0))


def test_a_stress_that_the_baseline_lacks_is_not_offered(model, atoms):
    atoms.calc = RACECalculator(model, "cpu", baseline=Without(epsilon=0.3, r0=2.6, rho0=4.0, rcut1=3.0, rcut2=4.0))
    assert np.isfinite(atoms.get_forces()).all()
    assert not any("stress" in name for name in (*atoms.calc.implemented_properties, *atoms.calc.results))
    with pytest.raises(PropertyNotImplementedError, match="stress"):
        atoms.get_stress()


def test_a_run_of_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path, n=26, model__baseline="external", training__epochs=2)
    (tmp_path / "lab_mine.py").write_text(
        "from ase.calculators.morse import MorsePotential\n\n"
        "def morse():\n    return MorsePotential(epsilon=0.3, r0=2.6, rho0=4.0, rcut1=3.0, rcut2=4.0)\n"
    )

    def run(*arguments: str):
        return CliRunner().invoke(app, list(arguments))

    refused = run("train", "train.yaml", "--out", "out")
    assert refused.exit_code == 1 and "hand it in" in refused.output
    assert run("train", "train.yaml", "--out", "out", "--baseline", "lab_mine:morse").exit_code == 0
    assert "external" in run("info", "out").output  # needs no calculator
    evaluated = run("evaluate", "out", "data.xyz", "--baseline", "lab_mine:morse")
    assert evaluated.exit_code == 0, evaluated.output
    assert run("evaluate", "out", "data.xyz").exit_code == 1
    calibrated = run("calibrate", "out", "data.xyz", "--baseline", "lab_mine:morse", "--frames", "20:")
    assert "hand it in" not in calibrated.output


def test_the_last_density_is_a_start_only_for_the_same_atoms():
    class Counting(MorsePotential):
        resets = 0

        def reset(self):
            Counting.resets += 1
            super().reset()

    baseline = Calculated(Counting())
    first, second = frame(1), frame(2)
    for atoms in (first, second):
        baseline(from_atoms(atoms, 4.0))
    assert Counting.resets == 0
    baseline(from_atoms(second[:2], 4.0))
    assert Counting.resets == 1


@pytest.mark.parametrize("method", ["gfn2-xtb", "gfn1-xtb"])
def test_xtb_as_a_baseline(tmp_path, method):
    pytest.importorskip("tblite", reason="needs race_calc[xtb]")
    config = load_config(write_run(tmp_path, n=8, model__baseline=method, training__epochs=1))
    prepared = prepare(config, tmp_path)
    made = finish(config, prepared, train(config, prepared, tmp_path / "out", CPU, False), tmp_path / "out", CPU)
    assert made.baseline["code"].startswith("tblite ")
    again = prepare(config, tmp_path)
    assert again.fingerprint == prepared.fingerprint
    atoms = frame(40)
    atoms.calc = RACECalculator(tmp_path / "out", "cpu")
    assert np.isfinite(atoms.get_forces()).all()
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    config["baseline"]["code"] = "tblite 0.0.1"
    (tmp_path / "out" / "config.json").write_text(json.dumps(config))
    write_manifest(tmp_path / "out")
    with pytest.raises(ValueError, match=rf"was trained with {method} of tblite 0.0.1, here is tblite .*: install that version"):
        RACECalculator(tmp_path / "out")


def test_without_tblite_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tblite.ase", None)
    with pytest.raises(ValueError, match=r"pip install 'race_calc\[xtb\]'"):
        prepare(load_config(write_run(tmp_path, model__baseline="gfn2-xtb")), tmp_path)


def test_the_name_of_0_1_is_still_read(tmp_path):
    write_run(tmp_path, model__repulsion="none")
    with pytest.warns(DeprecationWarning, match="model.repulsion is model.baseline now"):
        config = load_config(tmp_path / "train.yaml")
    assert config.model.baseline == "none"
