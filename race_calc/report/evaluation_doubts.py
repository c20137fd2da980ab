"""What `race-calc evaluate` says about data that flatter a model, or that it cannot be judged by."""

from collections.abc import Mapping

from race_calc.evaluate.assessment import Assessment, Comparison
from race_calc.evaluate.overlap import Overlap
from race_calc.evaluate.reference_level import other_level


def overlap_lines(overlaps: Mapping[str, Overlap]) -> list[str]:
    """A sentence for each data set of which the model has seen something, and one about what cannot be told."""
    lines = []
    for name, one in overlaps.items():
        if not one.seen:
            continue
        parts = {"trained on": one.trained_on, "the validation of the training": one.chosen_on, "calibrated with": one.calibrated_on}
        shown = ", ".join(f"{len(indices)} {how}" for how, indices in parts.items() if indices)
        left = f"their results without them are in the rows “{unseen_name(name)}”" if one.unseen else "nothing is left without them"
        lines.append(f"{name}: the model has seen {len(one.seen)} of {one.structures} structures ({shown}); {left}")
    untold = sorted({part for one in overlaps.values() for part in one.untold})
    if untold:
        lines.append(
            f"the model keeps no record of the structures of its {' and '.join(untold)}, so an overlap with them is not seen: make sure "
            "that there is none" + (", or calibrate it again" if "calibration" in untold else "")
        )
    return lines


def unseen_name(name: str) -> str:
    """Of a data set without what the model has seen."""
    return f"{name}, unseen"


def judged_name(name: str, compared: Comparison, file: str) -> str:
    """Of what `Comparison.judged` has for a file; `name`: as the tables call the file."""
    return unseen_name(name) if file in compared.unseen else name


def with_unseen(found: Mapping[str, Assessment], unseen: Mapping[str, Assessment]) -> dict[str, Assessment]:
    """Each data set and, below it, what of it was not seen."""
    rows = {}
    for name, one in found.items():
        rows[name] = one
        if name in unseen:
            rows[unseen_name(name)] = unseen[name]
    return rows


def level_lines(found: Mapping[str, Assessment]) -> list[str]:
    """A sentence for each data set whose energies look like those of another level of theory."""
    return [
        f"{name}: {doubt}. If they were not, errors and uncertainties of its energies judge the labels; if they were, the model"
        for name, one in found.items()
        for doubt in other_level(one.raw)
    ]


def doubted_name(name: str, one: Assessment) -> str:
    """The name of a data set in figures: it says so where the energies look like those of another level."""
    return f"{name} (other level?)" if one.level is not None and one.level.doubted else name
