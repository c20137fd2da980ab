"""Electronic states and scalars on one trunk."""

import shutil

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.fd import calculate_numerical_forces
from ase.calculators.morse import MorsePotential
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from resumed import CPU, differing_epochs
from small_run import frame, run_of
from typer.testing import CliRunner

from race_calc import RACECalculator
from race_calc.cli import app
from race_calc.data.dataset import read_dataset
from race_calc.data.surfaces import names_of_state
from race_calc.md.record import annotate
from race_calc.model.race import evaluate, evaluate_surfaces
from race_calc.model.surfaces import of_surface
from race_calc.posterior.batch import batch_of
from race_calc.posterior.checkpoint import load_checkpoint, save_checkpoint
from race_calc.train.config import ConfigError
from race_calc.train.finish import finish
from race_calc.train.loop import train


def labelled(seed: int) -> Atoms:
    """EMT as S0, a Morse potential 2 eV above it as S1, the square of their gap with its gradient."""
    ground = frame(seed)
    excited = Atoms(ground)
    excited.calc = MorsePotential(epsilon=0.3, r0=2.6, rho0=4.0, rcut1=3.0, rcut2=4.0)
    energies = ground.get_potential_energy(), excited.get_potential_energy() + 12.0
    forces = ground.get_forces(), excited.get_forces()
    atoms = Atoms(ground)
    gap = energies[1] - energies[0]
    atoms.info |= {"energy_S0": energies[0], "energy_S1": energies[1], "gap2": gap**2}
    atoms.arrays |= {"forces_S0": forces[0], "forces_S1": forces[1], "gradient_gap2": -2 * gap * (forces[1] - forces[0])}
    return atoms


