"""What makes members disagree where they are wrong? Five members each way, at equal CPU time, on a molecule with GFN2-xTB as the truth.

    python benchmarks/shifts.py --molecule CH3CH2OH --out runs/shifts        makes the frames
    python benchmarks/diversity.py --run runs/shifts/CH3CH2OH --json FILE [--minutes 1.2] [--only "as it is,depths"]

The ways are in diversity_cases.py, with what was expected. Every member trains for so many CPU minutes on 450 frames at 300 K
(configs/3bpa.yaml). Printed: force RMSE of the mean of the members at 300, 600 and 1200 K, error over spread (1 where the spread says it
all), forces inside 90 % after a calibration at 300 K, and Spearman's rank correlation of σ and error along scans (scans.py).
Ways that FILE holds already are left alone. Needs the extra `xtb`.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import yaml
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from ase.optimize import BFGS
from common import arguments, trained, untrained
from diversity_cases import WAYS, Way
from equal_minutes import add, epochs_of, load, timed
from repelled import Repelled
from scans import scans
from scipy.stats import spearmanr

from race_calc.data.dataset import Dataset, read_dataset
from race_calc.data.graph import collate, from_atoms
from race_calc.evaluate.predict import Predicted, predict_dataset, residuals_of
from race_calc.interfaces.stack_predictor import StackPredictor
from race_calc.label.methods import Method
from race_calc.model.hardware import keep_freed_memory
from race_calc.posterior.base import register, unregister
from race_calc.posterior.load import load_stack
from race_calc.posterior.stack import StackPosterior
from race_calc.train.config import parse_config
from race_calc.train.prepare import prepare
from race_calc.uncertainty.aggregate import MemberOutputs, aggregate
from race_calc.uncertainty.metrics import coverage
from race_calc.uncertainty.residuals import Residuals
from race_calc.uncertainty.shape_size import fit_shape_size
from race_calc.uncertainty.surroundings import REACH, with_surroundings
from race_calc.uncertainty.vectors import forces_of

BASE, CPU = Path(__file__).parent / "configs" / "3bpa.yaml", torch.device("cpu")
HOT = ("300", "600", "1200")
Member = list[StackPosterior]  # a model, and its random prior where it has one: their sum predicts


def content_of(way: Way, member: int, train: Path) -> dict:
    """The configuration of a member, a section at a time."""
    content = yaml.safe_load(BASE.read_text()) | {"posterior": "mve", "members": 1}
    content["data"] = {"train": str(train.absolute()), "validation": 50, "validation_from": "last"}
    content["training"] |= {"seed": member}
    for key, value in way.members[member].items():
        content[key] = content[key] | value
    return content


def prior(way: Way, member: int, frames: list[Atoms], folder: Path) -> tuple[StackPosterior, Path]:
    """A fixed random function of another network (Osband et al. 2018), and the frames with labels less it."""
    settings = yaml.safe_load(BASE.read_text())["model"] | {"head": "mse", "baseline": "none"}
    species = tuple(sorted(set(frames[0].numbers.tolist())))
    random = untrained(species, 1, float(len(frames[0])), **settings)
    generator = torch.Generator().manual_seed(1000 + member)
    seeded = {name: torch.randn(value.shape, generator=generator).to(value) for name, value in random.parameters.items()}
    stack = load_stack(replace(random, parameters=seeded), torch.float64, CPU)
    graphs = [from_atoms(atoms, settings["cutoff"]) for atoms in frames]
    found = [stack.predict(graph) for graph in graphs]
    sizes = [np.sqrt(np.mean(np.concatenate(f) ** 2)) for f in ([a.get_forces() for a in frames], [p.forces for p in found])]
    scale = way.prior * sizes[0] / sizes[1]
    model = replace(stack.model, scale=scale)
    stack = replace(stack, model=model)
    less = []
    for atoms, graph in zip(frames, graphs):
        p = stack.predict(graph)
        one = atoms.copy()
        one.calc = SinglePointCalculator(
            one, energy=atoms.get_potential_energy() - float(p.energy[0]), forces=atoms.get_forces() - p.forces
        )
        less.append(one)
    path = folder / f"less-prior-{member}.xyz"
    write(path, less)
    return stack, path


def members_of(run: Path, way: Way, minutes: float) -> list[Member]:
    """The members, each trained for so many CPU minutes; repelled ones together, for all of theirs."""
    train = run / "train.xyz"
    if way.repelled:
        content = content_of(way, 0, train) | {"members": len(way.members)}
        register(Repelled(way.repelled, prepare(parse_config(content | {"posterior": "deep-ensemble"}), Path("."))))
        try:
            content["posterior"] = "repelled"
            stack = within(content, minutes * len(way.members))
        finally:
            unregister("repelled")
        rows = [{name: value[m : m + 1] for name, value in stack.parameters.items()} for m in range(len(way.members))]
        return [[replace(stack, parameters=row)] for row in rows]
    found: list[Member] = []
    for member in range(len(way.members)):
        random, path = prior(way, member, read(train, ":"), run) if way.prior else (None, train)
        model = within(content_of(way, member, path), minutes)
        found.append([model] if random is None else [model, random])
    return found


def within(content: dict, minutes: float) -> StackPosterior:
    epochs = epochs_of(minutes, lambda some: timed(content, some, Path("."))[1])
    return trained(content | {"training": content["training"] | {"epochs": epochs}}, Path("."))


def residuals(members: list[Member], data: Dataset) -> Residuals:
    """Of the members together, with the spread of their forces and the mean of what each predicts."""
    told = [[predict_dataset(StackPredictor(part), data).predictions for part in member] for member in members]
    joined = []
    for batch in range(len(told[0][0])):
        own = [[part[batch] for part in member] for member in told]
        outputs = MemberOutputs(
            energy=np.array([sum(part.energy for part in member) for member in own]),
            forces=np.array([sum(part.forces for part in member) for member in own]),
            force_cov=np.array([member[0].forces_covariance_aleatoric for member in own]),
            batch=own[0][0].batch,
        )
        joined.append(aggregate(outputs))
    structures, done, found = data.structures, 0, []
    for prediction in joined:
        own_structures = structures[done : done + len(prediction.energy)]
        done += len(own_structures)
        found.append(with_surroundings(prediction, collate([from_atoms(atoms, REACH) for atoms in own_structures])))
    return residuals_of(Predicted(tuple(found), tuple((s,) for s in structures)), data)


def scan_frames(run: Path) -> dict[str, Dataset]:
    """Name of a scan → its frames with labels, made once."""
    folder = run / "scans"
    if not folder.exists():
        truth, atoms = Method("gfn2-xtb").calculator(), molecule(run.name)
        atoms.calc = truth
        BFGS(atoms, logfile=None).run(fmax=1e-3, steps=500)
        atoms.calc = None
        folder.mkdir()
        for name, (values, at) in scans(atoms).items():
            frames = []
            for value in values:
                one = at(float(value))
                one.calc = truth
                one.calc = SinglePointCalculator(one, energy=one.get_potential_energy(), forces=one.get_forces())
                frames.append(one)
            write(folder / f"{name}.xyz", frames)
    return {path.stem: read_dataset(path) for path in sorted(folder.glob("*.xyz"))}


def measured(members: list[Member], run: Path) -> dict[str, float]:
    known = residuals(members, read_dataset(run / "train.xyz", "450:"))
    form, row = fit_shape_size(known.forces, forces_of(known).spread), {}
    for kind in HOT:
        found = residuals(members, read_dataset(run / f"{kind}.xyz"))
        spread = found.forces_covariance - found.forces_aleatoric
        error = np.sqrt(np.mean(found.forces**2))
        std = np.sqrt(np.diagonal(form.total(forces_of(found).spread), axis1=1, axis2=2))
        row |= {f"{kind} force RMSE, meV/Å": 1e3 * error, f"{kind} error over spread": error / np.sqrt(np.trace(spread.mean(0)) / 3)}
        row |= {f"{kind} inside 90 %": coverage(found.forces, std, 0.9)}
        row |= {f"{kind} rank": float(spearmanr(np.trace(spread, axis1=1, axis2=2), (found.forces**2).sum(1)).statistic)}
    ranks = []
    for data in scan_frames(run).values():
        found = residuals(members, data)
        variance = np.trace(form.total(forces_of(found).spread), axis1=1, axis2=2)
        count = np.bincount(found.frame)
        squares = (np.bincount(found.frame, values) / count for values in (variance, (found.forces**2).sum(1)))
        ranks.append(float(spearmanr(*squares).statistic))
    return {key: float(value) for key, value in row.items()} | {"scans, median": float(np.median(ranks)), "scans, worst": min(ranks)}


def line(name: str, row: dict) -> str:
    columns = [" / ".join(f"{row[f'{kind} {what}']:{form}}" for kind in HOT) for what, form in
               (("force RMSE, meV/Å", ".1f"), ("error over spread", ".2f"), ("inside 90 %", ".0%"), ("rank", ".2f"))]  # fmt: skip
    return f"| {name} | {' | '.join(columns)} | {row['scans, median']:.2f} / {row['scans, worst']:.2f} | {WAYS[name].expected} |"


if __name__ == "__main__":
    given = arguments(__doc__, run="runs/shifts/CH3CH2OH", minutes=1.2, only="")
    if not given.json:
        raise SystemExit("give --json FILE: what is done already is read from it")
    torch.set_num_threads(1)
    keep_freed_memory()
    run, path = Path(given.run), Path(given.json)
    for name in given.only.split(",") if given.only else WAYS:
        if name not in load(path):
            add(path, name, measured(members_of(run, WAYS[name], given.minutes), run))
        print(line(name, load(path)[name]), flush=True)
