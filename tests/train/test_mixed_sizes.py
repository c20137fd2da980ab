"""What is a mean over structures, over atoms or per atom: a data set of molecules of two sizes tells them apart."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from small_run import write_run

from race_calc.data.graph import collate
from race_calc.evaluate.predict import predict_graphs, scores_of
from race_calc.model.heads import ENERGY_VARIANCE, FORCE_COVARIANCE
from race_calc.model.likelihood import gain_of_factor
from race_calc.model.parameters import expanded
from race_calc.model.race import evaluate
from race_calc.posterior import laplace
from race_calc.posterior.base import Posterior, by_name, names
from race_calc.posterior.batch import batch_of
from race_calc.posterior.given import Fitted, Noise
from race_calc.posterior.last_layer import last_layer_features
from race_calc.posterior.load import load_stack
from race_calc.posterior.stack import StackPosterior
from race_calc.posterior.state import Trained, flatten, unflatten
from race_calc.train.config import load_config
from race_calc.train.context import context_of
from race_calc.train.finish import finish
from race_calc.train.loop import Part, gradients_of, train
from race_calc.train.losses import loss
from race_calc.train.prepare import prepare
from race_calc.train.validate import BATCH, validate
from race_calc.uncertainty.decisions import ENERGY, watched
from race_calc.uncertainty.thresholds import auto_thresholds

CPU = torch.device("cpu")


def molecule(seed: int) -> Atoms:
    """Every third has five atoms, the others two."""
    rng = np.random.default_rng(seed)
    places = [[0, 0, 0], [2.5, 0, 0], [1.2, 2.3, 0], [3.7, 2.2, 0.3], [1.3, 0.8, 2.2]]
    atoms = Atoms("AgCu4", places) if seed % 3 == 0 else Atoms("AgCu", places[:2])
    atoms.positions += rng.normal(scale=0.15, size=(len(atoms), 3))
    atoms.calc = EMT()
    labels = {"energy": atoms.get_potential_energy() + rng.normal(), "forces": atoms.get_forces()}
    atoms.calc = SinglePointCalculator(atoms, **labels)
    return atoms


def setup(folder, posterior="deep-ensemble", head="joint", **changes):
    path = write_run(
        folder, posterior=posterior, model__head=head, data__validation=23, training__epochs=2, training__dtype="float64", **changes
    )
    write(folder / "data.xyz", [molecule(seed) for seed in range(31)])
    config = load_config(path)
    return config, prepare(config, folder)


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    """Configuration and data of two members that were not trained."""
    return setup(tmp_path_factory.mktemp("ensemble"))


def outputs_of(prepared, parameters, examples):
    layout, labels = batch_of(list(examples), prepared.model, torch.float64, CPU)
    return evaluate(prepared.model, parameters, layout), labels


def sizes(examples):
    return np.array([example.graph.n_atoms for example in examples])


def test_variances_start_at_those_of_the_data(ensemble):
    """Readouts of zero give E²/N for each atom, and the mean square of a force component in every direction."""
    _, prepared = ensemble
    energy = np.array([example.energy for example in prepared.train])
    forces = np.concatenate([example.forces for example in prepared.train])
    zeros = torch.zeros(2, 3, dtype=torch.float64)
    offset = prepared.parameters["energy_var_offset"]
    found = ENERGY_VARIANCE.value({"energy_var": zeros[..., None]}, offset)
    np.testing.assert_allclose(found, np.mean(energy**2 / sizes(prepared.train)), rtol=1e-9)
    assert len(set(sizes(prepared.train))) == 2
    for form, head in FORCE_COVARIANCE.items():
        start = torch.full((2,), head.start(0.1, prepared.references.scale**2), dtype=torch.float64)
        channels = {c.name: torch.zeros(2, 3, *([5] if c.irrep == "2e" else []), c.width, dtype=torch.float64) for c in head.channels}
        covariance = head.members(head.value(channels, start).numpy())
        np.testing.assert_allclose(covariance, np.broadcast_to(np.mean(forces**2) * np.eye(3), (2, 3, 3, 3)), atol=2e-6, err_msg=form)
    np.testing.assert_allclose(prepared.parameters["force_cov_offset"], np.log(np.mean(forces**2)), rtol=1e-12)


def test_validation_is_a_mean_over_structures(ensemble):
    """Batches of ten, ten and three: the score weighs them by their structures; errors of the mean are not the members' mean errors."""
    config, prepared = ensemble
    weights = flatten(list(prepared.parameters.values()))
    parts = [prepared.validation[start : start + BATCH] for start in range(0, 23, BATCH)]
    assert [len(part) for part in parts] == [10, 10, 3]
    scores, measured = validate(context_of(config, prepared, CPU), weights)
    joint = config.training.model_copy(update={"recipe": "joint"})
    plan, found = prepared.model.plan, [outputs_of(prepared, prepared.parameters, part) for part in parts]

    def mean(each: list[torch.Tensor]) -> torch.Tensor:
        return (10 * each[0] + 10 * each[1] + 3 * each[2]) / 23

    expected = mean([loss(*one, plan, joint) for one in found])
    for name, weight, dimension in (("energy_var", joint.energy_weight, 1), ("force_cov", joint.force_weight, 3)):
        quadratic = mean([Posterior().quadratics(*one, plan)[name] for one in found])
        expected = expected - weight * gain_of_factor(quadratic, dimension)
    torch.testing.assert_close(scores, expected)
    outputs, labels = outputs_of(prepared, prepared.parameters, prepared.validation)
    energy, forces = (outputs.energy - labels.energy).numpy(), (outputs.forces - labels.forces).numpy()
    rms = [np.sqrt(np.mean(d**2, axis=tuple(range(1, d.ndim)))) for d in (energy, forces)]
    assert measured["energy_rmse_eV"] == pytest.approx(rms[0], rel=1e-5)
    assert measured["force_rmse_eV_per_A"] == pytest.approx(rms[1], rel=1e-5)
    assert measured["mean_energy_rmse_eV"] == pytest.approx(np.sqrt(np.mean(energy.mean(0) ** 2)), rel=1e-5)
    assert measured["mean_force_rmse_eV_per_A"] == pytest.approx(np.sqrt(np.mean(forces.mean(0) ** 2)), rel=1e-5)


