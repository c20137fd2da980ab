"""The matrices that a stack for prediction holds ready are those that a training makes at every step."""

import pytest
import torch
from physics_cases import draw, ethanol, make_model, run_model

from race_calc.model.parameters import parameter_shapes
from race_calc.model.weights import READY, matrices, ready


@pytest.mark.parametrize("correlation", [1, 2, 3])
def test_ready_matrices_give_the_same_outputs(correlation):
    model = make_model(correlation=correlation)
    stack = draw(model, [0, 1])
    prepared = ready(stack, model.plan)
    before, after = run_model(model, stack, ethanol()), run_model(model, prepared, ethanol())
    for name in ("energy", "forces"):
        assert torch.equal(getattr(before, name), getattr(after, name))
    assert torch.equal(before["force_cov"], after["force_cov"])


def test_what_the_matrices_are_made_of_is_left_out_and_nothing_else():
    model = make_model(correlation=3)
    stack = draw(model, [0])
    prepared = ready(stack, model.plan)
    made = sum(value.numel() for name, value in prepared.items() if READY in name)
    left_out = sum(stack[name].numel() for name in set(stack) - set(prepared))
    assert made == left_out > 0
    assert set(parameter_shapes(model.plan)) <= set(stack) and {name for name in prepared if READY not in name} < set(stack)
    again = ready(prepared, model.plan)
    assert set(again) == set(prepared) and all(again[name] is prepared[name] for name in prepared)


def test_matrices_are_divided_by_the_root_of_what_goes_in():
    model = make_model(correlation=2)
    stack, layer = draw(model, [0]), model.plan.layers[0]
    made = matrices(layer, "layers.0", stack, model.plan.n_species)
    down = stack["layers.0.down.0e"]
    torch.testing.assert_close(made["down.0e"], down / down.shape[1] ** 0.5)
    parts = [stack[f"layers.0.{name}.0e"] for name in ("product", "skip", "power2")]
    expected = torch.cat([part / (part.shape[2] * model.plan.n_species) ** 0.5 for part in parts], dim=2)
    torch.testing.assert_close(made["mix.0e"], expected)
