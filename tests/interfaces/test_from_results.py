"""Calculators with uncertainties of their own, in every known layout, and what does not fit one."""

from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from race_calc import UncertaintyMonitor, from_results
from race_calc.interfaces.from_results import AGREE, Layout

M = 4


class Foreign(Calculator):
    """Random but fixed members, written into `results` by `write`."""

    implemented_properties = ["energy", "forces", "stress"]

    def __init__(self, write):
        super().__init__()
        self.write = write

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        rng = np.random.default_rng(0)
        self.energy, self.forces = rng.normal(-10, 0.1, size=M), rng.normal(size=(M, len(atoms), 3))
        stress = rng.normal(size=(M, 3, 3))
        self.stress = stress + stress.swapaxes(1, 2)
        self.results = {"energy": float(self.energy.mean()), "forces": self.forces.mean(axis=0)}
        if atoms.pbc.any():
            self.results["stress"] = full_3x3_to_voigt_6_stress(self.stress.mean(axis=0))
        self.write(self, self.results)


def mace(c, r):
    r |= {"energy_comm": c.energy, "forces_comm": c.forces, "energy_var": c.energy.var()}
    if "stress" in r:
        r["stress_comm"] = c.stress


def apax(c, r):
    r |= {
        "energy_ensemble": c.energy,
        "forces_ensemble": c.forces.transpose(1, 2, 0),
        "energy_uncertainty": c.energy.std(),
        "forces_uncertainty": c.forces.std(axis=0),
    }
    if "stress" in r:  # as apax 0.14 has it
        r["stress_ensemble"] = r["forces_ensemble"].transpose(1, 2, 0)


def metatomic(c, r):
    values = SimpleNamespace(block=lambda: SimpleNamespace(values=c.energy[None]))
    c.additional_outputs = {"energy_ensemble": values}


LAYOUTS = {
    "mace": mace,
    "mace-0.3.13": lambda c, r: r.update(energies=c.energy, forces_comm=c.forces),
    "apax": apax,
    "metatomic": metatomic,
}


