"""Calculators that put their own uncertainties into `results`: one table of known layouts. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from race_calc.interfaces.base import PredictingCalculator
from race_calc.uncertainty.aggregate import MemberOutputs, aggregate
from race_calc.uncertainty.calibration import Calibration
from race_calc.uncertainty.prediction import Prediction, available
from race_calc.uncertainty.scores import has_volume

AGREE = 1e-3  # relative: the mean of the members must be the calculator's own energy and forces


@dataclass(frozen=True)
class Layout:
    """Where a calculator keeps its uncertainty: keys of `results`, "" where there is none.

    energy, forces, stress: values of M members, with the member axis at `axis` (0 or -1): (M,), (M, N, 3) or (N, 3, M),
    (M, 3, 3) or (3, 3, M), in eV, eV/Å and eV/Å³. Or energy_std (a number, eV) and forces_std ((N, 3) or (N,), eV/Å): standard
    deviations of unknown kind. `source`: who writes it so.
    """

    name: str
    source: str
    energy: str = ""
    forces: str = ""
    stress: str = ""
    energy_std: str = ""
    forces_std: str = ""
    axis: int = 0

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys that tell the layout: the others may be missing."""
        return tuple(filter(None, (self.energy, self.forces)))


LAYOUTS = (  # the first whose keys are there is taken
    Layout("mace", "mace-torch from 0.3.14, several models", "energy_comm", "forces_comm", "stress_comm"),
    Layout("mace-0.3.13", "mace-torch up to 0.3.13, several models", "energies", "forces_comm"),
    Layout("apax", "apax, full and shallow ensembles", "energy_ensemble", "forces_ensemble", "stress_ensemble", axis=-1),
    Layout("metatomic", "metatomic, energy_ensemble among the additional outputs", "energy_ensemble"),
    Layout(
        "uncertainty",
        "energy_uncertainty and forces_uncertainty, as in apax and IPSuite",
        energy_std="energy_uncertainty",
        forces_std="forces_uncertainty",
    ),
)


def from_results(
    calculator,
    layout: str | Layout | None = None,
    thresholds: Mapping[str, float] | None = None,
    calibration: Calibration | str | Path | None = None,
) -> "FromResults":
    """A calculator for monitor, calibration and evaluation from one that already tells its uncertainty in `results`.

    `layout`: a name in LAYOUTS or a Layout of your own; None finds it at the first calculation. Members give epistemic parts. A
    plain standard deviation is a total of unknown kind: it has no epistemic part, its covariance is diagonal and does not
    rotate. `thresholds` and `calibration` as in `Committee`.

    Raises ValueError for an unknown layout; a calculation raises it where there are no uncertainties (it lists what there is),
    for other shapes, numbers that cannot be, and members whose mean is not the calculator's own value (another unit?).
    """
    if isinstance(layout, str):
        known = {one.name: one for one in LAYOUTS}
        if layout not in known:
            raise ValueError(f"unknown layout {layout!r}; known: {', '.join(known)}; or give a Layout of your own")
        layout = known[layout]
    return FromResults(calculator, layout, thresholds, calibration)


class FromResults(PredictingCalculator):
    """Made by `from_results`, which see."""

    name = "from_results"

    def __init__(
        self, calculator, layout: Layout | None, thresholds: Mapping[str, float] | None, calibration: Calibration | str | Path | None
    ):
        stress = ["stress"] if "stress" in calculator.implemented_properties else []
        super().__init__(["energy", "free_energy", "forces", *stress], thresholds, calibration)
        self.calculator, self.layout, self._inside = calculator, layout, (calculator,)

    def _raw(self, atoms: Atoms) -> Prediction:
        forces = np.array(self.calculator.get_property("forces", atoms), dtype=np.float64)
        energy = float(self.calculator.get_property("energy", atoms))
        if "stress" in self.calculator.implemented_properties and has_volume(atoms):
            self.calculator.get_property("stress", atoms)  # some compute it only when asked
        found = dict(self.calculator.results) | _additional(self.calculator)
        if self.layout is None:
            self.layout = detected(found)
        missing = [key for key in self.layout.needs if key not in found]
        if missing:
            raise ValueError(
                f"the calculator lacks {', '.join(missing)} of layout {self.layout.name}: its results are "
                f"{', '.join(sorted(map(str, found)))}"
            )
        means = {"energy": np.array(energy), "forces": forces}
        if "stress" in found and has_volume(atoms):
            means["stress"] = np.array(found["stress"], dtype=np.float64)
        made = _prediction(self.layout, means, found)
        self.implemented_properties = sorted({*self.implemented_properties, *available(made)})
        return made


