"""One object adds an output: charges of the atoms are drawn, trained, saved, loaded and predicted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.io import read, write
from small_run import write_run

from race_calc.data.dataset import read_dataset
from race_calc.data.graph import collate, from_atoms
from race_calc.data.references import fit_references
from race_calc.data.targets import examples_of
from race_calc.interfaces.calculator import RACECalculator
from race_calc.model.channels import Channel, Output, outputs_of_head, register_head
from race_calc.model.heads import ENERGY_VARIANCE, FORCE_COVARIANCE
from race_calc.model.likelihood import squared
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.load import load_stack
from race_calc.train.config import load_config
from race_calc.train.finish import finish
from race_calc.train.loop import train
from race_calc.train.prepare import prepare

CPU = torch.device("cpu")


class Charges(Output):
    """Charges of the atoms (M, N) in e, from squared errors with a weight of 2000 / e²."""

    name = label = "charges"
    channels = (Channel("charge"),)

    def value(self, channels, offset):
        return channels["charge"][..., 0]

    def loss(self, value, labels):
        return 2000.0 * squared((labels.extra["charges"].T - value)[..., None])


register_head("charged", ENERGY_VARIANCE, FORCE_COVARIANCE, Charges())


def charged_run(folder: Path, **changes) -> Path:
    """The small run with charges of the atoms that depend on their element and distances."""
    path = write_run(folder, model__head="charged", **changes)
    frames = read(folder / "data.xyz", ":")
    for atoms in frames:
        near = np.exp(-atoms.get_all_distances()).sum(1)
        atoms.arrays["charges"] = np.where(atoms.numbers == 47, -0.5, 0.2) + 0.3 * near
    write(folder / "data.xyz", frames)
    return path


@pytest.fixture(scope="module", params=["matrix-log", "cholesky"])
def run(request, tmp_path_factory):
    """Folder of a trained model, its first weights and what it learned from."""
    folder = tmp_path_factory.mktemp("charged")
    config = load_config(charged_run(folder, training__epochs=20, model__force_covariance=request.param))
    prepared = prepare(config, folder)
    finish(config, prepared, train(config, prepared, folder / "model", CPU, resume=False), folder / "model", CPU)
    return folder / "model", prepared


def stack_of(folder, prepared=None):
    checkpoint = load_checkpoint(folder)
    if prepared is not None:
        checkpoint = replace(checkpoint, parameters=prepared.parameters)
    return load_stack(checkpoint, torch.float64, CPU)


def test_its_loss_goes_down(run):
    folder, prepared = run
    errors = [
        np.sqrt(
            np.mean([np.mean((stack.predict(e.graph).extra["charges"].mean - e.extra["charges"][:, 0]) ** 2) for e in prepared.validation])
        )
        for stack in (stack_of(folder, prepared), stack_of(folder))
    ]
    assert errors[1] < 0.2 * errors[0] and errors[1] < 0.1


def test_what_was_there_is_not_moved(run):
    """Columns before it, names and shapes of all else are those of the head without it; its own column is the last."""
    _, prepared = run
    plan = prepared.model.plan
    assert [c.name for c in plan.channels][:2] == ["energy", "energy_var"] and plan.channels[-1].name == "charge"
    assert [output.name for output in plan.outputs] == ["energy_var", "force_cov", "charges"]
    assert "charges" not in " ".join(prepared.parameters)


def test_it_is_predicted_with_its_spread(run):
    """Mean and population variance over the members that were trained, also of a batch and with tables or without."""
    folder, prepared = run
    checkpoint, graphs = load_checkpoint(folder), [e.graph for e in prepared.validation]
    whole = load_stack(checkpoint, torch.float64, CPU).predict(collate(graphs)).extra["charges"]
    each = np.stack(
        [
            load_stack(
                replace(checkpoint, parameters={k: v[m : m + 1] for k, v in checkpoint.parameters.items()}),
                torch.float64,
                CPU,
                compile=False,
            )
            .predict(collate(graphs))
            .extra["charges"]
            .mean
            for m in range(2)
        ]
    )
    np.testing.assert_allclose(whole.mean, each.mean(0), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(whole.epistemic, each.var(0), rtol=1e-4, atol=1e-10)
    assert whole.mean.shape == whole.epistemic.shape == (3 * len(graphs),) and (whole.epistemic > 0).all()


def test_members_on_threads_give_the_same(run):
    """Enough atoms that the members are shared out: their outputs go through a flat row of tensors."""
    folder, prepared = run
    graph = collate([e.graph for e in prepared.train + prepared.validation] * 2)
    threads, found = torch.get_num_threads(), []
    for count in (1, 2):
        torch.set_num_threads(count)
        found.append(stack_of(folder).predict(graph))
    torch.set_num_threads(threads)
    np.testing.assert_allclose(found[1].extra["charges"].mean, found[0].extra["charges"].mean, rtol=1e-12)
    np.testing.assert_allclose(found[1].forces_covariance, found[0].forces_covariance, rtol=1e-9)


def test_the_calculator_gives_it(run):
    folder, _ = run
    atoms = read(folder.parent / "data.xyz")
    known = atoms.get_charges()
    atoms.calc = RACECalculator(folder)
    np.testing.assert_allclose(atoms.get_charges(), known, atol=0.3)
    expected = load_stack(load_checkpoint(folder), torch.float64, CPU).predict(from_atoms(atoms, 4.0)).extra["charges"]
    np.testing.assert_allclose(atoms.calc.results["charges"], expected.mean)
    assert {"forces_covariance", "bald_energy"} <= atoms.calc.results.keys()


def test_a_frame_without_its_label_is_named(tmp_path):
    path = charged_run(tmp_path)
    frames = read(tmp_path / "data.xyz", ":")
    for key in ("charges", "magmoms"):
        frames[9].calc.results.pop(key, None)
        frames[9].arrays.pop(key, None)
    write(tmp_path / "data.xyz", frames)
    with pytest.raises(ValueError, match=r"frame 9 of data.xyz has no charges, which model.head learns from"):
        prepare(load_config(path), tmp_path)
    frames[9].arrays["charges"] = np.full(3, np.nan)
    write(tmp_path / "data.xyz", frames)
    with pytest.raises(ValueError, match=r"frame 9 of data.xyz: charges not finite"):
        prepare(load_config(path), tmp_path)


def test_a_label_of_the_structure(tmp_path):
    charged_run(tmp_path)
    dataset = read_dataset(tmp_path / "data.xyz")
    for k, atoms in enumerate(dataset.structures):
        atoms.info["dipole"] = [k, 0.0, 1.0]
    examples = examples_of(dataset, fit_references(dataset), 4.0, ["dipole", "charges"])
    assert examples[5].extra["dipole"].tolist() == [[5.0, 0.0, 1.0]] and examples[5].extra["charges"].shape == (3, 1)


def test_names_are_unique():
    with pytest.raises(ValueError, match="there is a head joint already"):
        register_head("joint", Charges())
    with pytest.raises(ValueError, match="head twice: a name occurs twice in charges, charges"):
        register_head("twice", Charges(), Charges())
        outputs_of_head("twice", "matrix-log")
    with pytest.raises(ValueError, match="channel x is 1e: readouts give 0e, 1o and 2e"):
        Channel("x", "1e")
