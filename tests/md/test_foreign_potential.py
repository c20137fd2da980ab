"""Potentials of others: statistics, calibration, thresholds and monitor on a committee of ASE calculators, without torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.morse import MorsePotential
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.verlet import VelocityVerlet

from race_calc.cli.evaluate import assessed, show
from race_calc.data.dataset import dataset_from_atoms
from race_calc.evaluate.assessment import compare
from race_calc.evaluate.calibrate import calibrate
from race_calc.evaluate.predict import predict_dataset, residuals_of
from race_calc.interfaces.base import PredictingCalculator
from race_calc.md.attach import UncertaintyMonitor
from race_calc.report.evaluation_json import write_json
from race_calc.uncertainty.aggregate import MemberOutputs, aggregate
from race_calc.uncertainty.prediction import Prediction, available, quantities

WIDTHS = (5.6, 5.8, 6.0, 6.2, 6.4, 6.6)
PARTS = (
    "energies",
    "stress",
    "energy_epistemic",
    "forces_covariance_epistemic",
    "stress_covariance_epistemic",
    "energies_members",
    "forces_members",
    "stress_members",
)


class Committee(PredictingCalculator):
    """The mean of Morse potentials and their spread."""

    def __init__(self):
        super().__init__(quantities(PARTS, len(WIDTHS)))
        self.members = [morse(rho) for rho in WIDTHS]

    def _raw(self, atoms):
        each = []
        for member in self.members:
            member.calculate(atoms, ["energy", "forces", "stress"], ["positions"])
            each.append(dict(member.results))
        full = [r["stress"][[[0, 5, 4], [5, 1, 3], [4, 3, 2]]] for r in each]
        return aggregate(
            MemberOutputs(
                energy=np.array([[r["energy"]] for r in each]),
                atom_energy=np.array([r["energies"] for r in each]),
                forces=np.array([r["forces"] for r in each]),
                stress=np.array(full)[:, None],
                batch=np.zeros(len(atoms), dtype=np.int64),
            )
        )


class Claimed(PredictingCalculator):
    """A potential that claims a standard deviation of each force component and of the energy, of unknown kind."""

    def __init__(self):
        super().__init__(quantities(("energy_unsplit", "forces_covariance_unsplit"), 1))
        self.committee = Committee()

    def _raw(self, atoms):
        p = self.committee._raw(atoms)
        return Prediction(
            energy=p.energy,
            forces=p.forces,
            batch=p.batch,
            energy_unsplit=p.energy_variance,
            rotates=False,
            forces_covariance_unsplit=p.forces_uncertainty[:, :, None] ** 2 * np.eye(3),
        )


class Plain:
    """Only what a predictor must have."""

    def __init__(self, calculator):
        self._calculator = calculator

    def prediction(self, atoms):
        return self._calculator.prediction(atoms)


def morse(rho):
    return MorsePotential(epsilon=0.6, r0=2.6, rho0=rho, rcut1=3.0, rcut2=3.4)


def crystal(seed, noise):
    atoms = bulk("Cu", cubic=True)
    atoms.positions += np.random.default_rng(seed).normal(scale=noise, size=atoms.positions.shape)
    return atoms


def labelled(n, noise, first=0):
    found = []
    for seed in range(first, first + n):
        atoms, label = crystal(seed, noise), morse(6.05)
        label.calculate(atoms, ["energy"], ["positions"])
        rng = np.random.default_rng((seed, 1))
        atoms.calc = SinglePointCalculator(
            atoms,
            energy=label.results["energy"] + 0.02 * rng.normal(),
            forces=label.results["forces"] + 0.02 * rng.normal(size=(len(atoms), 3)),
        )
        found.append(atoms)
    return dataset_from_atoms(found)


@pytest.mark.parametrize("potential", [Committee, pytest.param(Claimed, marks=[pytest.mark.slow, pytest.mark.nightly])])
def test_calibration_statistics_and_monitor(potential, tmp_path, capsys):
    calculator, epistemic = potential(), potential is Committee
    calibration, raw = calibrate(calculator, labelled(20, 0.1))
    assert not any(p.calibrated for p in raw.predictions)
    calculator.calibration = calibration
    assert calculator.thresholds == calibration.thresholds
    sets = {"known": labelled(4, 0.1, 40), "hot": labelled(4, 0.25, 60)}
    found = assessed(calculator, sets)
    known = found["known"]
    assert known.after_quality["forces"].calibration_error.value < 0.05 and known.evaluation.stress is None
    compared = compare(calculator, sets, found, [0.0] * 4)
    assert compared.criterion == ("forces_uncertainty_rms_epistemic" if epistemic else "forces_uncertainty_rms")
    assert compared.detected["hot"][compared.criterion].auroc > 0.9 and set(compared.terms) >= {"auroc", "ce_forces"}
    assert any(name.endswith("_epistemic") for name in known.evaluation.scores) is epistemic
    show(compared, None)
    assert "hot told from known" in capsys.readouterr().out
    write_json(tmp_path / "numbers.json", compared, {"model": "Morse"})
    assert json.loads((tmp_path / "numbers.json").read_text())["calibrated"] is True

    atoms = crystal(0, 0.1)
    atoms.calc = calculator
    atoms.set_momenta(np.zeros((4, 3)))
    dynamics = VelocityVerlet(atoms, 1e-3)  # atom 0 is pushed to another, the others stay
    monitor = UncertaintyMonitor(dynamics, logfile=tmp_path / "log.jsonl", flagged=None, quiet=1)
    assert {c.name for c in monitor.criteria} >= {compared.criterion}
    dynamics.insert_observer(lambda: atoms.positions.__setitem__(0, atoms.positions[0] + [0.0, 0.05, 0.05]), 0)
    dynamics.run(25)
    assert monitor.halt_reason is not None and monitor.halt_reason.criterion.startswith("forces_uncertainty")
    assert (tmp_path / "log.jsonl").read_text().count("\n") == dynamics.nsteps + 2


def test_results_are_what_is_available():
    atoms = crystal(1, 0.1)
    atoms.calc = Committee()
    atoms.get_forces()
    p = atoms.calc.prediction()
    assert set(atoms.calc.results) == available(p) == set(atoms.calc.implemented_properties)
    np.testing.assert_allclose(atoms.calc.results["stress_uncertainty"] ** 2, np.diagonal(p.stress_covariance[0]))
    claimed = Claimed()
    assert not any(name.endswith(("_epistemic", "_aleatoric")) for name in claimed.implemented_properties)
    np.testing.assert_allclose(claimed.get_property("forces_uncertainty", atoms), p.forces_uncertainty)
    assert available(claimed.prediction()) == set(claimed.implemented_properties) and not claimed.prediction().rotates
    with pytest.raises(ValueError, match="cannot change model of a Claimed"):
        claimed.set(model="other")


def test_without_many_at_once_it_goes_one_by_one_and_never_calibrated():
    data, committee = labelled(4, 0.1), Committee()
    one, many = (residuals_of(predict_dataset(p, data), data) for p in (Plain(committee), committee))
    np.testing.assert_array_equal(one.forces, many.forces)
    assert one.forces_members == one.energy_members == len(WIDTHS)
    assert residuals_of(predict_dataset(Claimed(), data), data).forces_members is None
    committee.calibration = calibrate(committee, labelled(12, 0.1))[0]
    with pytest.raises(ValueError, match="Plain gives calibrated predictions only"):
        predict_dataset(Plain(committee), data.subset([2, 3]))


def test_all_of_it_without_torch():
    program = (
        "import sys, pytest; status = pytest.main(['-q', '-p', 'no:cacheprovider', '-p', 'no:xdist', '-k', 'Committee', "
        f"'--noconftest', {str(Path(__file__))!r}]); assert 'torch' not in sys.modules, 'torch was imported'; sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
