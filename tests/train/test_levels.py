"""Two levels of labels in one training."""

import json

import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.calculators.morse import MorsePotential
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from small_run import frame, write_run

from race_calc import RACECalculator
from race_calc.model.parameters import select_members
from race_calc.model.race import evaluate
from race_calc.posterior.batch import batch_of
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.state import flatten, unflatten
from race_calc.report.model_folder import data_lines
from race_calc.train import loop
from race_calc.train.config import ConfigError, load_config, parse_config
from race_calc.train.context import context_of
from race_calc.train.finish import finish
from race_calc.train.fit import Request, fit_posterior
from race_calc.train.levels import HIGH, at_level
from race_calc.train.loop import Part, gradients_of, train
from race_calc.train.prepare import prepare

CPU = torch.device("cpu")


def low_frames(n: int, first: int = 100, stretch: float = 1.0) -> list:
    """EMT geometries with labels of a Morse potential and energies of other atoms."""
    found = []
    for seed in range(first, first + n):
        atoms = frame(seed)
        atoms.positions *= stretch
        atoms.calc = MorsePotential(epsilon=0.3, r0=2.6, rho0=4.0, rcut1=3.0, rcut2=4.0)
        results = {"energy": atoms.get_potential_energy() - 50.0, "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        found.append(atoms)
    return found


def run(folder, name="out", epochs=3, low=9, resume=False, **changes):
    path = write_run(folder, training__epochs=epochs, data__low_level={"file": "low.xyz"}, **changes)
    write(folder / "low.xyz", low_frames(low))
    config = load_config(path)
    prepared = prepare(config, folder)
    return config, prepared, train(config, prepared, folder / name, CPU, resume)


def test_the_levels_differ_by_features_times_delta(tmp_path):
    config, prepared, _ = run(tmp_path, epochs=1)
    generator = torch.Generator().manual_seed(0)
    parameters = {
        name: torch.randn(value.shape, generator=generator, dtype=value.dtype) if name.endswith(HIGH) else value
        for name, value in prepared.parameters.items()
    }
    layout, _ = batch_of(list(prepared.train[:3]), prepared.model, torch.float64, CPU)
    high, low = (evaluate(prepared.model, at_level(parameters, level), layout) for level in (True, False))
    delta = torch.cat([parameters[f"layers.{i}.{HIGH}"] for i in range(config.model.layers)], dim=1)  # (M, 64·layers, 1)
    for m in range(len(delta)):
        alone = evaluate(prepared.model, select_members(at_level(parameters, False), [m]), layout)
        expected = (alone.features[0] @ delta[m])[:, 0]
        torch.testing.assert_close((high.atom_energy - low.atom_energy)[m], expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(high.heads["force_cov"], low.heads["force_cov"], rtol=0, atol=0)


def test_gradients_are_those_of_the_weighted_sum(tmp_path):
    config, prepared, _ = run(tmp_path, epochs=1, data__validation=3, training__dtype="float64", training__smoothness=0.0)
    context = context_of(config, prepared, CPU)
    weights = flatten(list(prepared.parameters.values())).double() + 0.01
    high = Part(*context.batch(list(context.train[:3]), torch.float64))
    low = Part(*context.batch(list(context.low[:2]), torch.float64), high=False, weight=0.3)
    both, one, other = (gradients_of(context, weights, parts) for parts in ([high, low], [high], [low]))
    for k in range(2):
        torch.testing.assert_close(both[k], one[k] + other[k], rtol=1e-9, atol=1e-9)
    names = unflatten(other[1], context.shapes)
    assert not names[f"layers.0.{HIGH}"].any() and names["layers.0.readout.out"].any()
    assert unflatten(one[1], context.shapes)[f"layers.0.{HIGH}"].any()


def test_each_level_has_its_references(tmp_path):
    _, prepared, _ = run(tmp_path, epochs=1)
    assert np.mean([example.energy for example in prepared.low]) == pytest.approx(0.0, abs=1e-6)
    assert np.mean([example.energy for example in prepared.train]) == pytest.approx(0.0, abs=1e-6)
    low = read(tmp_path / "low.xyz", ":")
    np.testing.assert_allclose(prepared.low[3].forces, low[3].get_forces() - _zbl(low[3]), atol=1e-7)


def _zbl(atoms):
    from race_calc.data.graph import from_atoms
    from race_calc.model.repulsion import repulsion

    return repulsion(from_atoms(atoms, 4.0), 4.0).forces


def test_the_finished_model_is_a_plain_one(tmp_path):
    config, prepared, trained = run(tmp_path)
    made = finish(config, prepared, trained, tmp_path / "out", CPU)
    assert not [name for name in made.parameters if name.endswith(HIGH)]
    best = unflatten(trained.state.best, {name: value.shape[1:] for name, value in prepared.parameters.items()})
    assert best[f"layers.0.{HIGH}"].any()  # it has learned
    atoms = frame(30)
    atoms.calc = RACECalculator(tmp_path / "out", "cpu")
    layout, _ = batch_of(list(prepared.validation[:1]), prepared.model, torch.float64, CPU)
    merged = evaluate(prepared.model, {name: value.double() for name, value in at_level(best).items()}, layout)
    stored = evaluate(prepared.model, {name: value.double() for name, value in made.parameters.items()}, layout)
    torch.testing.assert_close(stored.energy, merged.energy, rtol=1e-6, atol=1e-6)
    kept = load_checkpoint(tmp_path / "out")
    assert len(kept.data["structures"]["low_level"].split()) == 9
    assert "- Cheap labels beside them: `low.xyz`, 9 structures, with weight 1.\n" in (tmp_path / "out" / "card.md").read_text()
    assert data_lines(kept)["cheap labels"] == "low.xyz: 9 structures, weight 1"
    assert json.loads((tmp_path / "out" / "config.json").read_text())["training"]["config"]["data"]["low_level"]["file"] == "low.xyz"


def test_interrupted_run_resumes_to_the_same_bits(tmp_path):
    config, prepared, whole = run(tmp_path, "whole")

    class StopError(Exception):
        pass

    def stop(record):
        if record["kind"] == "epoch" and record["epoch"] == 2:
            raise StopError

    with pytest.raises(StopError):
        train(config, prepared, tmp_path / "parts", CPU, False, stop)
    again = train(config, prepare(config, tmp_path), tmp_path / "parts", CPU, True)
    assert torch.equal(whole.state.weights, again.state.weights)


@pytest.mark.parametrize("posterior, head", [("swag", "joint"), ("llpr", "mse"), ("laplace", "mse"), ("mve", "energy")])
def test_posteriors_of_a_training_with_two_levels(tmp_path, posterior, head):
    members = 1 if posterior == "mve" else 4
    config, prepared, trained = run(tmp_path, epochs=4, posterior=posterior, members=members, model__head=head)
    finish(config, prepared, trained, tmp_path / "out", CPU)
    atoms = frame(30)
    atoms.calc = RACECalculator(tmp_path / "out", "cpu")
    assert np.isfinite(atoms.get_forces()).all()


def test_a_posterior_is_fitted_afterwards_without_the_cheap_labels(tmp_path):
    config, prepared, trained = run(tmp_path, model__head="mse")
    finish(config, prepared, trained, tmp_path / "out", CPU)
    (tmp_path / "low.xyz").unlink()
    made = fit_posterior(load_checkpoint(tmp_path / "out"), Request("llpr"), tmp_path, tmp_path / "llpr", CPU)
    assert made.posterior == "llpr"


@pytest.mark.parametrize("posterior", ["shallow-ensemble", "ivon"])
def test_posteriors_that_cannot(tmp_path, posterior):
    with pytest.raises(ConfigError, match="learns from one level of labels: leave out data.low_level"):
        load_config(write_run(tmp_path, posterior=posterior, data__low_level={"file": "low.xyz"}))


def test_a_step_has_at_most_four_cheap_structures_for_each_of_the_others(tmp_path, monkeypatch):
    sizes = []
    true = loop.gradients_of

    def noted(context, weights, parts):
        sizes.append([part.layout.n_structures for part in parts])
        return true(context, weights, parts)

    monkeypatch.setattr(loop, "gradients_of", noted)
    run(tmp_path, epochs=1, low=90)
    assert [few for few, _ in sizes] == [3, 3, 2] and {many for _, many in sizes} == {12}


def test_bad_cheap_labels(tmp_path):
    path = write_run(tmp_path, data__low_level={"file": "low.xyz"})
    with pytest.raises(FileNotFoundError, match=r"low.xyz does not exist"):
        prepare(load_config(path), tmp_path)
    odd = low_frames(2)
    odd[1].symbols[0] = "Au"
    write(tmp_path / "low.xyz", odd)
    with pytest.raises(ValueError, match=r"low.xyz \(data.low_level\) holds Au, which the training set \(Cu, Ag\) lacks"):
        prepare(load_config(path), tmp_path)
    with pytest.raises(ConfigError, match=r"data.low_level.weight"):
        parse_config({"data": {"train": "a.xyz", "low_level": {"file": "b.xyz", "weight": -1.0}}})


def test_each_level_has_labels_under_names_of_its_own(tmp_path):
    """A file of `race-calc label` keeps expensive labels under other names; they are not read as cheap ones."""
    both = []
    for cheap, dear in zip(low_frames(12, first=0), (frame(seed) for seed in range(12))):
        cheap.info["REF_energy"], cheap.arrays["REF_forces"] = dear.get_potential_energy(), dear.get_forces()
        both.append(cheap)
    keys = {"energy": "REF_energy", "forces": "REF_forces"}
    path = write_run(tmp_path, data__keys=keys, data__low_level={"file": "data.xyz@:8"}, model__baseline="none")
    write(tmp_path / "data.xyz", both)
    prepared = prepare(load_config(path), tmp_path)
    for k in range(8):
        np.testing.assert_allclose(prepared.train[k].forces, frame(k).get_forces(), atol=1e-7)
        np.testing.assert_allclose(prepared.low[k].forces, both[k].get_forces(), atol=1e-7)
    named = {"file": "data.xyz@:8", "keys": keys}
    same = prepare(load_config(_with_low_level(path, named)), tmp_path)
    np.testing.assert_allclose(same.low[3].forces, frame(3).get_forces(), atol=1e-7)


def _with_low_level(path, low):
    config = yaml.safe_load(path.read_text())
    config["data"]["low_level"] = low
    path.write_text(yaml.safe_dump(config))
    return path


def test_other_isolated_atoms_of_the_low_level_are_another_run(tmp_path):
    path = write_run(tmp_path, data__low_level={"file": "low.xyz", "isolated_atoms": "atoms.xyz"})
    write(tmp_path / "low.xyz", low_frames(5))
    told = []
    for energy in (-1.0, -1.0, -2.0):
        singles = [Atoms(symbol, calculator=SinglePointCalculator(Atoms(symbol), energy=energy)) for symbol in ("Cu", "Ag")]
        write(tmp_path / "atoms.xyz", singles)
        told.append(prepare(load_config(path), tmp_path).fingerprint)
    assert told[0] == told[1] != told[2]


def test_cheap_labels_of_what_validates_are_noticed(tmp_path):
    path = write_run(tmp_path, data__low_level={"file": "data.xyz"})
    with pytest.warns(UserWarning, match="4 structures of data.low_level are in the validation set too"):
        prepare(load_config(path), tmp_path)


def test_the_same_geometry_at_both_levels_is_used_at_both(tmp_path):
    path = write_run(tmp_path, data__low_level={"file": "low.xyz"})
    same = read(tmp_path / "data.xyz", ":5")
    write(tmp_path / "low.xyz", same)
    prepared = prepare(load_config(path), tmp_path)
    assert len(prepared.low) == 5 and len(prepared.train) == 8


def test_a_cheap_frame_that_no_graph_can_be_made_of_is_named(tmp_path):
    path = write_run(tmp_path, data__low_level={"file": "low{0}.xyz"})
    bad = low_frames(3)
    bad[2].positions[1] = bad[2].positions[0]
    write(tmp_path / "low{0}.xyz", bad)
    with pytest.raises(ValueError, match=r"frame 2 of low\{0\}.xyz \(data.low_level\): atoms 0"):
        prepare(load_config(path), tmp_path)
