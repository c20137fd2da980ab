"""Calculators that the tests of labelling name as "own_methods:…"."""

import os
import time
from pathlib import Path

import numpy as np
from ase.calculators.calculator import BaseCalculator, Calculator, all_changes
from ase.calculators.emt import EMT


def emt() -> EMT:
    return EMT()


def broken():
    raise RuntimeError("no licence")


def not_a_calculator() -> dict:
    return {}


class TwoArgumentsError(Exception):
    """Cannot be unpickled."""

    def __init__(self, one: str, two: str):
        super().__init__(f"{one} and {two}")


class Odd(EMT):
    """EMT that fails in a way of its own where the first atom lies at x = -1, -2, or -3, and takes its time at -4."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        kind = round(float(atoms.positions[0, 0]))
        if kind == -1:
            raise RuntimeError("did not\nconverge")
        if kind == -2:
            os._exit(3)
        if kind == -3:
            self.results["forces"] = np.full((len(atoms), 3), np.nan)
        if kind == -4:
            time.sleep(0.2)
        if kind == -5:
            raise TwoArgumentsError("first", "second")


def odd() -> Odd:
    return Odd()


class Free(Calculator):
    """Energy and free energy differ, as at a finite electronic temperature; forces only."""

    implemented_properties = ["energy", "free_energy", "forces"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 2.0, "free_energy": 1.5, "forces": np.zeros((len(atoms), 3))}


def free() -> Free:
    return Free()


class Writes(EMT):
    """Writes into its directory and reads that again, as programs of files do."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        path = Path(self.directory) / "input.txt"
        path.write_text(str(atoms.positions.tolist()))
        super().calculate(atoms, properties, system_changes)
        assert path.read_text() == str(atoms.positions.tolist()) and len(list(path.parent.iterdir())) == 1


def writes() -> Writes:
    return Writes()


class Modern(BaseCalculator):
    """As ASE's newer calculators of files: no `reset`, and a directory that is a Path."""

    implemented_properties = ["energy", "forces"]

    def __init__(self):
        super().__init__()
        self.directory = Path(".")

    def calculate(self, atoms, properties, system_changes):
        (self.directory / "input.txt").write_text("new")
        atoms = atoms.copy()
        atoms.calc = EMT()
        self.results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}


def modern() -> Modern:
    return Modern()


class Slow(EMT):
    """EMT that lets others in before and after its work."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        time.sleep(0.02)
        super().calculate(atoms, properties, system_changes)
        time.sleep(0.02)


def slow() -> Slow:
    return Slow()
