"""Structure scores against loops over structures."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from race_calc.uncertainty.aggregate import MemberOutputs, aggregate
from race_calc.uncertainty.scores import CRITERIA, SCORES, all_scores, available_criteria, score

BATCH = np.array([0, 0, 1, 1, 1, 2])
MOLECULE = tuple(name for name in CRITERIA if not any(of in name for of in ("stress", "pressure", "volume", "gap")))


def prediction(members=3, aleatoric=True, batch=BATCH, distance=True, stress=False):
    rng = np.random.default_rng(5)
    structures, atoms = batch.max() + 1, len(batch)
    root = rng.normal(size=(members, atoms, 3, 3))
    found = aggregate(
        MemberOutputs(
            energy=rng.normal(size=(members, structures)),
            atom_energy=rng.normal(size=(members, atoms)),
            forces=rng.normal(size=(members, atoms, 3)),
            stress=rng.normal(size=(members, structures, 3, 3)) if stress else None,
            energy_var=rng.uniform(0.1, 1.0, size=(members, structures)) if aleatoric else None,
            force_cov=root @ root.swapaxes(-1, -2) + 0.1 * np.eye(3) if aleatoric else None,
            batch=batch,
        )
    )
    return replace(found, feature_distance=rng.uniform(size=atoms) if distance else None)


def test_bald():
    p = prediction()
    np.testing.assert_array_equal(score(p, "bald_energy")[0], p.bald_energy)
    largest, atoms = score(p, "bald_forces_max")
    mean, no_atoms = score(p, "bald_forces_mean")
    assert no_atoms is None
    for b in range(3):
        own = p.bald_forces[b == BATCH]
        assert largest[b] == own.max() and own[atoms[b]] == own.max()
        assert mean[b] == pytest.approx(own.mean())


@pytest.mark.parametrize("suffix", ["", "_epistemic"])
def test_standard_deviations(suffix):
    p = prediction()
    variance = p.energy_epistemic if suffix else p.energy_variance
    covariance = p.forces_covariance_epistemic if suffix else p.forces_covariance
    values, atoms = score(p, f"energy_uncertainty_per_atom{suffix}")
    np.testing.assert_allclose(values, np.sqrt(variance) / [2, 3, 1])
    assert atoms is None
    values, atoms = score(p, f"forces_uncertainty_max{suffix}")
    for b in range(3):
        axes = [np.sqrt(np.linalg.eigvalsh(c)[-1]) for c in covariance[b == BATCH]]
        assert values[b] == pytest.approx(max(axes)) and atoms[b] == np.argmax(axes)
    values, atoms = score(p, f"forces_uncertainty_rms{suffix}")
    assert atoms is None
    for b in range(3):
        components = np.diagonal(covariance[b == BATCH], axis1=1, axis2=2)
        assert values[b] == pytest.approx(np.sqrt(components.mean()))


def test_the_order_of_atoms_in_the_batch_does_not_matter():
    p = prediction(batch=np.array([2, 0, 1, 1, 0, 1]))
    values, atoms = score(p, "bald_forces_max")
    for b in range(3):
        own = p.bald_forces[p.batch == b]
        assert values[b] == own.max() and atoms[b] == np.argmax(own)


def test_stress_and_pressure():
    """The largest σ along any axis of the space of stresses, and that of −tr σ/3, from the members themselves."""
    p = prediction(stress=True)
    covariance = p.stress_covariance_epistemic
    weights = np.array([1, 1, 1, 2**0.5, 2**0.5, 2**0.5])
    largest, pressure = (score(p, f"{name}_epistemic")[0] for name in ("stress_uncertainty_max", "pressure_uncertainty"))
    for b in range(3):
        assert largest[b] == pytest.approx(np.sqrt(np.linalg.eigvalsh(covariance[b] * weights * weights[:, None])[-1]))
        assert pressure[b] == pytest.approx(np.sqrt(np.ones(3) @ covariance[b][:3, :3] @ np.ones(3)) / 3)
    assert set(available_criteria(p)) - set(MOLECULE) == {
        name + part for name in ("stress_uncertainty_max", "pressure_uncertainty") for part in ("", "_epistemic")
    }


def test_feature_distance():
    p = prediction()
    values, atoms = score(p, "feature_distance_max")
    for b in range(3):
        own = p.feature_distance[b == BATCH]
        assert values[b] == own.max() and own[atoms[b]] == own.max()
    assert "feature_distance_max" not in available_criteria(prediction(distance=False))


@pytest.mark.parametrize(
    ("members", "aleatoric", "expected"),
    [
        (3, True, MOLECULE),
        (3, False, tuple(n for n in MOLECULE if "bald" not in n)),
        (1, True, ("energy_uncertainty_per_atom", "forces_uncertainty_max", "forces_uncertainty_rms", "feature_distance_max")),
        (1, False, ("feature_distance_max",)),
    ],
)
def test_available_criteria(members, aleatoric, expected):
    p = prediction(members, aleatoric)
    assert available_criteria(p) == expected == tuple(all_scores(p))
    for name in set(CRITERIA) - set(expected):
        with pytest.raises(ValueError, match=f"cannot give the criterion '{name}'.*available: "):
            score(p, name)


def test_an_unknown_criterion_names_the_known_ones():
    with pytest.raises(ValueError, match="'bald'.*bald_forces_max"):
        score(prediction(), "bald")


def test_a_broken_atom_is_not_hidden():
    p = prediction()
    covariance = p.forces_covariance_epistemic.copy()
    covariance[3] = np.nan
    bald = p.bald_forces.copy()
    bald[3] = np.nan
    p = replace(p, forces_covariance_epistemic=covariance, bald_forces=bald)
    np.testing.assert_array_equal(np.isnan(score(p, "forces_uncertainty_rms")[0]), [False, True, False])
    for name in ("forces_uncertainty_max", "forces_uncertainty_max_epistemic", "bald_forces_max"):
        values, atoms = score(p, name)
        np.testing.assert_array_equal(np.isnan(values), [False, True, False])
        assert atoms[1] == 1
    np.testing.assert_array_equal(np.isnan(score(p, "bald_forces_mean")[0]), [False, True, False])


def test_the_table_of_criteria():
    """In the order of tables and files: unit, of what, maximum over atoms, epistemic part only, name on a line of the demo."""
    names = [
        name
        for part in ("energy_uncertainty_per_atom", "forces_uncertainty_max", "forces_uncertainty_rms")
        for name in (part, f"{part}_epistemic")
    ]
    assert list(CRITERIA)[:9] == ["bald_energy", "bald_forces_max", "bald_forces_mean", *names]
    rows = [SCORES[name] for name in list(CRITERIA)[:9]]
    assert [row.unit for row in rows] == ["nat"] * 3 + ["eV/atom"] * 2 + ["eV/Å"] * 4
    assert [row.of for row in rows] == ["energy", "forces", "forces", "energy", "energy"] + ["forces"] * 4
    assert [row.name for row in rows if row.worst_atom] == ["bald_forces_max", "forces_uncertainty_max", "forces_uncertainty_max_epistemic"]
    assert [row.name for row in rows if row.epistemic] == names[1::2]
    assert {row.name: row.short for row in rows if row.short} == {"forces_uncertainty_max": "largest", "forces_uncertainty_rms": "force σ"}
    assert rows[3].text(0.12345) == "0.123 eV/atom"


@pytest.mark.parametrize("pbc, told", [((True, True, True), True), ((True, True, False), False), ((True, False, False), False)])
def test_only_what_fills_space_has_scores_of_stress_and_volume(pbc, told):
    """The volume of a slab is that of its vacuum."""
    p = prediction(stress=True)
    atoms = [Atoms("Ar", cell=[4, 4, 9], pbc=pbc)] * len(p.energy)
    names = available_criteria(p, atoms)
    assert [name in names for name in ("stress_uncertainty_max", "pressure_uncertainty", "volume_per_atom")] == [told] * 3
    if not told:
        with pytest.raises(ValueError, match="repeats in three directions"):
            score(p, "pressure_uncertainty", atoms)