@pytest.mark.parametrize("atoms", [molecule("H2O"), bulk("Cu", cubic=True)], ids=["molecule", "crystal"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_members_are_found(name, atoms):
    foreign = Foreign(LAYOUTS[name])
    atoms = atoms.copy()
    atoms.calc = from_results(foreign)
    prediction = atoms.calc.prediction(atoms)
    assert atoms.calc.layout.name == name and prediction.n_members == M and prediction.rotates
    assert atoms.get_potential_energy() == pytest.approx(foreign.energy.mean())
    np.testing.assert_allclose(prediction.energy_epistemic, [foreign.energy.var()])
    if name == "metatomic":
        assert prediction.forces_covariance is None
    else:
        d = foreign.forces - foreign.forces.mean(axis=0)
        np.testing.assert_allclose(prediction.forces_covariance, np.einsum("mni,mnj->nij", d, d) / M)
    if atoms.pbc.any():
        np.testing.assert_allclose(atoms.get_stress(), foreign.results["stress"])
        known = prediction.stress_covariance is not None
        assert known == (name == "mace")


@pytest.mark.parametrize("per_atom", [False, True])
def test_a_plain_deviation_is_a_total_that_does_not_rotate(per_atom):
    atoms = molecule("H2O")
    sigma = np.full(3 if per_atom else (3, 3), 0.3)
    atoms.calc = from_results(
        Foreign(lambda c, r: r.update(energy_uncertainty=0.3, forces_uncertainty=sigma)),
        thresholds={"forces_uncertainty_rms": 0.1, "forces_uncertainty_max": 0.1},
    )
    prediction = atoms.calc.prediction(atoms)
    assert not prediction.rotates and prediction.energy_epistemic is None and prediction.forces_covariance_epistemic is None
    np.testing.assert_allclose(prediction.forces_covariance, np.tile(0.09 * np.eye(3), (3, 1, 1)))
    assert atoms.calc.results["energy_uncertainty"] == pytest.approx(0.3)
    from ase.optimize import BFGS

    opt = BFGS(atoms, logfile=None)
    monitor = UncertaintyMonitor(opt, flagged=None)
    assert {c.name for c in monitor.criteria} == {"forces_uncertainty_rms", "forces_uncertainty_max"}
    opt.run(fmax=0.01, steps=3)
    assert monitor.halt_reason.criterion == "forces_uncertainty_rms"


def test_a_layout_of_ones_own():
    atoms = molecule("H2O")
    foreign = Foreign(lambda c, r: r.update(e_all=c.energy, f_all=c.forces))
    atoms.calc = from_results(foreign, Layout("mine", "my code", "e_all", "f_all"))
    np.testing.assert_allclose(atoms.calc.prediction(atoms).energy_epistemic, [foreign.energy.var()])


@pytest.mark.parametrize(
    ("write", "layout", "message"),
    [
        (lambda c, r: r.update(charges=np.zeros(3)), None, "no uncertainty that is known here: its results are charges, energy, forces"),
        (lambda c, r: None, "mace", "lacks energy_comm, forces_comm of layout mace.*energy, forces"),
        (lambda c, r: r.update(energy_comm=c.energy, forces_comm=c.forces[:, :2]), None, r"forces_comm of layout mace has the shape"),
        (
            lambda c, r: r.update(energy_comm=c.energy[:1] * 0 + r["energy"], forces_comm=c.forces),
            None,
            "energy_comm .* two members or more",
        ),
        (lambda c, r: r.update(energy_comm=23.06 * c.energy, forces_comm=c.forces), None, "mean of energy_comm is not the energy.*unit"),
        (lambda c, r: r.update(energy_comm=c.energy, forces_comm=c.forces * np.nan), None, "forces_comm is not finite"),
        (
            lambda c, r: r.update(energy_comm=c.energy, forces_comm=np.where(c.forces == c.forces.max(), np.nan, c.forces)),
            None,
            "not finite",
        ),
        (lambda c, r: r.update(forces_uncertainty=-np.ones((3, 3))), None, "no standard deviations"),
        (lambda c, r: r.update(forces_uncertainty=np.diag([1.0, 1.0, -1.0])), None, "no standard deviations"),
        (lambda c, r: r.update(energy_uncertainty=np.ones(3)), None, r"energy_uncertainty has the shape \(3,\)"),
    ],
)
def test_what_does_not_fit_is_said(write, layout, message):
    atoms = molecule("H2O")
    atoms.calc = from_results(Foreign(write), layout)
    with pytest.raises(ValueError, match=message):
        atoms.get_potential_energy()


def test_an_unknown_layout():
    with pytest.raises(ValueError, match="unknown layout 'MACE'; known: mace,"):
        from_results(Foreign(mace), "MACE")


def test_stress_is_there_before_the_first_energy_and_after_a_molecule():
    foreign, crystal = Foreign(mace), bulk("Cu", cubic=True)
    crystal.calc = from_results(foreign)
    np.testing.assert_allclose(crystal.get_stress(), full_3x3_to_voigt_6_stress(foreign.stress.mean(axis=0)))
    list(crystal.calc.raw_predictions([molecule("H2O")]))
    crystal.rattle()
    assert crystal.get_stress().shape == (6,)
    water = molecule("H2O")
    water.calc = from_results(foreign)
    with pytest.raises(PropertyNotImplementedError):
        water.get_stress()


def test_small_forces_in_another_unit_are_seen():
    def write(c, r):
        r["forces"] *= 1e-4
        r |= {"energies": c.energy, "forces_comm": 2e-4 * c.forces}

    atoms = molecule("H2O")
    atoms.calc = from_results(Foreign(write))
    with pytest.raises(ValueError, match="mean of forces_comm is not the forces"):
        atoms.get_forces()


def test_round_off_of_single_precision_is_no_other_unit():
    def cancelling(c, r):
        d = np.full((len(c.atoms), 3), 0.5, dtype=np.float32)
        r["forces"] = np.full((len(c.atoms), 3), 1e-6 + 1e-8)  # round-off of the members is 3e-8
        r |= {"energies": c.energy, "forces_comm": np.array([d + np.float32(1e-6), -d + np.float32(1e-6)] * (M // 2))}

    atoms = molecule("H2O")
    atoms.calc = from_results(Foreign(cancelling))
    assert atoms.get_forces().shape == (3, 3)


def test_a_small_component_of_large_forces_may_be_off_by_their_rounding():
    """The mean may differ by AGREE times the largest force, not more; the members here have no round-off of their own."""

    def off(share):
        def write(c, r):
            forces = np.tile([[0.0, 0.0, 1.0]], (3, 1))
            r["forces"] = forces + np.array([share * AGREE, 0.0, 0.0])
            r |= {"energies": c.energy, "forces_comm": np.tile(forces, (M, 1, 1))}

        atoms = molecule("H2O")
        atoms.calc = from_results(Foreign(write))
        return atoms.get_forces()

    assert off(0.9)[0].tolist() == [0.0, 0.0, 1.0]  # the mean of the members
    with pytest.raises(ValueError, match="mean of forces_comm is not the forces"):
        off(1.5)
