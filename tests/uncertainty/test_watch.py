"""The monitor's criteria on predictions as they come: structures of several kinds, models without thresholds."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk, molecule

from race_calc import Criterion
from race_calc.uncertainty.aggregate import MemberOutputs, aggregate
from race_calc.uncertainty.watch import Watch

RMS, PRESSURE = "forces_uncertainty_rms_epistemic", "pressure_uncertainty_epistemic"
THRESHOLDS = {RMS: 1e-3, "forces_uncertainty_max_epistemic": 1e9, PRESSURE: 1e9, "energy_uncertainty_per_atom_epistemic": 1e9}


def prediction(atoms, size=1e-2, seed=0, several=1):
    n, random = len(atoms), np.random.default_rng(seed)
    stress = random.normal(size=(4, several, 3, 3)) if atoms.pbc.all() else None
    return aggregate(
        MemberOutputs(
            energy=random.normal(size=(4, several)),
            forces=size * random.normal(size=(4, n * several, 3)),
            batch=np.repeat(np.arange(several), n),
            stress=stress,
        )
    )


def test_structures_of_another_kind_have_other_criteria_and_keep_the_counts():
    crystal, one = bulk("Si"), molecule("H2O")
    watch = Watch(THRESHOLDS)
    watch.check(prediction(crystal), [crystal], 0)
    assert PRESSURE in {c.name for c in watch.criteria}
    watch.check(prediction(one), [one], 1)
    assert PRESSURE not in {c.name for c in watch.criteria}
    decision = watch.check(prediction(crystal), [crystal], 2)
    assert PRESSURE in {c.name for c in watch.criteria}
    assert {v.in_a_row for v in decision.violations if v.criterion == RMS} == {3}


def test_of_several_the_worst_counts():
    atoms = molecule("H2O")
    watch = Watch({}, [Criterion(RMS, 1e-3, "halt", 2)])
    several = prediction(atoms, several=3)
    quiet = several.forces_covariance_epistemic.copy()
    quiet[:6] *= 1e-9
    several = replace(several, forces_covariance_epistemic=quiet)
    assert watch.check(several, [atoms] * 3, 0).halting is None
    halting = watch.check(several, [atoms] * 3, 1).halting
    assert halting.image == 2 and halting.in_a_row == 2
    assert watch.check(replace(several, forces_covariance_epistemic=1e-9 * quiet), [atoms] * 3, 2).violations == ()


def test_without_thresholds_nothing_is_watched_and_a_warning_says_so():
    atoms = molecule("H2O")
    watch = Watch({})
    with pytest.warns(UserWarning, match="nothing is watched: .*race-calc calibrate"):
        assert watch.check(prediction(atoms), [atoms], 0).violations == ()
    assert watch.check(prediction(atoms), [atoms], 1).halting is None and watch.criteria == ()
    with pytest.raises(ValueError, match="cannot give the criterion"):
        Watch({}, [Criterion(PRESSURE, 1.0)]).check(prediction(atoms), [atoms], 0)
