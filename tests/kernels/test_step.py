"""The compiled step against torch's path, over plans, heads, posteriors' kinds of stacks, number types and threads."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from race_calc.data.graph import collate, from_atoms
from race_calc.model.config import ModelConfig
from race_calc.model.kernels import step as step_module
from race_calc.model.kernels.arrays import packed
from race_calc.model.kernels.step import CompiledStep
from race_calc.model.layout import Numerics
from race_calc.model.parameters import expanded, initialise, offset_names, unstacked
from race_calc.model.plan import make_plan
from race_calc.model.race import Race, evaluate, evaluate_surfaces, layout_of
from race_calc.model.surfaces import of_surface, plain
from race_calc.model.table import table_knots, tabulated
from race_calc.model.weights import ready

CPU, CUTOFF = torch.device("cpu"), 4.0
SPECIES = (1, 6, 8)
IRREPS = {
    "natural": "6x0e+5x1o+3x2e",
    "both parities": "4x0e+3x0o+3x1o+3x1e+2x2e+2x2o+2x3o+1x3e",
    "whole vectors": "16x0e+8x1o+24x2e",
    "scalars": "7x0e+3x2e",
}
HEADS = ["mse", "energy", "joint", "joint-stress"]

pytestmark = pytest.mark.usefixtures("kernels")


def make(irreps="natural", species=SPECIES, **settings) -> Race:
    defaults = dict(l_max=2, layers=3, features_dim=7, radial_hidden=(8,), cutoff=CUTOFF, product_channels=5, n_bessel=4)
    config = ModelConfig(hidden_irreps=IRREPS[irreps], **(defaults | settings))
    return Race(make_plan(config, len(species)), species, 1.3, 20.0)


def draw(model: Race, members: int, dtype=torch.float64, shared=False):
    """A stack with tables, ready to predict; `shared`: its members differ in their last layers only."""
    offsets = dict.fromkeys(offset_names(model.plan), -3.0)
    stack = initialise(model.plan, [0] if shared else list(range(members)), offsets, members if shared else None)
    stack = tabulated(unstacked(stack) if shared else stack, model.plan.config)
    return ready({name: value.to(dtype) for name, value in stack.items()}, model.plan)


def structures():
    ethanol, crystal = (
        molecule("CH3CH2OH"),
        Atoms("HCO", [[0.1, 0.2, 0.3], [1.5, 1.6, 1.9], [0.5, 2.2, 0.4]], cell=np.eye(3) * 3.1, pbc=True),
    )
    ethanol.rattle(0.1, seed=3)
    return collate([from_atoms(atoms, CUTOFF) for atoms in (ethanol, molecule("H"), crystal)])


def step_of(model, stack, each=True):
    """Of one surface: graph and threads → Outputs."""
    step = CompiledStep([model], [stack], each)
    return lambda graph, threads=1: step(graph, threads)[0]


def by_torch(model, stack, graph, dtype=torch.float64):
    return evaluate(model, stack, layout_of(model, graph, Numerics(dtype, CPU, padded=False, table_knots=table_knots(stack))))


def agree(found, expected, tolerance: float, leave=()) -> None:
    """Every output to `tolerance` of its largest component; what is not finite (stresses without a volume) in the same places."""
    assert found.flat().keys() == expected.flat().keys()
    for name, value in expected.flat().items():
        if name in leave:
            continue
        other = found[name].double().expand(value.shape)
        finite = torch.isfinite(value)
        assert (torch.isfinite(other) == finite).all(), name
        assert (other[finite] - value[finite]).abs().max() <= tolerance * value[finite].abs().max().clamp(min=1e-30), name


@pytest.mark.parametrize(("l_max", "correlation"), [(0, 2), (1, 1), (1, 3), (2, 2), (3, 1), (3, 2), (3, 3)])
@pytest.mark.parametrize("irreps", IRREPS)
def test_every_plan(irreps, l_max, correlation):
    model = make(irreps, l_max=l_max, correlation=correlation)
    stack, graph = draw(model, 2), structures()
    agree(step_of(model, stack)(graph), by_torch(model, stack, graph), 1e-11)


@pytest.mark.parametrize("settings", [{"head": head} for head in HEADS] + [{"force_covariance": "cholesky"}, {"layers": 1}, {"layers": 5}])
def test_heads_and_layers(settings):
    model = make(**settings)
    stack, graph = draw(model, 2), structures()
    agree(step_of(model, stack)(graph), by_torch(model, stack, graph), 1e-11)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("each", [True, False])
def test_members_that_share_their_trunk(head, each):
    model = make(head=head)
    stack, graph = draw(model, 5, shared=True), structures()
    agree(step_of(model, stack, each)(graph, 1), by_torch(model, expanded(stack) if each else stack, graph), 1e-11)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("threads", [2, 3, 7, 40, 1000])
def test_any_number_of_threads(threads, shared):
    model, graph = make("both parities", l_max=3), structures()
    step = step_of(model, draw(model, 3, shared=shared))
    agree(step(graph, threads), step(graph, 1), 1e-13)


@pytest.mark.parametrize("irreps", ["natural", "whole vectors"])
def test_every_variant_and_number_type(irreps, variant, monkeypatch):
    monkeypatch.setattr(step_module, "variant", lambda: variant)
    model, graph = make(irreps, correlation=3), structures()
    double = by_torch(model, draw(model, 2), graph)
    agree(step_of(model, draw(model, 2))(graph, 2), double, 1e-11)
    agree(step_of(model, draw(model, 2, torch.float32))(graph, 2), double, 2e-4)


@pytest.mark.parametrize("kept", [2**24, 0, 150_000])
def test_more_atoms_than_at_once(kept, monkeypatch):
    """A distorted crystal: many blocks of atoms, of which some have several blocks of edges; all, nothing and some kept between stages."""
    monkeypatch.setattr(step_module, "MOST_IN_CACHE", kept)
    atoms = bulk("Cu", cubic=True, a=2.9).repeat((3, 3, 3))
    atoms.rattle(0.1, seed=1)
    model = make("whole vectors", (29,))
    stack, graph = draw(model, 2), from_atoms(atoms, CUTOFF)
    assert len(graph.pair) / graph.n_atoms * 32 > 1024
    for threads in (1, 3):
        agree(step_of(model, stack)(graph, threads), by_torch(model, stack, graph), 1e-11)


def test_threads_wait_for_each_other_without_forces():
    """One layer, more threads than trunks: nothing but its end keeps a trunk from the next one."""
    model = make(layers=1)
    graph = collate([from_atoms(molecule("CH3CH2OH"), CUTOFF) for _ in range(5)])
    step, torchs = CompiledStep([model], [draw(model, 4)], True), by_torch(model, draw(model, 4), graph)
    for _ in range(20):
        (found,) = step(graph, 6, [False])
        assert (found.atom_energy - torchs.atom_energy).abs().max() < 1e-11 and not found.forces.any()


def test_the_deepest_plan_loads():
    """100 layers of 8 irreps with products of order 3."""
    model = make("both parities", correlation=3, layers=100, l_max=1, features_dim=1, product_channels=1)
    found = step_of(model, draw(model, 1))(from_atoms(molecule("H2"), CUTOFF))
    assert found.energy.shape == (1, 1)


def test_one_atom_alone():
    model = make()
    stack, graph = draw(model, 2), from_atoms(molecule("H"), CUTOFF)
    found = step_of(model, stack)(graph, 2)
    agree(found, by_torch(model, stack, graph), 1e-12)
    assert not found.forces.any()


def test_forces_are_derivatives_and_turn_with_the_structure():
    model = make("both parities", correlation=3)
    step, atoms, h = step_of(model, draw(model, 2)), molecule("CH3CH2OH"), 1e-4
    atoms.rattle(0.1, seed=3)
    found = step(from_atoms(atoms, CUTOFF), 1)
    for i, axis in ((0, 0), (3, 1), (8, 2)):
        energies = []
        for k in (-2, -1, 1, 2):
            moved = atoms.copy()
            moved.positions[i, axis] += k * h
            energies.append(step(from_atoms(moved, CUTOFF), 1).energy[:, 0])
        slope = (torch.stack(energies, -1) @ torch.tensor([1, -8, 8, -1], dtype=torch.float64)) / (12 * h)
        assert (slope + found.forces[:, i, axis]).abs().max() < 1e-7 * found.forces.abs().max()
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0] * [1, 1, -1]  # a reflection as well
    turned = atoms.copy()
    turned.positions = atoms.positions @ turn.T
    other = step(from_atoms(turned, CUTOFF), 1)
    r = torch.from_numpy(turn)
    assert (other.forces - found.forces @ r.T).abs().max() < 1e-10 * found.forces.abs().max()
    assert (other["force_cov"] - r @ found["force_cov"] @ r.T).abs().max() < 1e-10 * found["force_cov"].abs().max()


SURFACES = [
    {"states": ["S0", "S1"]},
    {"states": ["S0", "S1", "S2"], "scalars": ["h"], "head": "joint"},
    {"targets": {"U0": "sum", "homo": "mean", "mu": "dipole", "r2": "extent"}, "head": "energy", "baseline": "none"},
    {"targets": {"U0": "sum", "homo": "mean"}, "head": "mse", "baseline": "none"},
]


@pytest.mark.parametrize("shared", [None, "each", "mean"])
@pytest.mark.parametrize("settings", SURFACES)
def test_surfaces_on_one_trunk(settings, shared):
    whole, graph = make("natural", **settings), structures()
    models = [plain(whole, k, 1.0 + 0.3 * k) for k in range(len(whole.plan.config.kinds))]
    stack = draw(whole, 3, shared=shared is not None)
    stacks = [of_surface(stack, k) for k in range(len(models))]
    ours = CompiledStep(models, stacks, shared != "mean")
    full = [of_surface(expanded(stack) if shared == "each" else stack, k) for k in range(len(models))]
    layout = layout_of(models[0], graph, Numerics(torch.float64, CPU, padded=False, table_knots=table_knots(stack)))
    no_forces = "targets" in settings
    for wanted in ([False] * len(models),) if no_forces else (None, [k == 1 for k in range(len(models))]):
        expected = evaluate_surfaces(models, full, layout, with_forces=wanted)
        for found, one in zip(ours(graph, 2, wanted), expected):
            agree(found, one, 1e-11, leave=("features",) if found is not None and expected[0] is not one else ())


def test_copies_and_pickles_predict_the_same():
    model, graph = make(), structures()
    step = CompiledStep([model], [draw(model, 2)], True)
    (expected,) = step(graph, 1)
    for other in (copy.deepcopy(step), pickle.loads(pickle.dumps(step))):
        assert other.block.ctypes.data % 64 == 0 and other.block.ctypes.data != step.block.ctypes.data
        agree(other(graph, 1)[0], expected, 0.0)


def test_an_unknown_element_is_named():
    model = make()
    step = step_of(model, draw(model, 1))
    with pytest.raises(ValueError, match="does not know the element N"):
        step(from_atoms(molecule("NH3"), CUTOFF), 1)


def test_arrays_that_are_missing_or_of_another_size_are_refused(monkeypatch):
    model = make(correlation=3)
    stack = draw(model, 1)
    arrays = step_module.arrays_of([model], [stack])
    weights = [
        name for name in arrays if name.split(".")[-1] in ("sizes", "constants", "embedding", "table", "hidden", "read_out", "energy")
    ]
    wrong = [{k: v for k, v in arrays.items() if k != name} for name in arrays if arrays[name].size]
    wrong += [
        arrays | {name: arrays[name].reshape(-1)[:-1]} for name in (*weights, "1.up.0", "1.down.0", "1.mix.0", "1.order1.from_before.0")
    ]
    for other in wrong:
        monkeypatch.setattr(step_module, "arrays_of", lambda *_, other=other: other)
        with pytest.raises(RuntimeError, match="cannot use this model: (array|.* points at what is not there)"):
            step_of(model, stack)


def test_names_are_short():
    with pytest.raises(ValueError, match="at most 47 bytes"):
        packed({"x" * 48: np.zeros(1)})


def test_neighbours_and_scale_count():
    """Constants of the model are in the block."""
    model, graph = make(), structures()
    stack = draw(model, 1)
    for other in (replace(model, scale=2.0), replace(model, neighbours=9.0)):
        agree(step_of(other, stack)(graph, 1), by_torch(other, stack, graph), 1e-11)
