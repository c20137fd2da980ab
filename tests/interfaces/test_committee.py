"""Committees of ASE's own potentials: means, disagreement, one evaluation a step, members that fail."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.morse import MorsePotential
from ase.md.verlet import VelocityVerlet

from race_calc import Committee, Criterion, RACECalculator, UncertaintyMonitor, from_results
from race_calc.uncertainty.calibration import Calibration
from race_calc.uncertainty.calibration_vectors import VectorCalibration
from race_calc.uncertainty.level_map import LevelMap
from race_calc.uncertainty.storage import read_calibration, write_calibration


def lennard_jones(epsilons=(0.9, 1.0, 1.2)):
    return [LennardJones(epsilon=0.01 * e, sigma=3.4, rc=8.0, smooth=True) for e in epsilons]


def argon(rattle=0.1):
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    atoms.rattle(rattle, seed=1)
    return atoms


class Counting(LennardJones):
    evaluations = 0

    def calculate(self, *args, **kwargs):
        self.evaluations += 1
        super().calculate(*args, **kwargs)


class Charged(LennardJones):
    """As MACE's calculator: the charge in `info` counts, and changes the energy."""

    def check_state(self, atoms, tol=1e-15):
        return super().check_state(atoms, tol) or (["info"] if self.atoms.info != atoms.info else [])

    def calculate(self, atoms=None, *args, **kwargs):
        super().calculate(atoms, *args, **kwargs)
        self.results["energy"] += atoms.info.get("charge", 0.0)


@pytest.mark.parametrize("made", ["committee", "from_results"])
def test_what_a_member_counts_as_a_change_is_one(made):
    members = [Charged(epsilon=0.01 * e, sigma=3.4, rc=8.0) for e in (0.9, 1.1)]
    atoms = argon()
    if made == "committee":
        atoms.calc = Committee(members)
    else:
        atoms.calc = from_results(_with_std(members[0]))
    neutral = atoms.get_potential_energy()
    evaluated = atoms.calc.prediction(atoms)
    assert atoms.calc.prediction(atoms) is evaluated  # nothing has changed
    atoms.info["charge"] = 1.0
    assert atoms.get_potential_energy() == pytest.approx(neutral + 1.0, abs=1e-12)


def _with_std(member):
    class WithStd(Charged):
        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            self.results |= {"energy_uncertainty": 0.1, "forces_uncertainty": np.full(len(self.atoms), 0.1)}

    return WithStd(**member.parameters)


