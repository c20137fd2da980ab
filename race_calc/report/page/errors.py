"""How wrong it is: parity plots and the table of errors."""

from collections.abc import Sequence

import numpy as np

from race_calc.evaluate.predict import stress_labels
from race_calc.report.page.judged import Judged
from race_calc.report.page.parts import Chart, Grid, Section, axis, cloud, drawn, rule, thinned
from race_calc.report.tables import milli
from race_calc.uncertainty.metrics import rmse


def error_section(sets: Sequence[Judged]) -> Section:
    charts = [_energies(sets), _forces(sets), _stresses(sets)]
    return Section(
        "errors",
        "How wrong is it?",
        "Each point compares a prediction with its reference. On the dotted line both are equal.",
        [*[chart for chart in charts if chart is not None], error_grid(sets)],
    )


def error_grid(sets: Sequence[Judged]) -> Grid:
    """Errors of all data sets."""
    stress = any(one.found.evaluation.stress is not None for one in sets)
    head = ["data", "structures", "energy MAE", "energy RMSE", "per atom MAE", "per atom RMSE", "forces MAE", "forces RMSE"]
    rows = []
    for one in sets:
        e = one.found.evaluation
        qualities = [e.energy, e.energy_per_atom, e.forces] + ([e.stress] if stress else [])
        numbers = [milli(getattr(q, key, None)) for q in qualities for key in ("mae", "rmse")]
        rows.append([one.name, str(e.structures), *numbers])
    units = "Units: meV, meV per atom, meV/Å" + (", meV/Å³." if stress else ".")
    return Grid("Errors", head + (["stress MAE", "stress RMSE"] if stress else []), rows, units)


def _energies(sets: Sequence[Judged]) -> Chart:
    per_atom = [_energy_per_atom(one) for one in sets]
    zero = float(np.mean(per_atom[0][0]))
    pairs = [(reference - zero, predicted - zero) for reference, predicted in per_atom]
    told = "; ".join(f"{one.name}: RMSE {milli(one.found.evaluation.energy_per_atom.rmse)} meV per atom" for one in sets)
    told += f"; energies are counted from the mean of {sets[0].name}"
    return _parity("parity-energy", "Energies", "energy per atom", "eV", sets, pairs, told)


def _energy_per_atom(one: Judged) -> tuple[np.ndarray, np.ndarray]:
    sizes = np.array([len(atoms) for atoms in one.data.structures])
    return one.data.energy / sizes, (one.data.energy - one.found.raw.energy) / sizes


def _forces(sets: Sequence[Judged]) -> Chart:
    pairs = [(one.forces.ravel(), (one.forces - one.found.raw.forces).ravel()) for one in sets]
    told = "; ".join(f"{one.name}: RMSE {milli(one.found.evaluation.forces.rmse)} meV/Å" for one in sets)
    return _parity("parity-forces", "Force components", "force", "eV/Å", sets, pairs, told)


def _stresses(sets: Sequence[Judged]) -> Chart | None:
    kept, pairs = [], []
    for one in sets:
        stress, known = one.found.raw.stress, one.found.raw.stress_labelled
        if stress is None or not known.any():
            continue
        reference = stress_labels(one.data)[known]
        kept.append(one)
        pairs.append((1e3 * reference.ravel(), 1e3 * (reference - stress[known]).ravel()))
    if not kept:
        return None
    told = "; ".join(f"{one.name}: RMSE {milli(rmse(one.found.raw.stress[one.found.raw.stress_labelled]))} meV/Å³" for one in kept)  # type: ignore[index]
    return _parity("parity-stress", "Stress components", "stress", "meV/Å³", kept, pairs, told)


def _parity(key: str, title: str, what: str, unit: str, sets: Sequence[Judged], pairs: list, told: str) -> Chart:
    low, high = (bound(bound(values) for pair in pairs for values in pair) for bound in (min, max))
    traces = [rule([low, high], [low, high], "equal")]
    for k, (one, (reference, predicted)) in enumerate(zip(sets, pairs, strict=True)):
        chosen = thinned(np.abs(reference - predicted))
        traces.append(cloud(reference[chosen], predicted[chosen], one.name, k))
    total = max(len(reference) for reference, _ in pairs)
    return Chart(
        key,
        f"{title}: prediction against reference",
        f"{told}.{drawn(total)}",
        f"Parity plot of {what}. {told}.",
        traces,
        {"xaxis": axis(f"reference {what} ({unit})"), "yaxis": axis(f"predicted {what} ({unit})")},
    )
