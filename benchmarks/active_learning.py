"""The paper's tables of active learning: what n more labels at 600 and 1200 K are worth, by who chose them.

    python benchmarks/active_learning.py --data FOLDER_WITH_3BPA --runs runs/active [--counts 10,50] [--methods random,lcmd] [--seeds 5]
                                         [--scratch lcmd-50-0] [--level dft]

3BPA. Start: 450 + 50 frames at 300 K, four members. Pools of 2,000 frames at 600 and at 1200 K, tests of 500 at each temperature, all
by MD with GFN2-xTB and at its level (needs the extra xtb). As in the paper n counts frames per temperature, and a tenth of the new
ones validates. Every seed chooses from another half of each pool and goes on from the same starting ensemble. "Ours" is OURS, named
before any run. Runs named in --scratch are trained a second time, from the start, with the epochs of the starting ensemble: does the
warm start decide the order, and what does it save? Goes on where it was stopped; writes `results.json` and `table.md` into --runs.

With `--level dft` the same on the DFT frames as far as they go: pools are the frames of the paper's own active learning (`T_source`
AL_file, of which about half were chosen by BALD), tests those of `train_mixedT` and `id_300K`. Give it a folder --runs of its own.
"""

import json
import os
from pathlib import Path

import numpy as np
import torch
import yaml
from ase import Atoms
from ase.io import read, write
from common import arguments
from runs import counted, minutes, trained
from scipy.stats import t as student

from race_calc import RACECalculator
from race_calc.data.dataset import read_dataset
from race_calc.evaluate.errors import evaluate_dataset
from race_calc.evaluate.pool import pool_of
from race_calc.interfaces.stack_predictor import StackPredictor
from race_calc.label.file import label_frames
from race_calc.label.frame import bare
from race_calc.label.methods import Method
from race_calc.label.parallel import cores
from race_calc.label.sampling import Plan, sample
from race_calc.model.hardware import keep_freed_memory
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.load import load_stack
from race_calc.train.config import parse_config
from race_calc.train.continued import GOING_ON, pace_of, repeats_of
from race_calc.uncertainty.acquisition import choose
from race_calc.uncertainty.candidates import Pool

BASE = Path(__file__).parent / "configs" / "3bpa.yaml"
METHOD = Method("gfn2-xtb")
SAMPLES = {  # file → temperature in K, frames, seed of the MD
    "start": (300.0, 500, 0), "pool-600": (600.0, 2_000, 1), "pool-1200": (1200.0, 2_000, 2),
    "test-300": (300.0, 500, 10), "test-600": (600.0, 500, 11), "test-1200": (1200.0, 500, 12),
}  # fmt: skip
HOT = ("600", "1200")
METHODS = ("random", "farthest-point", "variance-forces", "bald-energy", "bald-forces", "bald", "batch", "lcmd")
OURS = "lcmd"
SCRATCH = "scratch-"


def files(data: Path, runs: Path) -> dict[str, Path]:
    """The labelled frames of each sample, made where they are not there yet."""
    first = bare(read(data / "train_300K.xyz", index=0))
    paths = {name: runs / "data" / f"{name}.xyz" for name in SAMPLES}
    for name, (temperature, frames, seed) in SAMPLES.items():
        if not paths[name].exists():
            paths[name].parent.mkdir(parents=True, exist_ok=True)
            journal, processes = paths[name].with_suffix(".sampling"), cores()
            label_frames(sample([first], Plan((temperature,), frames, seed), METHOD, journal, processes), paths[name], METHOD, processes)
            journal.unlink()
    return paths


def files_of_dft(data: Path, runs: Path) -> dict[str, Path]:
    """The same of the DFT frames."""
    sources = {"start": ("train_300K", None), "test-300": ("id_300K", None)}
    for t in HOT:
        sources |= {f"pool-{t}": (f"ood_{t}K", "AL_file"), f"test-{t}": (f"ood_{t}K", "train_mixedT")}
    paths = {name: runs / "data" / f"{name}.xyz" for name in SAMPLES}
    (runs / "data").mkdir(parents=True, exist_ok=True)
    for name, (file, source) in sources.items():
        if paths[name].exists():
            continue
        frames = [atoms for atoms in read(data / f"{file}.xyz", ":") if source is None or atoms.info["T_source"] == source]
        write(paths[name], frames)
    return paths


