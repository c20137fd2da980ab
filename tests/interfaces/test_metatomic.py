"""The exported file in metatomic's own calculator and model class, against RACECalculator without tables."""

import importlib.util
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read
from typer.testing import CliRunner

from race_calc import RACECalculator
from race_calc.cli import app
from race_calc.data.graph import from_atoms
from race_calc.data.references import References
from race_calc.interfaces.metatomic.export import check, export
from race_calc.model.config import ModelConfig
from race_calc.model.parameters import initialise, is_last_layer, offset_names, select_members
from race_calc.model.plan import make_plan
from race_calc.model.race import Race
from race_calc.posterior.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from race_calc.posterior.given import Noise
from race_calc.posterior.load import load_stack
from race_calc.uncertainty.prediction import principal_std

MODELS = Path(__file__).parents[2] / "models"
ENERGIES = "energy", "energy_uncertainty", "energy_ensemble"
SIGMA, COVARIANCE = "race_calc::force_sigma", "race_calc::force_covariance"
missing = [name for name in ("metatomic", "metatomic_ase") if importlib.util.find_spec(name) is None]
needs_metatomic = pytest.mark.skipif(bool(missing), reason=f"no {' and '.join(missing)}: pip install 'race_calc[metatomic]' metatomic-ase")


def molecule_of_3bpa(seed=1):
    atoms = read(MODELS / "3bpa-de" / "start.xyz")
    atoms.rattle(0.03, seed=seed)
    return atoms


def crystal(seed=1):
    atoms = bulk("Si") * (2, 2, 2)
    atoms.rattle(0.05, seed=seed)
    return atoms


def few() -> Checkpoint:
    """Three members of models/3bpa-de, with its calibration but for the weights of its sources."""
    whole = load_checkpoint(MODELS / "3bpa-de")
    energy = whole.calibration.energy
    sources = tuple(replace(one, weight=0.2 if one.name == "energies" else 0.8) for one in energy.form.sources)
    calibration = replace(whole.calibration, energy=replace(energy, form=replace(energy.form, sources=sources)))
    return replace(whole, parameters=select_members(whole.parameters, [0, 1, 2]), calibration=calibration)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Name of a shipped model → its file, written once; and that of `few`."""
    folder, written = tmp_path_factory.mktemp("metatomic"), {}

    def file(name):
        if name not in written:
            written[name] = folder / f"{name}.pt"
            export(few() if name == "few" else load_checkpoint(MODELS / name), written[name])
        return written[name]

    return file


@cache
def loaded(path):
    """Once: the first calls of a scripted model are slow."""
    from metatomic.torch import load_atomistic_model

    return load_atomistic_model(path)


def calculator(path, **more):
    from metatomic_ase import MetatomicCalculator

    return MetatomicCalculator(loaded(path), check_consistency=True, device="cpu", **more)


def with_neighbours(systems, model):
    from vesin.metatomic import neighbor_lists_for_model

    for neighbours in neighbor_lists_for_model("angstrom", model):
        neighbours.add_neighbor_list(systems, copy=True)
    return systems


def evaluated(path, structures, per_atom, selected=None, names=(*ENERGIES, SIGMA, COVARIANCE)):
    """What `run_model` does, with atoms selected: name → array."""
    from metatensor.torch import Labels
    from metatomic.torch import ModelEvaluationOptions, ModelOutput, systems_to_torch

    model = loaded(path)
    systems = with_neighbours(systems_to_torch(structures, dtype=torch.float64), model)
    kinds = {name: "atom" if per_atom or "::" in name else "system" for name in names}
    outputs = {name: ModelOutput(sample_kind=kind) for name, kind in kinds.items()}
    labels = None if selected is None else Labels(["system", "atom"], torch.tensor(selected, dtype=torch.int32))
    found = model(systems, ModelEvaluationOptions("angstrom", outputs, labels), check_consistency=True)
    return {name: found[name].block().values.detach().numpy() for name in names}


def compare(path, atoms, model, **settings):
    """Everything, through metatomic's calculator."""
    expected = RACECalculator(model, "cpu", tables=False, **settings).prediction(atoms)
    atoms = atoms.copy()
    atoms.calc = calculator(path, uncertainty_threshold=None)
    assert atoms.get_potential_energy() == pytest.approx(expected.energy[0], abs=1e-9)
    np.testing.assert_allclose(atoms.get_forces(), expected.forces, rtol=0, atol=1e-8)
    np.testing.assert_allclose(atoms.get_potential_energies(), expected.energies, rtol=0, atol=1e-9)
    if atoms.pbc.all():
        np.testing.assert_allclose(atoms.get_stress(), expected.stress[0], rtol=0, atol=1e-8)
    offered = atoms.calc._model.capabilities().outputs
    found = evaluated(path, [atoms], per_atom=False, names=list(offered))
    for name, values in {
        "energy": expected.energy,
        "energy_uncertainty": expected.energy_uncertainty,
        "energy_ensemble": expected.energies_members[:, 0] if expected.n_members > 1 else None,
        SIGMA: None if expected.forces_covariance is None else principal_std(expected.forces_covariance),
        COVARIANCE: expected.forces_covariance,
    }.items():
        assert (name in offered) == (values is not None), name
        if values is not None:
            np.testing.assert_allclose(found[name].reshape(np.shape(values)), values, rtol=0, atol=1e-9)


