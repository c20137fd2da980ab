"""race.h: a model in C, against RACECalculator; bad files and structures."""

import ctypes
import hashlib
import shutil
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator
from in_c import ELEMENT, FILE, GEOMETRY, NEWER, OK, PAIRS, Model
from typer.testing import CliRunner

from race_calc import RACECalculator
from race_calc.cli import app
from race_calc.data.graph import from_atoms
from race_calc.interfaces.export import export
from race_calc.model.kernels.arrays import packed
from race_calc.model.kernels.build import FOLDER, LIBRARY, library
from race_calc.model.plan import make_plan
from race_calc.posterior.checkpoint import load_checkpoint

pytestmark = pytest.mark.usefixtures("kernels")
EXAMPLE = Path(__file__).parents[2] / "examples" / "c" / "step.c"
MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture(scope="module")
def file(tmp_path_factory, kernels) -> Path:
    path = tmp_path_factory.mktemp("race") / "model.race"
    export(load_checkpoint(MODELS / "3bpa-llpr", calibration=False), path)
    return path


def near(found, expected, tolerance=1e-11):
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def agrees(model: Model, calculator: Calculator, atoms: Atoms, threads: int, of_members: float = 1e-11) -> None:
    atoms.calc = calculator
    prediction = calculator.prediction(atoms)
    status, message, found = model.evaluate(atoms, threads=threads)
    assert (status, message) == (OK, "")
    near(found["energies"], prediction.energies_members[:, 0], of_members)
    near(found["forces"], prediction.forces_members, of_members)
    near(found["atom_energies"].mean(0), prediction.energies)
    near(found["variances"].mean(), prediction.energy_aleatoric[0])
    if prediction.stress is not None:
        stress = found["virials"].mean(0) / atoms.get_volume()
        near(stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], prediction.stress[0])
    values, axes = np.linalg.eigh(found["log_covariances"])
    covariances = (axes * np.exp(values)[..., None, :]) @ axes.swapaxes(-1, -2)
    near(covariances.mean(0), prediction.forces_covariance_aleatoric)
    _, _, mean = model.evaluate(atoms, of_members=False, threads=threads)
    near(mean["forces"][0], prediction.forces)
    near(mean["virials"][0], found["virials"].mean(0))
    near(mean["features"], calculator.posterior.features(from_atoms(atoms, model.info.cutoff)))


def test_a_shared_trunk(file):
    """The calculator makes the second draw of a pair from the first, the file has both as they are stored, in float32."""
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    for threads in (1, 3):
        agrees(Model(file), RACECalculator(MODELS / "3bpa-llpr", "cpu", calibrated=False), atoms, threads, 1e-5)


def test_members_of_their_own_in_a_crystal(tmp_path, tiny_model):
    """Also float32, and atoms closer than the repulsion reaches."""
    checkpoint, path = load_checkpoint(tiny_model, calibration=False), tmp_path / "tiny.race"
    export(checkpoint, path)
    atoms = bulk("C", a=3.0)
    atoms.rattle(0.1, seed=1)
    agrees(Model(path), RACECalculator(tiny_model, "cpu", calibrated=False), atoms, 2)
    double = Model(path).evaluate(atoms)[2]
    export(checkpoint, path, torch.float32)
    single = Model(path).evaluate(atoms)[2]
    for name in ("energies", "forces", "virials"):
        near(single[name], double[name], 1e-4)


def test_several_threads_share_a_model(file):
    model, structures = Model(file), []
    for seed in range(8):
        structures.append(molecule("CH3CH2OH"))
        structures[-1].rattle(0.05, seed=seed)
    alone = [model.evaluate(atoms)[2]["forces"] for atoms in structures]
    with ThreadPoolExecutor(4) as pool:
        for expected, (status, _, found) in zip(alone, pool.map(model.evaluate, structures)):
            assert status == OK and np.array_equal(found["forces"], expected)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_example(file, tmp_path):
    command = [
        "cc",
        "-Wall",
        "-Werror",
        str(EXAMPLE),
        "-I",
        str(FOLDER),
        str(LIBRARY),
        f"-Wl,-rpath,{FOLDER}",
        "-lm",
        "-o",
        tmp_path / "step",
    ]
    subprocess.run(command, check=True)
    done = subprocess.run([tmp_path / "step", file], capture_output=True, text=True, check=True)
    atoms = Atoms("OHH", [[0, 0, 0.119], [0, 0.763, -0.477], [0, -0.763, -0.477]])
    atoms.calc = RACECalculator(MODELS / "3bpa-llpr", "cpu", calibrated=False)
    lines = done.stdout.split("\n")
    assert float(lines[0].split()[0]) == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose([[float(x) for x in line.split()[:3]] for line in lines[1:4]], atoms.get_forces(), atol=1e-9)
    done = subprocess.run([tmp_path / "step", tmp_path / "nothing"], capture_output=True, text=True)
    assert done.returncode == 1 and "cannot be opened" in done.stderr