class Broken(MorsePotential):
    """A member that gives what it should not."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.change(self.results)


def test_mean_and_covariance_by_hand():
    atoms = argon()
    members = lennard_jones()
    alone = [(m.get_potential_energy(atoms), m.get_forces(atoms), m.get_stress(atoms)) for m in members]
    atoms.calc = Committee(lennard_jones())
    energy, forces, stress = (np.array([one[k] for one in alone]) for k in range(3))
    assert atoms.get_potential_energy() == pytest.approx(energy.mean(), rel=1e-12)
    np.testing.assert_allclose(atoms.get_forces(), forces.mean(axis=0), atol=1e-14)
    np.testing.assert_allclose(atoms.get_stress(), stress.mean(axis=0), atol=1e-14)
    results = atoms.calc.results
    assert results["energy_uncertainty"] == pytest.approx(energy.std(), rel=1e-9)
    d = forces - forces.mean(axis=0)
    expected = np.einsum("mni,mnj->nij", d, d) / 3
    np.testing.assert_allclose(results["forces_covariance"], expected, atol=1e-16)
    np.testing.assert_allclose(results["forces_covariance_epistemic"], expected, atol=1e-16)
    np.testing.assert_allclose(results["stress_uncertainty"], stress.std(axis=0), atol=1e-14)
    np.testing.assert_allclose(results["energies_members"], energy, rtol=1e-12)
    np.testing.assert_allclose(results["forces_members"], forces, atol=1e-14)
    assert "bald_energy" not in results and not any("aleatoric" in name for name in results)


def test_members_are_evaluated_once_per_step_and_the_monitor_halts(tmp_path):
    atoms = argon(0.01)
    members = [Counting(epsilon=0.01 * e, sigma=3.4, rc=8.0, smooth=True) for e in (0.9, 1.0, 1.1)]
    atoms.calc = Committee(members)
    dyn = VelocityVerlet(atoms, 2 * units.fs)
    monitor = UncertaintyMonitor(dyn, [Criterion("forces_uncertainty_max_epistemic", 0.003)], flagged=tmp_path / "f.xyz")
    dyn.run(10)
    assert [m.evaluations for m in members] == [11, 11, 11] and monitor.halt_reason is None
    dyn.atoms.set_cell(atoms.cell * 0.8, scale_atoms=True)
    dyn.run(10)
    assert monitor.halt_reason.criterion == "forces_uncertainty_max_epistemic" and (tmp_path / "f.xyz").exists()


def test_a_molecule_has_no_stress():
    atoms = molecule("H2O")
    atoms.calc = Committee([EMT(), EMT()])
    atoms.get_forces()
    assert "stress" not in atoms.calc.results
    assert atoms.calc.results["energy_uncertainty"] == 0.0


@pytest.mark.parametrize(
    ("calculators", "message"),
    [([EMT()], "committee of 1"), ([], "committee of 0"), ([EMT()] * 2, "given twice"), ([EMT(), 1], "int is no ASE calculator")],
)
def test_committees_that_are_none(calculators, message):
    with pytest.raises(ValueError, match=message):
        Committee(calculators)


def test_a_structure_without_atoms_is_refused():
    with pytest.raises(ValueError, match="no atoms"):
        Committee(lennard_jones()).get_potential_energy(Atoms())


def test_members_know_the_same_elements(tiny_model):
    class Other(EMT):
        elements = ("H", "O")

    with pytest.raises(ValueError, match=r"member 1 .*Other.* knows the elements H, O.*RACECalculator.* H, C, O.*same"):
        Committee([RACECalculator(tiny_model), Other()])
    atoms = molecule("CH4")
    atoms.calc = Committee([EMT(), EMT()])
    atoms.symbols[0] = "Si"
    with pytest.raises(ValueError, match=r"member 0 of the committee \(EMT\) failed: NotImplementedError"):
        atoms.get_potential_energy()


class Knows(LennardJones):
    def __init__(self, elements):
        super().__init__()
        self.elements = elements


def test_elements_may_be_numbers_and_need_not_be_told():
    with pytest.raises(ValueError, match=r"member 1 .*Knows.* knows the elements H, O, .*member 0 .*Knows.* H, C: members"):
        Committee([Knows([6, 1]), Knows(np.array([1, 8]))])
    with pytest.raises(ValueError, match="knows the elements H, O"):
        Committee([Knows([6, 1]), Knows(("O", "H"))])
    Committee([Knows([6, 1]), Knows(("H", "C"))])
    Committee([Knows(lambda: ["H"]), Knows(["C"]), Knows(3)])  # a method is not called: it does not say


def test_a_calibration_of_a_model_is_refused(tmp_path):
    calibration = Calibration("", 3, None, VectorCalibration(2.0, LevelMap((0.0, 1.0)), None, ()), {"bald_energy": 0.5})
    path = tmp_path / "calibration.json"
    write_calibration(path, calibration)
    assert Committee(lennard_jones(), calibration=path).calibration == calibration
    write_calibration(path, calibration, "ab" * 32)
    with pytest.raises(ValueError, match="belongs to the model with the weights abababababab, not to this potential: calibrate this one"):
        Committee(lennard_jones(), calibration=path)
    with pytest.raises(ValueError, match="belongs to the model"):
        from_results(EMT(), calibration=path)
    with pytest.raises(ValueError, match="belongs to other weights"):
        read_calibration(path, "cd" * 32)
    assert read_calibration(path, "ab" * 32) == calibration


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(forces=r["forces"][:1]), r"member 1 .*Broken.* gave forces of the shape \(1, 3\), expected \(2, 3\)"),
        (lambda r: r.update(energy=np.nan), "member 1 .*Broken.* gave energy that are not finite"),
        (lambda r: r["forces"].__setitem__((0, 0), np.inf), "member 1 .*Broken.* gave forces that are not finite"),
        (lambda r: 1 / 0, "member 1 .*Broken.* failed: ZeroDivisionError"),
    ],
)
def test_the_failing_member_is_named(change, message):
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 1.0]])
    atoms.calc = Committee([MorsePotential(), Broken(change)])
    with pytest.raises(ValueError, match=message):
        atoms.get_forces()


def test_race_models_can_be_members_too(tiny_model):
    atoms = molecule("CH3CH2OH")
    single = RACECalculator(tiny_model)
    atoms.calc = Committee([single, RACECalculator(tiny_model)])
    assert atoms.get_potential_energy() == pytest.approx(single.get_potential_energy(atoms))


def test_members_that_see_magnetic_moments_are_asked_again():
    class Magnetic(LennardJones):
        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            self.results["energy"] += self.atoms.get_initial_magnetic_moments().sum()

    atoms = argon()
    atoms.calc = Committee([Magnetic(epsilon=e, sigma=3.4) for e in (0.01, 0.02)])
    before = atoms.get_potential_energy()
    atoms.set_initial_magnetic_moments(np.ones(len(atoms)))
    assert atoms.get_potential_energy() - before == pytest.approx(len(atoms))