def detected(results: Mapping) -> Layout:
    """The first layout whose keys are there. Raises ValueError where there is none."""
    for layout in LAYOUTS:
        if all(key in results for key in layout.needs) and any(
            results.get(k) is not None for k in (layout.energy, layout.energy_std, layout.forces_std)
        ):
            return layout
    raise ValueError(
        f"this calculator tells no uncertainty that is known here: its results are {', '.join(sorted(map(str, results)))}; "
        "give a Layout with the keys of its members or standard deviations (race_calc.interfaces.from_results.LAYOUTS)"
    )


def _prediction(layout: Layout, means: dict[str, np.ndarray], found: Mapping) -> Prediction:
    n = len(means["forces"])
    batch = np.zeros(n, dtype=np.int64)
    if layout.energy:
        energy = _members(layout, "energy", means, found)
        forces = _members(layout, "forces", means, found) if layout.forces else means["forces"][None]
        own = "stress" in means and layout.stress in found and np.size(found[layout.stress]) == 9 * len(energy)  # apax 0.14: not its stress
        stress = _members(layout, "stress", means, found)[:, None] if own else None
        made = aggregate(MemberOutputs(energy=energy[:, None], forces=forces, stress=stress, batch=batch))
        return made if stress is not None else replace(made, stress=_mean_stress(means))
    energy_std, forces_std = (
        _deviation(key, found, shapes) for key, shapes in ((layout.energy_std, [(), (1,)]), (layout.forces_std, [(n, 3), (n,)]))
    )
    variance = None if energy_std is None else energy_std.reshape(1) ** 2
    covariance = None if forces_std is None else np.einsum("ni,ij->nij", np.broadcast_to(forces_std.reshape(n, -1), (n, 3)) ** 2, np.eye(3))
    return Prediction(
        energy=means["energy"][None],
        forces=means["forces"],
        batch=batch,
        energy_unsplit=variance,
        forces_covariance_unsplit=covariance,
        rotates=False,
        stress=_mean_stress(means),
    )


def _mean_stress(means: dict[str, np.ndarray]) -> np.ndarray | None:
    return full_3x3_to_voigt_6_stress(_full(means["stress"]))[None] if "stress" in means else None


def _members(layout: Layout, quantity: str, means: dict[str, np.ndarray], found: Mapping) -> np.ndarray:
    """(M, …) of two members or more, whose mean is what the calculator gives itself; stresses (M, 3, 3)."""
    key, mean = getattr(layout, quantity), means[quantity]
    mean = _full(mean) if quantity == "stress" else mean
    values = np.moveaxis(np.array(found[key], dtype=np.float64), layout.axis, 0)
    if values.ndim != mean.ndim + 1 or values.shape[1:] != mean.shape or len(values) < 2:
        raise ValueError(
            f"{key} of layout {layout.name} has the shape {np.shape(found[key])}: expected {mean.shape} and an axis of two "
            f"members or more at {'the start' if layout.axis == 0 else 'the end'}; name another layout"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{key} is not finite: a member of the calculator is broken, or this structure too far from what it knows")
    round_off = 1e-6 * float(np.abs(values).max(initial=0.0))  # of float32 members whose mean cancels
    atol = round_off + AGREE * max(float(np.abs(mean).max(initial=0.0)), 1e-6)
    if not np.allclose(values.mean(axis=0), mean, rtol=AGREE, atol=atol):
        raise ValueError(
            f"the mean of {key} is not the {quantity} of the calculator (largest difference "
            f"{np.abs(values.mean(axis=0) - mean).max():.3g}): it has another unit, or the layout {layout.name} does not fit"
        )
    return values


def _deviation(key: str, found: Mapping, shapes: list[tuple[int, ...]]) -> np.ndarray | None:
    if found.get(key) is None:
        return None
    values = np.array(found[key], dtype=np.float64)
    if values.shape not in shapes:
        raise ValueError(
            f"{key} has the shape {values.shape}, expected {' or '.join(map(str, shapes))}: standard deviations of the total energy "
            "or of the forces on each atom"
        )
    if not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError(f"{key} holds numbers that are no standard deviations (negative, NaN or infinite)")
    return values


def _full(stress: np.ndarray) -> np.ndarray:
    return voigt_6_to_full_3x3_stress(stress) if stress.shape == (6,) else stress


def _additional(calculator) -> dict[str, np.ndarray]:
    """What metatomic's calculator keeps beside `results`: a block of values (1, M) for each additional output."""
    outputs = getattr(calculator, "additional_outputs", None) or {}
    return {name: np.asarray(one.block().values).reshape(-1) for name, one in outputs.items() if name == "energy_ensemble"}
