"""The model as one function compiled by torch gives what `evaluate` gives. Traced only: generating code takes minutes."""

import numpy as np
import pytest
import torch
from ase import Atoms
from physics_cases import CUTOFF, crystal, draw, ethanol, make_model

from race_calc.data.graph import from_atoms
from race_calc.model import compiled
from race_calc.model.compiled import compiled_evaluate, why_not_compiled
from race_calc.model.layout import Numerics
from race_calc.model.race import evaluate, layout_of

CPU = torch.device("cpu")
compiles = pytest.mark.skipif(why_not_compiled() is not None, reason=str(why_not_compiled()))


@compiles
@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("layers", [1, 2])
def test_equal_for_other_sizes_without_compiling_again(layers, capsys):
    model = make_model(head="joint", layers=layers, l_max=1, hidden_irreps="4x0e+3x1o+2x2e")
    parameters = draw(model, [0, 1])
    torch._dynamo.reset()
    run = compiled_evaluate(model, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for atoms in (three_of_each(3.0), three_of_each(2.5), crystal() * (2, 2, 1), with_a_lone_atom()):
            layout = layout_of(model, from_atoms(atoms, CUTOFF), Numerics(torch.float64, CPU, blocks=1))
            assert len(layout.blocks) == 1
            check(run(parameters, layout), evaluate(model, parameters, layout))
    assert capsys.readouterr().err.count("torch compiles") == 1


@compiles
@pytest.mark.nightly
def test_more_kinds_of_structures_than_torch_keeps(monkeypatch):
    """Each composition is a kind; beyond the limit they are evaluated without compiling."""
    monkeypatch.setattr(compiled, "MOST_VERSIONS", 2)
    model = make_model(head="mse", layers=1)
    parameters = draw(model, [0, 1])
    torch._dynamo.reset()
    run = compiled_evaluate(model, backend="eager")
    for formula in ("H2", "OH", "CO", "C2", "H2O", "CO2"):
        atoms = Atoms(formula, positions=np.random.default_rng(0).normal(size=(len(Atoms(formula)), 3)))
        layout = layout_of(model, from_atoms(atoms, CUTOFF), Numerics(torch.float64, CPU, blocks=1))
        check(run(parameters, layout), evaluate(model, parameters, layout))


@compiles
def test_a_single_atom_compiles_nothing(capsys):
    model = make_model()
    parameters = draw(model, [0])
    layout = layout_of(model, from_atoms(ethanol()[:1], CUTOFF), Numerics(torch.float64, CPU, blocks=1))
    check(compiled_evaluate(model)(parameters, layout), evaluate(model, parameters, layout))
    assert capsys.readouterr().err == ""


def test_a_torch_that_is_too_old_is_refused(monkeypatch):
    monkeypatch.setattr(compiled, "OLDEST_TORCH", (99, 0))
    with pytest.raises(RuntimeError, match=r"does not compile the model: install torch >= 2.13, or leave compile=True out"):
        compiled_evaluate(make_model())


def three_of_each(width: float) -> Atoms:
    """Nine atoms, as many as spherical harmonics up to l = 2: sizes that are equal only here."""
    return Atoms("H3C3O3", positions=width * np.random.default_rng(3).random((9, 3)))


def with_a_lone_atom() -> Atoms:
    return three_of_each(2.0) + Atoms("H", positions=[[9.0, 9.0, 9.0]])


def check(found, expected):
    assert found.flat().keys() == expected.flat().keys()
    for name, value in expected.flat().items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-12)