def run(folder, frames=None, **changes):
    options = {"model__states": ["S0", "S1"], "model__scalars": ["gap2"], "data__validation": 10} | changes
    return run_of(folder, frames or [labelled(seed) for seed in range(16)], **options)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Folder of a model of a few epochs."""
    folder = tmp_path_factory.mktemp("states")
    config, prepared = run(folder, [labelled(seed) for seed in range(40)], data__validation=25, training__epochs=2)
    finish(config, prepared, train(config, prepared, folder / "out", CPU, False), folder / "out", CPU)
    return folder / "out"


@pytest.mark.parametrize("training", [False, True])
def test_a_surface_is_the_plain_model_alone(tmp_path, training):
    _, prepared = run(tmp_path)
    layout, _ = batch_of(list(prepared.train[:3]), prepared.model, torch.float64, CPU)
    stacks = [of_surface(prepared.parameters, k) for k in range(3)]
    together = evaluate_surfaces(prepared.models, stacks, layout, training)
    for model, stack, outputs in zip(prepared.models, stacks, together):
        for name, value in evaluate(model, stack, layout, training).flat().items():
            assert torch.equal(value, outputs.flat()[name]), name
    without = evaluate_surfaces(prepared.models, stacks, layout, training, with_forces=[True, False, False])
    assert torch.equal(without[0].forces, together[0].forces) and not without[1].forces.any()
    assert torch.equal(without[2].energy, together[2].energy) and (together[2].energy > 0).all()


def test_it_learns_all_of_them(tmp_path):
    config, prepared = run(tmp_path, [labelled(seed) for seed in range(26)], training__epochs=8, training__learning_rate=0.04)
    errors = []
    train(config, prepared, tmp_path / "out", CPU, False, lambda r: errors.append(r) if r["kind"] == "epoch" else None)
    before, after = errors[0], errors[-1]
    assert after["mean_force_rmse_eV_per_A"] < 0.5 * before["mean_force_rmse_eV_per_A"]
    for early, late in zip(before["surfaces"], after["surfaces"]):
        assert late["mean_force_rmse_eV_per_A"] < 0.6 * early["mean_force_rmse_eV_per_A"]


@pytest.mark.parametrize("posterior", ["deep-ensemble", "mve", "shallow-ensemble", "swag", "ivon"])
def test_posteriors_train_resume_and_predict(tmp_path, posterior):
    options = {"posterior": posterior, "members": None if posterior == "mve" else 2, "training__epochs": 4 if posterior == "swag" else 2}
    frames = [labelled(seed) for seed in range(16)]
    for atoms in frames:
        del atoms.arrays["gradient_gap2"]  # the harder case
    config, prepared = run(tmp_path, frames, **options)
    if posterior == "deep-ensemble":
        assert not any(files for _, files in differing_epochs(config, prepared, tmp_path))
    else:
        finish(config, prepared, train(config, prepared, tmp_path / "whole", CPU, False), tmp_path / "whole", CPU)
    calculator = RACECalculator(tmp_path / "whole", state="S1", device="cpu")
    assert not any(calculator.checkpoint.training["skipped_steps"])
    calculator.calculate(labelled(50))
    assert calculator.results["gap"] == pytest.approx(abs(np.ptp(calculator.results["energies_states"])), abs=1e-9)
    assert ("gap_uncertainty_epistemic" in calculator.results) == (posterior != "mve")


def test_forces_of_every_surface_are_its_gradient(model):
    atoms = labelled(60)
    for state in (0, 1):
        atoms.calc = RACECalculator(model, state=state, device="cpu", tables=False)
        numerical = calculate_numerical_forces(atoms, eps=1e-4)
        assert atoms.get_forces() == pytest.approx(numerical, abs=1e-6)
        each = atoms.calc.states(atoms)
        assert each[state].forces == pytest.approx(atoms.get_forces(), abs=1e-10)
        assert atoms.calc.results["energies_states"][state] == atoms.get_potential_energy()
    step, moved = 1e-4, atoms.copy()
    moved.positions[1, 0] += step
    values = [atoms.calc.states(one)[2].energy[0] for one in (atoms, moved)]
    assert (values[1] - values[0]) / step == pytest.approx(-each[2].forces[1, 0], abs=1e-2 * abs(each[2].forces).max() + 1e-3)


def test_all_turn_with_the_structure(model):
    atoms, turned = labelled(61), labelled(61)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned.positions = atoms.positions @ rotation.T
    calculator = RACECalculator(model, device="cpu", tables=False)
    for one, other in zip(calculator.states(atoms), calculator.states(turned)):
        assert other.energy == pytest.approx(one.energy, abs=1e-9)
        assert other.forces == pytest.approx(one.forces @ rotation.T, abs=1e-8)
        assert other.forces_covariance == pytest.approx(rotation @ one.forces_covariance @ rotation.T, abs=1e-8)


def test_gap_and_its_spread_are_those_of_the_members(model):
    atoms = labelled(62)
    calculator = RACECalculator(model, state=1, device="cpu")
    calculator.calculate(atoms)
    s0, s1, scalar = calculator.states(atoms)
    gaps = s1.energies_members - s0.energies_members
    assert calculator.results["gap_uncertainty_epistemic"] == pytest.approx(gaps.std(), rel=1e-9)
    total = gaps.var() + s0.energy_aleatoric[0] + s1.energy_aleatoric[0]
    assert calculator.results["gap_uncertainty"] == pytest.approx(total**0.5, rel=1e-9)
    assert calculator.results["gap2"] == pytest.approx(scalar.energy[0], rel=1e-9) and scalar.energy[0] > 0
    assert s0.bald_energy[0] >= 0 and scalar.bald_forces.min() >= 0
    assert not any("surfaces" in name for name in calculator.thresholds) and calculator.thresholds


def test_threads_and_precision_agree(model):
    atoms, found = labelled(63), {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            found[threads] = RACECalculator(model, state=1, device="cpu").states(atoms)
        finally:
            torch.set_num_threads(2)
    single = RACECalculator(model, state=1, device="cpu", dtype="float32").states(atoms)
    for one, two, rough in zip(found[1], found[2], single):
        assert two.forces == pytest.approx(one.forces, abs=1e-9)
        assert rough.forces == pytest.approx(one.forces, abs=1e-3 * max(1.0, abs(one.forces).max()))


def test_a_model_is_stored_and_loaded(model, tmp_path):
    checkpoint = load_checkpoint(model)
    assert len(checkpoint.surfaces) == 3 and checkpoint.surfaces[2].unit > 0
    save_checkpoint(tmp_path / "copy", checkpoint, "# a copy\n")
    again = load_checkpoint(tmp_path / "copy")
    assert again.surfaces == checkpoint.surfaces and again.thresholds == checkpoint.thresholds


@pytest.mark.parametrize("state, said", [(2, "2 states, S0, S1"), (-1, "counted from 0"), ("S2", "S0, S1"), (True, "S0, S1"), (0.0, "S0")])
def test_states_that_are_not_there(model, state, said):
    with pytest.raises(ValueError, match=said):
        RACECalculator(model, state=state)


def test_numbers_of_numpy_are_states(model):
    assert RACECalculator(model, state=np.int64(1)).checkpoint.state == 1


def test_a_model_of_one_energy_has_no_states(tiny_model):
    with pytest.raises(ValueError, match="leave state out"):
        RACECalculator(tiny_model, state=1)
    with pytest.raises(ValueError, match="no states"):
        RACECalculator(tiny_model).states(labelled(0))


def _without(key):
    def change(atoms):
        atoms.info.pop(key, None)
        atoms.arrays.pop(key, None)

    return change


def _with(key, value):
    return lambda atoms: atoms.info.update({key: value})


@pytest.mark.parametrize(
    "change, said",
    [
        (_without("forces_S1"), "frame 3 .*no forces_S1: every state needs forces"),
        (_without("energy_S1"), "frame 3 .*no energy_S1"),
        (_without("forces_S0"), "frame 3 .*forces_S0"),
        (_without("gap2"), "frame 3 .*no gap2"),
        (_without("gradient_gap2"), "frame 3 .*gradient_gap2, others have"),
        (_with("gap2", -0.5), "frame 3 .*gap2 is -0.5.*never negative"),
        (_with("energy_S1", float("nan")), "frame 3 .*energy_S1 is nan"),
    ],
)
def test_labels_that_cannot_be_used(tmp_path, change, said):
    frames = [labelled(seed) for seed in range(16)]
    change(frames[3])
    with pytest.raises(ValueError, match=said):
        run(tmp_path, frames)


@pytest.mark.parametrize("where", ["train", "validation"])
def test_states_that_were_swapped_in_one_file(tmp_path, where):
    swapped = [labelled(seed) for seed in range(20, 26)]
    for atoms in swapped:
        info, arrays = dict(atoms.info), dict(atoms.arrays)
        atoms.info |= {"energy_S0": info["energy_S1"], "energy_S1": info["energy_S0"]}
        atoms.arrays |= {"forces_S0": arrays["forces_S1"], "forces_S1": arrays["forces_S0"]}
    write(tmp_path / "other.xyz", swapped)
    data = {"data__train": ["data.xyz", "other.xyz"]} if where == "train" else {"data__validation": "other.xyz"}
    with pytest.raises(ValueError, match="S1 lies above S0 in data.xyz and below it in other.xyz"):
        run(tmp_path, **data)


def test_labels_of_another_state_are_another_run(tmp_path):
    frames = [labelled(seed) for seed in range(16)]
    before = run(tmp_path, frames)[1]
    frames[-1].info["energy_S1"] += 5.0  # of the validation
    after = run(tmp_path, frames)[1]
    assert before.fingerprint != after.fingerprint and before.data_hash != after.data_hash


def test_names_are_asked_of_npz_files_too(tmp_path):
    atoms = labelled(0)
    arrays = {"Z": atoms.numbers, "R_train": atoms.positions[None], "E_train": np.zeros(1), "F_train": np.zeros((1, 3, 3))}
    np.savez(tmp_path / "plain.npz", **arrays)
    with pytest.raises(ValueError, match="has no energy_S1 and forces_S1"):
        read_dataset(f"{tmp_path / 'plain.npz'}#train", names=names_of_state("S1"))


def test_saved_frames_have_no_labels_of_another_structure(model):
    atoms = labelled(64)
    calculator = RACECalculator(model, state=1, device="cpu")
    frame = annotate(atoms, calculator.prediction(atoms))
    assert not {"energy_S0", "energy_S1"} & set(frame.info) and not {"forces_S1", "gradient_gap2"} & set(frame.arrays)


def test_no_state_has_learned_stresses(tmp_path):
    frames = [labelled(seed) for seed in range(16)]
    for atoms in frames:
        atoms.cell, atoms.pbc = np.eye(3) * 12.0, True
        atoms.calc = SinglePointCalculator(atoms, stress=np.full(6, 0.01))
    config, prepared = run(tmp_path, frames)
    finish(config, prepared, train(config, prepared, tmp_path / "out", CPU, False), tmp_path / "out", CPU)
    assert not RACECalculator(tmp_path / "out", device="cpu").learned_stress


def test_each_state_has_its_own_calibration(model, tmp_path):
    shutil.copytree(model, folder := tmp_path / "model")
    write(tmp_path / "held.xyz", [labelled(seed) for seed in range(200, 225)])
    for state in ("S1", "S0"):
        done = CliRunner().invoke(app, ["calibrate", str(folder), str(tmp_path / "held.xyz"), "--state", state])
        assert done.exit_code == 0 and f"state='{state}'" in done.output, done.output
    calibrations = [RACECalculator(folder, state=state).calibration for state in (0, 1)]
    assert calibrations[0] != calibrations[1] and all(calibrations)
    assert all(set(one.beside) == {"gap", "gap2"} for one in calibrations)
    raw, told = (RACECalculator(folder, state=1, calibrated=so).prediction(labelled(300)) for so in (False, True))
    assert told.value("gap_uncertainty") != raw.value("gap_uncertainty") and told.gap == raw.gap
    assert told.extra["gap2_uncertainty"].mean != raw.extra["gap2_uncertainty"].mean
    shown = CliRunner().invoke(app, ["info", str(folder), "--state", "S1"])
    assert "Calibration of S1" in shown.output and "S0, S1" in shown.output
    judged = CliRunner().invoke(app, ["evaluate", str(folder), str(tmp_path / "held.xyz"), "--state", "S1"])
    assert judged.exit_code == 0 and "gap2" in judged.output, judged.output
    shutil.copy(folder / "calibration.json", folder / "calibration.1.json")
    CliRunner().invoke(app, ["manifest", str(folder)])
    with pytest.raises(ValueError, match="another electronic state or property"):
        RACECalculator(folder, state=1)
    (folder / "calibration.1.json").unlink()
    assert RACECalculator(folder, state=0).calibration == calibrations[0]
    with pytest.raises(FileNotFoundError, match="--state 1"):
        RACECalculator(folder, state=1)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"model__states": ["S0"]}, "two or more states"),
        ({"model__states": ["S0", "S0"]}, "more than once"),
        ({"model__states": ["S0", "S1", "gap2"]}, "more than once"),
        ({"model__states": ["S 0", "S1"]}, "states"),
        ({"model__scalars": ["gap"]}, "gap is the name of something else"),
        ({"data__keys": {"energy": "REF_energy"}}, "leave out data.keys"),
        ({"model__head": "joint-stress"}, "states have none"),
        ({"posterior": "laplace", "model__head": "mse"}, "for models of one energy"),
        ({"training__start_from": "model"}, "starts anew"),
        ({"data__low_level": {"file": "data.xyz"}}, "one level"),
    ],
)
def test_configurations_that_cannot_be(tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        run(tmp_path, **changes)


def test_a_scalar_without_gradients_is_learned_from_its_values(tmp_path):
    frames = [labelled(seed) for seed in range(16)]
    for atoms in frames:
        del atoms.arrays["gradient_gap2"]
    config, prepared = run(tmp_path, frames)
    assert not prepared.surfaces[2].has_forces
    finish(config, prepared, train(config, prepared, tmp_path / "out", CPU, False), tmp_path / "out", CPU)
    scalar = RACECalculator(tmp_path / "out", device="cpu").states(labelled(1))[2]
    assert scalar.energy_aleatoric[0] > 0 and scalar.forces_covariance_aleatoric is None


def test_three_states_of_a_published_set(tmp_path, shared_data):
    path = shared_data / "excited_states" / "ch2nh2p_MRCISD.npz"
    data = read_dataset(path, ":12")
    atoms = data.structures[5]
    assert atoms.info["energy_S2"] > atoms.info["energy_S1"] > atoms.info["energy_S0"] == data.energy[5]
    write(tmp_path / "a.xyz", read_dataset(path, "0:24").structures)
    assert "forces_S2" in read(tmp_path / "a.xyz").arrays
    states = {"model__states": ["S0", "S1", "S2"], "model__scalars": [], "training__epochs": 1}
    config, prepared = run(tmp_path, read_dataset(path, "0:24").structures, **states)
    finish(config, prepared, train(config, prepared, tmp_path / "out", CPU, False), tmp_path / "out", CPU)
    middle = RACECalculator(tmp_path / "out", state="S1", device="cpu")
    middle.calculate(atoms)
    low, mid, high = middle.results["energies_states"]
    assert middle.results["gap"] == pytest.approx(min(abs(mid - low), abs(high - mid)))