LEVELS = {"gfn2-xtb": files, "dft": files_of_dft}


def start_of(paths: dict[str, Path], runs: Path) -> Path:
    """The starting ensemble."""
    content = yaml.safe_load(BASE.read_text()) | {"members": 4}
    content["data"] = {"train": "start.xyz@:450", "validation": "start.xyz@450:"}
    folder = runs / "start"
    if not (folder / "weights.safetensors").exists():
        counted(folder, lambda: trained("start", parse_config(content), paths["start"].parent, folder))
    return folder


def among(pool: Pool, indices: np.ndarray, taken: list[int]) -> Pool:
    """The candidates `indices`, where those of `taken` are known as well."""
    known = {name: np.concatenate([pool.known[name], values[taken]]) for name, values in pool.places.items()}
    return Pool(
        len(indices),
        {name: values[indices] for name, values in pool.scores.items()},
        None if pool.information is None else pool.information[indices],
        {name: values[indices] for name, values in pool.places.items()},
        known,
    )


def chosen(pool: Pool, sizes: list[int], method: str, n: int, seed: int) -> list[int]:
    """n of each temperature, from another half of its pool for every seed; the hotter after the colder. `sizes`: of the pools."""
    taken = list[int]()
    for k, size in enumerate(sizes):
        half = sum(sizes[:k]) + np.random.default_rng([seed, k]).permutation(size)[: size // 2]
        found = choose(among(pool, np.sort(half), taken), method, n, seed)
        taken += np.sort(half)[found.indices].tolist()
    return taken


def data_of(name: str) -> dict[str, list[str]]:
    """`data` of a configuration for a choice, of which `write_choice` has written the files."""
    return {"train": ["start.xyz@:450", f"{name}/train.xyz"], "validation": ["start.xyz@450:", f"{name}/validation.xyz"]}


def write_choice(name: str, frames: list[Atoms], seed: int, runs: Path) -> None:
    """A tenth validates."""
    order, held = np.random.default_rng(seed).permutation(len(frames)), len(frames) // 10
    (runs / "data" / name).mkdir(parents=True, exist_ok=True)
    for part, indices in (("validation", order[:held]), ("train", order[held:])):
        write(runs / "data" / name / f"{part}.xyz", [frames[i] for i in indices])


def pool_over(paths: dict[str, Path], start: Path) -> tuple[Pool, list[int], list[Atoms]]:
    """The candidates as the starting ensemble sees them, how many of each temperature, and their labelled frames."""
    each = [read(paths[f"pool-{temperature}"], ":") for temperature in HOT]
    frames = [atoms for some in each for atoms in some]
    known = read(paths["start"], ":450")
    predictor = RACECalculator(start, "cpu", calibrated=False)
    pool = pool_of(predictor, [bare(atoms) for atoms in frames], known, ["features", "distances"])
    return pool, [len(some) for some in each], frames


def learned(name: str, frames: list[Atoms], start: Path | None, runs: Path, seed: int) -> Path:
    """The model that goes on with these frames, a tenth of them in the validation; without `start` one that begins with them."""
    folder = runs / name
    if (folder / "weights.safetensors").exists():
        return folder
    write_choice(name, frames, seed, runs)
    content = yaml.safe_load(BASE.read_text()) | {"members": 4, "data": data_of(name)}
    going_on: dict[str, object] = {"seed": seed}
    if start is not None:
        going_on |= {**GOING_ON, "start_from": os.path.relpath(start, runs / "data")}
        new = len(frames) - len(frames) // 10
        going_on |= pace_of(parse_config(content), (450, new))
        content["data"] |= {"repeats": [1, repeats_of(450, new)]}
    config = parse_config(content | {"training": content["training"] | going_on})
    counted(folder, lambda: trained(name, config, runs / "data", folder))
    return folder


def measured(folder: Path, paths: dict[str, Path]) -> dict[str, float]:
    """RMSE of energies in meV and of forces in meV/Å on each test."""
    predictor = StackPredictor(load_stack(load_checkpoint(folder), torch.float64, torch.device("cpu")))
    found: dict[str, float] = {"cpu_minutes": minutes(folder)}
    for temperature in ("300", *HOT):
        evaluation = evaluate_dataset(predictor, read_dataset(paths[f"test-{temperature}"]))
        found |= {f"E {temperature}": 1e3 * evaluation.energy.rmse, f"F {temperature}": 1e3 * evaluation.forces.rmse}
    return found


def table(results: dict[str, dict[str, float]], counts: list[int], seeds: int) -> str:
    """Means over seeds with 95 % intervals; last column: force RMSE at 1200 K over that of random, seed by seed."""
    lines = ["| n | method | seeds | 600 K E / F | 1200 K E / F | over random |", "|---|---|---|---|---|---|"]
    start = results["start"]
    lines.append(f"| 0 | | | {start['E 600']:.1f} / {start['F 600']:.1f} | {start['E 1200']:.1f} / {start['F 1200']:.1f} | |")
    for n in counts:
        for method in METHODS:
            rows = {seed: results[f"{method}-{n}-{seed}"] for seed in range(seeds) if f"{method}-{n}-{seed}" in results}
            if not rows:
                continue
            cells = [" / ".join(_interval([row[f"{kind} {t}"] for row in rows.values()], 1) for kind in "EF") for t in HOT]
            both = [seed for seed in rows if f"random-{n}-{seed}" in results]
            ratio = _interval([rows[seed]["F 1200"] / results[f"random-{n}-{seed}"]["F 1200"] for seed in both], 3) if both else "–"
            lines.append(f"| {n} | {method}{' (ours)' if method == OURS else ''} | {len(rows)} | {cells[0]} | {cells[1]} | {ratio} |")
    for name in (name for name in results if name.startswith(SCRATCH)):
        warm, anew = results[name.removeprefix(SCRATCH)], results[name]
        time, errors = warm["cpu_minutes"] / anew["cpu_minutes"], [warm[f"F {t}"] / anew[f"F {t}"] for t in ("300", *HOT)]
        told = ", ".join(f"{ratio:.3f}" for ratio in errors)
        lines.append(f"\n{name.removeprefix(SCRATCH)}, warm start over from scratch: time {time:.2f}, forces at 300, 600, 1200 K {told}")
    return "\n".join(lines)


def _interval(values: list[float], digits: int) -> str:
    mean = f"{np.mean(values):.{digits}f}"
    if len(values) < 2:
        return mean
    half = student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{mean} ± {half:.{digits}f}"


if __name__ == "__main__":
    given = arguments(
        __doc__, data=".", runs="runs/active", counts="10,50,200", methods=",".join(METHODS), seeds=5, scratch="", level="gfn2-xtb"
    )
    if given.level not in LEVELS:
        raise SystemExit(f"--level is {given.level}: {' or '.join(LEVELS)}")
    keep_freed_memory()
    runs, counts = Path(given.runs), [int(n) for n in given.counts.split(",")]
    paths = LEVELS[given.level](Path(given.data), runs)
    start, path = start_of(paths, runs), runs / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {"start": measured(start, paths)}
    pool, sizes, frames = pool_over(paths, start)
    counts = [n for n in counts if n <= min(sizes) // 2]
    names = [f"{method}-{n}-{seed}" for seed in range(given.seeds) for n in counts if n for method in given.methods.split(",")]
    if lacking := [each for each in filter(None, given.scratch.split(",")) if each not in {*names, *results}]:
        raise SystemExit(f"--scratch asks for {', '.join(lacking)}, which neither --methods, --counts and --seeds nor an earlier run has")
    for name in [*names, *(SCRATCH + each for each in filter(None, given.scratch.split(",")))]:
        if name not in (results := json.loads(path.read_text()) if path.exists() else results):  # others may run beside this
            method, n, seed = name.removeprefix(SCRATCH).rsplit("-", 2)
            picked = [frames[i] for i in chosen(pool, sizes, method, int(n), int(seed))]
            found = measured(learned(name, picked, None if name.startswith(SCRATCH) else start, runs, int(seed)), paths)
            results = (json.loads(path.read_text()) if path.exists() else results) | {name: found}
            path.write_text(json.dumps(results, indent=2) + "\n")
            print(name, json.dumps(results[name]), flush=True)
    told = table(results, counts, given.seeds)
    (runs / "table.md").write_text(told + "\n")
    print(told)
