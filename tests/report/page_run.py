"""A small report page, made once for all tests: an untrained model, ethanol, another molecule, a monitored run."""

from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from ase import units
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.md.verlet import VelocityVerlet
from typer.testing import CliRunner

from race_calc import Criterion, RACECalculator, UncertaintyMonitor
from race_calc.cli import app
from race_calc.data.graph import from_atoms
from race_calc.posterior.checkpoint import load_checkpoint, save_checkpoint
from race_calc.train.familiar import environments_of

VOID = {"meta", "link", "input", "br", "img", "hr"}


@dataclass(frozen=True)
class Made:
    """The page and what it was made of."""

    page: Path
    model: Path
    known: Path
    other: Path
    log: Path


def frames(name: str, n: int, noise: float) -> list:
    found = []
    for seed in range(n):
        rng = np.random.default_rng(seed)
        atoms = molecule(name)
        atoms.positions += rng.normal(scale=noise, size=atoms.positions.shape)
        atoms.calc = SinglePointCalculator(atoms, energy=-4180.0 + rng.normal(), forces=rng.normal(size=(len(atoms), 3)))
        found.append(atoms)
    return found


def make(model: Path, folder: Path) -> Made:
    """Its monitor flags at once and halts at the third check."""
    model = with_environments(model, folder / "model")
    known, other, log = folder / "cold.xyz", folder / "hot.xyz", folder / "md.jsonl"
    write(known, frames("CH3CH2OH", 12, 0.05))
    write(other, frames("CH3CH2OH", 5, 0.2) + frames("CH3OCH3", 4, 0.1))
    atoms = molecule("CH3CH2OH")
    atoms.calc = RACECalculator(model)
    dynamics = VelocityVerlet(atoms, 0.1 * units.fs)
    name = "forces_uncertainty_max_epistemic"
    criteria = [Criterion(name, 1e-12, "flag"), Criterion(name, 1e-12, "halt", consecutive=3)]
    UncertaintyMonitor(dynamics, criteria, logfile=log, flagged=folder / "flagged.xyz")
    dynamics.run(10)
    page = folder / "out" / "report.html"
    arguments = ["report", model, "--data", known, "--ood", other, "--run", log, "--out", page]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return Made(page, model, known, other, log)


def with_environments(model: Path, folder: Path) -> Path:
    """A copy of the model that says that its training had shorter bonds than the run."""
    checkpoint, short = load_checkpoint(model), []
    cutoff = checkpoint.model.plan.config.cutoff
    for seed in range(5):
        atoms = molecule("CH3CH2OH")
        atoms.rattle(0.02, seed=seed)
        atoms.positions *= 0.9
        short.append(from_atoms(atoms, cutoff))
    save_checkpoint(folder, replace(checkpoint, environments=environments_of(short, cutoff)), "# Tiny\n")
    return folder


class Elements(HTMLParser):
    """All elements with their attributes and own text; `problems`: ends that do not fit."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, Any]]] = []
        self.texts: dict[str, list[str]] = {}
        self.problems: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self.problems += [f"{tag} is never closed" for tag in self._open]

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        if not self._open or self._open[-1] != tag:
            self.problems.append(f"</{tag}> closes {self._open[-1:]} at {self.getpos()}")
        else:
            self._open.pop()

    def handle_data(self, data):
        self.texts.setdefault(self._open[-1] if self._open else "", []).append(data)

    def named(self, tag: str) -> list[dict[str, Any]]:
        return [attributes for name, attributes in self.found if name == tag]
