"""Domains evaluated by themselves add up to the whole."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import read
from ase.neighborlist import neighbor_list

from race_calc import RACECalculator
from race_calc.data.references import References
from race_calc.interfaces.served import Served
from race_calc.model.config import ModelConfig
from race_calc.model.parameters import initialise
from race_calc.model.plan import make_plan
from race_calc.model.race import Race
from race_calc.posterior.checkpoint import Checkpoint, save_checkpoint

MODELS = Path(__file__).parents[2] / "models"


def with_copies(atoms, reach):
    """Positions of atoms and images within `reach` of the cell, and which atom each is; the atoms first."""
    if not atoms.pbc.any():
        return atoms.positions, np.arange(len(atoms))
    n = int(np.ceil(reach * np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0).max()))
    cells = sorted(((i, j, k) for i in range(-n, n + 1) for j in range(-n, n + 1) for k in range(-n, n + 1)), key=lambda c: c != (0, 0, 0))
    everywhere = np.concatenate([atoms.positions + np.array(c) @ atoms.cell.array for c in cells])
    return everywhere, np.tile(np.arange(len(atoms)), len(cells))


def summed(served, atoms, parts):
    """Energy, forces, virial, energies and forces of the members, aleatoric parts, from domains that own `parts` of the atoms."""
    everywhere, home = with_copies(atoms, served.reach)
    total = {"energy": 0.0, "virial": np.zeros((3, 3)), "members": 0.0, "aleatoric": 0.0, "each": np.zeros(len(atoms))}
    forces, of_members, covariance = np.zeros((len(atoms), 3)), 0.0, np.zeros((len(atoms), 3, 3))
    for own in parts:
        near = np.flatnonzero(np.linalg.norm(everywhere[:, None] - everywhere[own], axis=-1).min(1) < served.reach + 1e-6)
        chosen = np.concatenate([own, np.setdiff1d(near, own)])
        numbers, positions = atoms.numbers[home[chosen]], everywhere[chosen]
        edges = np.array(neighbor_list("ij", Atoms(numbers, positions), served.cutoff))
        found = served.evaluate_local(numbers, positions, edges, len(own))
        total["energy"] += found.energies.sum()
        total["each"][own] = found.energies
        total["virial"] += found.virial
        total["members"] = total["members"] + found.energies_members
        total["aleatoric"] += found.energy_aleatoric
        np.add.at(forces, home[chosen], found.forces)
        sent = np.zeros((len(found.forces_members), len(atoms), 3))
        for k, one in enumerate(found.forces_members):
            np.add.at(sent[k], home[chosen], one)
        of_members = of_members + sent
        covariance[own] = found.forces_aleatoric
    return total | {"forces": forces, "forces_members": of_members, "covariance": covariance}


def crystal():
    atoms = bulk("Si", cubic=True) * (2, 1, 1)
    atoms.rattle(0.05, seed=1)
    return atoms


def molecule_of_3bpa():
    atoms = read(MODELS / "3bpa-de" / "start.xyz")
    atoms.rattle(0.02, seed=0)
    return atoms


CASES = [("3bpa-de", molecule_of_3bpa, None), ("3bpa-de", molecule_of_3bpa, False), ("3bpa-llpr", molecule_of_3bpa, None)]


@pytest.mark.parametrize("model, make, compile", [*CASES, ("silicon", crystal, None)])
def test_domains_add_up(model, make, compile):
    atoms = make()
    served = Served(MODELS / model, device="cpu", compile=compile, calibrated=False)
    parts = np.array_split(np.random.default_rng(0).permutation(len(atoms)), 2 if atoms.pbc.any() else 3)
    found, p = summed(served, atoms, parts), RACECalculator(MODELS / model, "cpu", compile=compile, calibrated=False).prediction(atoms)
    assert found["energy"] == pytest.approx(p.energy[0], abs=1e-9)
    np.testing.assert_allclose(found["each"], p.energies, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found["forces"], p.forces, atol=1e-8)
    np.testing.assert_allclose(found["members"], p.energies_members[:, 0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(found["forces_members"], p.forces_members, atol=1e-8)
    np.testing.assert_allclose(found["aleatoric"], p.energy_aleatoric[0], rtol=1e-8)
    np.testing.assert_allclose(found["covariance"], p.forces_covariance_aleatoric, atol=1e-9)
    if p.stress is not None:
        stress = p.stress[0][[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
        np.testing.assert_allclose(found["virial"] / atoms.cell.volume, stress, atol=1e-9)


def laplace():
    config = ModelConfig(
        hidden_irreps="4x0e+4x1o", l_max=1, layers=2, features_dim=4, radial_hidden=(8,), cutoff=3.0, force_covariance="cholesky"
    )
    plan, references = make_plan(config, 1), References((6,), (-1.0,), 0.1, 2.0)
    one = initialise(plan, [1], {"energy_var_offset": -6.0, "force_cov_offset": -4.0})
    random = torch.Generator().manual_seed(2)
    draws = {name: value + 0.1 * torch.randn(3, *value.shape[1:], generator=random, dtype=value.dtype) for name, value in one.items()}
    return Checkpoint(Race(plan, (6,), 2.0, 8.0), references, draws, "laplace", center=one)


def test_the_virial_is_that_of_the_set_that_gives_the_means(tmp_path):
    """Of a Laplace posterior the MAP, not the mean of the draws."""
    save_checkpoint(tmp_path / "laplace", laplace(), "# card\n")
    served, atoms = Served(tmp_path / "laplace", device="cpu", calibrated=False), bulk("C", cubic=True)
    atoms.rattle(0.1, seed=4)
    found = summed(served, atoms, np.array_split(np.arange(8), 2))
    p = RACECalculator(tmp_path / "laplace", "cpu").prediction(atoms)
    assert found["energy"] == pytest.approx(p.energy[0], abs=1e-9)
    stress = p.stress[0][[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
    np.testing.assert_allclose(found["virial"] / atoms.cell.volume, stress, atol=1e-9)


def test_what_does_not_fit(tiny_model):
    served = Served(tiny_model)
    numbers, positions = [6, 1], [[0.0, 0.0, 0.0], [0.0, 0.0, 1.1]]
    both = np.array([[0, 1], [1, 0]])
    assert served.evaluate_local(numbers, positions, both, 1).forces.shape == (2, 3)
    alone = served.evaluate_local([6], [[0.0, 0.0, 0.0]], np.zeros((2, 0)), 1)
    assert alone.energies.shape == (1,) and not alone.forces.any()
    for change, message in (
        ({"edges": both[:, :1]}, "twice"),
        ({"edges": both + 1}, "from 0 to 1"),
        ({"n_local": 3}, "0 < n_local"),
        ({"positions": positions[:1]}, "numbers"),
        ({"numbers": [6, 79]}, "Au"),
    ):
        with pytest.raises(ValueError, match=message):
            served.evaluate_local(**({"numbers": numbers, "positions": positions, "edges": both, "n_local": 1} | change))
