"""Every posterior trains, saves, loads, drives MD and the monitor."""

from dataclasses import replace

import numpy as np
import pytest
import small_run
import torch
from ase import units
from ase.io import write
from ase.md.verlet import VelocityVerlet
from small_run import frame

from race_calc import Criterion, RACECalculator, UncertaintyMonitor
from race_calc.data.dataset import read_dataset
from race_calc.data.graph import from_atoms
from race_calc.evaluate.calibrate import calibrate
from race_calc.evaluate.predict import predict_dataset, residuals_of
from race_calc.model.layout import Numerics
from race_calc.model.parameters import initialise, select_members, shares_trunk
from race_calc.model.race import evaluate, layout_of
from race_calc.posterior import ivon, laplace, swag
from race_calc.posterior.base import by_name, names
from race_calc.posterior.batch import batch_of
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.laplace import squared_jacobian
from race_calc.posterior.laplace_evidence import Observations
from race_calc.posterior.last_layer import last_layer_features
from race_calc.posterior.load import load_stack
from race_calc.posterior.state import flatten, unflatten
from race_calc.train.config import load_config
from race_calc.train.context import context_of
from race_calc.train.files import load_state
from race_calc.train.finish import finish
from race_calc.train.fit import Request, fit_posterior
from race_calc.train.loop import Part, one_step, train
from race_calc.train.prepare import prepare
from race_calc.uncertainty.calibration_energy import energy_spread_of
from race_calc.uncertainty.energy_size import fit_energy_size

CPU = torch.device("cpu")
HEAD = {"laplace": "mse"}


def write_run(folder, n=28, **changes):
    """With as many validation structures as thresholds take."""
    return small_run.write_run(folder, n, **{"data__validation": 20} | changes)


