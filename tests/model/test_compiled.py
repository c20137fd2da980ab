"""The model as one function compiled by torch gives what `evaluate` gives. Traced only: generating code takes minutes."""

import pytest
import torch
from physics_cases import CUTOFF, crystal, draw, ethanol, make_model

from race_calc.graph import from_atoms
from race_calc.model.compiled import compiled_evaluate
from race_calc.model.race import evaluate, layout_of

CPU = torch.device("cpu")


@pytest.mark.slow
@pytest.mark.parametrize("head, layers", [("joint", 2), ("mse", 1)])
def test_equal_for_other_sizes_without_compiling_again(head, layers, capsys):
    model = make_model(head=head, layers=layers)
    parameters = draw(model, [0, 1])
    torch._dynamo.reset()
    run = compiled_evaluate(model, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for atoms in (two_ethanols(2.0), two_ethanols(6.0), crystal() * (2, 1, 1)):
            layout = layout_of(model, from_atoms(atoms, CUTOFF), torch.float64, CPU, blocks=1)
            assert len(layout.blocks) == 1
            check(run(parameters, layout), evaluate(model, parameters, layout))
    assert capsys.readouterr().err.count("torch compiles") == 1


def test_a_single_atom_compiles_nothing(capsys):
    model = make_model()
    parameters = draw(model, [0])
    layout = layout_of(model, from_atoms(ethanol()[:1], CUTOFF), torch.float64, CPU, blocks=1)
    check(compiled_evaluate(model)(parameters, layout), evaluate(model, parameters, layout))
    assert capsys.readouterr().err == ""


def two_ethanols(apart: float):
    other = ethanol()
    other.positions += [0, 0, apart]
    return ethanol() + other


def check(found, expected):
    for name, value in vars(expected).items():
        if value is None:
            assert getattr(found, name) is None
        else:
            torch.testing.assert_close(getattr(found, name), value, rtol=1e-12, atol=1e-12)
