"""What a model folder holds, name → text: the sections of `race-calc info`."""

from collections.abc import Callable
from pathlib import Path

from ase.data import chemical_symbols

from race_calc.data.files import shortened
from race_calc.data.sources import told
from race_calc.posterior.calibrations import calibrations_of
from race_calc.posterior.checkpoint import Checkpoint
from race_calc.posterior.surfaces import thresholds_of
from race_calc.posterior.validation import errors_text
from race_calc.uncertainty.calibration import Calibration
from race_calc.uncertainty.calibration_energy import EnergyCalibration
from race_calc.uncertainty.calibration_vectors import VectorCalibration


def sections(model: Path, checkpoint: Checkpoint) -> dict[str, dict[str, str]]:
    """Title → lines."""
    if targets := checkpoint.model.plan.config.targets:
        each = zip(targets, calibrations_of(model, len(targets)))
        uses = {f"Calibration of {name}": calibration_lines(found, "PropertyModel") for name, found in each}
    else:
        uses = {
            "Calibration" + _of_state(checkpoint): calibration_lines(checkpoint.calibration, "RACECalculator"),
            'Monitor thresholds ("auto")' + _of_state(checkpoint): threshold_lines(checkpoint),
        }
    return {
        f"Model {model}": model_lines(checkpoint),
        **uses,
        "Training": readable(training_lines, checkpoint),
        "Data": readable(data_lines, checkpoint),
    }


def readable(lines: Callable[[Checkpoint], dict[str, str]], checkpoint: Checkpoint) -> dict[str, str]:
    """Lines of a record, which has no fixed form and no use but to be shown."""
    try:
        return lines(checkpoint)
    except (TypeError, AttributeError, ValueError, KeyError) as error:
        return {"record": f"damaged, it cannot be shown ({shortened(str(error))})"}


def model_lines(checkpoint: Checkpoint) -> dict[str, str]:
    """Species, references, architecture and posterior; name → text."""
    from ase.data import chemical_symbols

    model, references, config = checkpoint.model, checkpoint.references, checkpoint.model.plan.config
    pairs = zip(references.species, references.energies)
    head = f"{config.head}, force covariance {config.force_covariance}" if config.head == "joint" else config.head
    weights = sum(value[0].numel() for value in checkpoint.parameters.values())
    return {
        "species (E0 in eV)": ", ".join(f"{chemical_symbols[z]} ({energy:.3f})" for z, energy in pairs),
        "shift": f"{references.shift:.4f} eV/atom",
        "scale": f"{references.scale:.4f} eV",
        "hidden irreps": config.hidden_irreps,
        "layers": f"{config.layers}, spherical harmonics up to l = {config.l_max}",
        "correlation": f"{config.correlation}" + (f", {config.product_channels} product channels" if config.correlation > 1 else ""),
        "embedding": f"{config.features_dim} features",
        "radial": f"{config.n_bessel} Bessel functions, hidden layers {list(config.radial_hidden)}",
        "cutoff": f"{config.cutoff} Å, {model.neighbours:.1f} neighbours on average",
        "baseline": f"{config.baseline} {checkpoint.baseline.get('code', '')}".rstrip(),
        "head": head,
        **_states(checkpoint),
        "posterior": f"{checkpoint.posterior}, members: {checkpoint.members}"
        + (", the means are those of the MAP" if checkpoint.center else ""),
        "weights per member": f"{weights:,}",
    }


def _of_state(checkpoint: Checkpoint) -> str:
    states = checkpoint.model.plan.config.states
    return f" of {states[checkpoint.state]}" if states else ""


def _states(checkpoint: Checkpoint) -> dict[str, str]:
    config = checkpoint.model.plan.config
    lines = {"states": ", ".join(config.states)} if config.states else {}
    lines |= {"properties": ", ".join(f"{name} ({kind})" for name, kind in config.targets.items())} if config.targets else {}
    return lines | ({"scalars, never negative": ", ".join(config.scalars)} if config.scalars else {})


def calibration_lines(found: Calibration | None, user: str) -> dict[str, str]:
    """What recalibrates the uncertainties, if anything does; `user`: the class that applies it."""
    if found is None:
        return {"none": "uncertainties are as trained; race-calc calibrate recalibrates them"}
    lines = {"applied": f"yes, made with {found.frames} structures; {user}(..., calibrated=False) leaves it out"}
    if found.energy is not None:
        lines["energy"] = _of_energy(found.energy) + _multiples(found.energy.conformal)
    if found.forces is not None:
        lines["forces"] = _of_vectors(found.forces) + _multiples(found.forces.conformal)
    if found.stress is not None:
        lines["stress"] = _of_vectors(found.stress) + _multiples(found.stress.conformal)
    return lines | {"SHA-256 of its data": found.data_hash}