def setup(folder, posterior, **changes):
    members = {} if posterior == "mve" else {"members": 4}
    path = write_run(folder, posterior=posterior, model__head=HEAD.get(posterior, "joint"), **members, **changes)
    if posterior == "mve":
        path.write_text(path.read_text().replace("members: 2\n", ""))
    config = load_config(path)
    return config, prepare(config, folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Model folders by posterior, trained in five epochs."""
    found = {}
    for posterior in names():
        folder = tmp_path_factory.mktemp(posterior)
        config, prepared = setup(folder, posterior, training__epochs=5)
        finish(config, prepared, train(config, prepared, folder / "model", CPU, resume=False), folder / "model", CPU)
        found[posterior] = folder / "model"
    return found


@pytest.mark.parametrize("posterior", names())
def test_loads_drives_md_and_the_monitor(made, posterior, tmp_path):
    checkpoint = load_checkpoint(made[posterior])
    members = 1 if posterior == "mve" else 4
    assert checkpoint.posterior == posterior and checkpoint.members == members
    assert checkpoint.thresholds and shares_trunk(checkpoint.parameters) == (posterior in ("llpr", "shallow-ensemble"))
    atoms = frame(3)
    atoms.calc = RACECalculator(made[posterior])
    atoms.get_forces()
    results = atoms.calc.results
    assert np.isfinite(results["forces_covariance"]).all() and results["energy_uncertainty"] > 0
    if members > 1:
        assert results["energy_uncertainty_epistemic"] > 0
        assert np.linalg.eigvalsh(results["forces_covariance_epistemic"])[:, -1].max() > 0
        assert results["bald_energy"] > 0 and (results["bald_forces"] > 0).all()
    dynamics = VelocityVerlet(atoms, 0.1 * units.fs)
    monitor = UncertaintyMonitor(dynamics, [Criterion("energy_uncertainty_per_atom", 1e6, "halt")], flagged=None)
    dynamics.run(3)
    assert monitor.record.scores["energy_uncertainty_per_atom"] > 0 and dynamics.nsteps == 3


@pytest.mark.parametrize("posterior", names())
def test_the_mean_energy_has_the_forces(made, posterior):
    """Fourth-order differences; the parameter sets are fixed, so the mean energy is one function."""
    atoms, h = frame(3), 1e-4
    atoms.calc = RACECalculator(made[posterior])
    force = atoms.get_forces()[1, 0]
    energies = []
    for k in (-2, -1, 1, 2):
        moved = atoms.copy()
        moved.positions[1, 0] += k * h
        moved.calc = atoms.calc
        energies.append(moved.get_potential_energy())
    assert np.dot([1, -8, 8, -1], energies) / (12 * h) == pytest.approx(-force, rel=1e-9, abs=1e-7)


@pytest.mark.parametrize("posterior", ["llpr", "shallow-ensemble"])
def test_without_the_forces_of_every_member(made, posterior):
    """The same means, energies and aleatoric covariances; what needs every member's forces is absent."""
    atoms, fast = frame(3), frame(3)
    atoms.calc, fast.calc = RACECalculator(made[posterior]), RACECalculator(made[posterior], forces_epistemic=False)
    for one in (atoms, fast):
        one.get_forces()
    full, found = atoms.calc.results, fast.calc.results
    for name in ("energy", "forces", "energy_uncertainty", "energy_uncertainty_epistemic", "bald_energy", "forces_covariance_aleatoric"):
        np.testing.assert_allclose(found[name], full[name], rtol=1e-9, atol=1e-10, err_msg=name)
    absent = {"bald_forces", "forces_covariance_epistemic", "forces_covariance", "forces_uncertainty"}
    assert not absent & (set(found) | set(fast.calc.implemented_properties))
    monitor = UncertaintyMonitor(VelocityVerlet(fast, units.fs), flagged=None)
    assert {c.name for c in monitor.criteria} == {"feature_distance_max", "energy_uncertainty_per_atom_epistemic", "distance_gap_max"}
    for criterion in monitor.criteria[:2]:
        assert criterion.threshold == atoms.calc.thresholds[criterion.name]


def test_every_posterior_knows_how_far_an_atom_is(made):
    """By the features of its first set, the MAP where that gives the means, on which the distance was fitted."""
    for posterior, folder in made.items():
        checkpoint = load_checkpoint(folder)
        first = checkpoint.center or select_members(checkpoint.parameters, [0])
        first = {name: value[:1].double() for name, value in first.items()}
        layout = layout_of(checkpoint.model, from_atoms(frame(50), 4.0), Numerics(torch.float64, CPU))
        features = evaluate(checkpoint.model, first, layout).features[0].numpy()
        expected = checkpoint.feature_distance(features, layout.species[layout.rank].numpy())
        found = RACECalculator(folder, "cpu").get_property("feature_distance", frame(50))
        np.testing.assert_allclose(found, expected, rtol=1e-3, err_msg=posterior)


@pytest.mark.parametrize("posterior", ["llpr", "shallow-ensemble"])
def test_a_calibration_holds_with_and_without_them(made, posterior, tmp_path):
    write(tmp_path / "known.xyz", [frame(seed) for seed in range(100, 120)])
    full, fast = RACECalculator(made[posterior]), RACECalculator(made[posterior], forces_epistemic=False)
    full.calibration, _ = calibrate(full, read_dataset(tmp_path / "known.xyz"))
    fast.calibration = replace(full.calibration, energy=replace(full.calibration.energy, form=_sized(full, tmp_path / "known.xyz")))
    full.calibration = fast.calibration
    assert [source.name for source in full.calibration.energy.form.sources] == ["energies"]
    for name in ("energy_uncertainty", "energy_uncertainty_epistemic", "energy_uncertainty_aleatoric"):
        assert fast.get_property(name, frame(3)) == pytest.approx(full.get_property(name, frame(3)), rel=1e-9), name


def _sized(calculator, path):
    """The size of energies, whatever held-back structures like better."""
    data = read_dataset(path)
    raw = residuals_of(predict_dataset(calculator, data), data)
    return fit_energy_size(raw.energy, energy_spread_of(raw))


def test_members_that_share_nothing_have_no_cheap_step(made):
    with pytest.raises(ValueError, match="share nothing"):
        RACECalculator(made["deep-ensemble"], forces_epistemic=False)


def test_llpr_energy_variance_is_the_closed_form(made):
    """Not the spread of the drawn last layers; these agree with it in the mean over many draws."""
    atoms = frame(3)
    atoms.calc = RACECalculator(made["llpr"], members=True)
    atoms.get_potential_energy()
    found = atoms.calc.results
    assert found["energies_members"].mean() == pytest.approx(found["energy"], abs=1e-9)
    checkpoint, stack = load_checkpoint(made["llpr"]), atoms.calc.posterior
    graph = from_atoms(atoms, 4.0)
    layout = layout_of(stack.model, graph, Numerics(torch.float64, CPU))
    features = evaluate(stack.model, {k: v.double() for k, v in checkpoint.parameters.items()}, layout).features[0].sum(0).numpy()
    expected = np.sqrt(features @ checkpoint.last_layer @ features)
    assert found["energy_uncertainty_epistemic"] == pytest.approx(expected, rel=1e-6)


def test_laplace_curvature_is_the_squared_jacobian(made):
    """Against one backward pass per output, and the noises come from the validation set: more weights than outputs."""
    config, prepared = setup(made["laplace"].parent, "laplace", training__epochs=5)
    parameters = {name: value.double() for name, value in initialise(prepared.model.plan, [5], {}).items()}
    example = prepared.train[0]
    energy, forces = squared_jacobian(prepared.model, parameters, example, CPU)
    leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    layout, _ = batch_of([example], prepared.model, torch.float64, CPU)
    outputs = evaluate(prepared.model, leaves, layout, training=True)

    def squares(value):
        gradients = torch.autograd.grad(value, list(leaves.values()), retain_graph=True, materialize_grads=True, allow_unused=True)
        return torch.cat([g.flatten() for g in gradients]).square()

    torch.testing.assert_close(energy, squares(outputs.energy.sum()) / example.graph.n_atoms, rtol=1e-9, atol=1e-12)
    expected = sum(squares(component) for component in outputs.forces.flatten())
    torch.testing.assert_close(forces, expected, rtol=1e-9, atol=1e-9 * float(expected.max()))
    assert load_checkpoint(made["laplace"]).training["posterior"]["noises"] == "validation"
    assert load_checkpoint(made["laplace"]).noise.forces > 0


def test_last_layer_features_give_energies_and_forces(made):
    """E = φ·w and F = G w with the weights of the model itself."""
    config, prepared = setup(made["llpr"].parent, "llpr", training__epochs=5)
    parameters = initialise(prepared.model.plan, [5], {"energy_var_offset": -3.0, "force_cov_offset": -2.0})
    example = prepared.train[0]
    features, gradients = last_layer_features(prepared.model, parameters, example, CPU)
    weights = torch.cat([value[0, :, 0] for name, value in parameters.items() if name.endswith("readout.out")])
    layout, _ = batch_of([example], prepared.model, torch.float64, CPU)
    outputs = evaluate(prepared.model, parameters, layout)
    torch.testing.assert_close(features @ weights, outputs.energy[0, 0])
    torch.testing.assert_close(gradients @ weights, outputs.forces[0])
    torch.testing.assert_close(outputs.features[0].sum(0), features)


@pytest.mark.parametrize("method", ["laplace", "llpr"])
def test_a_fit_after_the_training_is_that_of_the_training(made, method, tmp_path):
    """`posterior fit` on the trained model with the same seed: the same parameter sets as with `posterior: …` in one go."""
    folder = made[method].parent
    config = load_config(write_run(folder, posterior="mve", members=1, model__head=HEAD.get(method, "joint"), training__epochs=5))
    prepared = prepare(config, folder)
    finish(config, prepared, train(config, prepared, tmp_path / "base", CPU, resume=False), tmp_path / "base", CPU)
    base = load_checkpoint(tmp_path / "base")
    found = fit_posterior(base, Request(method, 4, 0, config.training.seed), folder, tmp_path / "fitted", CPU)
    for name, value in load_checkpoint(made[method]).parameters.items():
        torch.testing.assert_close(found.parameters[name], value, rtol=1e-5, atol=1e-5, msg=name)
    assert found.training["posterior"]["validation_of_the_model"]["mean_force_rmse_eV_per_A"] > 0
    assert "Made by `race-calc posterior fit` of" in (tmp_path / "fitted" / "card.md").read_text()
    assert "Made by `race-calc train` of" in (tmp_path / "base" / "card.md").read_text()
    with pytest.raises(ValueError, match="no member 1"):
        fit_posterior(base, Request(method, 4, 1), folder, tmp_path / "x", CPU)
    with pytest.raises(ValueError, match="share a trunk"):
        fit_posterior(load_checkpoint(made["llpr"]), Request(method, 4), folder, tmp_path / "x", CPU)
    write_run(folder, n=29)
    with pytest.raises(ValueError, match="not those that the model was trained on"):
        fit_posterior(base, Request(method, 4), folder, tmp_path / "x", CPU)
    write_run(folder)


def test_swag_collects_the_weights_after_the_late_epochs(tmp_path):
    """Moments against the weights that were saved after each epoch; 40 % of ten epochs go by first."""
    config, prepared = setup(tmp_path, "swag", training__epochs=10)
    seen = []

    def note(record):
        if record["kind"] == "epoch":
            seen.append(load_state(tmp_path / "out", prepared.fingerprint, by_name("swag"), CPU)[0].state.weights[0].double())

    trained = train(config, prepared, tmp_path / "out", CPU, False, note)
    late = torch.stack(seen[4:])
    assert int(trained.collected.count) == len(late) == 6
    torch.testing.assert_close(trained.collected.mean, late.mean(0))
    torch.testing.assert_close(trained.collected.square, late.square().mean(0))
    made = finish(config, prepared, trained, tmp_path / "out", CPU)
    draws = swag.sample(trained.collected, 4, config.training.seed)
    torch.testing.assert_close(flatten(list(made.parameters.values())), draws)


def test_one_step_of_ivon_by_hand(tmp_path):
    """The gradient of the likelihood at mean + noise, ess = number of structures, prior N(0, 1)."""
    config, prepared = setup(tmp_path, "ivon", training__dtype="float64")
    context = context_of(config, prepared, CPU)
    state = context.posterior.initial_state(flatten(list(prepared.parameters.values())))
    assert (state.second == ivon.HESSIAN).all()
    batch = batch_of(list(prepared.train[:3]), prepared.model, torch.float64, CPU)
    draws = torch.randn(state.weights.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    settings = config.training.model_copy(update={"smoothness": 0.0, "energy_weight": 7.0, "clip_norm": 1e-3})
    context = replace(context, training=settings)
    losses, new = one_step(context, [Part(*batch)], 0.02, state, draws)
    n = len(prepared.train)
    noise = draws / (n * (ivon.HESSIAN + 1 / n)) ** 0.5
    weights = (state.weights + noise).requires_grad_()
    outputs = evaluate(prepared.model, unflatten(weights, context.shapes), batch[0], training=True)
    expected = ivon.likelihood(outputs, batch[1], prepared.model.plan)
    (gradient,) = torch.autograd.grad(expected.sum(), weights)
    now, scales = ivon.Gaussian(state.weights, state.first, state.second, state.steps), ivon.Scales(float(n), 1 / n, ivon.BETA2)
    mean, momentum, curvature = ivon.update(now, gradient, noise, 0.02 * ivon.RATE, scales)
    torch.testing.assert_close(losses, expected.detach())
    for found, value in ((new.weights, mean), (new.ema, mean), (new.first, momentum), (new.second, curvature)):
        torch.testing.assert_close(found, value)
    broken = replace(batch[1], energy=batch[1].energy * float("nan"))
    _, kept = one_step(context, [Part(batch[0], broken)], 0.02, state, draws)
    assert torch.equal(kept.weights, state.weights) and torch.equal(kept.second, state.second) and kept.skipped.tolist() == [1]


def test_ivon_draws_around_the_last_mean(tmp_path):
    config, prepared = setup(tmp_path, "ivon", training__epochs=5)
    trained = train(config, prepared, tmp_path / "out", CPU, resume=False)
    made = finish(config, prepared, trained, tmp_path / "out", CPU)
    n, state = float(len(prepared.train)), trained.state
    draws = ivon.sample(state.weights[0], state.second[0], n, 1 / n, 4, config.training.seed)
    torch.testing.assert_close(flatten(list(made.parameters.values())), draws)
    assert not torch.equal(trained.state.first, torch.zeros_like(trained.state.first))
    left = ivon.HESSIAN * ivon.BETA2 ** float(state.steps[0]) / state.second[0].median().item()
    assert made.training["posterior"]["share_of_the_start_in_the_median_curvature"] == pytest.approx(left)
    assert abs(state.second[0].median() / state.second[0].mean() - 1) > 1e-4


def test_llpr_by_hand(made):
    """Λ over the training set, σ and α² from the validation set, drawn layers in their places."""
    checkpoint = load_checkpoint(made["llpr"])
    config, prepared = setup(made["llpr"].parent, "llpr", training__epochs=5)
    out = [name for name in checkpoint.parameters if name.endswith("readout.out")]
    base = {name: value.mean(0, keepdim=True).double() if name in out else value.double() for name, value in checkpoint.parameters.items()}
    errors, squares = [], []
    for example in prepared.validation:
        outputs = evaluate(prepared.model, base, batch_of([example], prepared.model, torch.float64, CPU)[0])
        errors.append(example.energy - outputs.energy[0, 0].item())
        squares.append((example.forces - outputs.forces[0].numpy()).ravel() ** 2)
    e_noise, f_noise = np.mean(np.square(errors)) / 3, np.mean(squares)  # three atoms in each
    precision = np.eye(len(checkpoint.last_layer))
    for example in prepared.train:
        phi, g = (x.numpy() for x in last_layer_features(prepared.model, base, example, CPU))
        g = g.reshape(-1, len(phi))
        precision += np.outer(phi, phi) / (3 * e_noise) + g.T @ g / f_noise
    covariance = np.linalg.inv(precision)
    held = np.stack([last_layer_features(prepared.model, base, example, CPU)[0].numpy() for example in prepared.validation])
    scale = np.mean(np.square(errors) / np.einsum("vk,kl,vl->v", held, covariance, held))
    np.testing.assert_allclose(checkpoint.last_layer, scale * covariance, rtol=1e-3, atol=1e-6 * scale * covariance.max())
    deviations = np.concatenate([(checkpoint.parameters[name][:, :, 0] - base[name][:, :, 0]).numpy() for name in out], axis=1)
    white = np.linalg.solve(np.linalg.cholesky(checkpoint.last_layer), deviations.T)  # standard normal if in their places
    assert np.mean(white**2) == pytest.approx(1.0, abs=5 * np.sqrt(2 / (2 * white.shape[0])))


def test_laplace_by_hand(made):
    """Curvature and residuals summed over the training set, the noise of an energy grows with the atoms."""
    checkpoint = load_checkpoint(made["laplace"])
    config, prepared = setup(made["laplace"].parent, "laplace", training__epochs=5)
    record = checkpoint.training["posterior"]
    base = train(config, prepared, made["laplace"].parent / "again", CPU, resume=False).state.best
    shapes = {name: value.shape[1:] for name, value in prepared.parameters.items()}
    parameters = unflatten(base, shapes)
    curvature = [sum(parts) for parts in zip(*[squared_jacobian(prepared.model, parameters, e, CPU) for e in prepared.train])]
    noises, squares = [], []
    for part in (prepared.train, prepared.validation):
        double = {name: value.double() for name, value in parameters.items()}
        found = [evaluate(prepared.model, double, batch_of([e], prepared.model, torch.float64, CPU)[0]) for e in part]
        energy = np.array([(e.energy - o.energy[0, 0].item()) ** 2 / 3 for e, o in zip(part, found)])
        forces = np.array([(e.forces - o.forces[0].numpy()) ** 2 for e, o in zip(part, found)])
        squares.append((energy.sum(), forces.sum()))
        noises.append((energy.mean(), forces.mean()))
    assert (checkpoint.noise.energy, checkpoint.noise.forces) == pytest.approx(noises[1], rel=1e-6)
    energies, forces = (Observations(curvature[k], squares[0][k], count) for k, count in enumerate((8, 72)))
    fit = laplace.fit(base[0], energies, forces, noises=noises[1])
    assert record["prior_precision"] == pytest.approx(fit.prior_precision, rel=1e-6)
    draws = laplace.sample(fit, 4, config.training.seed, record.get("temperature", 1.0))
    torch.testing.assert_close(flatten(list(checkpoint.parameters.values())), draws, rtol=1e-4, atol=1e-4)
    atoms = frame(3)
    atoms.calc = RACECalculator(made["laplace"])
    atoms.get_forces()
    assert atoms.calc.results["energy_uncertainty_aleatoric"] ** 2 == pytest.approx(3 * checkpoint.noise.energy)
    np.testing.assert_allclose(atoms.calc.results["forces_covariance_aleatoric"], np.tile(checkpoint.noise.forces * np.eye(3), (3, 1, 1)))


def test_draws_of_laplace_are_sound_where_products_would_multiply_wide_ones(tmp_path):
    config, prepared = setup(tmp_path, "laplace", training__epochs=5, model__correlation=3)
    made = finish(config, prepared, train(config, prepared, tmp_path / "out", CPU, resume=False), tmp_path / "out", CPU)
    record = made.training["posterior"]
    model, draws = record["validation_of_the_model"], made.training["validation"]
    assert record["temperature"] in [4.0**-k for k in range(1, 11)]
    assert draws["mean_force_rmse_eV_per_A"] <= 3.001 * model["mean_force_rmse_eV_per_A"]
    assert draws["force_rmse_eV_per_A"][0] != pytest.approx(model["mean_force_rmse_eV_per_A"], rel=0.01)  # they are drawn


@pytest.mark.nightly
def test_laplace_predicts_what_the_trained_model_predicts_or_the_mean_of_the_draws(made, tmp_path):
    """By default the model itself; either way the draws, the noise and both errors in the record are the same."""
    folder = made["laplace"].parent
    config = load_config(write_run(folder, posterior="mve", members=1, model__head="mse", training__epochs=5))
    prepared = prepare(config, folder)
    finish(config, prepared, train(config, prepared, tmp_path / "base", CPU, resume=False), tmp_path / "base", CPU)
    base = load_checkpoint(tmp_path / "base")
    fits = {
        mean: fit_posterior(base, Request("laplace", 4, mean=mean), folder, tmp_path / str(mean), CPU) for mean in (None, "map", "draws")
    }
    loaded = {mean: load_checkpoint(tmp_path / str(mean)) for mean in fits}
    assert loaded["draws"].center is None and fits["draws"].training["config"]["mean"] == "draws"
    graph = from_atoms(frame(3), 4.0)
    one, default, central, draws = (load_stack(c, torch.float64, CPU).predict(graph) for c in (base, *loaded.values()))
    for name in ("energy", "energies", "forces"):
        scale = np.abs(getattr(one, name)).max()
        np.testing.assert_allclose(getattr(central, name), getattr(one, name), rtol=0, atol=1e-12 * scale, err_msg=name)
        np.testing.assert_array_equal(getattr(default, name), getattr(central, name), err_msg=name)
    np.testing.assert_allclose(draws.energy, draws.energies_members.mean(0))
    for name in ("energies_members", "forces_members", "energy_epistemic", "forces_covariance", "bald_forces"):
        np.testing.assert_allclose(getattr(central, name), getattr(draws, name), rtol=1e-9, err_msg=name)
    records = [fits[mean].training for mean in ("map", "draws")]
    assert records[0]["validation"] == records[1]["validation"]
    assert records[0]["posterior"]["validation_of_the_model"] == records[1]["posterior"]["validation_of_the_model"]
    assert records[0]["posterior"]["validation_of_the_model"]["force_rmse_eV_per_A"] == base.training["validation"]["force_rmse_eV_per_A"]
    assert [record["posterior"]["mean"] for record in records] == ["map", "draws"]
    card = (tmp_path / "map" / "card.md").read_text()
    of_model = 1e3 * base.training["validation"]["mean_force_rmse_eV_per_A"]
    assert f"{of_model:.1f} meV/Å" in card and f"{1e3 * records[0]['validation']['mean_force_rmse_eV_per_A']:.1f} meV/Å" in card
    assert "mean map" in card
    with pytest.raises(ValueError, match="posterior llpr has no choice of a mean"):
        fit_posterior(base, Request("llpr", 4, mean="map"), folder, tmp_path / "x", CPU)
    refit = fit_posterior(
        replace(base, training=base.training | {"config": loaded["map"].training["config"]}),
        Request("llpr", 4),
        folder,
        tmp_path / "llpr",
        CPU,
    )
    assert refit.training["config"]["mean"] is None and refit.center is None
    write_run(folder)


def test_a_fit_to_a_model_of_a_release_without_products(tmp_path):
    config, prepared = setup(tmp_path, "mve", model__correlation=1, training__epochs=1)
    base = finish(config, prepared, train(config, prepared, tmp_path / "base", CPU, resume=False), tmp_path / "base", CPU)
    told = dict(base.training["config"])
    told["model"] = {key: value for key, value in told["model"].items() if key not in ("correlation", "product_channels")}
    found = fit_posterior(replace(base, training=base.training | {"config": told}), Request("llpr", 4), tmp_path, tmp_path / "fitted", CPU)
    assert found.model.plan.config.correlation == 1
    torch.testing.assert_close(found.parameters["embedding"], base.parameters["embedding"])


def test_what_a_fit_does_without_being_asked_otherwise():
    assert Request("llpr") == Request("llpr", members=None, member=0, seed=0)


def test_the_wanted_member_is_fitted(made, tmp_path):
    base, folder = load_checkpoint(made["deep-ensemble"]), made["deep-ensemble"].parent
    found = fit_posterior(base, Request("llpr", 4, 1), folder, tmp_path / "new", CPU)
    for name, value in select_members(base.parameters, [1]).items():
        torch.testing.assert_close(found.parameters[name].mean(0, keepdim=True), value, rtol=1e-5, atol=1e-5)
    for name in ("member_seeds", "best_epochs", "skipped_steps"):
        assert found.training[name] == base.training[name][1:2], name
    with pytest.raises(ValueError, match="draws around another one"):
        fit_posterior(load_checkpoint(made["swag"]), Request("llpr", 4), made["swag"].parent, tmp_path / "x", CPU)
    with pytest.raises(ValueError, match="take laplace or llpr"):
        fit_posterior(base, Request("swag", 4), folder, tmp_path / "x", CPU)
