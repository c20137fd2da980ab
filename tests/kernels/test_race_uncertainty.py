"""The uncertainties of race.h, calibrated and as the members say them, against RACECalculator."""

import ctypes
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read
from in_c import OK, Model, structure_of

from race_calc import RACECalculator
from race_calc.data.graph import from_atoms
from race_calc.data.references import References
from race_calc.interfaces.export import export
from race_calc.interfaces.export_calibration import uncertainty_arrays
from race_calc.model.config import ModelConfig
from race_calc.model.parameters import initialise, is_last_layer
from race_calc.model.plan import make_plan
from race_calc.model.race import Race
from race_calc.posterior.checkpoint import Checkpoint, load_checkpoint
from race_calc.posterior.given import Noise
from race_calc.posterior.load import load_stack
from race_calc.uncertainty.calibration import Calibration
from race_calc.uncertainty.calibration_energy import EnergyCalibration
from race_calc.uncertainty.calibration_vectors import VectorCalibration
from race_calc.uncertainty.energy_size import EnergySize, Source
from race_calc.uncertainty.level_map import FLAT
from race_calc.uncertainty.prediction import principal_std
from race_calc.uncertainty.shape_size import ShapeSize, mean_variance

pytestmark = pytest.mark.usefixtures("kernels")


def at(array):
    return ctypes.c_void_p(array.ctypes.data)


def uncertainty(model, atoms, calibrated):
    """σ of the energy, covariances of forces, principal σ: what an engine does with race.h."""
    status, message, found = model.evaluate(atoms)
    assert status == OK, message
    library, n = model.library, len(atoms)
    graph, count = from_atoms(atoms, model.info.cutoff), ctypes.c_int64(len(atoms))
    first = np.concatenate([[0], np.cumsum(np.bincount(graph.edge_index[0], minlength=n))])
    arrays = {"numbers": graph.numbers, "first": first, "neighbour": np.ascontiguousarray(graph.edge_index[1])}
    arrays |= {"vectors": graph.edge_vectors.copy()}
    structure, numbers = structure_of(n, arrays), np.ascontiguousarray(graph.numbers)
    between, predicted, total = (np.full((n, 3, 3), np.nan) for _ in range(3))
    logs = at(found["log_covariances"]) if model.info.has_covariance else None
    library.race_spread(model.pointer, count, count, at(found["forces"]), logs, at(between), at(predicted))
    own, nearby, std = mean_variance(between), np.full(n, np.nan), np.full(n, np.nan)
    library.race_nearby(model.pointer, ctypes.byref(structure), at(own), at(nearby))
    given = at(numbers), at(between), at(predicted), at(nearby), at(total)
    library.race_covariance(model.pointer, int(calibrated), count, *given)
    library.race_principal(count, at(total), at(std))
    around, variance = library.race_energy_around, library.race_energy_variance
    around.restype = variance.restype = ctypes.c_double
    part = around(model.pointer, count, at(between), at(nearby))
    variances = at(found["variances"]) if model.info.has_variance else None
    features = found["features"].sum(axis=0)
    of_energy = at(found["energies"]), variances, at(features), ctypes.c_double(part)
    return np.sqrt(variance(model.pointer, int(calibrated), count, *of_energy)), total, std


def shaken(name):
    if name == "silicon":
        atoms = bulk("Si", cubic=True)
    elif name == "3bpa-de":
        atoms = read("models/3bpa-de/start.xyz")
    else:
        atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    return atoms


# factors; sizes of energies and forces, shape × size; sizes without that of forces, a closed form
@pytest.mark.parametrize("calibrated", [True, False])
@pytest.mark.parametrize("name", ["silicon", "3bpa-de", "3bpa-llpr"])
def test_the_numbers_of_the_calculator(tmp_path, name, calibrated):
    export(load_checkpoint(f"models/{name}"), tmp_path / "model.race")
    model, atoms = Model(tmp_path / "model.race"), shaken(name)
    assert model.info.calibrated == 1 and model.info.closed_form == (name == "3bpa-llpr")
    calculator = RACECalculator(f"models/{name}", "cpu", calibrated=calibrated)
    expected = calculator.prediction(atoms)
    energy, covariance, std = uncertainty(model, atoms, calibrated)
    assert energy == pytest.approx(expected.energy_uncertainty[0], abs=1e-9)
    np.testing.assert_allclose(covariance, expected.forces_covariance, rtol=0, atol=1e-9)
    np.testing.assert_allclose(std, principal_std(expected.forces_covariance), rtol=0, atol=1e-9)


