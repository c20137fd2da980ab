"""Forces, stress and parameter gradients against finite differences of 4th order."""

from functools import partial

import numpy as np
import pytest
import torch
from physics_cases import STRUCTURES, crystal, deviation, draw, ethanol, make_model, run_model

pytestmark = pytest.mark.usefixtures("both_paths")

H = 1e-3  # Å, or strain
TOLERANCE = 1e-7
MODEL = make_model()
STACK = draw(MODEL, [0, 1])
POINTS = {-2: 1 / 12, -1: -8 / 12, 1: 8 / 12, 2: -1 / 12}  # weights of f(x + k h) in h f'(x)


def slopes(changes) -> torch.Tensor:
    """dE/ds (M, changes) of the structures changed(s) of each, all evaluated as one batch."""
    energy = run_model(MODEL, STACK, *[changed(k * H) for changed in changes for k in POINTS]).energy
    return energy.reshape(len(energy), len(changes), len(POINTS)) @ torch.tensor(list(POINTS.values()), dtype=torch.float64) / H


@pytest.mark.parametrize("structure", STRUCTURES)
def test_forces(structure):
    atoms = STRUCTURES[structure]()
    forces = run_model(MODEL, STACK, atoms).forces

    def moved(i, axis, step):
        other = atoms.copy()
        other.positions[i, axis] += step
        return other

    numeric = -slopes([partial(moved, i, axis) for i in range(len(atoms)) for axis in range(3)]).reshape(forces.shape)
    print(f"{deviation(forces, numeric):.1e}")
    assert deviation(forces, numeric) < TOLERANCE


@pytest.mark.parametrize("structure", STRUCTURES)
def test_virial_and_stress(structure):
    atoms = STRUCTURES[structure]()
    virial = run_model(MODEL, STACK, atoms).virial

    def strained(a, b, step):
        strain = np.zeros((3, 3))
        strain[a, b] += step / 2
        strain[b, a] += step / 2
        other = atoms.copy()
        other.set_cell(atoms.cell.array @ (np.eye(3) + strain))
        other.positions = atoms.positions @ (np.eye(3) + strain)
        return other

    numeric = slopes([partial(strained, a, b) for a in range(3) for b in range(3)]).reshape(virial.shape)
    print(f"{deviation(virial, numeric):.1e}")
    assert deviation(virial, numeric) < TOLERANCE


def test_training_mode_gives_the_same_outputs():
    atoms = [ethanol(), crystal()]
    plain, training = run_model(MODEL, STACK, *atoms), run_model(MODEL, STACK, *atoms, training=True)
    for name in ("energy", "forces", "virial", "energy_var", "force_cov"):
        assert deviation(plain[name], training[name].detach()) < 1e-12, name
        assert not plain[name].requires_grad, name


def test_parameter_gradients_of_all_outputs():
    """The second derivatives behind force and stress training, along a random direction of the parameters."""
    rng = torch.Generator().manual_seed(2)
    atoms = [ethanol(), crystal()]
    names = ("energy", "forces", "virial", "energy_var", "force_cov")
    mix = {n: torch.randn(v.shape, generator=rng, dtype=v.dtype) for n, v in ((n, run_model(MODEL, STACK, *atoms)[n]) for n in names)}
    direction = {n: torch.randn(v.shape, generator=rng, dtype=v.dtype) for n, v in STACK.items()}

    def value(parameters, training=False):
        outputs = run_model(MODEL, parameters, *atoms, training=training)
        return sum((mix[name] * outputs[name]).sum() for name in names)

    leaves = {name: value.clone().requires_grad_() for name, value in STACK.items()}
    gradients = torch.autograd.grad(value(leaves, training=True), list(leaves.values()))
    exact = sum((g * d).sum() for g, d in zip(gradients, direction.values()))
    h = 2e-4
    numeric = sum(w * value({n: v + k * h * direction[n] for n, v in STACK.items()}) for k, w in POINTS.items()) / h
    print(float(exact), float(numeric))
    assert float(exact) == pytest.approx(float(numeric), rel=1e-7)
