"""Structures and small models for the physics tests."""

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule

from race_calc.data.graph import Graph, collate, from_atoms
from race_calc.model.config import ModelConfig
from race_calc.model.heads import ENERGY_VARIANCE, FORCE_COVARIANCE, initial_offsets
from race_calc.model.layout import Layout, Numerics
from race_calc.model.parameters import Parameters, initialise
from race_calc.model.plan import make_plan
from race_calc.model.race import Outputs, Race, evaluate, layout_of

CUTOFF = 4.5
SPECIES = (1, 6, 8)
CELL = np.array([[2.9, 0.1, 0.0], [0.7, 3.1, 0.2], [-0.4, 0.6, 2.8]])  # triclinic, shorter than the cutoff
PLACES = [[0.1, 0.2, 0.3], [0.55, 0.6, 0.7], [0.2, 0.8, 0.1]]
OFFSETS = initial_offsets((ENERGY_VARIANCE, FORCE_COVARIANCE["matrix-log"]), 1e-2, 0.3)


def ethanol() -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.1, seed=3)
    return atoms


def crystal() -> Atoms:
    return Atoms("HCO", scaled_positions=PLACES, cell=CELL, pbc=True)


def slab() -> Atoms:
    """Two periodic directions; the third cell vector is there, so it has a volume."""
    return Atoms("HCO", scaled_positions=PLACES, cell=CELL * [[1], [1], [3]], pbc=[True, True, False])


def sheet() -> Atoms:
    """Two periodic directions, no third cell vector, no volume."""
    atoms = slab()
    atoms.set_cell(CELL * [[1], [1], [0]])
    return atoms


def chain() -> Atoms:
    """One periodic direction (the second)."""
    return Atoms("HCO", scaled_positions=PLACES, cell=CELL * [[3], [1], [3]], pbc=[False, True, False])


def wire() -> Atoms:
    """One periodic direction and no other cell vector."""
    atoms = chain()
    atoms.set_cell(CELL * [[0], [1], [0]])
    return atoms


STRUCTURES = {f.__name__: f for f in (ethanol, crystal, slab, sheet, chain, wire)}


def make_model(**settings) -> Race:
    defaults = dict(
        hidden_irreps="4x0e+3x0o+3x1o+3x1e+2x2e+2x2o", l_max=3, layers=3, features_dim=5, radial_hidden=(8, 8), n_bessel=6, cutoff=CUTOFF
    )
    return Race(make_plan(ModelConfig(**(defaults | settings)), len(SPECIES)), SPECIES, 1.3, 6.0)


def draw(model: Race, seeds: list[int]) -> Parameters:
    """Fresh parameters with messages so strong that every path has a say in the outputs; products square them in every layer."""
    last = f".radial.{len(model.plan.config.radial_hidden)}"
    parameters = initialise(model.plan, seeds, OFFSETS)
    strength = 3 if model.plan.config.correlation == 1 else 0.6
    return {name: strength * value if name.endswith(last) else value for name, value in parameters.items()}


PATH = {"padded": True}  # set by the fixture `both_paths`


def layout_on(model: Race, graph: Graph, dtype: torch.dtype = torch.float64) -> Layout:
    return layout_of(model, graph, Numerics(dtype, torch.device("cpu"), padded=PATH["padded"]))


def run_model(model: Race, parameters: Parameters, *structures: Atoms, training: bool = False) -> Outputs:
    """All structures as one batch in float64."""
    graph = collate([from_atoms(atoms, CUTOFF) for atoms in structures])
    return evaluate(model, parameters, layout_on(model, graph), training=training)


def deviation(a, b) -> float:
    """Largest difference relative to the largest component of b."""
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    assert a.shape == b.shape
    assert torch.isfinite(a).all() and torch.isfinite(b).all()
    return float((a - b).abs().max() / b.abs().max())
