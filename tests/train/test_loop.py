"""Training runs: same seed same result, members independent, killed runs resume bit by bit."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from small_run import write_run

from race_calc.posterior import swag
from race_calc.posterior.base import by_name
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.state import Trained
from race_calc.train import context, loop
from race_calc.train.config import load_config
from race_calc.train.files import LOG_FILE, STATE_FILE, load_state
from race_calc.train.finish import finish
from race_calc.train.loop import learning_rate, recipe_of_epoch, train
from race_calc.train.prepare import prepare

CPU = torch.device("cpu")


def run(folder, out, resume=False, **changes):
    path = write_run(folder, **changes)
    config = load_config(path)
    prepared = prepare(config, folder)
    return config, prepared, train(config, prepared, folder / out, CPU, resume).state


def read_log(folder):
    return [json.loads(line) for line in (folder / LOG_FILE).read_text().splitlines()]


def test_same_seed_same_result_and_the_loss_falls(tmp_path):
    _, _, a = run(tmp_path, "a", training__epochs=6)
    _, _, b = run(tmp_path, "b", training__epochs=6)
    assert all(torch.equal(a.tensors()[name], b.tensors()[name]) for name in a.tensors())
    losses = np.array([line["train_loss"] for line in read_log(tmp_path / "a")])
    assert (losses[-1] < losses[0]).all()
    _, _, c = run(tmp_path, "c", training__epochs=6, training__seed=4)
    assert not torch.equal(a.weights, c.weights)


def test_member_of_a_stack_equals_its_own_run(tmp_path):
    (tmp_path / "one").mkdir()
    float64 = {"training__dtype": "float64"}
    _, _, stack = run(tmp_path, "stack", **float64)
    _, _, alone = run(tmp_path / "one", "alone", posterior="mve", members=1, **float64)
    assert stack.weights[0] == pytest.approx(alone.weights[0], rel=1e-9, abs=1e-11)
    assert not torch.equal(stack.weights[0], stack.weights[1])


@pytest.mark.parametrize(
    "head,recipe",
    [
        ("mse", "joint"),
        ("energy", "joint"),
        ("energy", "detached"),
        ("joint", "joint"),
        ("joint", "beta-nll"),
        ("energy", "beta-nll"),
        ("joint", "warm-start"),
    ],
)
def test_heads_and_recipes_train(tmp_path, head, recipe):
    config, prepared, state = run(tmp_path, "out", model__head=head, training__recipe=recipe, training__epochs=2, data__validation=20, n=28)
    assert torch.isfinite(state.weights).all() and (state.best_epoch > 0).all()
    finish(config, prepared, Trained(state), tmp_path / "out", CPU)
    assert load_checkpoint(tmp_path / "out").thresholds


def test_cholesky_and_stress_train(tmp_path):
    changes = {"model__force_covariance": "cholesky", "training__stress_weight": 10.0, "periodic": True}
    _, _, with_stress = run(tmp_path, "a", **changes)
    _, _, without = run(tmp_path, "b", **(changes | {"training__stress_weight": 0.0}))
    assert torch.isfinite(with_stress.weights).all()
    assert not torch.equal(with_stress.weights, without.weights)


def test_interrupted_run_resumes_to_the_same_bits(tmp_path):
    """Stop inside epoch 3 by an exception, resume, compare with the run that was never stopped."""
    _, _, whole = run(tmp_path, "whole", training__epochs=5)
    config = load_config(tmp_path / "train.yaml")
    prepared = prepare(config, tmp_path)

    def stop(record):
        if record["kind"] == "step" and record["epoch"] == 3 and record["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, prepared, tmp_path / "stopped", CPU, False, stop)
    (tmp_path / "stopped" / LOG_FILE).open("a").write('{"epoch": 3, "half a li')
    resumed = train(config, prepared, tmp_path / "stopped", CPU, True).state
    assert all(torch.equal(whole.tensors()[name], resumed.tensors()[name]) for name in whole.tensors())
    assert [line["epoch"] for line in read_log(tmp_path / "stopped")] == [1, 2, 3, 4, 5]


def test_a_run_that_ended_in_its_first_epoch_starts_anew(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / LOG_FILE).write_text('{"epoch": 1}\n')  # of another run, whose state is gone
    _, prepared, whole = run(tmp_path, "whole")
    config = load_config(tmp_path / "train.yaml")

    def stop(record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, prepared, tmp_path / "stopped", CPU, False, stop)
    resumed = train(config, prepared, tmp_path / "stopped", CPU, True).state
    assert all(torch.equal(whole.tensors()[name], resumed.tensors()[name]) for name in whole.tensors())
    for folder in ("whole", "stopped"):
        assert [line["epoch"] for line in read_log(tmp_path / folder)] == [1, 2, 3, 4]


@pytest.mark.nightly
@pytest.mark.slow
def test_killed_process_resumes_to_the_same_bits(tmp_path):
    """kill -9 at some moment of `race-calc train`, then --resume: bit-identical weights, no doubled log lines."""
    run(tmp_path, "whole", training__epochs=16)

    def command(out, *more):
        program = "from race_calc.cli import app; app()"
        return [sys.executable, "-c", program, "train", str(tmp_path / "train.yaml"), "--out", str(tmp_path / out), *more]

    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command("killed"), env=environment, stdout=subprocess.DEVNULL)
    log = tmp_path / "killed" / LOG_FILE
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not log.exists() or len(log.read_text().splitlines()) < 4):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(read_log(tmp_path / "killed")) < 16, "the run ended before it was killed"
    again = subprocess.run(command("killed"), env=environment, capture_output=True, text=True)
    assert again.returncode == 1 and "--resume" in again.stderr
    subprocess.run(command("killed", "--resume"), check=True, env=environment, capture_output=True)
    assert (tmp_path / "whole" / STATE_FILE).read_bytes() == (tmp_path / "killed" / STATE_FILE).read_bytes()
    assert [line["epoch"] for line in read_log(tmp_path / "killed")] == list(range(1, 17))


def test_steps_that_are_not_finite_are_skipped_and_counted(tmp_path, monkeypatch):
    calls, true_loss = [], context.loss

    def poisoned(outputs, labels, plan, settings):
        calls.append(settings.recipe)
        values = true_loss(outputs, labels, plan, settings)
        return values * float("nan") if len(calls) == 2 else values

    monkeypatch.setattr(context, "loss", poisoned)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _, _, state = run(tmp_path, "out", training__epochs=2)
    finally:
        torch.set_num_threads(threads)
    assert state.skipped.tolist() == [1, 1] and torch.isfinite(state.weights).all()
    assert read_log(tmp_path / "out")[-1]["skipped_steps"] == [1, 1]


def test_steps_are_counted_and_have_the_learning_rate_of_their_place(tmp_path, monkeypatch):
    config = load_config(write_run(tmp_path, training__epochs=2, data__validation=3))
    rates, reports = [], []
    monkeypatch.setattr(loop, "learning_rate", lambda settings, epoch, plateau: rates.append(epoch) or 0.001)
    train(config, prepare(config, tmp_path), tmp_path / "out", CPU, False, reports.append)
    assert rates == pytest.approx([0, 1 / 3, 2 / 3, 1, 1, 4 / 3, 5 / 3, 2])  # three steps and the log of each epoch
    steps = [(r["epoch"], r["step"], r["steps"], r["skipped"]) for r in reports if r["kind"] == "step"]
    assert steps == [(epoch, step, 3, 0) for epoch in (1, 2) for step in (1, 2, 3)]
    assert [(r["epoch"], r["epochs"]) for r in reports if r["kind"] == "epoch"] == [(1, 2), (2, 2)]


def test_the_logged_loss_is_the_mean_over_good_steps(tmp_path, monkeypatch):
    """The second of three steps has no finite loss: the mean is that of the other two."""
    losses, true_loss = [], context.loss

    def spoiled(outputs, labels, plan, settings):
        values = true_loss(outputs, labels, plan, settings)
        losses.append(float("nan") if len(losses) == 1 else float(values.detach()[0]))
        return values * float("nan") if len(losses) == 2 else values

    monkeypatch.setattr(context, "loss", spoiled)
    run(tmp_path, "out", training__epochs=1, training__smoothness=0.0, posterior="mve", members=1)
    assert len(losses) > 3  # three steps and the validation
    assert read_log(tmp_path / "out")[0]["train_loss"] == [pytest.approx((losses[0] + losses[2]) / 2, rel=1e-5)]


def test_a_member_that_learned_nothing_is_not_shipped(tmp_path, monkeypatch):
    monkeypatch.setattr(context, "loss", lambda outputs, *_: outputs.energy.sum(1) * float("nan"))
    config, prepared, state = run(tmp_path, "out", training__epochs=1)
    assert read_log(tmp_path / "out")[0]["validation_score"] == [None, None]
    with pytest.raises(ValueError, match=r"members \[0, 1\] never had a finite"):
        finish(config, prepared, Trained(state), tmp_path / "out", CPU)
    assert not (tmp_path / "out" / "weights.safetensors").exists()


def test_resume_refuses_other_runs_and_damaged_states(tmp_path):
    run(tmp_path, "out")
    with pytest.raises(FileExistsError, match="--resume"):
        run(tmp_path, "out")
    with pytest.raises(ValueError, match="another configuration"):
        run(tmp_path, "out", resume=True, training__seed=8)
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        run(tmp_path, "other", resume=True)
    state = tmp_path / "out" / STATE_FILE
    state.write_bytes(state.read_bytes()[:200])
    with pytest.raises(ValueError, match="damaged"):
        load_state(tmp_path / "out", "", by_name("deep-ensemble"), CPU)


def test_learning_rate(tmp_path):
    settings = load_config(write_run(tmp_path, training__epochs=11, training__learning_rate=0.1)).training
    assert learning_rate(settings, 0) == pytest.approx(0.001)
    assert learning_rate(settings, 0.25) == pytest.approx(0.1 * (0.01 + 0.99 / 4))
    assert learning_rate(settings, 1) == pytest.approx(0.1)
    assert learning_rate(settings, 6) == pytest.approx(0.1 * 0.505)
    assert learning_rate(settings, 11) == pytest.approx(0.001)
    assert learning_rate(settings, 4.4, swag.PLATEAU) == pytest.approx(0.01) == learning_rate(settings, 9, swag.PLATEAU)


def test_warm_start_changes_its_recipe(tmp_path):
    settings = load_config(write_run(tmp_path, training__epochs=4, training__recipe="warm-start")).training
    assert [recipe_of_epoch(settings, epoch).recipe for epoch in range(4)] == ["detached", "detached", "joint", "joint"]


def test_bad_data_is_named(tmp_path):
    path = write_run(tmp_path)
    (tmp_path / "data.xyz").unlink()
    with pytest.raises(FileNotFoundError, match="data.xyz"):
        prepare(load_config(path), tmp_path)


def test_a_model_too_large_to_train_is_refused_before_it_is_made(tmp_path):
    path = write_run(tmp_path, model__hidden_irreps="4000x0e+4000x1o+4000x2e", model__layers=40)
    with pytest.raises(ValueError, match=r"parameters, times 2 .*lower model.hidden_irreps"):
        prepare(load_config(path), tmp_path)