@needs_metatomic
@pytest.mark.parametrize("model", ["3bpa-de", "3bpa-llpr", "silicon"])  # 3bpa-xtb is built as 3bpa-de
def test_the_shipped_models(files, model):
    compare(files(model), crystal() if model == "silicon" else molecule_of_3bpa(), MODELS / model)


def made(folder, posterior="deep-ensemble", members=3, noise=None, center=False, **model):
    """A model with random weights in a folder, of every kind that no shipped model is."""
    small = {"hidden_irreps": "4x0e+4x1o+2x2e", "layers": 2, "features_dim": 4, "radial_hidden": (4,), "product_channels": 2}
    config = ModelConfig(**small | model)
    plan = make_plan(config, 2)
    offsets = dict.fromkeys(offset_names(plan), -3.0)
    parameters, means = (initialise(plan, seeds, offsets) for seeds in (list(range(members)), [99]))
    if posterior == "shallow-ensemble":
        parameters = {name: value if is_last_layer(name) else value[:1] for name, value in parameters.items()}
    references = References((1, 8), (-13.0, -2041.0), -5.0, 1.5)
    checkpoint = Checkpoint(Race(plan, (1, 8), 1.5, 9.0), references, parameters, posterior, noise=noise, center=means if center else None)
    save_checkpoint(folder, checkpoint, "")
    return folder


def water():
    atoms = molecule("H2O")
    atoms += molecule("H2O")
    atoms.positions[3:] += [0.0, 2.5, 1.0]
    return atoms


@needs_metatomic
@pytest.mark.parametrize(
    "case",
    [
        {"correlation": 1, "l_max": 1, "hidden_irreps": "4x0e+3x1o", "head": "energy", "baseline": "none"},
        {"correlation": 3, "l_max": 3, "hidden_irreps": "3x0e+2x0o+2x1o+2x1e+2x2e+2x3o"},
        {"head": "joint", "force_covariance": "cholesky", "l_max": 0, "hidden_irreps": "4x0e"},
        {"posterior": "shallow-ensemble"},
        {"members": 1, "posterior": "mve"},
        {"members": 1, "posterior": "mve", "head": "mse"},
        {"head": "mse", "noise": Noise(1e-3, 1e-2), "posterior": "laplace", "center": True},
    ],
)
def test_all_architectures_and_posteriors(tmp_path, case):
    folder, file = made(tmp_path / "model", **case), tmp_path / "model.pt"
    export(load_checkpoint(folder), file)
    compare(file, water(), folder)


@needs_metatomic
def test_a_single_atom_and_atoms_without_neighbours(files):
    for atoms in (molecule_of_3bpa()[:1], molecule_of_3bpa()[[0, 26]]):
        atoms.positions *= 20
        compare(files("3bpa-de"), atoms, MODELS / "3bpa-de")


@needs_metatomic
def test_many_systems_are_as_each_alone(files):
    molecules = [molecule_of_3bpa(1), molecule_of_3bpa(2)[:20], molecule_of_3bpa(3)]
    together = evaluated(files("few"), molecules, per_atom=False)
    each = [evaluated(files("few"), [atoms], per_atom=False) for atoms in molecules]
    for name, values in together.items():
        np.testing.assert_allclose(values, np.concatenate([one[name] for one in each]), rtol=0, atol=1e-10, err_msg=name)


