"""Tables of the radial functions: close to the perceptrons, and forces are exact derivatives of what they give."""

import numpy as np
import pytest
import torch
from physics_cases import CUTOFF, crystal, deviation, draw, ethanol, make_model
from scipy.interpolate import BSpline

from race_calc.data.graph import collate, from_atoms
from race_calc.model.kernels.messages import why_not
from race_calc.model.layout import Numerics
from race_calc.model.parameters import radial_weights
from race_calc.model.race import evaluate, layout_of
from race_calc.model.radial import bessel, perceptron
from race_calc.model.table import FEWEST_KNOTS, SOFTENING, _coefficients, _table, place_on_grid, table_knots, tabulated

CPU = torch.device("cpu")
MODEL = make_model()
EXACT = draw(MODEL, [0, 1])
TABLES = tabulated(EXACT, MODEL.plan.config)
KNOTS = table_knots(TABLES)


@pytest.fixture(autouse=True, scope="module")
def kernels():
    problem = why_not(CPU)
    if problem:
        pytest.skip(problem)


def run(parameters, *structures, dtype=torch.float64):
    graph = collate([from_atoms(atoms, CUTOFF) for atoms in structures])
    parameters = {name: value.to(dtype) for name, value in parameters.items()}
    return evaluate(MODEL, parameters, layout_of(MODEL, graph, Numerics(dtype, CPU, padded=False, table_knots=table_knots(parameters))))


@pytest.mark.parametrize("structure", [ethanol, crystal])
def test_close_to_the_perceptrons(structure):
    exact, table = run(EXACT, structure()), run(TABLES, structure())
    assert deviation(table.energy, exact.energy) < 1e-8
    for name in ("forces", "virial", "force_cov"):
        assert deviation(table[name], exact[name]) < 1e-6, name


