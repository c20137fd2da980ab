import json
import shutil
from functools import partial

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from small_run import frame, write_run

from race_calc import RACECalculator
from race_calc.data.dataset import dataset_from_atoms
from race_calc.data.graph import collate, from_atoms
from race_calc.model.repulsion import COULOMB, REACH, repulsion
from race_calc.posterior.manifest import write_manifest
from race_calc.train.config import load_config
from race_calc.train.labels import without_baseline
from race_calc.train.prepare import prepare

CUTOFF = 4.0


def of(atoms, cutoff=CUTOFF):
    return repulsion(from_atoms(atoms, cutoff), cutoff)


def rattled(atoms, scale=0.1, seed=0):
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(scale=scale, size=atoms.positions.shape)
    return atoms


def test_bare_coulomb_at_contact():
    r = 1e-3
    assert of(Atoms("CN", [[0, 0, 0], [0, 0, r]])).atom_energy.sum() == pytest.approx(COULOMB * 6 * 7 / r, rel=0.03)


@pytest.mark.parametrize("far", [0.1, 0.5, 2.0, 5.0])
def test_published_screening_function(far):
    """Universal length of Si-Si: 0.8854 a0 / (2 · 14^0.23) = 0.1276 Å; φ from the four exponentials, each of which counts somewhere."""
    r = far * 0.8854 * 0.529177 / (2 * 14**0.23)
    strengths, rates = np.array([0.1818, 0.5099, 0.2802, 0.02817]), np.array([3.2, 0.9423, 0.4028, 0.2016])
    phi = strengths @ np.exp(-rates * far)
    x = r / (REACH * 2 * 1.11)
    u = 1 - 6 * x**2 + 8 * x**3 - 3 * x**4
    found = of(Atoms("Si2", [[0, 0, 0], [0, 0, r]])).atom_energy
    assert found.sum() == pytest.approx(14.3996 * 14**2 / r * phi * u, rel=1e-3)
    assert found[0] == pytest.approx(found[1], rel=1e-14)


@pytest.mark.parametrize("atoms", [rattled(molecule("CH3CH2OH")), rattled(bulk("Si", cubic=True)), rattled(bulk("Cu", cubic=True))])
def test_forces_and_virial_are_derivatives(atoms):
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + [[0, 0.05, 0], [0, 0, 0.02], [0, 0, 0]]), scale_atoms=True)
    atoms.set_cell(0.85 * atoms.cell.array, scale_atoms=True)
    found, h = of(atoms), 1e-3

    def energy(move, strain):
        moved = atoms.copy()
        moved.positions += move
        deform = np.eye(3) + strain
        moved.set_cell(moved.cell.array @ deform)
        moved.positions = moved.positions @ deform
        return of(moved).atom_energy.sum()

    def slope(f):
        return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)

    rest = np.zeros((len(atoms), 3))
    assert np.abs(found.forces).max() > 0.1
    for i in range(min(len(atoms), 3)):
        for k in range(3):
            unit = rest.copy()
            unit[i, k] = 1.0
            assert -slope(lambda t: energy(t * unit, 0 * np.eye(3))) == pytest.approx(found.forces[i, k], abs=1e-7)
    for a in range(3):
        for b in range(3):
            unit = np.zeros((3, 3))
            unit[a, b] += 0.5
            unit[b, a] += 0.5
            assert slope(lambda t: energy(rest, t * unit)) == pytest.approx(found.virial[0, a, b], abs=1e-7)


def test_it_ends_smoothly_at_its_reach():
    reach = REACH * (0.76 + 0.31)
    near, at = (of(Atoms("CH", [[0, 0, 0], [0, 0, r]])) for r in (reach - 1e-4, reach + 1e-9))
    assert 0 < near.atom_energy.sum() < 1e-10 and np.abs(near.forces).max() < 1e-6
    assert at.atom_energy.sum() == 0.0 and not at.forces.any()
    short = of(Atoms("CH", [[0, 0, 0], [0, 0, 1.0]]), cutoff=1.2)  # a model's cutoff may be shorter
    assert 0 < short.atom_energy.sum() < of(Atoms("CH", [[0, 0, 0], [0, 0, 1.0]])).atom_energy.sum()


