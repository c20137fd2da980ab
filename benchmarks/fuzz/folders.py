"""Mutated model folders: each is refused with a message, or gives the numbers of the unchanged one.

python benchmarks/fuzz/folders.py --n 2000 --seed 0 [--log FILE: resume from it]

The bar is on the folders of formats 4 and 5; of all but the newest there are a tenth as many each, and those of formats 1 to 3,
which have no manifest, are only counted. Two of ten cases have two faults. Exits with 1 where the bar is missed.
"""

import functools
import json
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from safetensors import SafetensorError

sys.path.insert(0, str(Path(__file__).resolve().parent))
from mutations import cut, doubled, flip, replace_file, with_tensor, with_value
from workers import LONGEST, arguments, run_cases, table

OLD = Path(__file__).resolve().parents[2] / "tests" / "old_checkpoints"
GROUPS = {
    "format 5": "version-5-ensemble",
    "format 4": "version-4-ensemble",
    "format 3": "version-3-ensemble",
    "format 2": "version-2",
    "format 1": "version-1",
}
BAD = ("accepted, other numbers", "crash", "hang", "refused, no message")


def numbers(folder: Path) -> dict[str, np.ndarray]:
    """All that the calculator gives for a molecule, and its thresholds."""
    from ase import Atoms

    from race_calc import RACECalculator
    from race_calc.report.model_folder import sections

    calculator = RACECalculator(folder, device="cpu")
    element = calculator.elements[0]
    atoms = Atoms([element] * 3, positions=[[0, 0, 0], [1.6, 0.1, 0], [0.2, 1.7, 0.3]])
    atoms.calc = calculator
    atoms.get_potential_energy()
    sections(folder, calculator.checkpoint)
    thresholds = {f"threshold {name}": value for name, value in calculator.thresholds.items()}
    return {name: np.asarray(value) for name, value in (atoms.calc.results | thresholds).items()}


@functools.cache
def expected(source: str) -> dict[str, np.ndarray]:
    return numbers(OLD / source)


def mutate(folder: Path, random: np.random.Generator, donor: Path) -> str:
    """One fault in one file of the folder; says which."""
    names = sorted(path.name for path in folder.iterdir())
    name = names[random.integers(len(names))]
    path = folder / name
    kind = str(random.choice(["flip", "cut", "doubled", "value", "value", "value", "tensor", "tensor", "place", "swap", "donor", "extra"]))
    if kind == "extra":
        name = str(random.choice(["calibration.json", "start.xyz", "notes.txt", "manifest.json", "train.yaml"]))
        (folder / name).write_bytes(random.bytes(100))
    elif kind == "place":
        return f"{name}: {replace_file(path, random)}"
    elif not path.is_file():
        return "nothing"
    elif kind == "donor" and (donor / name).is_file():
        shutil.copy(donor / name, path)
    elif kind == "swap":
        other = folder / names[random.integers(len(names))]
        if other.is_file():
            first, second = path.read_bytes(), other.read_bytes()
            path.write_bytes(second)
            other.write_bytes(first)
    else:
        content = path.read_bytes()
        if kind == "value" and name.endswith(".json"):
            content = json.dumps(with_value(json.loads(content), random)).encode()
        elif kind == "tensor" and name.endswith(".safetensors"):
            content = with_tensor(content, random)
        else:
            content = (cut if kind == "cut" else doubled if kind == "doubled" else flip)(content, random)
        path.write_bytes(content)
    return f"{name}: {kind}"


def try_folder(case: dict) -> tuple[str, str]:
    warnings.simplefilter("ignore")
    random = np.random.default_rng([case["seed"], case["number"]])
    with tempfile.TemporaryDirectory() as place:
        folder = Path(shutil.copytree(OLD / case["source"], Path(place) / "model"))
        (folder / "expected.json").unlink()
        donor = OLD / ("version-3-laplace" if case["source"] == "version-3-ensemble" else "version-3-ensemble")
        faults = []
        for _ in range(1 + (random.random() < 0.2)):
            try:
                faults.append(mutate(folder, random, donor))
            except (ValueError, OSError, IndexError, SafetensorError):  # the first fault left nothing to change
                faults.append("nothing")
        return outcome_of(folder, case["source"], "; ".join(faults))


def outcome_of(folder: Path, source: str, faults: str) -> tuple[str, str]:
    truth = expected(source)
    try:
        found = numbers(folder)
    except (ValueError, OSError) as error:
        message = str(error)
        told = str(folder) in message and len(message) < LONGEST
        return ("refused" if told else "refused, no message"), f"{faults}: {message[:300]}"
    same = found.keys() == truth.keys() and all(np.array_equal(found[name], truth[name], equal_nan=True) for name in truth)
    return ("accepted, same numbers" if same else "accepted, other numbers"), faults


if __name__ == "__main__":
    given = arguments(__doc__, 2000)
    cases = [
        (group, {"source": source, "seed": given.seed, "number": number + 10**6 * k})
        for k, (group, source) in enumerate(GROUPS.items())
        for number in range(given.n if k == 0 else given.n // 10)
    ]
    sys.exit(table(run_cases(try_folder, cases, given.log), BAD, ("format 5", "format 4")))
