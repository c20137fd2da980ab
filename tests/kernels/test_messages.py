"""The kernels against torch's path where the other tests do not reach: many edges, shared work, odd channel numbers."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from ase.build import bulk, molecule

from race_calc.data.graph import collate, from_atoms
from race_calc.model.config import ModelConfig
from race_calc.model.kernels.messages import PathWeights, message_sums, why_not
from race_calc.model.layout import Numerics
from race_calc.model.parameters import initialise
from race_calc.model.plan import make_plan
from race_calc.model.race import Race, evaluate, layout_of
from race_calc.model.table import table_knots, tabulated

CPU = torch.device("cpu")
OFFSETS = {"energy_var_offset": -6.0, "force_cov_offset": -4.0}
FIELDS = ("energy", "forces", "virial", "energy_var", "force_cov")

pytestmark = pytest.mark.usefixtures("kernels")


def make(irreps: str, species: tuple[int, ...], **settings) -> Race:
    config = ModelConfig(hidden_irreps=irreps, layers=3, features_dim=7, radial_hidden=(8,), cutoff=4.0, **settings)
    return Race(make_plan(config, len(species)), species, 1.0, 20.0)


def close(a, b, tolerance: float = 1e-12) -> bool:
    return all((a[name] - b[name]).abs().max() <= tolerance * b[name].abs().max() for name in FIELDS)


# 17 and 9 channels: whole vectors and a rest in float64 (2, 4 or 8 lanes); 1: only a rest
@pytest.mark.parametrize("irreps", ["17x0e+9x1o+8x2e", "1x0e+1x1o+1x2e", "16x0e+3x0o+5x1o+2x1e+9x2e+1x2o+2x3o+1x3e"])
def test_many_edges(irreps, variant):
    """Some 3,500 edges of a distorted crystal: several blocks of edges."""
    atoms = bulk("Cu", cubic=True, a=3.2).repeat((3, 3, 3))
    atoms.rattle(0.1, seed=1)
    model = make(irreps, (29,), l_max=3)
    stack = initialise(model.plan, [0], OFFSETS)
    graph = from_atoms(atoms, 4.0)
    assert graph.edge_index.shape[1] > 3 * 1024
    torchs, kernels = (evaluate(model, stack, layout_of(model, graph, Numerics(torch.float64, CPU, padded=p))) for p in (True, False))
    assert close(kernels, torchs)


@pytest.mark.parametrize("members", [1, 2, 5])
@pytest.mark.parametrize("tables", [True, False])
def test_shared_work(members, tables):
    """Any number of threads gives the same: they share members or, where these are few, atoms."""
    model = make("5x0e+4x1o+3x2e", (1, 6, 8), l_max=2)
    stack = initialise(model.plan, list(range(members)), OFFSETS)
    stack = tabulated(stack, model.plan.config) if tables else stack
    graph = collate([from_atoms(molecule(name), 4.0) for name in ("CH3CH2OH", "H2O")])
    layout = layout_of(model, graph, Numerics(torch.float64, CPU, padded=False, table_knots=table_knots(stack)))
    alone = evaluate(model, stack, layout)
    for threads in (2, 3, 40):
        assert close(evaluate(model, stack, replace(layout, edges=replace(layout.edges, threads=threads))), alone, 1e-13)


def test_training_gradients_are_those_of_torch(variant):
    """Of a loss on forces, so through the first backward pass; a batch, several channels, float64."""
    model = make("17x0e+9x1o+8x2e", (1, 6, 8), l_max=3)
    stack = initialise(model.plan, [3, 4], OFFSETS)
    graph = collate([from_atoms(molecule(name), 4.0) for name in ("CH3CH2OH", "CO2")])
    found = []
    for padded in (True, False):
        leaves = {name: value.clone().requires_grad_() for name, value in stack.items()}
        layout = layout_of(model, graph, Numerics(torch.float64, CPU, padded=padded, training=True))
        out = evaluate(model, leaves, layout, training=True)
        loss = out.forces.pow(2).sum() + out.energy.sum() + out["force_cov"].pow(2).sum() + out.virial.sum()
        found.append(torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True))
    for name, a, b in zip(stack, *found):
        assert (a - b).abs().max() <= 1e-11 * a.abs().max(), name
    assert sum(bool(gradient.any()) for gradient in found[0]) > 20


@pytest.mark.parametrize("live", [keep for n in range(3) for keep in combinations(range(3), n + 1)])
def test_sums_without_a_gradient_are_skipped(live):
    """First and second derivatives of a loss on some of the sums, against zero gradients for the others."""
    model = make("5x0e+4x1o+3x2e", (1, 6, 8), l_max=2)
    layer = model.plan.layers[1]
    graph = from_atoms(molecule("CH3CH2OH"), 4.0)
    layout = layout_of(model, graph, Numerics(torch.float64, CPU, padded=False, training=True))
    draw = torch.Generator().manual_seed(0)
    leaves = [torch.randn(2, len(graph.pair) // 2, layer.radial_width, generator=draw, dtype=torch.float64)]
    leaves += [
        torch.randn(2, graph.n_atoms, 2 * ir.l + 1, up, generator=draw, dtype=torch.float64) for ir, up in zip(layer.inputs, layer.up)
    ]
    found = []
    for all_of_them in (False, True):
        radial, *features = [leaf.clone().requires_grad_() for leaf in leaves]
        harmonics = layout.blocks[0].angular.expand(2, -1, -1).requires_grad_()
        sums = message_sums(layer, layout.edges, harmonics, PathWeights(radial), features, True)
        total = sum((value**3).sum() * (k in live) for k, value in enumerate(sums) if all_of_them or k in live)
        first = torch.autograd.grad(total, [harmonics, radial, *features], create_graph=True)
        second = torch.autograd.grad(sum((g**2).sum() for g in first), [radial, *features])
        found.append([*first, *second])
    for a, b in zip(*found):
        assert (a - b).abs().max() <= 1e-12 * b.abs().max()


def test_a_table_of_another_model_is_refused():
    model = make("4x0e+2x1o+2x2e", (1, 6, 8), l_max=2)
    stack = tabulated(initialise(model.plan, [0, 1], OFFSETS), model.plan.config)
    layout = layout_of(model, from_atoms(molecule("CO"), 4.0), Numerics(torch.float64, CPU, padded=False, table_knots=table_knots(stack)))
    for wrong in (stack["layers.1.table"][:1], stack["layers.1.table"][:, :5], stack["layers.1.table"][:, None]):
        with pytest.raises(ValueError, match="radial table has the shape"):
            evaluate(model, stack | {"layers.1.table": wrong}, layout)


def test_an_atom_without_neighbours():
    model = make("4x0e+2x1o+2x2e", (1, 6, 8), l_max=2)
    stack = initialise(model.plan, [0, 1], OFFSETS)
    graph = collate([from_atoms(atoms, 4.0) for atoms in (molecule("H"), molecule("CO"))])
    torchs, kernels = (evaluate(model, stack, layout_of(model, graph, Numerics(torch.float64, CPU, padded=p))) for p in (True, False))
    assert close(kernels, torchs) and not kernels.forces[:, 0].any()


def test_they_are_for_the_cpu():
    assert "CPU" in why_not(torch.device("cuda"))
