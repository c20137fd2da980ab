"""Mutated training configurations, data files (extxyz, npz) and calibration files: each refusal is short and names the key or the file.

python benchmarks/fuzz/files.py --n 1000 --seed 0 [--log FILE: resume from it]

A configuration counts as accepted when its data are read and its first weights drawn. Exits with 1 where a refusal says less,
and for crashes and cases that hang.
"""

import contextlib
import io
import json
import re
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent))
from mutations import cut, doubled, flip, replace_file, with_value
from workers import LONGEST, arguments, run_cases, table

CALIBRATION = Path(__file__).resolve().parents[2] / "tests" / "old_checkpoints" / "version-4-ensemble" / "calibration.json"
GROUPS = ("configuration", "extxyz", "npz", "calibration")
BAD = ("crash", "hang", "refused, no message")
CONFIG = {
    "data": {"train": "data.xyz", "validation": 2, "validation_from": "last", "isolated_atoms": "atoms.xyz"},
    "model": {
        "hidden_irreps": "4x0e+4x1o+4x2e",
        "l_max": 2,
        "layers": 2,
        "features_dim": 4,
        "radial_hidden": [8],
        "cutoff": 4.0,
        "head": "joint",
    },
    "posterior": "deep-ensemble",
    "members": 2,
    "training": {"recipe": "joint", "epochs": 4, "batch_size": 3, "learning_rate": 0.01, "seed": 3, "dtype": "float32"},
}
STRANGE = (
    "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "[" * 5000,
    "members: " + "9" * 5000 + "\n",
    "? [a]\n: 1\n",
    "posterior: !!python/object/apply:os.system [ls]\n",
    "members: !!timestamp x\n",
    "x: " + "y" * 99_000 + "\n",
    "".join(f"k{i}: {i}\n" for i in range(3000)),
    "training: {learning_rate: .nan, epochs: 1e400}\n",
)


def frames(count: int):
    """Labelled molecules of copper and silver."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    random = np.random.default_rng(5)
    for _ in range(count):
        atoms = Atoms(
            "Cu2Ag", positions=[[0, 0, 0], [2.5, 0, 0], [1.2, 2.3, 0]] + random.normal(scale=0.1, size=(3, 3)), cell=np.eye(3) * 6
        )
        atoms.calc = SinglePointCalculator(atoms, energy=float(random.normal()), forces=random.normal(size=(3, 3)))
        yield atoms


def write_inputs(folder: Path) -> None:
    """One good file of each kind."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    write(folder / "data.xyz", list(frames(6)), format="extxyz")
    alone = [Atoms(symbol) for symbol in ("Cu", "Ag")]
    for atoms in alone:
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
    write(folder / "atoms.xyz", alone, format="extxyz")
    random = np.random.default_rng(6)
    np.savez(
        folder / "data.npz",
        nuclear_charges=np.array([6, 1, 1]),
        coords=random.normal(size=(5, 3, 3)),
        energies=random.normal(size=5),
        forces=random.normal(size=(5, 3, 3)),
    )
    (folder / "train.yaml").write_text(yaml.safe_dump(CONFIG))
    (folder / "calibration.json").write_bytes(CALIBRATION.read_bytes())


def mutate(group: str, path: Path, random: np.random.Generator) -> str:
    """One fault; says which."""
    kind = str(random.choice(["flip", "cut", "doubled", "value", "value", "value", "value", "place", "strange"]))
    content = path.read_bytes()
    if kind == "place":
        return replace_file(path, random)
    if kind == "value" and group == "configuration":
        path.write_text(yaml.safe_dump(with_value(CONFIG, random)))
    elif kind == "value" and group == "calibration":
        path.write_text(json.dumps(with_value(json.loads(content), random)))
    elif kind == "value" and group == "npz":
        np.savez(path, **wrong_array(dict(np.load(path)), random))
    elif kind == "value":
        path.write_text(wrong_word(content.decode(), random))
    elif kind == "strange" and group == "configuration":
        path.write_text(STRANGE[random.integers(len(STRANGE))] + content.decode() * bool(random.integers(2)))
    elif kind == "strange" and group == "calibration":
        path.write_text(str(random.choice(["[" * 50_000, '{"a":' * 50_000, '{"frames": ' + "9" * 5000 + "}", "null", '"x"'])))
    else:
        path.write_bytes((cut if kind == "cut" else doubled if kind == "doubled" else flip)(content, random))
    return kind


def wrong_array(arrays: dict[str, np.ndarray], random: np.random.Generator) -> dict[str, np.ndarray]:
    """An array with a number that is none, of another type or shape, renamed or missing."""
    name = sorted(arrays)[random.integers(len(arrays))]
    kind = str(random.choice(["number", "type", "shape", "rename", "delete", "empty"]))
    array = arrays.pop(name)
    if kind == "number":
        array = array.astype(float)
        array.flat[random.integers(array.size)] = [np.nan, np.inf, -1.0, 1e200, 119.0, 0.5][random.integers(6)]
    elif kind == "type":
        array = [array.astype(str), array.astype(complex), array.astype(bool), array.astype("f2")][random.integers(4)]
    elif kind in ("shape", "empty"):
        array = array.reshape(-1) if kind == "shape" else array[:0]
    return arrays if kind == "delete" else arrays | {name + "_" * (kind == "rename"): array}


def wrong_word(text: str, random: np.random.Generator) -> str:
    """A word of a text file replaced or deleted."""
    words = list(re.finditer(r"[^\s=\"]+", text))
    word = words[random.integers(len(words))]
    other = str(random.choice(["", "nan", "inf", "x", "-1", "1e400", "1e200", "0", "999999999999", "H", "T T F", "S:1:R:1"]))
    return text[: word.start()] + other + text[word.end() :]


def use(group: str, path: Path) -> None:
    """What the package does with such a file."""
    from race_calc.data.dataset import read_dataset
    from race_calc.train.config import load_config
    from race_calc.train.prepare import prepare
    from race_calc.uncertainty.storage import read_calibration

    if group == "configuration":
        prepare(load_config(path), path.parent)
    elif group == "calibration":
        read_calibration(path)
    else:
        read_dataset(path)


def try_file(case: dict) -> tuple[str, str]:
    warnings.simplefilter("ignore")
    random = np.random.default_rng([case["seed"], case["number"]])
    group = case["group"]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "inputs"
        folder.mkdir()
        write_inputs(folder)
        path = folder / {"configuration": "train.yaml", "extxyz": "data.xyz", "npz": "data.npz", "calibration": "calibration.json"}[group]
        fault = mutate(group, path, random)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                use(group, path)
        except (ValueError, OSError) as error:
            message = str(error)
            told = len(message) < LONGEST and names_the_place(message, group, path)
            return ("refused" if told else "refused, no message"), f"{fault}: {message[:400]}"
    return "accepted", fault


def names_the_place(message: str, group: str, path: Path) -> bool:
    """Does a message name the file, or a key of the configuration? A file that it names in turn counts."""
    if str(path.parent) in message or path.name in message:
        return True
    keys = [key for name, section in CONFIG.items() for key in ([name, *section] if isinstance(section, dict) else [name])]
    return group == "configuration" and any(re.search(rf"\b{key}\b", message) for key in keys)


if __name__ == "__main__":
    given = arguments(__doc__, 1000)
    cases = [(group, {"group": group, "seed": given.seed, "number": k}) for k in range(given.n) for group in [GROUPS[k % len(GROUPS)]]]
    sys.exit(table(run_cases(try_file, cases, given.log), BAD, GROUPS))
