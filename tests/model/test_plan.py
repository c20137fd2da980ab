"""What the plan keeps, against brute force over all paths of all layers."""

import pytest
from e3nn import o3

from race_calc.model.config import ModelConfig
from race_calc.model.parameters import offset_names, parameter_shapes
from race_calc.model.plan import READOUT_GATED, make_plan

BOTH = "+".join(f"4x{l}{p}" for l in range(4) for p in "eo")


def plan_of(**settings):
    return make_plan(ModelConfig(**({"correlation": 1} | settings)), n_species=3)


def products(plan) -> list[int]:
    """Tensor product paths of each layer, without those that pass u_j on as it is."""
    return [sum(path.l2 is not None for path in layer.paths) for layer in plan.layers]


Step = tuple[tuple, tuple, tuple]  # sources, target, label


def steps_of(config: ModelConfig) -> list[Step]:
    """Everything that a model computes: (what goes in, what comes out, label); a number is (kind, layer, irrep)."""
    hidden = [ir for _, ir in o3.Irreps(config.hidden_irreps)]
    harmonics = [ir for _, ir in o3.Irreps.spherical_harmonics(config.l_max)]
    steps: list[Step] = []
    for k in range(1, config.layers + 1):
        for a in hidden:
            steps.append(((("h", k - 1, a),), ("A", k, a), ("path", k, str(a), None, str(a))))
            steps += [
                ((("h", k - 1, a),), ("A", k, c), ("path", k, str(a), y.l, str(c)))
                for y in harmonics
                for c in a * y
                if c in hidden and (y.l or config.correlation == 1)
            ]
            steps += [((source,), ("h", k, a), ()) for source in (("h", k - 1, a), ("A", k, a))]
        for order in range(2, config.correlation + 1):
            for i, a in enumerate(hidden):
                steps.append(((("B", order, k, a),), ("h", k, a), ()))
                for j, b in enumerate(hidden):
                    if order == 2 and (i > j):
                        continue
                    for c in a * b:
                        if c in hidden and not (order == 2 and i == j and (2 * a.l - c.l) % 2):
                            left = ("A", k, a) if order == 2 else ("B", order - 1, k, a)
                            steps.append(
                                (
                                    (left, ("A", k, b)),
                                    ("B", order, k, c),
                                    ("coupling", k, order, frozenset([str(a), str(b)]) if order == 2 else (str(a), str(b)), str(c)),
                                )
                            )
    return steps


def brute_force(config: ModelConfig, read: set[str]) -> set[tuple]:
    """Labels of the steps through which a number gets from the embedding to a readout."""
    steps = steps_of(config)
    alive, known = {("h", 0, o3.Irrep("0e"))}, 0
    while len(alive) > known:
        known = len(alive)
        alive |= {target for sources, target, _ in steps if set(sources) <= alive}
    steps = [step for step in steps if set(step[0]) <= alive]
    needed = {("h", k, o3.Irrep(name)) for k in range(1, config.layers + 1) for name in read} & alive
    known = 0
    while len(needed) > known:
        known = len(needed)
        needed |= {source for sources, target, _ in steps if target in needed for source in sources}
    return {label for _, target, label in steps if target in needed and label}


@pytest.mark.parametrize("head, read", [("mse", {"0e"}), ("joint", {"0e", "2e"})])
@pytest.mark.parametrize("irreps", [BOTH, "4x0e+4x1o+4x2e", "2x2o+3x0e+1x1o+2x2e+1x0o+2x1e", "4x0e+4x2e"])
@pytest.mark.parametrize("l_max", [0, 1, 2, 3])
@pytest.mark.parametrize("layers, correlation", [(1, 1), (1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2), (5, 1)])
def test_paths_are_those_of_brute_force(irreps, l_max, layers, correlation, head, read):
    plan = plan_of(hidden_irreps=irreps, l_max=l_max, layers=layers, head=head, correlation=correlation)
    mine = []
    for k, layer in enumerate(plan.layers, 1):
        mine += [("path", k, layer.inputs[p.source].name, p.l2, layer.sums[p.target].name) for p in layer.paths]
        for product in layer.products:
            for c in product.couplings:
                pair = product.left[c.left].name, product.right[c.right].name
                mine.append(("coupling", k, product.order, frozenset(pair) if product.order == 2 else pair, product.targets[c.target].name))
    assert len(set(mine)) == len(mine)
    assert set(mine) == brute_force(plan.config, read)


