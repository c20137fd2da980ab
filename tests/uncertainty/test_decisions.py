"""Decisions of the monitor: pure functions, no ASE."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from race_calc.uncertainty.decisions import (
    GAP,
    HALT_AFTER,
    PRESSURE,
    Criterion,
    Decision,
    MonitorState,
    Violation,
    decide,
    default_criteria,
    resolve,
    silenced,
    watched,
)
from race_calc.uncertainty.scores import CRITERIA


def run(criteria, values, name="bald_energy"):
    """Decisions for a series of values of one score."""
    state, decisions = MonitorState(), []
    for step, value in enumerate(values):
        decision, state = decide(criteria, {name: (value, None)}, state, step)
        decisions.append(decision)
    return decisions


def test_a_violation_says_all():
    criterion = Criterion("bald_forces_max", 0.5, "halt")
    decision, state = decide([criterion], {"bald_forces_max": (0.7, 4)}, MonitorState(), 12)
    (violation,) = decision.violations
    assert decision.action == violation.action == "halt"
    assert (violation.step, violation.criterion, violation.value) == (12, "bald_forces_max", 0.7)
    assert (violation.threshold, violation.atom_index, violation.in_a_row) == (0.5, 4, 1)
    assert state == MonitorState((1,))
    assert "halt at step 12" in str(violation) and "atom 4" in str(violation)


def test_at_the_threshold_is_no_violation():
    assert [d.action for d in run([Criterion("bald_energy", 1.0)], [0.0, 1.0, 1.0 + 1e-12])] == [None, None, "halt"]


def test_k_in_a_row_and_every_further_one():
    criteria = [Criterion("bald_energy", 1.0, "flag", consecutive=3)]
    decisions = run(criteria, [2, 2, 0, 2, 2, 2, 2, 0, 2])
    assert [d.action for d in decisions] == [None] * 5 + ["flag", "flag", None, None]
    assert [v.in_a_row for d in decisions for v in d.violations] == [1, 2, 1, 2, 3, 4, 1]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_violates(value):
    (decision,) = run([Criterion("bald_energy", 1e300)], [value])
    assert decision.action == "halt" and len(decision.violations) == 1


def test_the_most_severe_action_wins_and_counts_are_kept_apart():
    criteria = [
        Criterion("bald_energy", 1.0, "log"),
        Criterion("bald_energy", 2.0, "flag"),
        Criterion("bald_energy", 2.0, "halt", consecutive=2),
    ]
    decisions = run(criteria, [0.5, 1.5, 2.5, 2.5, 1.5])
    assert [d.action for d in decisions] == [None, "log", "flag", "halt", "log"]
    assert [len(d.violations) for d in decisions] == [0, 1, 3, 3, 1]


@given(st.lists(st.floats(0, 2) | st.just(math.nan), max_size=30), st.integers(1, 4))
def test_acts_exactly_where_the_last_k_values_violate(values, k):
    decisions = run([Criterion("bald_energy", 1.0, "halt", k)], values)
    bad = [not v <= 1.0 for v in values]
    expected = ["halt" if math.isnan(v) or (i + 1 >= k and all(bad[i + 1 - k : i + 1])) else None for i, v in enumerate(values)]
    assert [d.action for d in decisions] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bald", 1.0), "unknown criterion 'bald'; known: bald_energy"),
        (("bald_energy", "automatic"), "'auto' or a finite number"),
        (("bald_energy", math.nan), "finite number"),
        (("bald_energy", math.inf), "finite number"),
        (("bald_energy", -1.0), "≥ 0"),
        (("bald_energy", None), "finite number"),
        (("bald_energy", True), "finite number"),
        (("bald_energy", 1.0, "stop"), "unknown action 'stop'; known: log, flag, halt"),
        (("bald_energy", 1.0, "halt", 0), "integer ≥ 1"),
        (("bald_energy", 1.0, "halt", 1.5), "integer ≥ 1"),
    ],
)
def test_a_wrong_criterion_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Criterion(*arguments)


def test_decide_refuses_what_it_cannot_judge():
    with pytest.raises(ValueError, match="still 'auto'"):
        run([Criterion("bald_energy")], [1.0])
    with pytest.raises(ValueError, match="no score for 'bald_energy'; given: bald_forces_max"):
        run([Criterion("bald_energy", 1.0)], [1.0], name="bald_forces_max")
    with pytest.raises(ValueError, match="counts 2 criteria, but 1"):
        decide([Criterion("bald_energy", 1.0)], {"bald_energy": (0.0, None)}, MonitorState((1, 0)), 3)


RMS, WORST, PER_ATOM = "forces_uncertainty_rms", "forces_uncertainty_max", "energy_uncertainty_per_atom"
PER_ATOM_EPISTEMIC = f"{PER_ATOM}_epistemic"
EPISTEMIC = (f"{RMS}_epistemic", f"{WORST}_epistemic", PER_ATOM_EPISTEMIC)


def flag_and_halt(*names, **severe):
    found = [Criterion(name, "auto", "flag") for name in names]
    found += [Criterion(name, "auto", "halt", HALT_AFTER) for name in names if name != PER_ATOM_EPISTEMIC or len(names) == 1]
    return tuple(found + [Criterion(name, threshold, "halt") for name, threshold in severe.items()])


MOLECULE = tuple(name for name in CRITERIA if name != GAP and not any(of in name for of in ("stress", "pressure", "volume")))


def test_defaults():
    everything = dict.fromkeys(CRITERIA, 1.0)
    assert default_criteria(MOLECULE, {}) == flag_and_halt(*EPISTEMIC)
    assert default_criteria(MOLECULE, everything) == flag_and_halt(*EPISTEMIC, **dict(zip(EPISTEMIC, (2.0, 10.0, 10.0))))
    cell = default_criteria(CRITERIA, everything)
    more = set(cell) - set(default_criteria(MOLECULE, everything))
    assert more == {Criterion(PRESSURE, "auto", "flag"), Criterion(PRESSURE, 10.0, "halt"), Criterion(GAP, "auto", "flag")}
    assert default_criteria((PER_ATOM, RMS, WORST), everything) == flag_and_halt(RMS, WORST, **{RMS: 2.0, WORST: 10.0})
    energies = (PER_ATOM, "bald_energy", EPISTEMIC[2])
    assert default_criteria(energies, everything) == flag_and_halt(EPISTEMIC[2], **{EPISTEMIC[2]: 10.0})
    assert default_criteria(energies[:2], everything) == flag_and_halt(PER_ATOM, **{PER_ATOM: 10.0})
    with pytest.raises(ValueError, match="no uncertainty to monitor"):
        default_criteria((), {})


def test_gaps_of_distances_are_flagged_and_never_halt():
    known = dict.fromkeys((*EPISTEMIC, GAP), 1.0)
    with_gap, without = default_criteria((*EPISTEMIC, GAP), known), default_criteria(EPISTEMIC, known)
    assert set(with_gap) - set(without) == {Criterion(GAP, "auto", "flag")} and set(without) <= set(with_gap)
    assert default_criteria((*EPISTEMIC, GAP), dict.fromkeys(EPISTEMIC, 1.0)) == without  # a model that stores no threshold of it
    with pytest.raises(ValueError, match="no uncertainty to monitor"):
        default_criteria((GAP,), {})


def test_defaults_of_models_that_store_fewer_thresholds():
    old = {"bald_forces_max": 1.0, WORST: 1.0, EPISTEMIC[1]: 2.0}
    assert default_criteria(CRITERIA, old) == flag_and_halt(EPISTEMIC[1], **{EPISTEMIC[1]: 20.0})
    assert default_criteria(CRITERIA, {WORST: 1.0}) == flag_and_halt(WORST, **{WORST: 10.0})


def test_what_is_watched_together_is_what_the_default_watches():
    for available in (CRITERIA, (PER_ATOM, RMS, WORST), (PER_ATOM, EPISTEMIC[2]), (PER_ATOM,), ()):
        found = watched(available, {})
        assert found == watched(available, dict.fromkeys(available, 1.0))
        names = list(dict.fromkeys(c.name for c in default_criteria(available, {}) if c.name != GAP)) if found else []
        assert found == names  # a gap of distances has a rate of its own


def test_energies_halt_too():
    """Where forces are as usual, as between the pieces of a molecule that is pulled apart; but not for staying a little above."""
    thresholds = dict.fromkeys(EPISTEMIC, 1.0)
    criteria = resolve(default_criteria(EPISTEMIC, thresholds), EPISTEMIC, thresholds)
    for energies, expected in (([9.9] * HALT_AFTER, ["flag"] * HALT_AFTER), ([10.1], ["halt"]), ([0.9], [None])):
        state, found = MonitorState(), []
        for step, value in enumerate(energies):
            decision, state = decide(criteria, dict(zip(EPISTEMIC, ((0.5, None), (0.5, 0), (value, None)))), state, step)
            found.append(decision.action)
        assert found == expected


def test_the_default_halts_on_what_stays_and_on_what_is_severe():
    names = ("forces_uncertainty_rms", "forces_uncertainty_max")
    criteria = resolve(default_criteria(names, dict.fromkeys(names, 1.0)), names, dict.fromkeys(names, 1.0))

    def actions(rms, largest):
        state, found = MonitorState(), []
        for step, values in enumerate(zip(rms, largest, strict=True)):
            decision, state = decide(criteria, {n: (v, None) for n, v in zip(names, values)}, state, step)
            found.append(decision.action)
        return found

    stays = actions([1.1] * (HALT_AFTER + 1), [0.9] * (HALT_AFTER + 1))
    assert stays == ["flag"] * (HALT_AFTER - 1) + ["halt"] * 2
    assert actions([1.1, 0.9] * HALT_AFTER, [0.5] * 2 * HALT_AFTER) == ["flag", None] * HALT_AFTER
    assert actions([0.9] * HALT_AFTER, [9.9] * HALT_AFTER) == ["flag"] * (HALT_AFTER - 1) + ["halt"]
    assert actions([2.1], [0.0]) == actions([0.0], [10.1]) == ["halt"]


def test_a_broken_score_does_not_wait_for_more():
    criterion = Criterion("bald_forces_max", 0.5, "halt", consecutive=20)
    decision, _ = decide([criterion], {"bald_forces_max": (float("nan"), 4)}, MonitorState(), 1)
    assert decision.action == "halt"
    decision, _ = decide([criterion], {"bald_forces_max": (0.6, 4)}, MonitorState(), 1)
    assert decision.action is None and len(decision.violations) == 1


def test_resolve():
    criteria = [Criterion("bald_energy", "auto", "flag", 3), Criterion("bald_forces_max", 7)]
    assert resolve(criteria, CRITERIA, {"bald_energy": 0.25}) == (
        Criterion("bald_energy", 0.25, "flag", 3),
        Criterion("bald_forces_max", 7, "halt"),
    )
    with pytest.raises(ValueError, match="no threshold \"auto\" for 'bald_energy'.*at least 20.*calibrate MODEL.*give a number"):
        resolve(criteria, CRITERIA, {})
    with pytest.raises(ValueError, match="cannot give the criterion 'bald_energy'.*available: forces_uncertainty_max"):
        resolve(criteria, ("forces_uncertainty_max",), {"bald_energy": 0.25})


def test_a_value_that_is_no_number_is_not_silenced():
    values = [Violation(0, "a", value, 1.0, 0, action="halt") for value in (2.0, float("inf"), float("nan"))]
    assert [v.action for v in silenced(Decision(tuple(values))).violations] == [None, "halt", "halt"]


def test_a_violation_tells_how_often_in_a_row():
    one = Violation(3, "bald_energy", 2.0, 1.0, action="halt")
    assert str(one) == "halt at step 3: bald_energy = 2, above the threshold 1"
    several = replace(one, action=None, in_a_row=2, atom_index=0, element="O", image=4)
    assert str(several) == "violation at step 3: bald_energy = 2 at atom 0 (O) of image 4, above the threshold 1, 2 checks in a row"