def _of_energy(found: EnergyCalibration) -> str:
    if found.form is None:
        return f"σ times {found.epistemic**0.5:.4g} (epistemic), {found.aleatoric**0.5:.4g} (aleatoric)"
    both = len(found.form.sources) > 1
    sources = (f"{one.name} to the power {one.exponent:g}" + f", weight {one.weight:.2g}" * both for one in found.form.sources)
    return f"σ by the {found.way} ({'; '.join(sources)})"


def _of_vectors(found: VectorCalibration) -> str:
    if found.form is None:
        return f"σ times {found.scale**0.5:.4g}"
    sizes = "".join(f", {chemical_symbols[z]} {factor:.2f}" for z, factor in found.form.elements)
    elements = f"; σ² of elements times{sizes[1:]}" if sizes else ""
    return f"σ by {found.way} (exponents: shape {found.form.shape:.3g}, own spread {found.form.own:.3g} of {found.form.degree:g}{elements})"


def threshold_lines(checkpoint: Checkpoint) -> dict[str, str]:
    """Criterion → value with its unit; those of the calibration where there is one."""
    thresholds = thresholds_of(checkpoint) if checkpoint.calibration is None else checkpoint.calibration.thresholds
    if not thresholds:
        return {"none": "run race-calc calibrate, or give thresholds by hand"}
    from race_calc.uncertainty.scores import SCORES

    return {name: f"{value:.4g} {SCORES[name].unit if name in SCORES else ''}".rstrip() for name, value in thresholds.items()}


def training_lines(checkpoint: Checkpoint) -> dict[str, str]:
    """What the training record holds; records without these keys show less."""
    record = checkpoint.training
    settings = record.get("config", {}).get("training", {})
    validation = record.get("validation", {})
    fitted_to = record.get("posterior", {}).get("validation_of_the_model", {})
    lines = {
        "made": ", ".join(part for part in (record.get("date"), _named("race_calc", record), _named("torch", record)) if part),
        "recipe": settings.get("recipe"),
        "epochs": settings.get("epochs"),
        "batch size": settings.get("batch_size"),
        "learning rate": settings.get("learning_rate"),
        "seeds of the members": _listed(record.get("member_seeds")),
        "best epochs": _listed(record.get("best_epochs")),
        "skipped steps": _listed(record.get("skipped_steps")),
        "validation RMSE": _of_mean(errors_text(validation)),
        "  of the model fitted to": errors_text(fitted_to),
        "  energy, members": _milli_list(validation.get("energy_rmse_eV"), "meV") if "force_rmse_eV_per_A" in validation else None,
        "  forces, members": _milli_list(validation.get("force_rmse_eV_per_A"), "meV/Å"),
        "  stress, members": _milli_list(validation.get("stress_rmse_eV_per_A3"), "meV/Å³"),
    }
    shown = {name: str(value) for name, value in lines.items() if value not in (None, "")}
    return shown or {"no record": ""}


def data_lines(checkpoint: Checkpoint) -> dict[str, str]:
    """Hash of the data, sizes and seed of the split."""
    data, files = checkpoint.data, checkpoint.training.get("config", {}).get("data", {})
    split, low = data.get("split", {}), files.get("low_level") or {}
    cheap = len(data.get("structures", {}).get("low_level", "").split())
    lines = {
        "file": told(files.get("train", [])),
        "cheap labels": f"{told(low['file'])}: {cheap} structures, weight {low.get('weight', 1.0):g}" if low else None,
        "started from": checkpoint.training.get("config", {}).get("training", {}).get("start_from"),
        "SHA-256": data.get("sha256"),
        "split": f"{len(split['train'])} train, {len(split['validation'])} validation, seed {split.get('seed')}"
        if {"train", "validation"} <= set(split)
        else None,
    }
    shown = {name: str(value) for name, value in lines.items() if value}
    return shown or {"no record": ""}


def _multiples(conformal) -> str:
    shown = ", ".join(f"{100 * q.level:.0f} %: {q.quantile:.2f}" for q in conformal)
    return f"; conformal multiples of it {shown}" if shown else ""


def _named(name: str, record: dict) -> str | None:
    return f"{name} {record[name]}" if name in record else None


def _listed(values: list | None) -> str | None:
    return None if values is None else ", ".join(str(value) for value in values)


def _milli_list(values: list[float] | None, unit: str) -> str | None:
    return None if values is None else ", ".join(f"{1e3 * value:.1f}" for value in values) + f" {unit}"


def _of_mean(errors: str | None) -> str | None:
    return None if errors is None else f"{errors} (mean of the members)"
