"""One calculator and many threads: everyone gets the numbers of the structure asked for. And under torch's other modes."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.lj import LennardJones

from race_calc import Committee, RACECalculator, from_results

THREADS, ROUNDS = 4, 5


def rattled(name: str, seed: int) -> Atoms:
    atoms = molecule(name)
    atoms.rattle(0.05, seed=seed)
    return atoms


def asked(calculator, atoms: Atoms) -> dict[str, np.ndarray]:
    """The same by every way that there is to ask."""
    twin = atoms.copy()
    twin.calc = calculator
    return {
        "energy": twin.get_potential_energy(),
        "free_energy": twin.get_potential_energy(force_consistent=True),
        "properties": twin.get_properties(["energy", "forces"])["energy"],
        "prediction": calculator.prediction(twin).energy[0],
        "raw": next(iter(calculator.raw_predictions([atoms]))).energy[0],
        "forces": twin.get_forces(),
    }


def check(calculator, structures: list[Atoms]) -> None:
    expected = [asked(calculator, atoms) for atoms in structures]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda k: asked(calculator, structures[k % len(structures)]), range(THREADS * ROUNDS)))
    for k, values in enumerate(found):
        for name, value in values.items():
            np.testing.assert_allclose(value, expected[k % len(structures)][name], rtol=1e-12, atol=1e-12, err_msg=name)


def test_threads_share_one_calculator(tiny_model):
    check(RACECalculator(tiny_model), [rattled(*given) for given in [("CH3CH2OH", 1), ("CH3CH2OH", 2), ("H2O", 3), ("CH4", 4), ("CO", 5)]])


def test_threads_share_a_committee_and_a_foreign_calculator():
    def committee() -> Committee:
        return Committee([LennardJones(epsilon=e, sigma=3.4, rc=10.0) for e in (0.010, 0.0104, 0.011)])

    rng = np.random.default_rng(0)
    structures = [Atoms(f"Ar{n}", positions=3.8 * np.arange(n)[:, None] + rng.normal(scale=0.1, size=(n, 3))) for n in (2, 3, 4, 4)]
    check(committee(), structures)
    check(from_results(committee(), "uncertainty"), structures)


def test_copies_and_pickles_have_locks_of_their_own(tiny_model):
    calculator, atoms = RACECalculator(tiny_model), rattled("H2O", 0)
    energy = calculator.get_property("energy", atoms)
    with calculator._lock, ThreadPoolExecutor(1) as pool:
        for twin in (copy.copy(calculator), copy.deepcopy(calculator), pickle.loads(pickle.dumps(calculator))):
            twin.results = {}
            assert pool.submit(twin.get_property, "energy", atoms).result(timeout=10) == energy


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("compile", [None, False])
def test_modes_of_torch_change_nothing(tiny_model, mode, compile):
    atoms = rattled("CH3CH2OH", 0)
    expected = RACECalculator(tiny_model, compile=compile).prediction(atoms)
    with mode():
        calculator = RACECalculator(tiny_model, compile=compile)
        inside = calculator.prediction(atoms)
    calculator.reset()
    for found in (inside, calculator.prediction(atoms)):
        assert (found.forces == expected.forces).all() and (found.energy == expected.energy).all()
        assert (found.forces_covariance_epistemic == expected.forces_covariance_epistemic).all()
