"""Cheap labels for two-level trainings: GFN2-xTB on training geometries and on MD of its own.

    python benchmarks/cheap.py --data FOLDER_WITH_3BPA --out FOLDER/low_level.xyz

makes those of 3BPA: every third training frame, and 400 frames of MD at 600, 1000 and 1500 K. Goes on where it was stopped.
"""

from pathlib import Path

from ase.io import read, write
from common import arguments

from race_calc.data.dataset import read_dataset
from race_calc.label.file import label_frames
from race_calc.label.frame import bare
from race_calc.label.methods import Method
from race_calc.label.parallel import cores
from race_calc.label.sampling import Plan, sample

METHOD = Method("gfn2-xtb")


def cheap_labels(train: Path | str, index: str, plan: Plan, out: Path) -> Path:
    """Labels of the geometries `index` of the training file, and of frames by MD from the first of them; goes on where it was stopped.

    Needs the extra `xtb`.
    """
    if out.exists():
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    geometries = [bare(atoms) for atoms in read_dataset(train, index).structures]
    journal = out.with_name(out.name + ".sampling")
    frames = sample(geometries[:1], plan, METHOD, journal, cores())
    parts = [out.with_name(f"{out.stem}-{name}.xyz") for name in ("train", "md")]
    for part, structures in zip(parts, (geometries, frames)):
        if not part.exists():
            found = label_frames(structures, part, METHOD, cores())
            print(f"{part}: {found.count} labels, {found.failed} failed; the first: {found.reason or 'none'}", flush=True)
    half = out.with_name(f"{out.stem}-half.xyz")
    write(half, [atoms for part in parts for atoms in read(part, ":")])
    half.replace(out)  # there whole, or not at all
    journal.unlink()
    return out


if __name__ == "__main__":
    given = arguments(__doc__, data=".", out="low_level.xyz")
    print(cheap_labels(f"{given.data}/train_300K.xyz", "0:450:3", Plan((600.0, 1000.0, 1500.0), 400), Path(given.out)))