def test_a_batch_is_its_structures():
    parts = [rattled(molecule("H2O")), Atoms("H"), rattled(bulk("Si"))]
    whole = repulsion(collate([from_atoms(atoms, CUTOFF) for atoms in parts]), CUTOFF)
    alone = [of(atoms) for atoms in parts]
    np.testing.assert_allclose(whole.atom_energy, np.concatenate([a.atom_energy for a in alone]), rtol=1e-13)
    np.testing.assert_allclose(whole.forces, np.concatenate([a.forces for a in alone]), atol=1e-13)
    np.testing.assert_allclose(whole.virial, np.concatenate([a.virial for a in alone]), atol=1e-13)


def test_training_leaves_out_what_prediction_adds(tiny_model, tmp_path):
    """Labels made by the calculator, less the repulsion, are those of the same model without it."""
    bare = tmp_path / "bare"
    shutil.copytree(tiny_model, bare)
    config = json.loads((bare / "config.json").read_text())
    config["model"]["baseline"] = "none"
    (bare / "config.json").write_text(json.dumps(config))
    write_manifest(bare)
    atoms = rattled(molecule("CH3CH2OH"))
    atoms.set_cell(6 * np.eye(3))
    atoms.pbc = True
    results = []
    for folder in (tiny_model, bare):
        atoms.calc = RACECalculator(folder)
        atoms.get_potential_energy()
        results.append(atoms.calc.results)
    whole, model = results
    labelled = atoms.copy()
    labelled.calc = SinglePointCalculator(labelled, **{k: whole[k] for k in ("energy", "forces", "stress")})
    rest = without_baseline(dataset_from_atoms([labelled]), partial(repulsion, cutoff=CUTOFF), CUTOFF)
    assert whole["energy"] > model["energy"] + 1.0
    assert rest.energy[0] == pytest.approx(model["energy"], abs=1e-9)
    np.testing.assert_allclose(rest.forces[0], model["forces"], atol=1e-10)
    stress = model["stress"][[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)
    np.testing.assert_allclose(rest.stress[0], stress, atol=1e-12)
    for name in ("forces_covariance", "energy_uncertainty", "bald_forces"):  # it adds no uncertainty
        np.testing.assert_allclose(whole[name], model[name], rtol=1e-9)


def test_training_does_leave_it_out(tmp_path):
    """Labels of `prepare` with and without: training set, another file for validation, stress on some frames only."""
    write_run(tmp_path)
    write(tmp_path / "validation.xyz", [frame(99, periodic=True), frame(98)])
    prepared = {
        kind: prepare(load_config(write_run(tmp_path, data__validation="validation.xyz", model__baseline=kind)), tmp_path)
        for kind in ("zbl", "none")
    }

    def energy(prepared, example):
        return example.energy + prepared.references.reference_energy(example.graph.numbers)

    pairs = [list(p.train + p.validation) for p in prepared.values()]
    for reduced, whole in zip(*pairs):
        known = repulsion(reduced.graph, CUTOFF)
        assert energy(prepared["zbl"], reduced) + known.atom_energy.sum() == pytest.approx(energy(prepared["none"], whole))
        np.testing.assert_allclose(reduced.forces + known.forces, whole.forces, atol=1e-10)
        np.testing.assert_allclose(reduced.virial + known.virial[0], whole.virial, atol=1e-8)  # NaN equals NaN
    assert np.isfinite(pairs[0][-2].virial).all() and np.isnan(pairs[0][-1].virial).all()
    assert prepared["zbl"].fingerprint != prepared["none"].fingerprint
    assert prepared["zbl"].data_hash == prepared["none"].data_hash


def test_it_ends_at_one_and_a_half_sums_of_covalent_radii():
    """Carbon 0.76 Å; and at the cutoff where that is shorter."""
    for cutoff, end in ((4.0, 1.5 * 2 * 0.76), (2.0, 2.0)):
        inside, outside = (of(Atoms("C2", [[0, 0, 0], [0, 0, r * end]]), cutoff).atom_energy.sum() for r in (0.99, 1.0001))
        assert inside > 0.0 == outside
