"""Evaluation of a data set: against sums written out per structure, for molecules, crystals and both together."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from scipy.stats import multivariate_normal, norm

from race_calc.data.dataset import dataset_from_atoms
from race_calc.data.graph import from_atoms
from race_calc.evaluate.errors import evaluate_dataset
from race_calc.interfaces.stack_predictor import StackPredictor
from race_calc.model.parameters import select_members
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.load import load_stack
from race_calc.posterior.stack import StackPosterior
from race_calc.uncertainty.metrics import vector_nll
from race_calc.uncertainty.scores import all_scores

VOIGT = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]


@pytest.fixture(scope="module")
def posterior(tiny_model):
    return load_stack(load_checkpoint(tiny_model), torch.float64, torch.device("cpu"))


def labelled(atoms: Atoms, seed: int, stress: bool = False) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
    labels = {"energy": -4000.0 + rng.normal(), "forces": rng.normal(size=(len(atoms), 3))}
    if stress:
        labels["stress"] = rng.normal(size=6)
    atoms.calc = SinglePointCalculator(atoms, **labels)
    return atoms


@pytest.fixture(scope="module")
def mixed():
    boxed = molecule("CO")
    boxed.set_cell([9.0, 9.0, 9.0])  # a cell with a volume, but not periodic: its stress label is left out
    return dataset_from_atoms(
        [
            labelled(molecule("H2O"), 0),
            labelled(bulk("C", a=3.6), 1, stress=True),
            labelled(molecule("CH3CH2OH"), 2),
            labelled(boxed, 3, stress=True),
            labelled(bulk("C", a=3.7) * (1, 1, 2), 4),  # periodic without a stress label
            labelled(bulk("C", a=3.5) * (1, 2, 1), 5, stress=True),
        ]
    )


def test_equals_sums_over_single_structures(posterior, mixed):
    found = evaluate_dataset(StackPredictor(posterior), mixed)
    singles = [posterior.predict(from_atoms(atoms, 4.0)) for atoms in mixed.structures]
    d_energy = np.array([e - p.energy[0] for e, p in zip(mixed.energy, singles)])
    per_atom = d_energy / [len(atoms) for atoms in mixed.structures]
    std = np.array([np.sqrt(p.energy_epistemic[0] + p.energy_aleatoric[0]) for p in singles])
    assert (found.structures, found.atoms, found.stresses) == (6, sum(map(len, mixed.structures)), 2)
    assert found.energy.mae == pytest.approx(np.abs(d_energy).mean())
    assert found.energy.rmse == pytest.approx(np.sqrt((d_energy**2).mean()))
    assert found.energy_per_atom.rmse == pytest.approx(np.sqrt((per_atom**2).mean()))
    assert found.energy.sigma == pytest.approx(std.mean())
    assert found.energy.nll == pytest.approx(-norm.logpdf(d_energy, scale=std).mean())

    d_forces = np.concatenate([f - p.forces for f, p in zip(mixed.forces, singles)])
    covariance = np.concatenate([p.forces_covariance_epistemic + p.forces_covariance_aleatoric for p in singles])
    sigma = np.sqrt(np.einsum("nii->ni", covariance))
    assert found.forces.rmse == pytest.approx(np.sqrt((d_forces**2).mean()))
    assert found.forces.mae == pytest.approx(np.abs(d_forces).mean())
    assert found.forces.sigma == pytest.approx(sigma.mean())
    expected = -np.mean([multivariate_normal.logpdf(d, cov=c) for d, c in zip(d_forces, covariance)])
    assert found.forces.nll == pytest.approx(expected)
    for level in (0.68, 0.90, 0.95):
        z = norm.ppf(0.5 + level / 2)
        assert found.forces.coverage[level] == pytest.approx((np.abs(d_forces) < z * sigma).mean())
        assert found.energy.coverage[level] == pytest.approx((np.abs(d_energy) < z * std).mean())

    d_stress = np.array([[mixed.stress[b][i, j] for i, j in VOIGT] - singles[b].stress[0] for b in (1, 5)])
    assert found.stress.rmse == pytest.approx(np.sqrt((d_stress**2).mean()))
    assert found.stress.mae == pytest.approx(np.abs(d_stress).mean())
    assert found.stress.sigma == pytest.approx(np.mean([singles[b].stress_uncertainty for b in (1, 5)]))
    covariances = np.array([singles[b].stress_covariance[0] for b in (1, 5)])
    assert found.stress.nll == vector_nll(d_stress, covariances) == np.inf  # three members span no six dimensions
    within = np.abs(d_stress) <= 1.6448536269514722 * np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
    assert found.stress.coverage[0.9] == pytest.approx(within.mean())
    for name, values in found.scores.items():
        assert values == pytest.approx([all_scores(p)[name][0][0] for p in singles]), name


def test_batches_change_nothing_and_progress_counts_structures(posterior, mixed):
    calls = []
    one = evaluate_dataset(StackPredictor(posterior), mixed, batch=1, progress=lambda *done: calls.append(done))
    assert calls == [(i, 6) for i in range(1, 7)]
    all_at_once = evaluate_dataset(StackPredictor(posterior), mixed, batch=10_000)
    some = evaluate_dataset(StackPredictor(posterior), mixed, batch=6)
    for other in (one, some):
        assert other.energy.rmse == pytest.approx(all_at_once.energy.rmse, rel=1e-10)
        assert other.forces.nll == pytest.approx(all_at_once.forces.nll, rel=1e-10)
        assert other.stress.rmse == pytest.approx(all_at_once.stress.rmse, rel=1e-10)
        assert other.stress.sigma == pytest.approx(all_at_once.stress.sigma, rel=1e-8)
        assert other.scores["bald_forces_max"] == pytest.approx(all_at_once.scores["bald_forces_max"], rel=1e-8)


def test_perfect_labels_have_no_error(posterior):
    frames = [labelled(bulk("C", a=a), 0) for a in (3.5, 3.6)]
    for atoms in frames:
        p = posterior.predict(from_atoms(atoms, 4.0))
        atoms.calc = SinglePointCalculator(atoms, energy=p.energy[0], forces=p.forces, stress=p.stress[0])
    found = evaluate_dataset(StackPredictor(posterior), dataset_from_atoms(frames))
    assert max(found.energy.rmse, found.forces.rmse, found.stress.rmse) < 1e-9
    assert set(found.energy.coverage.values()) == {1.0}


def test_molecules_have_no_stress(posterior):
    found = evaluate_dataset(StackPredictor(posterior), dataset_from_atoms([labelled(molecule("H2O"), 0)]))
    assert found.stress is None and found.stresses == 0


def test_single_member_gives_aleatoric_uncertainty_only(posterior, mixed):
    single = replace(posterior, parameters=select_members(posterior.parameters, [0]))
    found = evaluate_dataset(StackPredictor(single), mixed)
    assert found.energy.sigma > 0 and np.isfinite(found.forces.nll)
    assert found.stress.rmse > 0 and found.stress.sigma is None
    assert set(found.scores) == {"energy_uncertainty_per_atom", "forces_uncertainty_max", "forces_uncertainty_rms"}


def test_what_the_posterior_does_not_give_is_none(posterior, mixed, monkeypatch):
    full = StackPosterior.predict
    strip = dict(energy_aleatoric=None, forces_covariance_aleatoric=None, bald_energy=None, bald_forces=None, n_members=1)
    monkeypatch.setattr(StackPosterior, "predict", lambda self, graph: replace(full(self, graph), **strip))
    found = evaluate_dataset(StackPredictor(posterior), mixed)
    for quality in (found.energy, found.forces, found.stress):
        assert quality.rmse > 0 and quality.sigma is None and quality.nll is None and quality.coverage is None
    assert found.scores == {}


def test_two_members_without_aleatoric_part_have_no_density(posterior, mixed, monkeypatch):
    full = StackPosterior.predict
    strip = dict(energy_aleatoric=None, forces_covariance_aleatoric=None, bald_energy=None, bald_forces=None)
    monkeypatch.setattr(StackPosterior, "predict", lambda self, graph: replace(full(self, graph), **strip))
    found = evaluate_dataset(StackPredictor(posterior), mixed)
    assert found.forces.nll == np.inf and found.forces.sigma > 0
    assert np.isfinite(found.energy.nll)


def test_unknown_element(posterior):
    with pytest.raises(ValueError, match="does not know the element N"):
        evaluate_dataset(StackPredictor(posterior), dataset_from_atoms([labelled(molecule("NH3"), 0)]))


def test_empty_data_set(posterior, mixed):
    with pytest.raises(ValueError, match="no structures"):
        evaluate_dataset(StackPredictor(posterior), mixed.subset([]))
