"""Shape × size: known numbers are found, covariances are positive definite and turn, size follows the spread, parts make the total."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from scipy.spatial.transform import Rotation

from race_calc import RACECalculator
from race_calc.data.graph import from_atoms
from race_calc.interfaces.committee import Committee
from race_calc.uncertainty.aggregate import MemberOutputs, aggregate
from race_calc.uncertainty.bald import bald_forces
from race_calc.uncertainty.calibration import Calibration, fit_calibration
from race_calc.uncertainty.calibration_vectors import FACTOR, SHAPE_SIZE, VectorCalibration
from race_calc.uncertainty.held_back import Told
from race_calc.uncertainty.level_map import FLAT
from race_calc.uncertainty.metrics import coverage, mahalanobis
from race_calc.uncertainty.residuals import Residuals
from race_calc.uncertainty.shape_size import DEGREE, ShapeSize, VectorSpread, fit_shape_size
from race_calc.uncertainty.storage import from_dict, to_dict
from race_calc.uncertainty.surroundings import REACH, local_mean, with_surroundings
from race_calc.uncertainty.vectors import forces_of

TRUE = ShapeSize(scale=30.0, shape=0.6, own=0.7, floor=1e-15, degree=1.0)


def covariances(n, rng):
    root = rng.normal(size=(n, 3, 3)) + 0.3 * np.eye(3)
    return (root @ root.swapaxes(1, 2) + 0.1 * np.eye(3)) * np.exp(rng.normal(size=(n, 1, 1)))


def spread(n=40, seed=0, aleatoric=True):
    rng = np.random.default_rng(seed)
    return VectorSpread(covariances(n, rng), covariances(n, rng) if aleatoric else None, np.exp(rng.normal(size=n)))


def drawn(form, of, seed):
    rng = np.random.default_rng(seed)
    return np.einsum("nij,nj->ni", np.linalg.cholesky(form.total(of)), rng.normal(size=(len(of.nearby), 3)))


def residuals(form, structures=200, seed=0, aleatoric=True) -> Residuals:
    """Errors with the covariances of `form`, or with those of the members and nothing else for None; 5 atoms a structure."""
    of = spread(5 * structures, seed, aleatoric)
    total = of.epistemic if of.aleatoric is None else of.epistemic + of.aleatoric
    covariance = total if form is None else form.total(of)
    noise = np.random.default_rng(seed + 1).normal(size=(5 * structures, 3))
    return Residuals(
        energy=np.zeros(structures),
        forces=np.einsum("nij,nj->ni", np.linalg.cholesky(covariance), noise),
        forces_covariance=total,
        forces_aleatoric=of.aleatoric,
        forces_nearby=of.nearby,
        frame=np.repeat(np.arange(structures), 5),
        numbers=np.tile([1, 1, 1, 6, 8], structures),
        force_size=np.ones(5 * structures),
    )


@pytest.mark.parametrize("aleatoric", [True, False])
def test_known_numbers_are_found(aleatoric):
    of = spread(6000, aleatoric=aleatoric)
    found = fit_shape_size(drawn(TRUE, of, 1), of, TRUE.degree)
    assert found.own == pytest.approx(TRUE.own, abs=0.03) and found.shape == pytest.approx(TRUE.shape, abs=0.05)
    assert found.scale == pytest.approx(TRUE.scale, rel=0.05) and found.degree == TRUE.degree


@pytest.mark.parametrize("aleatoric", [True, False])
def test_the_formula(aleatoric):
    of = spread(3, aleatoric=aleatoric)
    for i in range(3):
        e, size = np.trace(of.epistemic[i]) / 3, 30.0 * of.nearby[i] ** 0.3
        if aleatoric:
            a, axes = np.linalg.eigh(of.aleatoric[i])
            shape = (axes * (a**0.6 / np.mean(a**0.6))) @ axes.T
            size *= (np.sum(a) / 3) ** 0.3
        else:
            shape = 0.4 * np.eye(3) + 0.6 * of.epistemic[i] / e
        np.testing.assert_allclose(TRUE.total(of)[i], size * e**0.7 * shape, rtol=1e-9)


def test_every_element_has_its_size():
    """Oxygen wrong by twice as much: its factor is that of the definition, and an element that was not there has none."""
    of = replace(spread(3000), numbers=np.repeat([1, 8], [2900, 100]))
    difference = drawn(TRUE, of, 1) * np.where(of.numbers == 8, 2.0, 1.0)[:, None]
    found = fit_shape_size(difference, of, TRUE.degree)
    squared = mahalanobis(difference, replace(found, elements=()).total(of)) / 3
    expected = {z: (squared[of.numbers == z].sum() + 100) / ((of.numbers == z).sum() + 100) for z in (1, 8)}
    assert dict(found.elements) == pytest.approx(expected, rel=1e-9)
    assert 1.9 < expected[8] < 2.7 and expected[1] == pytest.approx(0.92, abs=0.05)  # 4, held back by as many atoms as there are
    plain, other = replace(found, elements=()).total(of), replace(of, numbers=np.where(of.numbers == 8, 7, 1))
    np.testing.assert_allclose(found.total(of)[-1], expected[8] * plain[-1], rtol=1e-12)
    np.testing.assert_allclose(found.total(other)[-1], plain[-1], rtol=1e-12)
    np.testing.assert_allclose(found.total(replace(of, numbers=None)), plain, rtol=1e-12)
    np.testing.assert_allclose(sum(found.parts(of)), found.total(of), rtol=1e-9)


def test_positive_definite_and_turning():
    of = spread()
    turn = Rotation.random(rng=np.random.default_rng(3)).as_matrix()
    turned = VectorSpread(turn @ of.epistemic @ turn.T, turn @ of.aleatoric @ turn.T, of.nearby)
    np.testing.assert_allclose(TRUE.total(turned), turn @ TRUE.total(of) @ turn.T, rtol=1e-10, atol=1e-10)
    for before, after in zip(TRUE.parts(of), TRUE.parts(turned)):
        np.testing.assert_allclose(after, turn @ before @ turn.T, rtol=1e-9, atol=1e-9)
        assert (np.linalg.eigvalsh(before) > 0).all()


@pytest.mark.parametrize("degree", [1.0, 1.2])
def test_the_size_is_homogeneous_in_the_spread(degree):
    of, form = spread(), replace(TRUE, degree=degree)
    wide = VectorSpread(4 * of.epistemic, of.aleatoric, 4 * of.nearby)
    np.testing.assert_allclose(form.total(wide), 4**degree * form.total(of), rtol=1e-9)


def test_the_parts_make_the_total_and_keep_their_mutual_information():
    rng = np.random.default_rng(0)
    forces, noise = rng.normal(size=(6, 4, 3)), np.stack([covariances(4, rng) for _ in range(6)])
    p = aggregate(MemberOutputs(energy=np.zeros((6, 1)), forces=forces, force_cov=noise, batch=np.zeros(4, dtype=int)))
    of = VectorSpread(p.forces_covariance_epistemic, p.forces_covariance_aleatoric, np.ones(4))
    epistemic, aleatoric = TRUE.parts(of)
    np.testing.assert_allclose(epistemic + aleatoric, TRUE.total(of), rtol=1e-9)
    total = of.epistemic + of.aleatoric
    for i in range(4):  # C of the text, applied to the noise of each member
        change = np.linalg.cholesky(TRUE.total(of)[i]) @ np.linalg.inv(np.linalg.cholesky(total[i]))
        after = bald_forces((change @ of.epistemic[i] @ change.T)[None], (change @ noise[:, i] @ change.T)[:, None])
        assert after[0] == pytest.approx(p.bald_forces[i], rel=1e-9)
        gain = np.linalg.slogdet(epistemic[i] + aleatoric[i])[1] - np.linalg.slogdet(aleatoric[i])[1]
        assert gain == pytest.approx(np.linalg.slogdet(total[i])[1] - np.linalg.slogdet(of.aleatoric[i])[1], rel=1e-9)


def test_two_members_have_ellipsoids():
    draws = np.random.default_rng(0).normal(size=(2, 50, 3))
    p = aggregate(MemberOutputs(energy=np.zeros((2, 1)), forces=draws, batch=np.zeros(50, dtype=int)))
    of = VectorSpread(p.forces_covariance_epistemic, None, np.ones(50))
    found = fit_shape_size(np.random.default_rng(1).normal(size=(50, 3)), of)
    assert np.isfinite(mahalanobis(draws[0], found.total(of))).all()


def test_forces_that_vanish_by_symmetry_have_the_floor():
    of = spread(300)
    nothing = VectorSpread(np.zeros((1, 3, 3)), np.eye(3)[None], np.zeros(1))
    form = fit_shape_size(drawn(TRUE, of, 1), of)
    assert 0.01 < np.sqrt(np.trace(form.total(nothing)[0]) / np.median(np.trace(form.total(of), axis1=1, axis2=2))) < 0.3
    assert all(np.isfinite(part).all() for part in form.parts(nothing))
    bare = replace(nothing, aleatoric=None)
    np.testing.assert_allclose(form.total(bare)[0], form.total(bare)[0, 0, 0] * np.eye(3))
    broken = VectorSpread(np.full((1, 3, 3), np.nan), np.eye(3)[None], np.full(1, np.nan))
    assert np.isnan(TRUE.total(broken)).all() and np.isnan(TRUE.parts(broken)[0]).all()


def test_a_noise_of_zero_is_no_shape():
    of = spread(200)
    zero = replace(of, aleatoric=0 * of.aleatoric)
    found = fit_shape_size(np.ones((200, 3)), zero)
    assert found == fit_shape_size(np.ones((200, 3)), replace(of, aleatoric=None))
    epistemic, aleatoric = found.parts(zero)
    np.testing.assert_array_equal(epistemic, found.total(zero))
    assert not aleatoric.any()


def test_one_atom_of_no_spread_does_not_decide():
    """A reference error of 1 meV/Å where forces vanish by symmetry, among 1000 atoms with errors of 10."""
    of = spread(1000)
    small = replace(of, epistemic=1e-4 * of.epistemic, nearby=1e-4 * of.nearby)
    difference = drawn(TRUE, small, 1)
    plain = fit_shape_size(difference, small)
    small.epistemic[0], small.nearby[0], difference[0] = 0.0, 0.0, 0.1 * difference.std()
    again = fit_shape_size(difference, small)
    assert again.scale == pytest.approx(plain.scale, rel=0.3) and again.own == pytest.approx(plain.own, abs=0.05)


def test_a_shape_of_many_sizes_prints_nothing(recwarn):
    of = spread(20)
    needles = replace(of, aleatoric=np.broadcast_to(np.diag([1e-40, 1.0, 1.0]), (20, 3, 3)).copy())
    try:
        fit_shape_size(np.ones((20, 3)), needles)
    except ValueError as error:
        assert "no scale" in str(error)
    assert not recwarn.list


def test_what_cannot_be_fitted():
    of = spread(10)
    with pytest.raises(ValueError, match="do not differ"):
        fit_shape_size(np.ones((10, 3)), replace(of, epistemic=0 * of.epistemic))
    with pytest.raises(ValueError, match="not positive definite"):
        fit_shape_size(np.ones((10, 3)), replace(of, aleatoric=of.aleatoric * [[1, 0, 0], [0, 0, 0], [0, 0, 1]]))
    with pytest.raises(ValueError, match="is no scale"):
        fit_shape_size(np.zeros((10, 3)), of)


def test_the_better_of_the_two_is_taken():
    followed = fit_calibration(residuals(TRUE)).forces
    told = {one.name: one.nll for one in followed.held_back}
    assert followed.form is not None and told[SHAPE_SIZE] < told[FACTOR] - 0.1
    as_said = fit_calibration(residuals(None)).forces
    told = {one.name: one.nll for one in as_said.held_back}
    assert as_said.form is None and told[FACTOR] < told[SHAPE_SIZE]
    unknown = fit_calibration(replace(residuals(TRUE), forces_nearby=None)).forces
    assert unknown.form is None and unknown.held_back == ()


def test_spread_of_few_members_gets_ellipsoids():
    raw = replace(residuals(TRUE, aleatoric=False), forces_members=4)
    found = fit_calibration(raw).forces
    assert found.form is not None and found.ellipsoids is not None and len(found.conformal) == 3
    assert found.radius(0.9) == pytest.approx(np.sqrt(6.251), abs=0.2)


def test_new_data_with_a_larger_spread_are_covered():
    form = replace(TRUE, degree=DEGREE)
    calibration = fit_calibration(residuals(form, 300))
    known = residuals(form, 300, seed=5)
    wide = VectorSpread(9 * forces_of(known).spread.epistemic, known.forces_aleatoric, 9 * known.forces_nearby)
    hot = replace(known, forces=3**DEGREE * known.forces, forces_covariance=wide.epistemic + wide.aleatoric, forces_nearby=wide.nearby)
    scaled = calibration.scaled(hot)
    for level in (0.68, 0.9, 0.95):
        assert coverage(scaled.forces, scaled.forces_std, level) == pytest.approx(level, abs=0.02)
    assert forces_of(scaled).spread is None  # a calibration is applied once


def test_prediction_and_residuals_are_scaled_alike():
    raw = residuals(TRUE, 4)
    calibration = fit_calibration(residuals(TRUE))
    of = forces_of(raw).spread
    several = aggregate(MemberOutputs(energy=np.zeros((4, 4)), forces=np.zeros((4, 20, 3)), batch=raw.frame))
    parts = {"forces_covariance_epistemic": of.epistemic, "forces_covariance_aleatoric": of.aleatoric}
    p = replace(several, **parts, forces_nearby=raw.forces_nearby, numbers=raw.numbers)
    after = calibration.apply(p)
    np.testing.assert_allclose(after.forces_covariance, calibration.scaled(raw).forces_covariance, rtol=1e-9)
    assert after.forces_nearby is None  # a calibration is applied once
    unsplit = replace(p, forces_covariance_epistemic=None, forces_covariance_aleatoric=None, forces_covariance_unsplit=of.epistemic)
    expected = calibration.forces.form.total(replace(of, aleatoric=None))
    np.testing.assert_allclose(calibration.apply(unsplit).forces_covariance, expected, rtol=1e-9)
    factor = calibration.apply(replace(p, forces_nearby=None))  # of who does not tell the surroundings
    np.testing.assert_allclose(factor.forces_covariance, calibration.forces.scale * p.forces_covariance)


def test_storage():
    calibration = replace(fit_calibration(residuals(TRUE, 20)), data_hash="ab")
    state = json.loads(json.dumps(to_dict(calibration), allow_nan=False))
    assert from_dict(state) == calibration and len(calibration.forces.form.elements) == 3
    before = state["forces"]["form"] | {"elements": ()}  # as in version 2, which had none
    del before["elements"]
    assert from_dict(state | {"forces": state["forces"] | {"form": before}}).forces.form == replace(calibration.forces.form, elements=())
    endless = replace(calibration, forces=replace(calibration.forces, held_back=(Told(FACTOR, np.inf), Told(SHAPE_SIZE, 1.0))))
    assert from_dict(json.loads(json.dumps(to_dict(endless), allow_nan=False))) == endless
    older = {name: value for name, value in state["forces"].items() if name not in ("form", "held_back")}
    assert from_dict(state | {"forces": older}).forces.form is None
    for name, value in (
        ("own", -1.0),
        ("own", 1.3),
        ("shape", float("nan")),
        ("scale", 0.0),
        ("floor", -1.0),
        ("degree", None),
        ("elements", [[6, 0.0]]),
        *(("elements", bad) for bad in ([[200, 1.0]], [[6.5, 1.0]], [[6]], [["C", 1.0]], [[6, 1.0], [6, 2.0]], [7])),
    ):
        spoilt = state["forces"] | {"form": state["forces"]["form"] | {name: value}}
        with pytest.raises(ValueError, match="calibrate the model again"):
            from_dict(state | {"forces": spoilt})


def test_the_mean_around_an_atom():
    atoms = molecule("CH3CH2OH")
    graph = from_atoms(atoms, REACH)
    values = np.arange(9.0)
    distances = atoms.get_all_distances()
    weight = np.where(distances < REACH, 0.5 * (1 + np.cos(np.pi * distances / REACH)), 0.0)
    found = local_mean(values, graph.edge_index, np.linalg.norm(graph.edge_vectors, axis=1))
    np.testing.assert_allclose(found, weight @ values / weight.sum(axis=1))
    apart = atoms + Atoms(atoms.numbers, atoms.positions + [30.0, 0, 0])
    both = from_atoms(apart, REACH)
    again = local_mean(np.concatenate([values, 100 * values]), both.edge_index, np.linalg.norm(both.edge_vectors, axis=1))
    np.testing.assert_allclose(again, np.concatenate([found, 100 * found]))


def test_a_supercell_has_the_surroundings_of_its_cell():
    cell = bulk("Si", a=5.4, cubic=True)
    cell.rattle(0.1, seed=0)
    values = np.arange(8.0)
    found = []
    for repeated in (cell, cell * (2, 1, 1)):
        graph = from_atoms(repeated, REACH)
        every = np.tile(values, len(repeated) // 8)
        found.append(local_mean(every, graph.edge_index, np.linalg.norm(graph.edge_vectors, axis=1))[:8])
    np.testing.assert_allclose(*found)


SIZED = replace(TRUE, elements=((6, 2.0), (8, 0.5)))


def made(form=SIZED):
    return Calibration("", 50, None, VectorCalibration(2.0, FLAT, None, (), form))


def test_the_calculator_applies_it(tiny_model):
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    raw = RACECalculator(tiny_model, calibrated=False).prediction(atoms)
    atoms.calc = RACECalculator(tiny_model)
    atoms.calc.calibration = made()
    results = atoms.calc.get_property("forces_covariance", atoms)
    of = VectorSpread(raw.forces_covariance_epistemic, raw.forces_covariance_aleatoric, raw.forces_nearby, atoms.numbers)
    np.testing.assert_allclose(results, SIZED.total(of), rtol=1e-9)
    single = RACECalculator(tiny_model, dtype="float32")
    single.calibration = made()
    np.testing.assert_allclose(single.get_property("forces_covariance", atoms), results, rtol=1e-2, atol=1e-3 * np.abs(results).max())
    other = molecule("CH4")
    (both,) = atoms.calc.raw_predictions([atoms, other])  # one batch
    each = [made().apply(RACECalculator(tiny_model, calibrated=False).prediction(one)).forces_covariance for one in (atoms, other)]
    np.testing.assert_allclose(made().apply(both).forces_covariance, np.concatenate(each), rtol=1e-7, atol=1e-12)
    parts = sum(atoms.calc.results[f"forces_covariance_{part}"] for part in ("epistemic", "aleatoric"))
    np.testing.assert_allclose(parts, results, rtol=1e-9)
    np.testing.assert_allclose(atoms.calc.results["bald_forces"], raw.bald_forces)


def test_a_foreign_potential_gets_its_surroundings(tiny_model):
    from ase.calculators.lj import LennardJones

    atoms = molecule("CH3CH2OH")
    committee = Committee([LennardJones(sigma=s, rc=4.0) for s in (0.9, 0.91, 0.93)], calibration=made())
    (raw,) = committee.raw_predictions([atoms])
    with_them = with_surroundings(replace(raw, forces_nearby=None), from_atoms(atoms, REACH))
    np.testing.assert_array_equal(raw.forces_nearby, with_them.forces_nearby)
    expected = SIZED.total(VectorSpread(raw.forces_covariance_epistemic, None, raw.forces_nearby, atoms.numbers))
    np.testing.assert_allclose(committee.get_property("forces_covariance", atoms), expected, rtol=1e-9)
    told = committee._surrounded(replace(with_them, numbers=None), atoms)  # of who gives the surroundings only
    np.testing.assert_array_equal(told.numbers, atoms.numbers)
