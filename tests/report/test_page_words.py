"""What the report page says in words: verdicts, crystals, calibrated models, single structures, logs of all kinds."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read
from page_run import Elements, frames

from race_calc import Committee, RACECalculator
from race_calc.data.dataset import dataset_from_atoms
from race_calc.evaluate.assessment import Comparison, assess, compare
from race_calc.evaluate.overlap import Overlap
from race_calc.md.log import read_log
from race_calc.report.page.content import model_page
from race_calc.report.page.judged import judged_sets
from race_calc.report.page.monitored import Monitored
from race_calc.report.page.parts import Chart, Viewer
from race_calc.report.page.render import html
from race_calc.report.page.run import run_section
from race_calc.report.page.words import answers, error_over_sigma, glance, in_short
from race_calc.report.page.worst import MOST_ATOMS, structure
from race_calc.uncertainty.predictor import calibration_of, thresholds_of

SHIPPED = Path(__file__).parents[2] / "models" / "3bpa-de"
needs_model = pytest.mark.skipif(not (SHIPPED / "weights.safetensors").is_file(), reason="models/3bpa-de holds no trained weights")


def compared_sets(calculator, sets) -> Comparison:
    datasets = {name: dataset_from_atoms(some) for name, some in sets.items()}
    found = {name: assess(calculator, calibration_of(calculator), data) for name, data in datasets.items()}
    return compare(calculator, datasets, found)


def labelled(calculator, structures, times: float, seed: int = 0):
    """Copies whose force errors are draws from `times` the covariance that is predicted."""
    rng, found = np.random.default_rng(seed), []
    for atoms in structures:
        prediction = calculator.prediction(atoms)
        root = np.linalg.cholesky(prediction.forces_covariance)
        errors = np.sqrt(times) * np.einsum("nij,nj->ni", root, rng.normal(size=(len(atoms), 3)))
        energy = float(prediction.energy[0] + rng.normal() * np.sqrt(prediction.energy_variance[0]))
        copy = atoms.copy()
        copy.calc = SinglePointCalculator(copy, energy=energy, forces=prediction.forces + errors)
        found.append(copy)
    return found


@pytest.fixture(scope="module")
def calculator(tiny_model):
    return RACECalculator(tiny_model)


@pytest.mark.parametrize(
    ("times", "mark", "words", "verdict"),
    [(1.0, "good", "On average yes", "about right"), (9.0, "bad", "No:", "too small"), (0.1, "care", "It is cautious", "too large")],
)
def test_the_verdict_on_sigma(times, mark, words, verdict, calculator):
    sets = {"a.xyz": labelled(calculator, frames("CH3CH2OH", 30, 0.05), times)}
    compared = compared_sets(calculator, sets)
    judged = judged_sets(compared, ["a.xyz"])
    ratio = error_over_sigma(judged[0])
    assert ratio.value == pytest.approx(np.sqrt(times), rel=0.1) and ratio.low < ratio.value < ratio.high
    found = next(one for one in answers(judged, compared, calculator.checkpoint, []) if one.question.startswith("May I trust"))
    assert found.mark == mark and found.text.startswith(words)
    assert glance(judged).rows[0][4] == verdict
    seen = replace(compared, overlaps={"a.xyz": Overlap(30, trained_on=tuple(range(30)))})
    flattered = next(one for one in answers(judged, seen, calculator.checkpoint, []) if one.question.startswith("May I trust"))
    assert "flatters it" in flattered.text and flattered.mark == ("bad" if mark == "bad" else "care")


def test_what_a_score_misses(calculator):
    known, other = labelled(calculator, frames("CH3CH2OH", 10, 0.01), 1.0), frames("CH3CH2OH", 10, 0.05)
    compared = compared_sets(calculator, {"a": known, "b": other})
    one = compared.detected["b"][compared.criterion]
    assert one.bad == 10  # the labels of `frames` are far off
    texts = {}
    for missed in (0, 2, 9):
        detected = {"b": {compared.criterion: replace(one, missed=missed, alarms_known=0.0, alarms_other=0.5)}}
        changed = replace(compared, detected=detected)
        found = answers(judged_sets(compared, ["a", "b"]), changed, calculator.checkpoint, [])
        texts[missed] = next(answer for answer in found if answer.question == "Does it notice b?")
    assert [answer.mark for answer in texts.values()] == ["good", "care", "bad"]
    assert "10 are bad" in texts[2].text and "misses 2." in texts[2].text
    no_threshold = replace(compared, detected={"b": {compared.criterion: replace(one, missed=None, alarms_known=None)}})
    told = answers(judged_sets(compared, ["a", "b"]), no_threshold, calculator.checkpoint, [])
    assert any("calibrate it to get one" in answer.text for answer in told)
    seen = replace(compared, overlaps={"b": Overlap(10, trained_on=tuple(range(10)))})
    assert any("It need not" in answer.text for answer in answers(judged_sets(compared, ["a", "b"]), seen, calculator.checkpoint, []))


def page_of(calculator, compared, names, folder):
    return model_page(folder, calculator.checkpoint, compared, names, thresholds_of(calculator), calculator.model_hash)


def charts_of(page) -> dict[str, Chart]:
    return {part.key: part for section in page.sections for part in section.parts if isinstance(part, Chart)}


def test_crystals_have_stresses_and_a_cell(calculator, tiny_model):
    some = []
    for k in range(4):
        atoms = bulk("C", a=3.55 + 0.02 * k)
        atoms.calc = SinglePointCalculator(atoms, energy=-2059.0, forces=np.zeros((2, 3)), stress=0.01 * np.arange(6))
        some.append(atoms)
    compared = compared_sets(calculator, {"c": some})
    page = page_of(calculator, compared, ["c"], tiny_model)
    trace = charts_of(page)["parity-stress"].traces[1]
    assert trace["x"] == pytest.approx(4 * [0.0, 10.0, 20.0, 30.0, 40.0, 50.0])
    predicted = [calculator.prediction(atoms).stress[0] for atoms in some]
    order = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])
    expected = [1e3 * (one if one.shape == (6,) else one[order]) for one in predicted]
    assert trace["y"] == pytest.approx(np.concatenate(expected), rel=1e-3, abs=1e-2)
    structures = next(part for section in page.sections for part in section.parts if isinstance(part, Viewer)).structures
    by_id = {one["id"]: one for one in structures}
    assert by_id["c 1"]["cell"] == pytest.approx(some[1].cell.array.ravel(), abs=1e-3)
    assert Elements(html(page)).problems == []


@needs_model
def test_a_calibrated_model_shows_before_and_after():
    calculator = RACECalculator(SHIPPED)
    start = read(SHIPPED / "start.xyz")
    rattled = [start.copy() for _ in range(6)]
    for seed, atoms in enumerate(rattled):
        atoms.rattle(0.01, seed=seed)
    compared = compared_sets(calculator, {"a": labelled(calculator, rattled, 1.0)})
    page = page_of(calculator, compared, ["a"], SHIPPED)
    names = [trace["name"] for trace in charts_of(page)["reliability-forces"].traces]
    assert names == ["right", "a, before", "a", "a"]
    before, after = charts_of(page)["reliability-forces"].traces[1:3]
    assert before["y"] != after["y"] and "before the calibration" in charts_of(page)["reliability-forces"].caption
    text = html(page)
    assert "Limits, as the card of the model tells them" in text and "5c3a0eb68aa40ad2" in text and "450 structures" in text


def test_one_structure_has_no_intervals(calculator, tiny_model):
    compared = compared_sets(calculator, {"a": frames("CH3CH2OH", 1, 0.05)})
    page = page_of(calculator, compared, ["a"], tiny_model)
    assert "(" not in page.glance.rows[0][5] and "nan" not in html(page).split("<script")[0].lower()


def write_log(path, lines):
    start = {"event": "start", "version": 2, "run": "r1", "model": None, "date": "2026-01-01", "dynamics": "BFGS"}
    criterion = {"name": "forces_uncertainty_max", "threshold": 0.1, "action": "halt", "consecutive": 1}
    path.write_text("\n".join(map(json.dumps, [start | {"criteria": [criterion]}, *lines])) + "\n")
    return read_log(path)


def step(number, value, action=None, **violation):
    one = {"step": number, "criterion": "forces_uncertainty_max", "value": value, "threshold": 0.1, "action": action, **violation}
    line = {"event": "step", "run": "r1", "step": number, "time": None, "temperature": None, "energy": 0.0}
    return line | {"scores": {"forces_uncertainty_max": value}, "violations": [one] if action else [], "action": action}


def test_the_log_of_an_optimiser(tmp_path):
    lines = [step(0, 0.05), step(1, "nan", "halt"), {"event": "criteria", "run": "r1", "step": 1, "why": "accepted", "criteria": []}]
    lines.append(step(2, 0.2, "halt", message="atoms 1 (C) and 2 (H) are 0.30 Å apart"))
    section = run_section(Monitored(write_log(tmp_path / "log.jsonl", lines), "log.jsonl"), "f" * 64)
    charts = [part for part in section.parts if isinstance(part, Chart)]
    assert [chart.layout["xaxis"]["title"]["text"] for chart in charts] == ["step"]  # no temperature
    assert charts[0].traces[0]["y"] == [0.05, None, 0.2]
    prose = section.parts[0].lines
    assert "2 steps; 0 flagged checks, 1 halt." in prose[0] and any("New thresholds from step 1 on (accepted)" in line for line in prose)
    rows = section.parts[-1].rows
    assert [row[0] for row in rows] == ["halt, step 1–2"] and rows[0][2:4] == ["–", "–"]


def test_long_logs_are_thinned_but_keep_what_the_monitor_did(tmp_path):
    lines = [step(k, 0.2 if k % 500 == 499 else 0.05, "halt" if k % 500 == 499 else None) for k in range(20_000)]
    section = run_section(Monitored(write_log(tmp_path / "log.jsonl", lines), "log.jsonl"), None)
    chart = next(part for part in section.parts if isinstance(part, Chart))
    score, _, halts = chart.traces
    assert len(score["x"]) < 2000 and halts["x"] == [float(k) for k in range(499, 20_000, 500)]
    assert len(section.parts[-1].rows) == 25 and "15 rows are left out" in section.parts[-1].note


def test_a_log_without_a_check(tmp_path):
    section = run_section(Monitored(write_log(tmp_path / "log.jsonl", []), "log.jsonl"), None)
    assert "no check" in section.parts[0].lines[0] and len(section.parts) == 1


def test_of_a_large_structure_the_surroundings_of_the_worst_atom_are_shown():
    rng = np.random.default_rng(0)
    atoms = bulk("Si", cubic=True).repeat(5)  # 1000 atoms
    covariance = np.tile(np.eye(3), (len(atoms), 1, 1)) * (1e-3 * np.arange(len(atoms)))[:, None, None]
    error = rng.normal(size=(len(atoms), 3))
    error[321] = 50.0
    one = structure("a 0", "a, structure 0", "worst", atoms, covariance, error, None)
    assert len(one["symbols"]) == len(one["atoms"]) == MOST_ATOMS and 321 in one["atoms"] and "500 of 1000 atoms" in one["label"]
    distances = atoms.get_distances(321, range(len(atoms)), mic=True)
    assert distances[one["atoms"]].max() <= np.delete(distances, one["atoms"]).min() + 1e-9
    place = one["atoms"].index(321)
    assert one["error"][3 * place : 3 * place + 3] == [5e4, 5e4, 5e4] and one["sigma"][place] == pytest.approx(
        1e3 * np.sqrt(3 * 0.321), rel=0.01
    )


def test_a_committee_of_two_is_judged_by_components():
    """Its covariances span no ellipsoid; σ of members that differ by far more than they err is too large, and the words say that."""
    calculator = Committee([LennardJones(epsilon=e, sigma=3.4, rc=8.0) for e in (0.005, 0.015)])
    right, structures = LennardJones(epsilon=0.0101, sigma=3.4, rc=8.0), []
    for seed in range(6):
        atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
        atoms.rattle(0.1, seed=seed)
        structures.append(atoms)
        atoms.calc = SinglePointCalculator(atoms, energy=right.get_potential_energy(atoms), forces=right.get_forces(atoms).copy())
    found = compared_sets(calculator, {"argon": structures})
    (one,) = judged_sets(found, ["argon"])
    assert error_over_sigma(one).value < 0.1
    trust = in_short([one], found)[1]
    assert "It is cautious" in trust.text and "force components lie in their 90 % intervals" in trust.text and "inf" not in trust.text
    assert "too few for ellipsoids" in trust.text
