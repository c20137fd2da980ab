"""A potential whose members agree as far out as it has learned, and who teaches it: closed forms, no training."""

import json

import numpy as np
from ase import units
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.io import read
from ase.md.langevin import Langevin

from race_calc.label.frame import computed, labelled
from race_calc.label.given import Given
from race_calc.learning.learner import Lesson
from race_calc.uncertainty.aggregate import MemberOutputs, aggregate

WATER = molecule("H2O")
K = 5.0  # eV/Å²
START = 0.05  # Å


class Spring(Calculator):
    """The truth: E = ½ k |r − r0|² with k = K."""

    implemented_properties = ["energy", "forces"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        d = atoms.positions - WATER.positions
        self.results = {"energy": 0.5 * K * float((d**2).sum()), "forces": -K * d}


class Members(Calculator):
    """Three members with the truth up to `reach` (Å) from r0, beyond with springs that differ."""

    implemented_properties = ["energy", "forces"]

    def __init__(self, reach):
        super().__init__()
        self.reach = reach
        self.thresholds = {"forces_uncertainty_max_epistemic": 0.02, "forces_uncertainty_rms_epistemic": 0.02}

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self._prediction = self._of(atoms)
        self.results = {"energy": float(self._prediction.energy[0]), "forces": self._prediction.forces}

    def _of(self, atoms):
        d = atoms.positions - WATER.positions
        r = np.linalg.norm(d, axis=1, keepdims=True)
        wrong = np.maximum(r - self.reach, 0.0) * d / np.maximum(r, 1e-9)
        forces = np.array([-K * d + 2.0 * k * wrong for k in (-1, 0, 1)])
        energy = np.full((3, 1), 0.5 * K * (d**2).sum())
        batch = np.zeros(len(atoms), dtype=np.int64)
        return aggregate(
            MemberOutputs(
                energy=energy,
                atom_energy=np.repeat(energy / len(atoms), len(atoms), 1),
                forces=forces,
                stress=None,
                energy_var=None,
                force_cov=None,
                batch=batch,
            )
        )

    def prediction(self, atoms):
        if self.calculation_required(atoms, ["energy"]):
            self.calculate(atoms, ["energy"])
        return self._prediction

    def raw_predictions(self, structures, batch=256):
        return map(self._of, structures)


class Teacher:
    """A lesson takes the reach to that of the farthest labelled structure; `worse`: numbers of lessons that make it worse."""

    def __init__(self, worse=(), offset=0.0):
        self.worse, self.offset, self.lessons = worse, offset, 0

    def potential(self, folder):
        return Members(START if folder is None else json.loads((folder / "reach.json").read_text()))

    def known(self, folder):
        atoms = WATER.copy()
        atoms.positions += 0.02
        atoms.calc = Spring()
        found = labelled(atoms, computed(atoms), Given(atoms.calc).provenance())
        found.calc.results["energy"] += self.offset
        return [found]

    def learn(self, labels, before, folder):
        frames = [atoms for path in labels for atoms in read(path, ":")]
        reach = max(np.linalg.norm(atoms.positions - WATER.positions, axis=1).max() for atoms in frames)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "reach.json").write_text(json.dumps(float(reach)))
        self.lessons += 1
        return Lesson(0.1, 0.2 if self.lessons in self.worse else 0.05)


def hot_water(seed=0, temperature=300.0):
    """A dynamics that leaves what is known within some hundred steps."""
    atoms = WATER.copy()
    random = np.random.default_rng(seed)
    atoms.set_momenta(np.sqrt(atoms.get_masses() * units.kB * 100)[:, None] * random.standard_normal((3, 3)))
    return Langevin(atoms, units.fs, temperature_K=temperature, friction=0.01 / units.fs, fixcm=False, rng=random)
