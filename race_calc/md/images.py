"""The structures of a run that are watched: one, or the images of a NEB. Uses ASE."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms

from race_calc.md.barostat import pressure_criterion
from race_calc.uncertainty.decisions import Criterion, default_criteria, resolve
from race_calc.uncertainty.predictor import thresholds_of
from race_calc.uncertainty.scores import available_criteria

Images = list[tuple[int | None, Atoms]]
Frame = tuple[int, list[np.ndarray]]  # step, positions and cells of the images


def monitored_images(dynamics: Any) -> Images:
    """(image index, atoms) of all structures that have a calculator with predictions.

    The index is None except for a NEB. Filters are unwrapped.

    Raises TypeError when there is none.
    """
    target = dynamics.atoms
    while not isinstance(target, Atoms) and not hasattr(target, "images") and hasattr(target, "atoms"):
        target = target.atoms
    images = list(enumerate(target.images)) if hasattr(target, "images") else [(None, target)]
    offered = [(i, atoms) for i, atoms in images if callable(getattr(atoms.calc, "prediction", None))]
    if not offered:
        kinds = sorted({type(atoms.calc).__name__ for _, atoms in images})
        raise TypeError(
            "uncertainties come from a race_calc.RACECalculator, Committee or from_results(calculator) set as atoms.calc, "
            f"but the calculator is {', '.join(kinds)}"
        )
    return offered


def calculators_of(images: Images) -> list[Any]:
    return [atoms.calc for _, atoms in images]


def model_hash(calculators: Sequence[Any]) -> str | None:
    """`model_hash` of the potential; None where it tells none, or where the images of a NEB have different ones."""
    hashes = {getattr(calculator, "model_hash", None) for calculator in calculators}
    return hashes.pop() if len(hashes) == 1 else None


def frame_of(step: int, images: Images) -> Frame:
    return step, [a for _, atoms in images for a in (atoms.positions.copy(), atoms.cell.array.copy())]


def same_frame(frame: Frame, before: Frame | None) -> bool:
    """Whether this very frame was judged before: ASE repeats observers when resumed at step 0."""
    if before is None or before[0] != frame[0] or len(before[1]) != len(frame[1]):
        return False
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(before[1], frame[1], strict=True))


def criteria_of(images: Images, asked: Sequence[Criterion] | None, barostat: bool = False) -> tuple[Criterion, ...]:
    """The criteria with numbers: those asked for, or None for `default_criteria`; of scores that every image gives. With a `barostat`
    `pressure_criterion` is one of the default.

    Evaluates each calculator once. Raises TypeError for what is no sequence of Criterion, ValueError as `resolve` does, and where the
    calculators of a NEB have different thresholds.
    """
    if asked is not None and not (isinstance(asked, Sequence) and all(isinstance(c, Criterion) for c in asked)):
        raise TypeError(f"criteria must be a list of race_calc.Criterion, or None for the default, got {asked!r}")
    one_each: dict[int, tuple[int | None, Atoms]] = {}  # of images that share a calculator the first
    for image, atoms in images:
        one_each.setdefault(id(atoms.calc), (image, atoms))
    given = [available_criteria(atoms.calc.prediction(atoms), [atoms]) for _, atoms in one_each.values()]
    available = tuple(name for name in given[0] if all(name in names for names in given))
    found: dict[tuple[Criterion, ...], int | None] = {}
    for image, atoms in one_each.values():
        thresholds = thresholds_of(atoms.calc)
        wanted = default_criteria(available, thresholds) if asked is None else tuple(asked)
        moved = pressure_criterion(atoms, available) if asked is None and barostat else ()
        criteria = resolve([*wanted, *moved], available, thresholds)
        found.setdefault(criteria, image)
    if len(found) > 1:
        told = "; ".join(
            f"image {image}: {', '.join(f'{c.name} {c.threshold:.4g}' for c in criteria) or 'none'}" for criteria, image in found.items()
        )
        raise ValueError(
            f"the images have calculators with different thresholds ({told}): give the criteria with numbers, or all images one calculator"
        )
    return next(iter(found))
