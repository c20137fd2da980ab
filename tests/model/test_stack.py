"""The member axis and the batch axis: nothing leaks from one member or structure to another."""

from dataclasses import replace

import pytest
import torch
from physics_cases import CUTOFF, OFFSETS, STRUCTURES, chain, crystal, deviation, draw, ethanol, layout_on, make_model, run_model

from race_calc.data.graph import collate, from_atoms
from race_calc.model.parameters import initialise, is_last_layer, n_members, select_members, unstacked
from race_calc.model.race import evaluate

pytestmark = pytest.mark.usefixtures("both_paths")

TIGHT = 1e-12
MODEL = make_model()
STACK = draw(MODEL, [0, 1, 2])
FIELDS = ("energy", "atom_energy", "forces", "virial", "energy_var", "force_cov")
SUMMED = ("energy", "atom_energy", "forces", "virial")  # in float64 whatever the dtype
PER_STRUCTURE = ("energy", "virial", "energy_var")


def test_batch_equals_singles():
    structures = [f() for f in STRUCTURES.values()]
    batch = run_model(MODEL, STACK, *structures)
    singles = [run_model(MODEL, STACK, atoms) for atoms in structures]
    for name in FIELDS:
        together = torch.cat([single[name] for single in singles], dim=1)
        assert deviation(batch[name], together) < TIGHT, name
    start = 0
    for k, atoms in enumerate(structures):  # each within its own largest component, too
        part = slice(start, start + len(atoms))
        assert deviation(batch.forces[:, part], singles[k].forces) < TIGHT
        start += len(atoms)


def test_gradients_across_structures_are_exactly_zero():
    graph = collate([from_atoms(atoms, CUTOFF) for atoms in (ethanol(), crystal(), chain())])
    layout = layout_on(MODEL, graph)
    blocks = tuple(replace(b, angular=b.angular.clone().requires_grad_(), radial=b.radial.clone().requires_grad_()) for b in layout.blocks)
    layout = replace(layout, blocks=blocks)
    energy = evaluate(MODEL, STACK, layout, training=True).energy
    angular = [b.centre for b in blocks]
    radial = [b.centre if b.first is None else b.centre[b.first] for b in blocks]
    leaves = [b.angular for b in blocks] + [b.radial for b in blocks]
    for k in range(3):
        gradients = torch.autograd.grad(energy[:, k].sum(), leaves, create_graph=True)
        for gradient, slots in zip(gradients, angular + radial):
            structure = layout.batch[slots]
            assert gradient[structure != k].count_nonzero() == 0
            assert not (structure == k).any() or gradient[structure == k].abs().max() > 0


def test_each_member_equals_its_own_run():
    structures = [ethanol(), crystal()]
    stack = run_model(MODEL, STACK, *structures)
    for m in range(3):
        alone = run_model(MODEL, select_members(STACK, [m]), *structures)
        for name in FIELDS:
            assert deviation(alone[name][0], stack[name][m]) < TIGHT, name


def test_members_do_not_feel_each_other():
    """A broken member leaves the others as they are."""
    broken = {name: value.clone() for name, value in STACK.items()}
    for value in broken.values():
        value[1] = float("nan")
    good, bad = run_model(MODEL, STACK, ethanol()), run_model(MODEL, broken, ethanol())
    for name in FIELDS:
        assert torch.equal(good[name][[0, 2]], bad[name][[0, 2]]), name
        assert torch.isnan(bad[name][1]).all(), name


def test_initialise_depends_on_the_seed_of_the_member_only():
    stack = initialise(MODEL.plan, [5, 9, 5], OFFSETS)
    alone = initialise(MODEL.plan, [9], OFFSETS)
    assert n_members(stack) == 3
    for name in stack:
        assert torch.equal(stack[name][1:2], alone[name]), name
        assert torch.equal(stack[name][0], stack[name][2]), name
        assert "offset" in name or not torch.equal(stack[name][0], stack[name][1]), name


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_structure_is_not_changed(structure):
    atoms = STRUCTURES[structure]()
    before = atoms.copy()
    run_model(MODEL, STACK, atoms)
    assert atoms == before and (atoms.cell.array == before.cell.array).all() and (atoms.pbc == before.pbc).all()


def test_float32_stays_close():
    graph = from_atoms(ethanol(), CUTOFF)
    outputs = [evaluate(MODEL, {n: v.to(t) for n, v in STACK.items()}, layout_on(MODEL, graph, t)) for t in (torch.float32, torch.float64)]
    for name in FIELDS:
        single, double = (o[name] for o in outputs)
        assert single.dtype == (torch.float64 if name in SUMMED else torch.float32)
        assert deviation(single.double(), double) < 1e-4, name


def test_last_layers_on_one_trunk_are_a_mean_and_centred_deviations():
    """The mean of the members is the mean layer whatever the deviations; they differ by a tenth of those."""
    plan = make_model().plan
    parameters = initialise(plan, [5], OFFSETS, last_layers=4)
    stack = unstacked(parameters)
    assert n_members(stack) == 4
    for name in filter(is_last_layer, parameters):
        mean, deviations = parameters[name][0, 0], parameters[name][0, 1:]
        assert deviations.mean(0).abs().max() > 0.1
        torch.testing.assert_close(stack[name].mean(0), mean)
        torch.testing.assert_close(stack[name][0] - stack[name][3], 0.1 * (deviations[0] - deviations[3]))