def test_the_error_of_a_table_is_that_halfway_between_its_knots():
    """Against SciPy's spline of the same coefficients, in units of the root mean square; distances below 0.7 Å do not count."""
    config, knots = MODEL.plan.config, 96
    weights = [w.double() for w in radial_weights(EXACT, "layers.1")]
    tables, error = _table(weights, config, knots)
    halves = np.arange(1, 2 * knots - 1) / 2  # all but the point at 0
    r = SOFTENING * np.expm1(halves * np.log1p(CUTOFF / SOFTENING) / (knots - 1))
    exact = perceptron(torch.from_numpy(bessel(r / CUTOFF, config.n_bessel)[0]).expand(2, -1, -1), weights).numpy()
    spline = BSpline(np.arange(-5, knots + 5), tables.numpy(), 5, axis=1)(halves)
    between = (halves % 1 == 0.5) & (r > 0.7)
    assert error == pytest.approx(np.abs(spline - exact)[:, between].max() / np.sqrt(np.mean(exact**2)), rel=0.02)
    larger = _table([*weights[:-1], 10.0 * weights[-1]], config, knots)[1]
    assert larger == pytest.approx(error, rel=1e-9) and 1e-7 < error < 1e-2
    assert (
        KNOTS == 1024
        or max(_table([w.double() for w in radial_weights(EXACT, f"layers.{i}")], config, KNOTS // 2)[1] for i in range(config.layers))
        > 5e-7
    )
    assert max(_table([w.double() for w in radial_weights(EXACT, f"layers.{i}")], config, KNOTS)[1] for i in range(config.layers)) < 5e-7


def test_a_table_ends_flat():
    """At the cutoff no slope and no curvature, exactly; at 0, where no pair is, no third and fourth derivative."""
    knots = 40
    values = np.random.default_rng(0).normal(size=(knots, 3))
    spline = BSpline(np.arange(-5, knots + 5), _coefficients(values), 5)
    np.testing.assert_allclose(spline(np.arange(knots)), values, atol=1e-11)
    for place, orders in ((0.0, (3, 4)), (knots - 1.0, (1, 2))):
        for order in orders:
            assert np.abs(spline.derivative(order)(place)).max() < 1e-8 * np.abs(values).max()


def test_forces_are_derivatives_of_the_tabulated_energy():
    """Fourth-order differences; the tabulated energy has four continuous derivatives."""
    atoms, h = ethanol(), 1e-4
    forces = run(TABLES, atoms).forces
    for i, axis in ((0, 0), (3, 1), (8, 2)):
        moved = []
        for k in (-2, -1, 1, 2):
            moved.append(atoms.copy())
            moved[-1].positions[i, axis] += k * h
        energy = run(TABLES, *moved).energy
        slope = energy @ torch.tensor([1, -8, 8, -1], dtype=torch.float64) / (12 * h)
        assert (slope + forces[:, i, axis]).abs().max() < 1e-7 * forces.abs().max()


def test_single_precision():
    exact = run(EXACT, ethanol())
    single = run(TABLES, ethanol(), dtype=torch.float32)
    assert deviation(single.forces, exact.forces) < 1e-5 and deviation(single.energy, exact.energy) < 1e-5


def test_place_and_its_slope():
    r = np.linspace(0.3, CUTOFF, 50)
    place, slope = place_on_grid(r, CUTOFF, KNOTS)
    ends, _ = place_on_grid(np.array([0.0, CUTOFF]), CUTOFF, KNOTS)
    np.testing.assert_allclose(ends, [0, KNOTS - 1], atol=1e-10)
    h = 1e-5
    numeric = (place_on_grid(r + h, CUTOFF, KNOTS)[0] - place_on_grid(r - h, CUTOFF, KNOTS)[0]) / (2 * h)
    np.testing.assert_allclose(slope[:-1], numeric[:-1], rtol=1e-8)


def test_pairs_beyond_the_cutoff_count_for_nothing():
    """As with the perceptrons: a graph may hold more pairs than the model reads."""
    atoms = crystal()
    more = from_atoms(atoms, 1.3 * CUTOFF)
    layout = layout_of(MODEL, more, Numerics(torch.float64, CPU, padded=False, table_knots=KNOTS))
    found, usual = evaluate(MODEL, TABLES, layout), run(TABLES, atoms)
    assert len(more.pair) > len(from_atoms(atoms, CUTOFF).pair)
    for name in ("energy", "forces"):
        assert deviation(found[name], usual[name]) < 1e-12, name


def test_functions_that_bend_more_get_more_knots():
    model = make_model(n_bessel=24, cutoff=6.0)
    exact = draw(model, [0])
    table = tabulated(exact, model.plan.config)
    knots, graph = table_knots(table), from_atoms(ethanol(), 6.0)
    assert knots > FEWEST_KNOTS == KNOTS
    found = evaluate(model, table, layout_of(model, graph, Numerics(torch.float64, CPU, padded=False, table_knots=knots)))
    expected = evaluate(model, exact, layout_of(model, graph, Numerics(torch.float64, CPU, padded=False)))
    assert deviation(found.energy, expected.energy) < 1e-8 and deviation(found.forces, expected.forces) < 1e-6


def test_a_table_ends_as_the_perceptron_does():
    """At the cutoff value, slope and curvature are zero."""
    spline = np.array([[1, 26, 66, 26, 1], [-1, -10, 0, 10, 1], [1, 2, -6, 2, 1]])  # at a knot, of five coefficients
    for name in (name for name in TABLES if name.endswith("table")):
        last = TABLES[name][:, -5:].numpy()
        assert np.abs(np.einsum("dk,mkw->dmw", spline, last)).max() < 1e-12 * np.abs(TABLES[name].numpy()).max()


def test_knots_hold_the_perceptron():
    """Quintic B-splines have the values (1, 26, 66, 26, 1) / 120 at the knots."""
    r = np.array([1.1, 2.3, 3.7])
    place, _ = place_on_grid(r, CUTOFF, KNOTS)
    knots = np.rint(place).astype(int)
    at_knots = SOFTENING * np.expm1(knots * np.log1p(CUTOFF / SOFTENING) / (KNOTS - 1))
    basis = torch.from_numpy(bessel(at_knots / CUTOFF, MODEL.plan.config.n_bessel)[0]).expand(2, -1, -1)
    table = TABLES["layers.1.table"]
    found = sum(w * table[:, knots + k] for k, w in enumerate((1, 26, 66, 26, 1))) / 120
    expected = perceptron(basis, radial_weights(EXACT, "layers.1"))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))


def test_a_table_cannot_be_trained():
    graph = from_atoms(ethanol(), CUTOFF)
    layout = layout_of(MODEL, graph, Numerics(torch.float64, CPU, padded=False, table_knots=KNOTS))
    tracked = {name: value.clone().requires_grad_() for name, value in TABLES.items() if "table" not in name}
    forces = evaluate(MODEL, TABLES | tracked, layout, training=True).forces
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        torch.autograd.grad(forces.sum(), list(tracked.values()), allow_unused=True)
