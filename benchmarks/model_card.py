"""The tables of a model card of 3BPA: errors, uncertainties before and after calibration, and what the monitor sees.

    python benchmarks/model_card.py --data FOLDER_WITH_3BPA [--model models/3bpa-de] [--json FILE]

Errors are those of the test frames of split.py, in brackets of all frames; meV, meV/Å. Intervals (95 %) are over resampled frames. One
factor: the likelihoods if one factor, fitted to the 50 validation frames, multiplied all of the variance. Detection: AUROC of every score
of the default monitor for frames whose force RMSE is more than three times that of `id_300K`, against all other test frames and against
those of `id_300K`; frames that each score, and all together, flag at their thresholds; and the frames beyond three and five times that,
which none flags, with the gap of distances and without it.
"""

from pathlib import Path

import numpy as np
import torch
from ase.data import chemical_symbols
from calibration import one_factor
from common import MODEL, arguments, report
from split import SLICE, test

from race_calc.data.dataset import read_dataset
from race_calc.evaluate.assessment import Assessment, assess
from race_calc.evaluate.errors import evaluate_dataset
from race_calc.evaluate.predict import predict_dataset, residuals_of
from race_calc.evaluate.reliability import covered, nominal_levels
from race_calc.interfaces.stack_predictor import StackPredictor
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.load import load_stack
from race_calc.uncertainty.bootstrap import mean_interval
from race_calc.uncertainty.decisions import GAP, default_criteria
from race_calc.uncertainty.detection import auroc
from race_calc.uncertainty.metrics import LEVELS, mahalanobis

BAD, WORSE = 3.0, 5.0  # times the force RMSE of id_300K


def frame_rmse(found: Assessment) -> np.ndarray:
    """Force RMSE of each frame, eV/Å."""
    frame, squares = found.raw.frame, (found.raw.forces**2).mean(axis=1)
    return np.sqrt(np.bincount(frame, squares) / np.bincount(frame))


def row(name: str, found: Assessment, whole) -> str:
    """Errors, mean σ, coverage of 68, 90 and 95 % intervals, and likelihood."""
    e, f = found.evaluation.energy, found.evaluation.forces
    cover = [" / ".join(f"{100 * quality.coverage[level]:.0f}" for level in LEVELS) for quality in (e, f)]
    every = "" if whole is None else f" ({1e3 * whole.energy.rmse:.1f} / {1e3 * whole.forces.rmse:.1f})"
    errors = f"{1e3 * e.rmse:.1f} / {1e3 * f.rmse:.1f}{every} | {1e3 * e.mae:.1f} / {1e3 * f.mae:.1f}"
    rank = f" | {found.rank[0]:.2f} ({found.rank[1]:.2f})" if found.rank else " | "
    spread = f"{1e3 * e.sigma:.1f} / {1e3 * f.sigma:.1f} | {cover[0]} | {cover[1]} | {e.nll:.2f} / {f.nll:.2f}"
    return f"| `{name}` | {found.evaluation.structures} | {errors} | {spread}{rank} |"


def squares(found: Assessment) -> str:
    """Mean dᵀΣ⁻¹d/3 of all atoms and of each element, with 95 % intervals over resampled structures: 1 where Σ is right."""
    raw, each = found.residuals, mahalanobis(found.residuals.forces, found.residuals.forces_covariance) / 3
    groups = {"all": np.ones(len(each), dtype=bool)} | {chemical_symbols[z]: raw.numbers == z for z in np.unique(raw.numbers)}
    told = {name: mean_interval(each[own], raw.frame[own]) for name, own in groups.items()}
    return ", ".join(f"{name} {one.value:.2f} ({one.low:.2f}–{one.high:.2f})" for name, one in told.items())


def inside(found: Assessment) -> str:
    """Percent of energies and of force components inside 68, 90 and 95 % intervals of the Gaussian, with 95 % intervals over frames."""
    levels, frame = nominal_levels(found.residuals), found.residuals.frame
    told = {name: covered(levels[name], frame, name).values() for name in ("energy", "forces")}
    text = lambda one: f"{100 * one.value:.0f} ({100 * one.low:.0f}–{100 * one.high:.0f})"  # noqa: E731
    return ", ".join(f"{name} {' / '.join(map(text, shares))}" for name, shares in told.items())