def test_validation_of_many_last_layers_is_that_of_their_mean(tmp_path):
    """One trunk: one error of energies, that of their mean, as of the forces."""
    config, prepared = setup(tmp_path, "shallow-ensemble", members=4)
    context = context_of(config, prepared, CPU)
    scores, measured = validate(context, flatten(list(prepared.parameters.values())))
    outputs, labels = outputs_of(prepared, context.posterior.stack(prepared.parameters), prepared.validation)
    assert len(outputs.energy) == 4 and len(outputs.forces) == len(scores) == 1
    rms = float((outputs.energy.mean(0) - labels.energy).square().mean().sqrt())
    assert measured["energy_rmse_eV"] == [pytest.approx(rms, rel=1e-5)] and measured["mean_energy_rmse_eV"] == pytest.approx(rms, rel=1e-5)


@pytest.mark.parametrize("posterior", [name for name in names() if name not in ("swag", "ivon")])
def test_the_best_weights_are_kept_not_the_last(ensemble, posterior, monkeypatch):
    """Also as the model that a posterior is fitted to. SWAG and IVON are around the last weights by their definition."""
    config, prepared = ensemble
    method, context = by_name(posterior), context_of(config, prepared, CPU)
    state = method.initial_state(flatten(list(prepared.parameters.values()))[:1])
    best = torch.full_like(state.best, 0.25)
    monkeypatch.setattr(type(method), "fit", lambda self, one, basis: Fitted(one, {}))
    if method.many_last_layers:
        monkeypatch.setattr("race_calc.posterior.shallow.unstacked", lambda parameters: parameters)
    fitted = method.parameter_sets(Trained(replace(state, best=best)), context.basis(1, 0, lambda done, total: None))
    torch.testing.assert_close(flatten(list(fitted.parameters.values())), best)


def test_laplace_sums_squares_of_energies_per_atom(tmp_path, monkeypatch):
    config, prepared = setup(tmp_path, "laplace", head="mse", members=2)
    seen = []
    fit = laplace.fit
    monkeypatch.setattr(laplace, "fit", lambda *given: seen.append(given) or fit(*given))
    one = {name: value[:1] for name, value in prepared.parameters.items()}
    steps = []
    found = by_name("laplace").fit(one, context_of(config, prepared, CPU).basis(2, 0, lambda *done: steps.append(done)))
    (_, energies, forces, noises), n = seen[0], sizes(prepared.train)
    outputs, labels = outputs_of(prepared, one, prepared.train)
    d_energy, d_forces = (labels.energy - outputs.energy)[0].numpy(), (labels.forces - outputs.forces)[0].numpy()
    assert energies.squares == pytest.approx(np.sum(d_energy**2 / n)) and energies.count == len(n)
    assert forces.squares == pytest.approx(np.sum(d_forces**2)) and forces.count == 3 * n.sum()
    held, of_held = outputs_of(prepared, one, prepared.validation)
    expected = ((of_held.energy - held.energy)[0].numpy() ** 2 / sizes(prepared.validation)).mean()
    assert noises[0] == pytest.approx(found.noise.energy, rel=1e-12)
    assert found.noise.energy == pytest.approx(expected)
    assert steps == [(done, len(n)) for done in range(1, len(n) + 1)]


