"""The shipped model equals the literal RACE with converted weights, within 1e-10 in float64."""

import json
from functools import cache

import e3nn
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from literal_race import convert, make_literal, run_literal
from physics_cases import layout_on

from race_calc.data.graph import from_atoms
from race_calc.model.config import ModelConfig
from race_calc.model.parameters import offset_names, parameter_shapes
from race_calc.model.plan import make_plan
from race_calc.model.race import Race, evaluate

pytestmark = pytest.mark.usefixtures("both_paths")

TOLERANCE = 1e-10
SPECIES = (1, 6, 8)
NATURAL = "5x0e+3x1o+4x2e"
BOTH = "3x0e+3x0o+3x1o+3x1e+3x2e+3x2o"


@pytest.fixture(autouse=True, scope="module")
def no_compilation():
    """e3nn compiles every module unless told not to; that takes longer than the tests."""
    before = e3nn.get_optimization_defaults()
    e3nn.set_optimization_defaults(jit_script_fx=False, optimize_einsums=False)
    yield
    e3nn.set_optimization_defaults(**{k: before[k] for k in ("jit_script_fx", "optimize_einsums")})


def ethanol() -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.1, seed=3)
    return atoms


def crystal() -> Atoms:
    """Triclinic, every cell vector shorter than the cutoff of 3.6 Å."""
    cell = [[2.9, 0.1, 0.0], [0.7, 3.1, 0.2], [-0.4, 0.6, 2.8]]
    return Atoms("HCO", scaled_positions=[[0.1, 0.2, 0.3], [0.55, 0.6, 0.7], [0.2, 0.8, 0.1]], cell=cell, pbc=True)


STRUCTURES = {"molecule": ethanol, "crystal": crystal}


@cache
def literal_form(settings: str, structure: str):
    """The literal model of these settings (JSON), and what it gives for the structure; once for both paths of ours."""
    literal = make_literal(ModelConfig(**json.loads(settings)), SPECIES, scale=1.7, neighbours=5.3, seed=11)
    return literal, run_literal(literal, STRUCTURES[structure]())


def compare(config: ModelConfig, structure: str) -> dict[str, float]:
    """Largest deviation of each output, relative to its largest component."""
    literal, theirs = literal_form(config.model_dump_json(), structure)
    atoms, plan = STRUCTURES[structure](), make_plan(config, len(SPECIES))
    parameters = convert(literal, plan)
    shapes = parameter_shapes(plan) | dict.fromkeys(offset_names(plan), ())
    assert {name: tuple(value.shape[1:]) for name, value in parameters.items()} == shapes
    model = Race(plan, SPECIES, 1.7, 5.3)
    layout = layout_on(model, from_atoms(atoms, config.cutoff))
    mine = evaluate(model, parameters, layout)
    deviations = {}
    for name in ("energy", "forces", "virial", "energy_var", "force_cov"):
        value = mine.flat().get(name)
        assert (value is None) == (name not in theirs), name
        if value is not None:
            assert value[0].shape in (theirs[name].shape, (1, *theirs[name].shape)), name  # one structure
            assert theirs[name].abs().max() > 1e-3, f"{name} is zero: nothing is compared"
            deviations[name] = float((value[0] - theirs[name]).abs().max() / theirs[name].abs().max())
    if plan.columns("2e"):  # the traceless part is small beside the trace: compare it on its own
        a, b = _traceless(mine["force_cov"][0]), _traceless(theirs["force_cov"])
        assert b.abs().max() > 1e-4 or config.l_max == 0
        deviations["traceless"] = float((a - b).abs().max() / b.abs().max().clamp(min=1e-5))
    print(config.hidden_irreps, config.l_max, {name: f"{value:.1e}" for name, value in deviations.items()})
    return deviations


def _traceless(s: torch.Tensor) -> torch.Tensor:
    return s - s.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None] * torch.eye(3, dtype=s.dtype)


@pytest.mark.parametrize(
    "correlation, l_max, structure",
    [
        (1, 1, "molecule"),
        (1, 3, "crystal"),
        (2, 1, "crystal"),
        (2, 3, "molecule"),
        pytest.param(3, 3, "crystal", marks=pytest.mark.nightly),
    ],
)
@pytest.mark.parametrize("irreps", [NATURAL, BOTH], ids=["natural", "both"])
def test_equals_the_literal_form(irreps, correlation, l_max, structure):
    sizes = dict(layers=3, features_dim=6, radial_hidden=(7, 6), n_bessel=5, cutoff=3.6, product_channels=3)
    config = ModelConfig(hidden_irreps=irreps, l_max=l_max, correlation=correlation, **sizes)
    assert max(compare(config, structure).values()) < TOLERANCE


@pytest.mark.parametrize(
    "settings",
    [
        dict(head="mse", hidden_irreps=NATURAL, l_max=2),
        dict(head="energy", hidden_irreps=BOTH, l_max=2),
        dict(force_covariance="cholesky", hidden_irreps="3x1o+4x0e", l_max=1),
        pytest.param(dict(hidden_irreps="4x0e+2x0o+3x1o+2x1e+3x2e+1x2o+2x3o+1x3e", l_max=3, layers=4), marks=pytest.mark.nightly),
        pytest.param(  # the first depth where 0o is read
            dict(hidden_irreps="4x0e+2x0o+3x1o+2x1e+3x2e+1x2o", l_max=2, layers=5), marks=pytest.mark.nightly
        ),
        dict(hidden_irreps="2x2e+3x1o+4x0e", l_max=2, layers=1),
        dict(hidden_irreps="4x0e+3x2e", l_max=0, layers=2),
    ],
    ids=["mse", "energy", "cholesky", "four layers to l = 3", "five layers", "one layer", "no angular basis"],
)
def test_other_heads_depths_and_multiplicities(settings):
    config = ModelConfig(**(dict(layers=3, features_dim=6, radial_hidden=(7,), n_bessel=5, cutoff=3.6, product_channels=3) | settings))
    assert max(compare(config, "crystal").values()) < TOLERANCE


def test_the_constant_of_silu_is_that_of_e3nn():
    from race_calc.model.radial import SILU_GAIN

    assert e3nn.math.normalize2mom(torch.nn.functional.silu).cst == pytest.approx(SILU_GAIN, rel=1e-15)
    assert np.isclose(SILU_GAIN, 1.679177, atol=1e-6)