def seen(found: dict[str, Assessment], thresholds: dict[str, float]) -> dict[str, float]:
    """What the default monitor makes of the frames."""
    rmse = {name: frame_rmse(one) for name, one in found.items()}
    limit = found["id_300K"].evaluation.forces.rmse
    errors = np.concatenate(list(rmse.values()))
    bad, worse = errors > BAD * limit, errors > WORSE * limit
    scores = dict.fromkeys(one.name for one in default_criteria(found["id_300K"].evaluation.scores, thresholds))
    result: dict[str, float] = {}
    flags: dict[str, np.ndarray] = {}  # of all frames, by score
    ends = np.cumsum([len(values) for values in rmse.values()])[:-1]
    shares = lambda flagged: {name: 100 * float(part.mean()) for name, part in zip(rmse, np.split(flagged, ends))}  # noqa: E731
    for score in scores:
        values = {name: one.evaluation.scores[score] for name, one in found.items()}
        together = np.concatenate(list(values.values()))
        flags[score] = ~(together <= thresholds[score])
        result[f"{score}: AUROC against all other frames"] = auroc(together[~bad], together[bad])
        result[f"{score}: AUROC against id_300K"] = auroc(values["id_300K"], together[bad])
        result |= {f"{score}: above its threshold, {name}, %": share for name, share in shares(flags[score]).items()}
        result[f"{score}: frames beyond five times that pass"] = float((worse & ~flags[score]).sum())
    flagged = np.any(list(flags.values()), axis=0)
    spread = np.any([flags[score] for score in flags if score != GAP], axis=0)
    for times, which in ((BAD, bad), (WORSE, worse)):
        result[f"frames beyond {times:g} times"] = float(which.sum())
        result[f"frames beyond {times:g} times, not flagged by the monitor"] = float((which & ~flagged).sum())
        result[f"frames beyond {times:g} times, not flagged but for the gap"] = float((which & ~spread).sum())
    return result | {f"flagged by the monitor, {name}, %": share for name, share in shares(flagged).items()}


if __name__ == "__main__":
    given = arguments(__doc__, data=".", model=str(MODEL))
    checkpoint, data = load_checkpoint(given.model), Path(given.data)
    predictor = StackPredictor(load_stack(checkpoint, torch.float64, torch.device("cpu")))
    sets = test(data)
    whole = {name: evaluate_dataset(predictor, read_dataset(data / f"{name}.xyz")) for name in SLICE}
    results: dict[str, object] = {}
    thresholds, held_back = checkpoint.thresholds, read_dataset(data / "train_300K.xyz", "450:")
    known = residuals_of(predict_dataset(predictor, held_back), held_back)
    for calibration in (None, checkpoint.calibration) if checkpoint.calibration else (None,):
        found = {name: assess(predictor, calibration, frames) for name, frames in sets.items()}
        thresholds = checkpoint.thresholds if calibration is None else calibration.thresholds
        print(
            f"\n{'before' if calibration is None else 'after'} calibration: RMSE E / F (all frames) | MAE | σ | coverage E | F | NLL | rank"
        )
        for name, one in found.items():
            print(row(name, one, whole.get(name)))
            for kind, quality in (("E", one.evaluation.energy), ("F", one.evaluation.forces)):
                results |= {f"RMSE {kind} {name}": 1e3 * quality.rmse, f"MAE {kind} {name}": 1e3 * quality.mae}
            before, after = one.before_quality, one.after_quality
            errors = {k: [f"{q[k].calibration_error.value:.3f}" for q in (before, after) if k in q] for k in before}
            print("   dᵀΣ⁻¹d/3:", squares(one))
            print("   inside:", inside(one))
            if calibration is not None:
                print("   one factor:", {name: f"{value:.2f}" for name, value in one_factor(known, one.raw).items()})
            print("   calibration errors", {k: " → ".join(v) for k, v in errors.items()})
    report(given, results | seen(found, thresholds))