@pytest.fixture(scope="module")
def llpr(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llpr")
    config, prepared = setup(folder, "llpr", members=4)
    trained = train(config, prepared, folder / "model", CPU, resume=False)
    checkpoint = finish(config, prepared, trained, folder / "model", CPU)
    one = unflatten(trained.state.best, {name: value.shape[1:] for name, value in prepared.parameters.items()})
    return prepared, checkpoint, one


def test_llpr_records_the_errors_of_forces_over_their_variances(llpr):
    """All components of all held-back structures in one mean: structures with more atoms count more."""
    prepared, checkpoint, one = llpr
    ratios = []
    for example in prepared.validation:
        gradients = last_layer_features(prepared.model, one, example, CPU)[1].numpy()
        variances = np.einsum("nik,kl,nil->ni", gradients, checkpoint.last_layer, gradients)
        errors = example.forces - outputs_of(prepared, one, [example])[0].forces[0].numpy()
        ratios.append((errors**2 / variances).ravel())
    assert checkpoint.training["posterior"]["force_errors_over_variances"] == pytest.approx(np.mean(np.concatenate(ratios)), rel=1e-6)


def test_llpr_thresholds_of_energies_are_those_of_the_closed_form(llpr):
    """What the calculator predicts and the monitor compares; the spread of four drawn last layers is another number."""
    prepared, checkpoint, one = llpr
    scores = []
    for example in prepared.validation:
        features = last_layer_features(prepared.model, one, example, CPU)[0].numpy()
        scores.append(np.sqrt(features @ checkpoint.last_layer @ features) / example.graph.n_atoms)
    known = scores_of(predict_graphs(load_stack(checkpoint, torch.float64, CPU), (example.graph for example in prepared.validation)))
    known[ENERGY] = np.array(scores)
    expected = auto_thresholds(known, together=watched(known, {}))
    assert checkpoint.thresholds[ENERGY] == pytest.approx(expected[ENERGY], rel=1e-6)


def test_the_noise_of_an_energy_is_that_of_its_own_size(ensemble):
    """Also in a batch of structures of several sizes."""
    _, prepared = ensemble
    stack = StackPosterior(prepared.model, prepared.references, expanded(prepared.parameters), noise=Noise(0.5, 2.0))
    found = stack.predict(collate([example.graph for example in prepared.validation]))
    np.testing.assert_allclose(found.energy_aleatoric, 0.5 * sizes(prepared.validation))
    np.testing.assert_allclose(found.forces_covariance_aleatoric, np.broadcast_to(2.0 * np.eye(3), (len(found.batch), 3, 3)))


def test_with_a_validation_file_all_of_the_other_is_for_training(tmp_path):
    path = write_run(tmp_path, data__validation="held.xyz")
    write(tmp_path / "data.xyz", [molecule(seed) for seed in range(6)])
    write(tmp_path / "held.xyz", [molecule(seed) for seed in range(6, 10)])
    prepared = prepare(load_config(path), tmp_path)
    assert (len(prepared.train), len(prepared.validation)) == (6, 4)
    assert prepared.split.train == tuple(range(6)) and prepared.split.validation == ()


def test_gradients_of_a_member_are_those_of_its_own_loss(ensemble):
    """Not shared out among the members, not summed over them."""
    config, prepared = ensemble
    context = context_of(config, prepared, CPU)
    weights, batch = flatten(list(prepared.parameters.values())), batch_of(list(prepared.train[:4]), prepared.model, torch.float64, CPU)
    batch = [Part(*batch)]
    losses, gradients = gradients_of(context, weights, batch)
    for member in range(2):
        loss_alone, alone = gradients_of(context, weights[member : member + 1], batch)
        torch.testing.assert_close(losses[member : member + 1], loss_alone)
        torch.testing.assert_close(gradients[member : member + 1], alone)
