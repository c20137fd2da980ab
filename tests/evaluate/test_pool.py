"""What a potential says about a pool."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.lj import LennardJones

from race_calc import Committee, RACECalculator
from race_calc.data.graph import from_atoms
from race_calc.evaluate.pool import pool_of

MODEL = Path(__file__).resolve().parents[2] / "models" / "3bpa-de"


def ethanols(count: int, seed: int = 0) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    made = [molecule("CH3CH2OH") for _ in range(count)]
    for atoms in made:
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
    return made


def test_scores_and_information_are_those_of_single_predictions(tiny_model):
    calculator = RACECalculator(tiny_model, device="cpu", calibrated=False)
    structures = [*ethanols(40), molecule("H2O"), Atoms("O")]  # more than one batch
    pool = pool_of(calculator, structures)
    assert pool.size == 42 and set(pool.scores) == {"variance-energy", "variance-forces", "bald-energy", "bald-forces"}
    assert "distances" not in pool.places and pool.places["features"].shape[0] == 42
    for i in (0, 35, 40, 41):
        one, n = calculator.prediction(structures[i]), len(structures[i])
        assert pool.scores["bald-energy"][i] == pytest.approx(one.bald_energy[0])
        assert pool.scores["bald-forces"][i] == pytest.approx(one.bald_forces.mean())
        assert pool.scores["variance-energy"][i] == pytest.approx(one.energy_epistemic[0] / n)
        d = one.energies_members[:, 0] - one.energies_members[:, 0].mean()
        f = (one.forces_members - one.forces_members.mean(0)).reshape(2, -1)
        noise = np.zeros((3 * n, 3 * n))
        for a in range(n):
            noise[3 * a : 3 * a + 3, 3 * a : 3 * a + 3] = one.forces_covariance_aleatoric[a]
        expected = (np.outer(d, d) / one.energy_aleatoric[0] + f @ np.linalg.solve(noise, f.T)) / 2
        np.testing.assert_allclose(pool.information[i], expected, rtol=1e-8)


def test_a_committee_has_spreads_only():
    members = [LennardJones(sigma=1.0 + 0.01 * k, epsilon=0.1, rc=6.0) for k in range(3)]
    structures = ethanols(6)
    known = [*structures[:2], Atoms("H"), molecule("CH3OCH3")]  # isolated atoms of a training, another composition
    known[-1].numbers[0] = 1
    pool = pool_of(Committee(members), structures, known, ["distances", "features"])
    assert set(pool.scores) == {"variance-energy", "variance-forces"} and set(pool.places) == {"distances"}
    assert pool.places["distances"].shape == (6, 36) and (np.diff(pool.places["distances"]) >= 0).all()
    np.testing.assert_array_equal(pool.known["distances"], pool.places["distances"][:2])
    traces = np.trace(pool.information, axis1=1, axis2=2)  # of noise as large as the mean spread: 1 for the energy, 3N for the forces
    assert traces.mean() == pytest.approx(1 + 3 * 9)


def test_compositions_that_differ_have_no_distances():
    members = [LennardJones(sigma=1.0 + 0.01 * k, epsilon=0.1, rc=6.0) for k in range(2)]
    assert pool_of(Committee(members), [molecule("CH3CH2OH"), molecule("C2H6")], places=["distances"]).places == {}
    assert pool_of(Committee(members), ethanols(2)).places == {}  # nobody asked


def test_a_single_atom_lies_as_far_as_its_feature_distance():
    calculator = RACECalculator(MODEL, device="cpu")
    far = [Atoms("C"), Atoms("CC", [(0, 0, 0), (0, 0, 50.0)])]
    one, two = np.linalg.norm(calculator.structure_features(far), axis=1)
    assert one == pytest.approx(calculator.prediction(far[0]).feature_distance[0]) and two == pytest.approx(one * 2**0.5)
    with pytest.raises(ValueError, match="at least one"):
        calculator.structure_features([])


def test_an_element_that_the_training_lacks_is_far():
    calculator = RACECalculator(MODEL, device="cpu")
    known = calculator.posterior.feature_distance
    oxygen = calculator.posterior.model.species.index(8)
    features = calculator.posterior.features(from_atoms(Atoms("O"), 5.0))
    whitening = known.whitening.copy()
    whitening[oxygen] = 0.0
    lacking = replace(known, whitening=whitening)
    assert np.isinf(lacking(features, np.array([oxygen]))).all()
    assert np.linalg.norm(lacking.whitened(features, np.array([oxygen]))) > 1.0
    np.testing.assert_allclose(np.linalg.norm(known.whitened(features, np.array([oxygen])), axis=1), known(features, np.array([oxygen])))


def test_features_turn_with_nothing(tiny_model):
    calculator = RACECalculator(tiny_model, device="cpu")
    atoms = ethanols(1)[0]
    moved = atoms.copy()
    moved.rotate(77, (1, 2, 3))
    moved.positions += 5.0
    np.testing.assert_allclose(*(calculator.structure_features([each]) for each in (atoms, moved)), atol=1e-9)


def test_nothing_to_choose_from(tiny_model):
    with pytest.raises(ValueError, match="nothing to choose from"):
        pool_of(RACECalculator(tiny_model, device="cpu"), [])