def test_predicted_covariances_end_where_those_of_the_calculator_do(tmp_path):
    """Atoms that come so close that the logarithm is far above its bound."""
    export(load_checkpoint("models/silicon", calibration=False), tmp_path / "model.race")
    atoms = shaken("silicon")
    atoms.positions[1] = atoms.positions[0] + [0.5, 0.4, 0.3]
    expected = RACECalculator("models/silicon", "cpu", calibrated=False).prediction(atoms)
    _, covariance, _ = uncertainty(Model(tmp_path / "model.race"), atoms, False)
    assert expected.forces_covariance_aleatoric.max() > 1e5 and np.isfinite(covariance).all()
    np.testing.assert_allclose(covariance, expected.forces_covariance, rtol=1e-7, atol=1e-7)


def test_a_file_without_a_calibration(tmp_path):
    export(load_checkpoint("models/silicon", calibration=False), tmp_path / "model.race")
    model, atoms = Model(tmp_path / "model.race"), shaken("silicon")
    assert model.info.calibrated == 0
    as_said, calibrated = uncertainty(model, atoms, False), uncertainty(model, atoms, True)
    assert as_said[0] == calibrated[0] and np.array_equal(as_said[1], calibrated[1])


FORM = ShapeSize(40.0, 0.6, 0.5, 1e-6, 1.1, ((6, 1.3), (8, 0.8)))
SIZES = EnergySize((Source("energies", 300.0, 1.4, 1e-8, 0.2), Source("forces", 0.4, 1.5, 1e-6, 0.8)))


def made(head, members, noise):
    """An untrained model with a calibration that has every form."""
    config = ModelConfig(hidden_irreps="4x0e+4x1o+4x2e", l_max=2, layers=2, features_dim=4, radial_hidden=(8,), cutoff=4.0, head=head)
    references = References(species=(1, 6, 8), energies=(-13.6, -1029.5, -2042.0), shift=-0.1, scale=0.5)
    plan = make_plan(config, 3)
    offsets = {"energy_var_offset": -6.0, "force_cov_offset": -4.0} if head == "joint" else {}
    energy = EnergyCalibration(2.0, 0.5, FLAT, (), SIZES)
    calibration = Calibration("", 100, energy, VectorCalibration(1.7, FLAT, None, (), FORM))
    parameters = initialise(plan, list(range(members)), offsets)
    model = Race(plan, references.species, references.scale, 6.0)
    return Checkpoint(model, references, parameters, "deep-ensemble", calibration=calibration, noise=noise)


@pytest.mark.parametrize("noise", [None, Noise(1e-4, 2e-3)])
@pytest.mark.parametrize("head, members", [("mse", 5), ("mse", 2), ("joint", 1), ("joint", 3)])
def test_every_kind_of_spread(tmp_path, head, members, noise):
    """Members alone, two of which span no space; the noise of labels; one member, which has no spread; isolated atoms, without forces."""
    checkpoint = made(head, members, noise)
    export(checkpoint, tmp_path / "model.race")
    model, atoms = Model(tmp_path / "model.race"), molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    atoms += Atoms("O", [[30.0, 0, 0]])
    stack = load_stack(checkpoint, torch.float64, torch.device("cpu"))
    said = stack.predict(from_atoms(atoms, model.info.cutoff))
    for expected, calibrated in ((said, False), (checkpoint.calibration.apply(said), True)):
        energy, covariance, std = uncertainty(model, atoms, calibrated)
        if expected.energy_uncertainty is not None:
            assert energy == pytest.approx(expected.energy_uncertainty[0], rel=1e-9)
        total = expected.forces_covariance
        np.testing.assert_allclose(covariance, total, rtol=0, atol=1e-10 * np.abs(total).max())
        np.testing.assert_allclose(std, principal_std(total), rtol=0, atol=1e-7 * np.sqrt(np.abs(total).max()))


def test_a_shared_trunk_takes_the_energies_alone_with_their_whole_scale():
    checkpoint = made("mse", 3, None)
    shared = replace(
        checkpoint, parameters={name: value if is_last_layer(name) else value[:1] for name, value in checkpoint.parameters.items()}
    )
    rows = uncertainty_arrays(shared, np.array([1, 6, 8]))["energy_sources"]
    np.testing.assert_array_equal(rows, [[300.0, 1.4, 1e-8], [0.0, 0.0, 0.0]])


def test_principal_std_of_what_is_no_number(tmp_path):
    export(load_checkpoint("models/3bpa-llpr"), tmp_path / "model.race")
    model = Model(tmp_path / "model.race")
    rng = np.random.default_rng(0)
    matrices = rng.normal(size=(6, 3, 3))
    matrices = matrices @ matrices.swapaxes(1, 2)
    matrices[0], matrices[1], matrices[2, 1, 1] = 0.0, np.diag([1.0, 1.0, 3.0]), np.inf
    std = np.zeros(6)
    model.library.race_principal(ctypes.c_int64(6), at(matrices), at(std))
    np.testing.assert_allclose(std, principal_std(matrices), rtol=1e-12)
