"""A criterion of one row shows up wherever scores do, and leaves nothing behind."""

import json

import numpy as np
import pytest
from ase import units
from ase.io import write
from ase.md.verlet import VelocityVerlet
from fake_calculator import water
from made_up import ethanols
from typer.testing import CliRunner

from race_calc.cli import app
from race_calc.data.dataset import dataset_from_atoms
from race_calc.evaluate.calibrate import calibrate
from race_calc.md.attach import UncertaintyMonitor
from race_calc.md.run import DemoOutcome, DemoPlan
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.report.demo import closing_lines, read_trace
from race_calc.report.figure import run_figure
from race_calc.uncertainty.decisions import Criterion
from race_calc.uncertainty.detection import auroc
from race_calc.uncertainty.scores import CRITERIA, Score, all_scores, available_criteria, check_available, register, unregister

NAME = "closeness"


def closeness(prediction, structures):
    """1 / shortest distance, and one of the two atoms."""
    found = []
    for atoms in structures:
        distances = atoms.get_all_distances() + np.diag(np.full(len(atoms), np.inf))
        found.append((1.0 / distances.min(), int(distances.min(axis=1).argmin())))
    values, worst = zip(*found)
    return np.array(values), np.array(worst)


TOY = Score(NAME, "closest atoms", "1/Å", ("atoms",), closeness, of="distances", worst_atom=True, short="close")


@pytest.fixture
def toy():
    register(TOY)
    yield TOY
    unregister(NAME)


def test_without_its_row_nothing_knows_it(toy):
    atoms = water()
    with pytest.raises(ValueError, match="already"):
        register(TOY)
    prediction = atoms.calc.prediction(atoms)
    assert NAME not in available_criteria(prediction) and available_criteria(prediction, [atoms])[-1] == NAME == tuple(CRITERIA)[-1]
    unregister(NAME)
    assert NAME not in CRITERIA and NAME not in all_scores(prediction, [atoms])
    with pytest.raises(ValueError, match="unknown criterion 'closeness'"):
        check_available([NAME], [])
    with pytest.raises(ValueError, match="unknown criterion"):
        Criterion(NAME, 1.0)


def test_thresholds_of_a_calibration_and_of_a_training(toy, tiny_model):
    import torch

    from race_calc.data.references import References
    from race_calc.data.targets import examples_of
    from race_calc.interfaces.stack_predictor import StackPredictor
    from race_calc.posterior.load import load_stack
    from race_calc.train.finish import validation_thresholds

    checkpoint, data = load_checkpoint(tiny_model), dataset_from_atoms(ethanols(20, 0.05))
    posterior = load_stack(checkpoint, torch.float64, torch.device("cpu"))
    found = calibrate(StackPredictor(posterior), data)[0].thresholds
    closest = max(closeness(None, data.structures)[0])
    assert closest * (1 - 1e-9) <= found[NAME] < 2 * closest
    examples = examples_of(data, References((1, 6, 8), (0.0, 0.0, 0.0), 0.0, 1.0), 4.0)
    assert validation_thresholds(posterior, examples)[NAME] == pytest.approx(found[NAME])


def test_monitor_log_figure_and_sentences(toy, tmp_path):
    atoms = water(thresholds={NAME: 1.05})  # O-H is 0.97 Å
    log, flagged = tmp_path / "log.jsonl", tmp_path / "flagged.xyz"
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    monitor = UncertaintyMonitor(dynamics, [Criterion(NAME, "auto", "flag"), Criterion(NAME, 1.1)], logfile=log, flagged=flagged)
    dynamics.insert_observer(lambda: atoms.positions.__imul__(0.99), 0)
    dynamics.run(50)
    halt = monitor.halt_reason
    assert halt.criterion == NAME and halt.value > 1.1 and halt.element in "OH"
    assert monitor.record.scores[NAME] == pytest.approx(halt.value)
    last = json.loads(log.read_text().splitlines()[-1])
    assert last["scores"][NAME] == pytest.approx(halt.value) and {v["action"] for v in last["violations"]} == {"flag", "halt"}
    assert f"score_{NAME}=" in flagged.read_text()

    outcome = DemoOutcome(DemoPlan(0, 0, 0), halt.step, halt, 300.0, 300.0, (halt,))
    trace = read_trace(outcome, log)
    assert [(score.name, score.unit) for score in trace.scores] == [("closest atoms", "1/Å")]
    assert "closest atoms (1/Å)" in [ax.get_ylabel() for ax in run_figure(trace).axes]
    text = "\n".join(closing_lines(outcome))
    assert f"no longer knew the distances on atom {halt.atom_index} ({halt.element}): closest atoms {halt.value:.3g} 1/Å" in text


def test_evaluate_tables_and_json(toy, tiny_model, tmp_path):
    write(tmp_path / "cold.xyz", ethanols(3, 0.02))
    write(tmp_path / "hot.xyz", ethanols(4, 0.3))
    cold, hot, out = (str(tmp_path / name) for name in ("cold.xyz", "hot.xyz", "n.json"))
    arguments = ["evaluate", str(tiny_model), cold, "--ood", hot, "--json", out]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    (row,) = [line.split() for line in done.output.splitlines() if line.strip().startswith(NAME)]
    known, other = (closeness(None, ethanols(n, noise))[0] for n, noise in ((3, 0.02), (4, 0.3)))
    assert row[1] == f"{auroc(known, other):.4f}"
    (detected,) = json.loads((tmp_path / "n.json").read_text())["detection"]["out_of_distribution"].values()
    assert detected[NAME]["auroc"] == auroc(known, other) > 0.9 and detected[NAME]["missed"] is None
    unregister(NAME)
    assert NAME not in CliRunner().invoke(app, arguments).output