def test_bad_files(tiny_model, tmp_path):
    path = tmp_path / "bad.race"
    export(load_checkpoint(tiny_model, calibration=False), path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    flipped = [bytearray(content) for _ in range(20)]
    for one in flipped:
        one[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    newer = content[:8] + struct.pack("<q", 2) + content[16:]
    cases = [(b"", FILE), (b"hello" * 40, FILE), (content[:40], FILE), (content[:1000], FILE), (content[:-1], FILE), (newer, NEWER)]
    for bad, expected in [*cases, *((bytes(one), None) for one in flipped)]:
        path.write_bytes(bad)
        model = Model(path)
        assert model.status != OK and model.message and (expected is None or model.status == expected), model.message
    assert Model(tmp_path / "nothing").status == FILE and Model(tmp_path).status == FILE


def test_arrays_that_point_at_what_is_not_there(tiny_model, tmp_path, monkeypatch):
    """With a hash that fits: an index of every list, too large and too small."""
    path, whole = tmp_path / "lies.race", []
    monkeypatch.setattr("race_calc.interfaces.export.packed", lambda arrays: whole.append(arrays) or packed(arrays))
    export(load_checkpoint(tiny_model, calibration=False), path)

    def status_with(name, field, wrong):
        lies = whole[0][name].copy()
        of_field = (lies if field is None else lies[field]).reshape(-1)
        of_field[len(of_field) // 2] = wrong
        block = packed(whole[0] | {name: lies}).tobytes()
        path.write_bytes(struct.pack("<8sqqq32s", b"RACEFILE", 1, 8, len(block), hashlib.blake2b(block, digest_size=32).digest()) + block)
        model = Model(path)
        assert model.message or model.evaluate(bulk("C"))[0] == OK
        return model.status

    lists = {name: array for name, array in whole[0].items() if name != "numbers"}  # any element may stand there
    cases = [(name, None) for name, array in lists.items() if array.dtype.kind == "i"]
    cases += [(name, f) for name, array in lists.items() for f in array.dtype.names or () if array.dtype[f].kind == "i" and f != "again"]
    assert len(cases) > 100
    assert status_with("0.backward.n_k", None, 3000) == FILE  # which forward has not
    for name, field in cases:
        assert status_with(name, field, 10**6) == FILE, (name, field)
        assert status_with(name, field, -2) == FILE or field == "k", (name, field)  # k < 0: a path without harmonics


def test_bad_structures(file):
    model, atoms = Model(file), molecule("CH3CH2OH")

    def with_(change):
        return model.evaluate(atoms, change=change)[:2]

    status, message = with_(lambda a: a["numbers"].__setitem__(3, 7 + 40))
    assert status == ELEMENT and "atom 3 has atomic number 47" in message
    status, message = with_(lambda a: a["neighbour"].__setitem__(0, 99))
    assert status == PAIRS and "not among the atoms" in message
    status, message = with_(lambda a: a["vectors"].__setitem__(0, [9.0, 9.0, 9.0]))
    assert status == PAIRS and "one direction only" in message
    status, message = with_(lambda a: a["first"].__setitem__(-1, a["first"][-1] - 1))
    assert status == PAIRS and "one direction only" in message
    for value in (0.0, np.nan):
        status, message = with_(lambda a, value=value: a["vectors"].__setitem__(0, value))
        assert status == GEOMETRY and "one place" in message


def test_the_command_and_what_cannot_be_exported(tmp_path):
    def run(*arguments):
        done = CliRunner().invoke(app, ["export", "c", *map(str, arguments)])
        return done.exit_code, " ".join(done.output.split())

    code, output = run(MODELS / "3bpa-llpr", tmp_path / "m.race", "--dtype", "float32")
    assert code == 0 and "MiB, float32" in output and Model(tmp_path / "m.race").status == OK
    assert "several states" in run(MODELS / "fulvene", tmp_path / "f.race")[1]
    whole = load_checkpoint(MODELS / "3bpa-llpr", calibration=False)
    plan = make_plan(whole.model.plan.config.model_copy(update={"force_covariance": "cholesky"}), whole.model.plan.n_species)
    with pytest.raises(ValueError, match="only matrix-log can be exported"):
        export(replace(whole, model=replace(whole.model, plan=plan)), tmp_path / "c.race")
    done = run(tmp_path / "nothing", tmp_path / "m.race")
    assert done[0] == 1 and done[1].startswith("race-calc export c: no model folder")
    assert "use float64 or float32" in run(MODELS / "3bpa-llpr", tmp_path / "m.race", "--dtype", "half")[1]


@pytest.mark.parametrize("size", [0, 1, 127, 128, 129, 256, 1000])
def test_the_hash_is_that_of_hashlib(size):
    data, digest = np.random.default_rng(size).bytes(size), ctypes.create_string_buffer(32)
    library().race_blake2b(data, ctypes.c_uint64(size), digest)
    assert digest.raw == hashlib.blake2b(data, digest_size=32).digest()
