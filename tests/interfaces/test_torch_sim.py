"""torch-sim against RACECalculator: batches, dynamics, the interface that torch-sim checks."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.io import read

from race_calc import RACECalculator

MODELS = Path(__file__).parents[2] / "models"
pytestmark = pytest.mark.skipif(importlib.util.find_spec("torch_sim") is None, reason="no torch-sim: pip install 'race_calc[torch-sim]'")
CPU = torch.device("cpu")


def molecules(n):
    atoms = read(MODELS / "3bpa-de" / "start.xyz")
    copies = [atoms.copy() for _ in range(n)]
    for k, copy in enumerate(copies):
        copy.rattle(0.02, seed=k)
    return copies


def crystals():
    one, other = bulk("Si", cubic=True), bulk("Si", a=5.6) * (2, 2, 2)
    one.set_cell(one.cell.array @ np.array([[1.02, 0.1, 0.0], [0.05, 1.0, 0.0], [0.1, -0.03, 0.99]]), scale_atoms=True)
    for k, atoms in enumerate((one, other)):
        atoms.rattle(0.05, seed=k)
    return [one, other]


def made(model, structures):
    import torch_sim

    from race_calc.interfaces.torch_sim import RaceModel

    return RaceModel(MODELS / model), torch_sim.initialize_state(structures, CPU, torch.float64)


@pytest.mark.parametrize("model, make", [("3bpa-de", lambda: molecules(4)), ("3bpa-llpr", lambda: molecules(2)), ("silicon", crystals)])
def test_every_system_is_that_of_the_calculator(model, make):
    structures = make()
    found = made(model, structures)
    out = {name: value.numpy() for name, value in found[0](found[1]).items()}
    calc = RACECalculator(MODELS / model, "cpu")
    start = 0
    for b, atoms in enumerate(structures):
        mine, p = slice(start, start := start + len(atoms)), calc.prediction(atoms)
        assert out["energy"][b] == pytest.approx(p.energy[0], abs=1e-9)
        np.testing.assert_allclose(out["forces"][mine], p.forces, atol=1e-8)
        np.testing.assert_allclose(out["energies"][mine], p.energies, atol=1e-8)
        assert out["energy_uncertainty"][b] == pytest.approx(p.energy_uncertainty[0], abs=1e-9)
        np.testing.assert_allclose(out["forces_covariance"][mine], p.forces_covariance, atol=1e-9)
        np.testing.assert_allclose(out["energy_ensemble"][b], p.energies_members[:, 0], atol=1e-9)
        expected = np.zeros((3, 3)) if p.stress is None else p.stress[0][[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
        np.testing.assert_allclose(out["stress"][b], expected, atol=1e-8)


def test_the_interface_is_that_of_torch_sim():
    from torch_sim.models.interface import validate_model_outputs

    model, state = made("silicon", crystals())
    with pytest.raises(ValueError, match="Fe"):  # its own check wants iron, which the model does not know
        validate_model_outputs(model, CPU, torch.float64)
    parts = {name: getattr(state, name) for name in ("positions", "atomic_numbers", "cell", "pbc", "system_idx")}
    for name, value in model(parts).items():
        torch.testing.assert_close(value, model(state)[name], rtol=0, atol=1e-12)
    single = made("silicon", crystals()[:1])[1]
    torch.testing.assert_close(model(single)["forces"], model(state)["forces"][:8], rtol=0, atol=1e-10)


def test_dynamics_and_the_monitor_of_every_system():
    import torch_sim as ts

    structures = molecules(3)
    model, state = made("3bpa-de", structures)
    nve = ts.Integrator.nve if hasattr(ts, "Integrator") else ts.nve
    run = ts.integrate(system=state, model=model, integrator=nve, n_steps=10, temperature=300, timestep=0.0005)
    assert model.calls >= 10 and model.violation is None
    calc = RACECalculator(MODELS / "3bpa-de", "cpu")
    for b, atoms in enumerate(structures):
        atoms.positions, before = run.positions[27 * b : 27 * (b + 1)].numpy(), atoms.positions.copy()
        assert 0.001 < np.abs(atoms.positions - before).max() < 0.5
        assert run.energy[b].item() == pytest.approx(calc.get_potential_energy(atoms), abs=1e-8)
    state.positions[30] += 1.0  # an atom of the second
    model(state)
    assert model.violation is not None and model.violation.image == 1
