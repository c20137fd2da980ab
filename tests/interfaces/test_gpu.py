"""A GPU gives what the CPU gives; skipped where torch has none."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from ase.units import fs
from resumed import small_run_of

from race_calc.interfaces.calculator import RACECalculator
from race_calc.model.compiled import why_not_compiled
from race_calc.train.files import STATE_FILE
from race_calc.train.loop import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA GPU")

MODELS = Path(__file__).resolve().parents[2] / "models"
NEAR = {"float64": 1e-8, "float32": 5e-3}  # relative; variances are differences of members, forces agree to 1e-10


def ethanol() -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    return atoms


def silicon() -> Atoms:
    atoms = bulk("Si", cubic=True) * 2
    atoms.rattle(0.05, seed=1)
    return atoms


def difference(model: str, atoms: Atoms, dtype: str, **options) -> dict[str, float]:
    """Largest difference of every result between the devices, relative to the largest value."""
    of = {}
    for device in ("cpu", "cuda"):
        calculator = RACECalculator(MODELS / model, device=device, dtype="float64" if device == "cpu" else dtype, **options)
        calculator.calculate(atoms.copy())
        of[device] = calculator.results
    assert set(of["cpu"]) == set(of["cuda"])
    found = {}
    for name, value in of["cpu"].items():
        scale = max(float(np.abs(value).max()), 1e-12)
        found[name] = float(np.abs(np.asarray(of["cuda"][name], float) - np.asarray(value, float)).max()) / scale
    return found


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("model, make", [("3bpa-de", ethanol), ("3bpa-llpr", ethanol), ("3bpa-xtb", ethanol), ("silicon", silicon)])
def test_every_result_is_that_of_the_cpu(model, make, dtype):
    found = difference(model, make(), dtype, members=True)
    assert max(found.values()) < NEAR[dtype], found
    if dtype == "float64":
        assert max(found[name] for name in ("energy", "energies", "forces")) < 1e-10, found


@pytest.mark.parametrize("model", ["3bpa-de", "3bpa-llpr"])
def test_one_atom_and_several_structures(model):
    one = Atoms("O", positions=[[0.0, 0, 0]])
    assert max(difference(model, one, "float64").values()) < 1e-10
    several = [ethanol(), one, molecule("C2H2")]
    for device in ("cpu", "cuda"):
        calculator = RACECalculator(MODELS / model, device=device)
        energies = [float(p.energy[0]) for p in calculator.raw_predictions(several, 1)]
        together = np.concatenate([p.energy for p in calculator.raw_predictions(several, 3)])
        assert together == pytest.approx(energies, abs=1e-8)


@pytest.mark.skipif(why_not_compiled() is not None, reason=str(why_not_compiled()))
@pytest.mark.nightly
def test_compiled_by_torch(dtype="float64"):
    cpu, gpu = (RACECalculator(MODELS / "3bpa-llpr", device=d, compile=c) for d, c in (("cpu", None), ("cuda", True)))
    for calculator in (cpu, gpu):
        calculator.calculate(ethanol())
    assert np.abs(cpu.results["forces"] - gpu.results["forces"]).max() < 1e-9


def test_a_short_run_goes_the_same_way():
    ends = []
    for device in ("cpu", "cuda"):
        atoms = ethanol()
        atoms.calc = RACECalculator(MODELS / "3bpa-llpr", device=device)
        MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(0))
        VelocityVerlet(atoms, 0.5 * fs).run(20)
        ends.append(atoms.positions)
    assert ends[1] == pytest.approx(ends[0], abs=1e-9)


def test_a_training_goes_the_same_way_and_resumes(tmp_path):
    config, prepared = small_run_of(tmp_path, "deep-ensemble", 3, 6, data__validation=2, training__dtype="float64")
    states = {}
    for device in ("cpu", "cuda"):
        states[device] = train(config, prepared, tmp_path / device, torch.device(device), resume=False).state.weights.cpu()
    assert torch.allclose(states["cuda"], states["cpu"], atol=1e-7)
    assert (tmp_path / "cuda" / STATE_FILE).is_file()
    again = train(config, prepared, tmp_path / "cuda", torch.device("cuda"), resume=True)
    assert torch.equal(again.state.weights.cpu(), states["cuda"])