@needs_metatomic
def test_sources_of_the_energy_with_weights(files):
    checkpoint, atoms = few(), molecule_of_3bpa()
    stack = load_stack(checkpoint, torch.float64, torch.device("cpu"))
    expected = checkpoint.calibration.apply(stack.predict(from_atoms(atoms, checkpoint.model.plan.config.cutoff)))
    found = evaluated(files("few"), [atoms], per_atom=False)["energy_uncertainty"]
    assert found[0, 0] == pytest.approx(expected.energy_uncertainty[0], rel=1e-6)


@needs_metatomic
@pytest.mark.parametrize("model", ["few", "3bpa-llpr", "silicon"])
def test_selected_atoms(files, model):
    """Energies and variances of two halves add up; what belongs to an atom is what it is among all."""
    structures = [crystal(1), crystal(2)] if model == "silicon" else [molecule_of_3bpa(1)[:9], molecule_of_3bpa(2)[5:]]
    system, number = np.concatenate([[[k, i] for i in range(len(one))] for k, one in enumerate(structures)]).T
    halves = [np.arange(1, len(system), 2), np.arange(0, len(system), 2)]
    selected = [np.stack([system[half], number[half]], 1) for half in halves]
    whole = evaluated(files(model), structures, per_atom=False)
    parts = [evaluated(files(model), structures, per_atom=False, selected=half) for half in selected]
    for name in ("energy", "energy_ensemble"):
        np.testing.assert_allclose(parts[0][name] + parts[1][name], whole[name], rtol=0, atol=1e-9)
    variance = sum(part["energy_uncertainty"] ** 2 for part in parts)
    np.testing.assert_allclose(variance, whole["energy_uncertainty"] ** 2, rtol=1e-9)
    every, half = (evaluated(files(model), structures, per_atom=True, selected=atoms) for atoms in (None, selected[0]))
    for name, values in half.items():
        np.testing.assert_allclose(values, every[name][halves[0]], rtol=0, atol=1e-10, err_msg=name)
    shares = np.bincount(system, every["energy_uncertainty"][:, 0] ** 2)
    np.testing.assert_allclose(shares, whole["energy_uncertainty"][:, 0] ** 2, rtol=1e-9)


@needs_metatomic
def test_it_turns_with_the_structure(files):
    atoms = molecule_of_3bpa()
    turned = atoms.copy()
    turned.rotate(77, (1, 2, 3))
    q = np.linalg.lstsq(atoms.positions - atoms.positions[0], turned.positions - turned.positions[0], rcond=None)[0].T
    one, other = (evaluated(files("few"), [each], per_atom=False) for each in (atoms, turned))
    for name in (*ENERGIES, SIGMA):
        np.testing.assert_allclose(other[name], one[name], rtol=0, atol=1e-9)
    np.testing.assert_allclose(other[COVARIANCE][..., 0], q @ one[COVARIANCE][..., 0] @ q.T, rtol=0, atol=1e-12)
    assert np.abs(one[COVARIANCE][..., 0] - other[COVARIANCE][..., 0]).max() > 1e-5


@needs_metatomic
@pytest.mark.parametrize("names", [["energy"], ["energy", SIGMA, COVARIANCE, "energy_uncertainty"]])
def test_derivatives_with_and_without_uncertainties(files, names):
    """Forces are the same whether the network is differentiated by the engine or was for the spread, also without gradients around."""
    from metatomic.torch import ModelOutput

    atoms, extra = molecule_of_3bpa(), {name: ModelOutput(sample_kind="atom") for name in names[1:]}
    atoms.calc = calculator(files("few"), uncertainty_threshold=None, additional_outputs=extra)
    forces, energy = atoms.get_forces(), atoms.get_potential_energy()
    with torch.no_grad():
        found = evaluated(files("few"), [atoms], per_atom=False, names=names)
    assert found["energy"][0, 0] == pytest.approx(energy, abs=1e-9)
    shifted = []
    for step in (1e-4, -1e-4):
        moved = atoms.positions + 0.0
        moved[3, 1] += step
        shifted.append(evaluated(files("few"), [Atoms(atoms.numbers, moved)], per_atom=False, names=["energy"])["energy"][0, 0])
    assert forces[3, 1] == pytest.approx((shifted[1] - shifted[0]) / 2e-4, abs=1e-5)