def test_number_of_paths_of_the_method():
    """Both parities, l ≤ 3, five layers: 340 products written literally (68 a layer).

    The method counts 185 alive: forward from the scalars, and only 0e and 2e in the last layer. The plan
    looks backward through all layers and drops four more: nothing reads 0o of layer 4. Without the
    covariance head only 137 are left.
    """
    irreps = [ir for _, ir in o3.Irreps(BOTH)]
    harmonics = [ir for _, ir in o3.Irreps.spherical_harmonics(3)]
    assert 5 * sum(c in irreps for a in irreps for y in harmonics for c in a * y) == 340
    plan = plan_of(hidden_irreps=BOTH, l_max=3, layers=5)
    assert products(plan) == [4, 34, 64, 64, 15]
    assert sum(products(plan)) == 181 == 185 - 4
    assert sum(products(plan_of(hidden_irreps=BOTH, l_max=3, layers=5, head="mse"))) == 137


def test_which_irreps_live_where():
    names = [[ir.name for ir in layer.outputs] for layer in plan_of(hidden_irreps=BOTH, l_max=3, layers=5).layers]
    assert set(names[0]) == {"0e", "1o", "2e", "3o"}  # natural parity only
    assert "0o" not in names[1] and "1e" in names[1]
    assert "0o" in names[2]
    assert names[4] == ["0e", "2e"]


def test_an_irrep_keeps_its_own_multiplicity_whatever_the_order():
    a = plan_of(hidden_irreps="5x0e+3x1o+2x2e", l_max=2)
    b = plan_of(hidden_irreps="2x2e+5x0e+3x1o", l_max=2)
    assert a.layers == b.layers
    assert {ir.name: ir.mul for ir in a.layers[0].outputs} == {"0e": 5, "1o": 3, "2e": 2}
    assert a.layers[0].up == (5,) and a.layers[1].up == (5, 3, 2)
    assert a.layers[0].inputs[0].mul == 32  # features_dim, not the channels


def test_shapes_of_the_parameters():
    plan = plan_of(hidden_irreps="5x0e+3x1o+2x2e", l_max=1, layers=2, features_dim=7, radial_hidden=(6,), n_bessel=4)
    shapes = parameter_shapes(plan)
    assert shapes["embedding"] == (3, 7)
    assert shapes["layers.0.up.0e"] == (7, 5)
    assert shapes["layers.0.radial.0"] == (4, 6)
    assert shapes["layers.0.radial.1"] == (6, 5 * 3)  # u_j, Y_0 and Y_1 with 5 channels each
    assert shapes["layers.0.down.0e"] == (10, 5) and shapes["layers.0.down.1o"] == (5, 3)
    assert shapes["layers.0.product.1o"] == (3, 3, 3) and "layers.0.skip.1o" not in shapes
    assert shapes["layers.0.skip.0e"] == (3, 7, 5)
    assert "layers.0.readout.tensor" not in shapes  # 2e is out of reach of layer 1
    assert shapes["layers.1.readout.gated"] == (2, READOUT_GATED)
    assert not [name for name in shapes if "factor" in name or "power" in name]
    assert offset_names(plan) == ("energy_var_offset", "force_cov_offset")
    assert offset_names(plan_of(head="mse")) == () and offset_names(plan_of(head="energy")) == ("energy_var_offset",)


def test_shapes_of_the_parameters_of_products():
    settings = dict(hidden_irreps="5x0e+3x1o+2x2e", l_max=1, layers=1, features_dim=7, product_channels=4, correlation=3)
    plan = plan_of(**settings)
    shapes = parameter_shapes(plan)
    assert shapes["layers.0.factor.0e"] == (5, 4) and shapes["layers.0.factor.1o"] == (3, 4)
    assert "layers.0.factor.2e" not in shapes  # out of reach of messages with l_max 1
    assert shapes["layers.0.power2.0e"] == (3, 2 * 4, 5) and shapes["layers.0.power2.2e"] == (3, 4, 2)  # 0·0, 1·1; 1·1
    assert shapes["layers.0.left3.1o"] == (4, 4) and shapes["layers.0.left3.2e"] == (4, 4)  # 0·1; 1·1
    assert shapes["layers.0.power3.0e"] == (3, 2 * 4, 5) and shapes["layers.0.power3.2e"] == (3, 2 * 4, 2)  # 0·0, 1·1; 1·1, 2·0
