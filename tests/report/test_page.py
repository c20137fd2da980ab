"""The report page as a file: valid, of one piece, escaped, and its numbers are those of the model."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.io import read, write
from page_run import Elements, frames, make
from scipy.special import chdtr
from typer.testing import CliRunner

from race_calc import RACECalculator
from race_calc.cli import app
from race_calc.data.dataset import dataset_from_atoms
from race_calc.evaluate.assessment import assess, compare
from race_calc.md.log import read_log
from race_calc.posterior.checkpoint import load_checkpoint, save_checkpoint
from race_calc.report.page import monitored as module
from race_calc.report.page.content import model_page
from race_calc.report.page.errors import error_section
from race_calc.report.page.halt import halt_section
from race_calc.report.page.judged import judged_sets
from race_calc.report.page.monitored import monitored
from race_calc.report.page.parts import EXTREMES, POINTS, Chart, rounded, thinned
from race_calc.report.page.render import html
from race_calc.report.page.run import stretches
from race_calc.report.page.trust import coverages

RESOURCES = {"src", "href", "data", "poster", "srcset", "action", "formaction", "background"}


@pytest.fixture(scope="module")
def made(tiny_model, tmp_path_factory):
    return make(tiny_model, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def text(made):
    return made.page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def content(text):
    return json.loads(re.search(r'<script type="application/json" id="page-data">(.*?)</script>', text, re.DOTALL)[1])


def test_it_is_well_formed(text):
    elements = Elements(text)
    assert elements.problems == []
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids)) > 20
    assert all(" " not in one for one in ids)
    labels = [attributes["aria-labelledby"] for _, attributes in elements.found if "aria-labelledby" in attributes]
    anchors = [attributes["href"][1:] for attributes in elements.named("a")]
    assert set(labels) | set(anchors) <= set(ids)


def test_html5lib_finds_no_error(text):
    html5lib = pytest.importorskip("html5lib", reason="no html5lib: pip install html5lib")
    html5lib.HTMLParser(strict=True).parse(text)


def test_it_loads_nothing(text):
    elements = Elements(text)
    wanted = {(tag, name): value for tag, attributes in elements.found for name, value in attributes.items() if name in RESOURCES}
    assert {key: value for key, value in wanted.items() if not value.startswith("#")} == {}
    assert not [tag for tag, _ in elements.found if tag in ("link", "img", "iframe", "object", "embed", "base")]
    styles = "".join(elements.texts["style"])
    assert "@import" not in styles and "url(" not in styles
    policy = next(one for one in elements.named("meta") if one.get("http-equiv") == "Content-Security-Policy")["content"]
    assert policy.startswith("default-src 'none'") and "http" not in policy


def test_its_size(made):
    assert made.page.stat().st_size < 4e6


def test_every_figure_has_data_and_words(text, content):
    elements = Elements(text)
    places = [one for one in elements.named("div") if "data-chart" in one]
    assert [one["data-chart"] for one in places] == list(content["charts"]) and len(places) >= 14
    assert all(one["role"] == "img" and len(one["aria-label"]) > 20 for one in places)
    assert len(elements.texts["figcaption"]) >= len(places) and all(caption.strip() for caption in elements.texts["figcaption"])
    for key, chart in content["charts"].items():
        for trace in chart["traces"]:
            assert len(trace["x"]) == len(trace["y"]) > 0, key
            assert any(value is not None for value in trace["y"]), key
        assert chart["layout"]["yaxis"]["title"]["text"], key
    keys = set(content["charts"])
    wanted = {"parity-energy", "parity-forces", "chi-square", "sigma-forces", "by-element", "by-size", "shift-errors", "roc-0"}
    assert wanted | {"reliability-energy", "reliability-forces", "reliability-ellipsoids"} <= keys
    assert {"run-0-forces-uncertainty-max-epistemic", "run-0-temperature"} <= keys


def test_parity_and_distances_are_those_of_the_model(made, content):
    calculator = RACECalculator(made.model)
    known = read(made.known, index=":")
    predicted = np.concatenate([calculator.prediction(atoms).forces.ravel() for atoms in known])
    reference = np.concatenate([atoms.get_forces().ravel() for atoms in known])
    trace = next(t for t in content["charts"]["parity-forces"]["traces"] if t["name"] == "cold.xyz")
    assert len(reference) < POINTS
    assert trace["x"] == pytest.approx(reference, rel=1e-3, abs=1e-3) and trace["y"] == pytest.approx(predicted, rel=1e-3, abs=1e-3)
    squared = [
        d @ np.linalg.solve(covariance, d)
        for atoms in known
        for prediction in [calculator.prediction(atoms)]
        for d, covariance in zip(atoms.get_forces() - prediction.forces, prediction.forces_covariance)
    ]
    trace = next(t for t in content["charts"]["chi-square"]["traces"] if t["name"] == "cold.xyz")
    expected = [100 * np.mean(np.array(squared) > at) for at in trace["x"]]
    assert [y or 0.0 for y in trace["y"]] == pytest.approx(expected, abs=1.0)  # x is rounded
    right = content["charts"]["chi-square"]["traces"][0]
    assert right["y"] == pytest.approx(100 * (1 - chdtr(3, np.array(right["x"]))), rel=5e-3)


def compared_sets(model, sets):
    calculator = RACECalculator(model)
    datasets = {name: dataset_from_atoms(some) for name, some in sets.items()}
    return calculator, compare(calculator, datasets, {name: assess(calculator, None, data) for name, data in datasets.items()})


def test_the_worst_of_many_points_are_among_the_drawn(tiny_model):
    some = frames("CH3CH2OH", 50, 0.05)
    calculator, compared = compared_sets(tiny_model, {"a": some})
    chart = next(part for part in error_section(judged_sets(compared, ["a"])).parts if part.key == "parity-forces")
    trace = chart.traces[1]
    assert POINTS <= len(trace["x"]) <= POINTS + EXTREMES and "evenly picked" in chart.caption
    error = np.concatenate([(atoms.get_forces() - calculator.prediction(atoms).forces).ravel() for atoms in some])
    drawn = np.abs(np.array(trace["x"]) - np.array(trace["y"]))
    assert np.sort(drawn)[-EXTREMES:] == pytest.approx(np.sort(np.abs(error))[-EXTREMES:], rel=0.01)


def test_coverage_at_five_levels_with_intervals(tiny_model):
    calculator, compared = compared_sets(tiny_model, {"a": frames("CH3CH2OH", 8, 0.05)})
    found = {one.quantity: one.shares for one in coverages(judged_sets(compared, ["a"]))}
    assert set(found) == {"energy", "forces", "ellipsoids"} and all(
        tuple(shares) == (0.5, 0.68, 0.9, 0.95, 0.99) for shares in found.values()
    )
    squared = []
    for atoms in frames("CH3CH2OH", 8, 0.05):
        prediction = calculator.prediction(atoms)
        d = atoms.get_forces() - prediction.forces
        squared += np.einsum("ni,nij,nj->n", d, np.linalg.inv(prediction.forces_covariance), d).tolist()
    for level, interval in found["ellipsoids"].items():
        assert interval.value == pytest.approx(np.mean(chdtr(3, np.array(squared)) <= level))
        assert interval.low <= interval.value <= interval.high


def test_ellipsoids_are_those_of_the_covariance(made, content):
    shown = {one["id"]: one for one in content["structures"]}
    one = shown["cold.xyz 3"]
    atoms = read(made.known, index=3)
    prediction = RACECalculator(made.model).prediction(atoms)
    xx, yy, zz, yz, xz, xy = np.array(one["root"]).reshape(-1, 6).T / 1e3
    root = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]).transpose(2, 0, 1)
    assert root @ root == pytest.approx(prediction.forces_covariance, rel=0.02, abs=1e-4)
    error = np.array(one["error"]).reshape(-1, 3) / 1e3
    assert error == pytest.approx(atoms.get_forces() - prediction.forces, rel=0.01, abs=2e-3)
    assert one["symbols"] == atoms.get_chemical_symbols()


def test_the_worst_come_first_and_every_button_shows_a_structure(made, text, content):
    calculator = RACECalculator(made.model)
    known = read(made.known, index=":")
    error = [np.sqrt(np.mean((atoms.get_forces() - calculator.prediction(atoms).forces) ** 2)) for atoms in known]
    buttons = [one["data-show"] for one in Elements(text).named("button") if "data-show" in one]
    assert buttons[0] == f"cold.xyz {int(np.argmax(error))}"
    assert set(buttons) <= {one["id"] for one in content["structures"]}
    run = read_log(made.log)[0].run
    assert f"{run} 2" in buttons  # the halt


def test_the_run_is_told(made, text, tmp_path):
    run = read_log(made.log)[0]
    found = stretches(run)
    assert [(one.action, one.first, one.last, one.checks) for one in found] == [("flag", 0, 1, 2), ("halt", 2, 2, 1)]
    assert "The monitor halted it at step 2; 2 checks before were flagged." in text
    assert "another model" not in text
    alone = Path(shutil.copy(made.log, tmp_path / "log.jsonl"))  # without its frames
    assert monitored(alone).frames == {} and monitored(alone).shown[0].run == run.run
    shutil.copy(made.log.with_name("flagged.xyz"), tmp_path / "log_flagged.xyz")
    assert f"{run.run} 2" in monitored(alone).frames and monitored(alone).flagged == "log_flagged.xyz"


def test_a_log_of_another_model_is_told(made, tmp_path):
    log = tmp_path / "other.jsonl"
    lines = [json.loads(line) for line in made.log.read_text().splitlines()]
    lines[0]["model"] = "f" * 64
    log.write_text("\n".join(map(json.dumps, lines)))
    out = tmp_path / "page.html"
    result = CliRunner().invoke(app, ["report", str(made.model), "--data", f"{made.known}@:2", "--run", str(log), "--out", str(out)])
    assert result.exit_code == 0, result.output
    page = out.read_text()
    assert "another model" in page and "No saved frame of these was found" in page and "Nothing was measured on other data" in page


def test_nothing_in_names_or_cards_becomes_markup(made, tmp_path):
    model = tmp_path / "<b>model"
    shutil.copytree(made.model, model)
    card = (
        "# A\n\n<script>alert(1)</script>\n\n![i](http://example.org/i.png) [l](http://example.org)\n\n"
        "| | a |\n|---|---:|\n| b | 1 |\n\n## Limits\n\n- <i>none</i>\n"
    )
    (model / "card.md").write_text(card)
    data = tmp_path / "a<!--<script>\u2028.xyz"
    shutil.copy(made.known, data)
    assert CliRunner().invoke(app, ["manifest", str(model)]).exit_code == 0
    out = tmp_path / "page.html"
    result = CliRunner().invoke(app, ["report", str(model), "--data", str(data), "--out", str(out)])
    assert result.exit_code == 0, result.output
    elements = Elements(out.read_text())
    assert elements.problems == []
    assert "<" not in elements.texts["script"][0] and "a\\u003c!--" in elements.texts["script"][0]
    assert not {"b", "img"} & {tag for tag, _ in elements.found}
    assert "<th></th>" not in out.read_text() and "<td>b</td>" in out.read_text()
    assert len(elements.named("i")) == 1  # the bar of the viewer's colours
    assert len(elements.named("script")) == 4
    assert [one for one in elements.named("a") if not one["href"].startswith("#")] == []
    assert any("Limits, as the card" in one for one in elements.texts["h3"])


def test_a_model_without_uncertainties_says_so(tiny_model, tmp_path):
    checkpoint = load_checkpoint(tiny_model)
    config = checkpoint.model.plan.config.model_copy(update={"head": "mse"})
    from race_calc.model.parameters import initialise
    from race_calc.model.plan import make_plan
    from race_calc.model.race import Race

    plan = make_plan(config, 3)
    race = Race(plan, checkpoint.model.species, checkpoint.references.scale, 6.0)
    folder = tmp_path / "plain"
    save_checkpoint(folder, replace(checkpoint, model=race, parameters=initialise(plan, [1], {}), thresholds={}), "# plain\n")
    calculator, compared = compared_sets(folder, {"a": frames("CH3CH2OH", 4, 0.05), "b": frames("CH3CH2OH", 4, 0.3)})
    page = model_page(folder, calculator.checkpoint, compared, ["a", "b"], {}, calculator.model_hash)
    assert [one.text for one in page.answers if one.mark == "care"] == 2 * [
        "This model gives no covariance of the forces, so nothing can be told."
    ]
    charts = {part.key for section in page.sections for part in section.parts if isinstance(part, Chart)}
    assert {"parity-forces", "by-element", "shift-errors"} <= charts and not any(key.startswith(("sigma", "reliability")) for key in charts)
    assert Elements(html(page)).problems == []


def test_numbers_that_are_not_finite_are_left_out():
    assert rounded([1.23456, np.nan, np.inf, -0.00012345]) == [1.235, None, None, -0.0001234]


def test_the_largest_errors_are_always_drawn():
    size = np.random.default_rng(0).random(20_000)
    chosen = thinned(size)
    assert len(chosen) <= POINTS + EXTREMES and set(np.argsort(-size)[:EXTREMES]) <= set(chosen)


def test_a_halt_is_explained_beside_what_the_training_had(made, text):
    assert "Why did the run end?" in text and "Distances that the training did not have" in text
    seen, known = monitored(made.log), load_checkpoint(made.model).environments
    (section,) = halt_section(seen, known, None, "mine")
    words, *charts = section.parts
    assert words.lines[0].startswith("halt at step 2: forces_uncertainty_max_epistemic")
    assert any(line.startswith("Distances that the training did not have: ") for line in words.lines)
    assert len(charts) == 3 and charts[0].title.startswith("Distance")
    at = charts[0].traces[1]["x"][0]
    assert at > max(charts[0].traces[0]["x"])  # longer than any of the training
    assert words.lines[-1].startswith("Learn from it:       race-calc train --from mine ") and "label flagged.xyz" in words.lines[-2]
    assert halt_section(replace(seen, frames={}), known, None, "mine") == []  # its frame was not kept
    (other,) = halt_section(seen, known, "f" * 64, "mine")
    assert len(other.parts) == 1 and other.parts[0].lines[-1].startswith("The run was made with another model")
    (old,) = halt_section(seen, None, None, "mine")
    assert any("does not say which distances" in line for line in old.parts[0].lines)
    broken = next(iter(seen.frames.values()))
    broken.positions[0] = np.nan  # of a log that is not ours
    assert len(halt_section(replace(seen, frames=dict.fromkeys(seen.frames, broken)), known, None, "mine")[0].parts) == 1


def test_halts_of_several_runs_and_images_are_found(made, tmp_path, monkeypatch):
    """Each by its own frame, also where there are more frames than the page shows; numbers of a log may be texts."""

    def violation(value, image):
        return {"step": 30, "criterion": "forces_uncertainty_max", "value": value, "threshold": 0.1, "atom_index": 1, "element": "C",
                "action": "halt", "in_a_row": 1, "image": image, "message": None}  # fmt: skip

    run = read_log(made.log)[0]
    steps = np.arange(31)
    quiet = dict.fromkeys(("time", "temperature", "energy", "volume", "density", "pressure"), steps.astype(float))
    actions = (*[None] * 30, "halt")
    runs = [
        replace(run, run=name, step=steps, **quiet, scores={}, action=actions, violations=(*[()] * 30, (violation(value, image),)))
        for name, value, image in (("a", "nan", None), ("b", 0.5, 2))
    ]
    frames_ = []
    for name, images in (("a", [None]), ("b", [2, 4])):
        for step in steps:
            for image in images:
                atoms = molecule("CH3CH2OH")
                atoms.info |= {"run": name, "step": int(step)} | ({} if image is None else {"image": image})
                frames_.append(atoms)
    write(tmp_path / "frames.xyz", frames_)
    monkeypatch.setattr(module, "read_log", lambda _: runs)
    seen = monitored(made.log, tmp_path / "frames.xyz")
    found = seen.frames
    assert seen.flagged == "frames.xyz" and len(found) == 12 and {"a 30", "b 30 image 2"} <= set(found)
    (section,) = halt_section(seen, None, None, "mine")
    first, second = (part.lines[0] for part in section.parts)
    assert first.startswith("halt at step 30: forces_uncertainty_max = nan at atom 1 (C)") and "of image 2" in second