@needs_metatomic
def test_second_derivatives_are_right_or_raise(files):
    from metatomic.torch import ModelEvaluationOptions, ModelOutput, System

    model, atoms = loaded(files("few")), molecule_of_3bpa()[:6]

    def force(positions, *more):
        types, cell, pbc = torch.tensor(atoms.numbers, dtype=torch.int32), torch.zeros(3, 3).double(), torch.zeros(3, dtype=torch.bool)
        system = System(types, positions, cell, pbc)
        with_neighbours([system], model)
        outputs = {"energy": ModelOutput(sample_kind="system")} | {name: ModelOutput(sample_kind="atom") for name in more}
        energy = model([system], ModelEvaluationOptions("angstrom", outputs, None), check_consistency=False)["energy"].block().values
        return -torch.autograd.grad(energy.sum(), positions, create_graph=True)[0][0, 0]

    start = torch.tensor(atoms.positions, requires_grad=True)
    (row,) = torch.autograd.grad(force(start), start)
    step = torch.zeros_like(start)
    step[3, 1] = 1e-4
    numeric = (force((start + step).detach().requires_grad_()) - force((start - step).detach().requires_grad_())) / 2e-4
    assert float(row[3, 1]) == pytest.approx(float(numeric.detach()), rel=1e-5, abs=1e-6)
    with pytest.raises(RuntimeError, match="not implemented"):
        torch.autograd.grad(force(start, SIGMA), start)


@needs_metatomic
def test_float32_is_that_of_the_calculator(tmp_path):
    """The numbers of the network; energies are summed in float64, so that references of −20,000 eV cost nothing."""
    file, atoms = tmp_path / "single.pt", molecule_of_3bpa()[:14]
    export(load_checkpoint(MODELS / "3bpa-de"), file, torch.float32)
    expected = RACECalculator(MODELS / "3bpa-de", "cpu", tables=False, dtype="float32").prediction(atoms)
    double = RACECalculator(MODELS / "3bpa-de", "cpu", tables=False).prediction(atoms)
    atoms.calc = calculator(file, uncertainty_threshold=None)
    assert 1e-9 < abs(atoms.get_potential_energy() - double.energy[0]) < 1e-4  # it is another network
    assert atoms.get_potential_energy() == pytest.approx(expected.energy[0], abs=1e-4)
    np.testing.assert_allclose(atoms.get_forces(), expected.forces, rtol=0, atol=1e-4)
    found = evaluated(file, [atoms], per_atom=False)
    np.testing.assert_allclose(found[COVARIANCE][..., 0], expected.forces_covariance, rtol=1e-4, atol=1e-6)
    assert found["energy_uncertainty"][0, 0] == pytest.approx(expected.energy_uncertainty[0], rel=1e-2)


@needs_metatomic
def test_metatomics_calculator_warns_of_what_it_does_not_know(files):
    """Of its own accord: σ of an atom is its share of the energy's, above 0.1 eV where an atom was torn off."""
    atoms = molecule_of_3bpa()
    atoms.calc = calculator(files("few"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atoms.get_potential_energy()
    atoms.positions[0] += 0.8 * (atoms.positions[1] - atoms.positions[0])
    with pytest.warns(UserWarning, match="larger than the threshold"):
        atoms.get_potential_energy()


@needs_metatomic
def test_the_command_writes_what_loads_without_the_package(tmp_path):
    file = tmp_path / "new" / "model.pt"
    done = CliRunner().invoke(app, ["export", "metatomic", str(MODELS / "3bpa-llpr"), str(file), "--dtype", "float32"])
    assert done.exit_code == 0, done.output
    assert SIGMA in done.output
    code = (
        "import sys; sys.modules['race_calc'] = None\n"  # whoever imports it fails
        "from metatomic.torch import load_atomistic_model\n"
        f"model = load_atomistic_model({str(file)!r})\n"
        "print(model.capabilities().interaction_range, sorted(model.capabilities().outputs))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.startswith("15.0 ") and COVARIANCE in loaded.stdout


def test_what_cannot_be_exported_says_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="several states or properties.*use RACECalculator"):
        check(load_checkpoint(MODELS / "fulvene"))
    plain = load_checkpoint(MODELS / "3bpa-de")
    config = plain.model.plan.config.model_copy(update={"baseline": "external"})
    external = replace(plain, model=replace(plain.model, plan=replace(plain.model.plan, config=config)))
    with pytest.raises(ValueError, match="baseline external.*train with baseline zbl or none"):
        check(external)
    monkeypatch.setitem(sys.modules, "metatomic", None)
    with pytest.raises(ValueError, match="pip install 'race_calc\\[metatomic\\]'"):
        export(plain, tmp_path / "model.pt")
    assert not (tmp_path / "model.pt").exists()
