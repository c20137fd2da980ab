"""When does a score become a violation, and what follows. Pure decisions, NumPy only."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real

from race_calc.uncertainty.scores import CRITERIA, SCORES, check_available
from race_calc.uncertainty.thresholds import FEWEST

ACTIONS = ("log", "flag", "halt")  # from mild to severe
HALT_AFTER = 200  # checks: if each step of 0.5 fs is checked 100 fs, longer than scores remember (`docs/thresholds.md`)
SEVERE, SEVERE_LOCAL = 2.0, 10.0  # times the threshold: of a mean over the atoms; of the worst atom and the energy, which scatter more
ENERGY, PRESSURE, GAP = "energy_uncertainty_per_atom_epistemic", "pressure_uncertainty_epistemic", "distance_gap_max"


@dataclass(frozen=True)
class Criterion:
    """A score, its limit, and what to do when the limit is passed.

    name: one of `race_calc.uncertainty.scores.CRITERIA`. threshold: in the unit of the score, or "auto" for the one stored with the model.
    action: "log" (only the log line), "flag" (the frame is saved) or "halt" (saved, and the run ends). consecutive: the action is taken at
    this many violations in a row, and at every further one; at a score that is not finite, at once. Raises ValueError for a value outside
    of these.
    """

    name: str
    threshold: float | str = "auto"
    action: str = "halt"
    consecutive: int = 1

    def __post_init__(self) -> None:
        if self.name not in CRITERIA:
            raise ValueError(f"unknown criterion {self.name!r}; known: {', '.join(CRITERIA)}")
        if self.action not in ACTIONS:
            raise ValueError(f"unknown action {self.action!r}; known: {', '.join(ACTIONS)}")
        if not (isinstance(self.threshold, str) and self.threshold == "auto") and not _is_threshold(self.threshold):
            raise ValueError(f"threshold of {self.name!r} must be 'auto' or a finite number ≥ 0, got {self.threshold!r}")
        if isinstance(self.consecutive, bool) or not isinstance(self.consecutive, Integral) or self.consecutive < 1:
            raise ValueError(f"consecutive of {self.name!r} must be an integer ≥ 1, got {self.consecutive!r}")
        object.__setattr__(self, "consecutive", int(self.consecutive))  # NumPy's numbers too: the log takes Python's own
        if not isinstance(self.threshold, str):
            object.__setattr__(self, "threshold", float(self.threshold))


@dataclass(frozen=True)
class Violation:
    """A score above its threshold, or not finite.

    action is None until `consecutive` violations in a row are reached (see `Criterion`). atom_index and element belong to the worst atom
    of a maximum over atoms; image to a NEB. message: in the place of value and threshold, for what is no score (an exploded structure).
    """

    step: int
    criterion: str
    value: float
    threshold: float
    atom_index: int | None = None
    element: str | None = None
    action: str | None = None
    in_a_row: int = 1
    image: int | None = None
    message: str | None = None

    def __str__(self) -> str:
        if self.message is not None:
            return f"{self.action} at step {self.step}: {self.message}" + ("" if self.image is None else f" (image {self.image})")
        element = "" if self.element is None else f" ({self.element})"
        where = "" if self.atom_index is None else f" at atom {self.atom_index}{element}"
        where += "" if self.image is None else f" of image {self.image}"
        count = f", {self.in_a_row} checks in a row" if self.in_a_row > 1 else ""
        what = f"{self.action or 'violation'} at step {self.step}: {self.criterion} = {self.value:.4g}"
        over = f"above the threshold {self.threshold:.4g}" if math.isfinite(self.value) else "which is not finite"
        return f"{what}{where}, {over}{count}"


@dataclass(frozen=True)
class MonitorState:
    """Violations in a row up to now, one count for each criterion (empty: none yet)."""

    in_a_row: tuple[int, ...] = ()


@dataclass(frozen=True)
class Decision:
    """All violations of a step, and the most severe action to take (None: go on)."""

    violations: tuple[Violation, ...] = ()

    @property
    def action(self) -> str | None:
        return max((v.action for v in self.violations if v.action is not None), key=ACTIONS.index, default=None)

    @property
    def halting(self) -> Violation | None:
        """The first violation that asks for a halt."""
        return next((v for v in self.violations if v.action == "halt"), None)

    @property
    def acting(self) -> tuple[Violation, ...]:
        """The violations for which the frame is to be saved."""
        return tuple(v for v in self.violations if v.action in ("flag", "halt"))


def decide(
    criteria: Sequence[Criterion], scores: Mapping[str, tuple[float, int | None]], state: MonitorState, step: int
) -> tuple[Decision, MonitorState]:
    """Judge one step.

    scores: criterion name -> (value, atom index or None). A value violates when it is greater than the threshold, or not finite. Raises
    ValueError for a threshold that is still "auto", a criterion without a score, or a state that belongs to other criteria.
    """
    before = state.in_a_row or (0,) * len(criteria)
    if len(before) != len(criteria):
        raise ValueError(f"the state counts {len(before)} criteria, but {len(criteria)} were given")
    counts: list[int] = []
    violations = []
    for criterion, count in zip(criteria, before, strict=True):
        name = criterion.name
        if criterion.threshold == "auto":
            raise ValueError(f"the threshold of {name!r} is still 'auto'; call resolve() first")
        if name not in scores:
            raise ValueError(f"no score for {name!r}; given: {', '.join(scores) or 'none'}")
        (value, atom), threshold = scores[name], float(criterion.threshold)
        passed = math.isfinite(value) and value <= threshold
        counts.append(0 if passed else count + 1)
        if not passed:
            action = criterion.action if counts[-1] >= criterion.consecutive or not math.isfinite(value) else None
            atom_index = None if atom is None else int(atom)
            violations.append(Violation(step, name, float(value), threshold, atom_index, action=action, in_a_row=counts[-1]))
    return Decision(tuple(violations)), MonitorState(tuple(counts))


def silenced(decision: Decision) -> Decision:
    """The same violations without an action, but for values that are no finite number."""
    return Decision(tuple(replace(v, action=None) if math.isfinite(v.value) else v for v in decision.violations))


def accepted(criteria: Sequence[Criterion], seen: Mapping[str, float]) -> tuple[Criterion, ...]:
    """The criteria with thresholds raised to the largest scores `seen`; none is lowered."""
    return tuple(replace(c, threshold=max(float(c.threshold), seen.get(c.name, -math.inf))) for c in criteria)


def default_scores(available: Collection[str], thresholds: Mapping[str, float]) -> list[str]:
    """The scores that `default_criteria` watches first: the first kind that is available, better with a stored threshold; [] for none."""
    spread, total = ([f"forces_uncertainty_{kind}{suffix}" for kind in ("rms", "max")] for suffix in ("_epistemic", ""))
    groups = [spread, ["feature_distance_max"], total, [ENERGY], ["energy_uncertainty_per_atom"]]
    offered = [names for names in groups if set(names) <= set(available)]
    stored = [[name for name in names if name in thresholds] for names in offered]
    return next(filter(None, stored + offered), [])


def watched(available: Collection[str], thresholds: Mapping[str, float]) -> list[str]:
    """The scores that `default_criteria` watches together, [] for none: `default_scores`, and the epistemic ones of energy and pressure.

    `thresholds`: as far as they are known, {} before there are any.
    """
    names = default_scores(available, thresholds)
    more = [name for name in (ENERGY, PRESSURE) if name in available and name not in names and (not thresholds or name in thresholds)]
    return names + more if names else names


def default_criteria(available: Collection[str], thresholds: Mapping[str, float]) -> tuple[Criterion, ...]:
    """Criteria for a posterior that gives these scores; `thresholds`: what "auto" stands for, where it is known.

    Two scores of the forces, epistemic where there is such a part: `forces_uncertainty_rms`, the error expected of the whole structure,
    and `forces_uncertainty_max`, that of the worst atom; `energy_uncertainty_per_atom_epistemic` (a new phase may have right forces and
    wrong energies); in a periodic cell `pressure_uncertainty_epistemic`, which moves a barostat; and `distance_gap_max`, as members
    that know the same bonds err alike where a bond is shorter than these: it flags, at a rate of false alarms of its own (at most the
    stated one), and never halts, as a bond swings back. A frame with one of them above its threshold is flagged. The run is halted when
    one of the forces stays above for HALT_AFTER checks, or any but the gap passes its threshold SEVERE times (the mean over the atoms)
    or SEVERE_LOCAL times. The score of the energy changes slowly and may stay above at 300 K. Where members tell no spread of forces
    the same with `feature_distance_max`, which one model can tell and which follows its error better than the spread that it predicts;
    or else with the total of the forces, or a score of the energy. Scores without a stored threshold (models made before there were
    such scores) are left out if another one has one. Raises ValueError when the posterior gives no uncertainty at all.
    """
    names = watched(available, thresholds)
    if not names:
        raise ValueError(
            "this model gives no uncertainty to monitor (one member and no variance head); "
            "use an ensemble or a model with the 'energy' or 'joint' head"
        )
    gap = [GAP] if GAP in available and (not thresholds or GAP in thresholds) else []
    criteria = [Criterion(name, "auto", "flag") for name in names + gap]
    criteria += [Criterion(name, "auto", "halt", HALT_AFTER) for name in default_scores(available, thresholds)]
    return tuple(criteria + [Criterion(n, _severe(n) * thresholds[n], "halt") for n in names if n in thresholds])


def _severe(name: str) -> float:
    return SEVERE if SCORES[name].of == "forces" and not SCORES[name].worst_atom else SEVERE_LOCAL


def resolve(criteria: Sequence[Criterion], available: Collection[str], thresholds: Mapping[str, float]) -> tuple[Criterion, ...]:
    """Put numbers in the place of "auto". Raises ValueError for a criterion that cannot be given, and for "auto" with none stored."""
    check_available([c.name for c in criteria], available)
    for c in criteria:
        if c.threshold == "auto" and c.name not in thresholds:
            raise ValueError(
                f'there is no threshold "auto" for {c.name!r} (there are: {", ".join(thresholds) or "none"}): it takes the scores of at '
                f"least {FEWEST} structures that were not trained on, `race-calc calibrate MODEL held_back.xyz`; or give a number: "
                f"Criterion({c.name!r}, threshold=<number>, action={c.action!r})"
            )
    return tuple(replace(c, threshold=float(thresholds[c.name])) if c.threshold == "auto" else c for c in criteria)


def _is_threshold(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0.0 <= float(value) < math.inf
