"""Symmetries and limits that every RACE must have, float64, tight tolerances."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import make_supercell
from physics_cases import CUTOFF, STRUCTURES, chain, crystal, deviation, draw, ethanol, make_model, run_model
from scipy.spatial.transform import Rotation

pytestmark = pytest.mark.usefixtures("both_paths")

TIGHT = 1e-10
MODEL = make_model()
STACK = draw(MODEL, [0, 1])
EVERY = pytest.mark.parametrize("structure", STRUCTURES)


def rotated(atoms: Atoms, q: np.ndarray) -> Atoms:
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell.array @ q.T)
    atoms.positions = atoms.positions @ q.T
    return atoms


@EVERY
@pytest.mark.parametrize("sign", [1, -1], ids=["rotation", "reflection"])
def test_outputs_turn_with_the_structure(structure, sign):
    check_rotation(MODEL, STACK, STRUCTURES[structure](), sign)


@pytest.mark.parametrize("sign", [1, -1], ids=["rotation", "reflection"])
@pytest.mark.parametrize(
    "settings",
    [
        dict(layers=5),
        dict(l_max=1),
        dict(correlation=1),
        dict(correlation=3, layers=2),
        dict(hidden_irreps="4x0e+3x1o+3x2e+2x3o"),
        dict(hidden_irreps="2x3e+2x3o+3x1e+4x0e+3x1o+2x2e", l_max=2),
    ],
    ids=str,
)
def test_outputs_of_other_models_turn(settings, sign):
    model = make_model(**settings)
    check_rotation(model, draw(model, [3]), ethanol(), sign)


def check_rotation(model, parameters, atoms: Atoms, sign: int):
    q = sign * Rotation.random(random_state=7).as_matrix()
    before, after = run_model(model, parameters, atoms), run_model(model, parameters, rotated(atoms, q))
    q = torch.tensor(q)
    found = {
        "energy": deviation(after.energy, before.energy),
        "atom_energy": deviation(after.atom_energy, before.atom_energy),
        "energy_var": deviation(after["energy_var"], before["energy_var"]),
        "forces": deviation(after.forces, before.forces @ q.T),
        "virial": deviation(after.virial, q @ before.virial @ q.T),
        "force_cov": deviation(after["force_cov"], q @ before["force_cov"] @ q.T),
        "covariance": deviation(torch.linalg.matrix_exp(after["force_cov"]), q @ torch.linalg.matrix_exp(before["force_cov"]) @ q.T),
    }
    traceless = [
        o["force_cov"] - torch.eye(3) * o["force_cov"].diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None] for o in (before, after)
    ]
    found["traceless"] = deviation(traceless[1], q @ traceless[0] @ q.T)
    print({name: f"{value:.1e}" for name, value in found.items()})
    assert max(found.values()) < TIGHT
    assert traceless[0].abs().max() > 1e-3  # it is there, or the test is blind


def test_every_parameter_has_a_say():
    """The plan keeps nothing dead. 0o is made in layer 3 and reaches the covariance in layer 5 at the earliest."""
    model = make_model(layers=5)
    leaves = {name: value.requires_grad_() for name, value in draw(model, [0]).items()}
    assert any(name.endswith(".0o") for name in leaves)
    outputs = run_model(model, leaves, crystal(), training=True)
    total = (outputs.forces**2).sum() + (outputs["force_cov"] ** 2).sum() + outputs["energy_var"].sum()
    for name, gradient in zip(leaves, torch.autograd.grad(total, list(leaves.values()))):
        if "product" in name or "power" in name:  # one matrix per species, all three are in the crystal
            gradient = gradient.flatten(2).abs().amax(2)
        else:
            gradient = gradient.abs().amax()
        assert gradient.min() > 1e-14 * total, name


def test_cholesky_factor_stays_in_the_laboratory_frame():
    """The paper's form: six invariants, so the factor does not turn; energies and forces do."""
    model = make_model(force_covariance="cholesky")
    stack, atoms = draw(model, [4, 5]), ethanol()
    q = Rotation.random(random_state=1).as_matrix()
    before, after = run_model(model, stack, atoms), run_model(model, stack, rotated(atoms, q))
    assert deviation(after.forces, before.forces @ torch.tensor(q).T) < TIGHT
    assert deviation(after["force_cov"], before["force_cov"]) < TIGHT


@EVERY
def test_permutation_of_the_atoms(structure):
    atoms = STRUCTURES[structure]()
    order = np.random.default_rng(0).permutation(len(atoms))
    before, after = run_model(MODEL, STACK, atoms), run_model(MODEL, STACK, atoms[order])
    assert deviation(after.energy, before.energy) < TIGHT
    assert deviation(after.virial, before.virial) < TIGHT
    for name in ("atom_energy", "forces", "force_cov"):
        assert deviation(after[name], before[name][:, order]) < TIGHT


@EVERY
def test_translation_and_lattice_vectors(structure):
    atoms = STRUCTURES[structure]()
    before = run_model(MODEL, STACK, atoms)
    moved = atoms.copy()
    moved.translate([0.7, -11.3, 2.9])
    images = atoms.copy()
    images.positions += np.array([[1, -2, 3], [0, 0, 0], [-4, 1, 0]] * 3)[: len(atoms)] * atoms.pbc @ atoms.cell.array
    wrapped = moved.copy()
    wrapped.wrap()
    for name, other in {"translated": moved, "images": images, "wrapped": wrapped}.items():
        after = run_model(MODEL, STACK, other)
        for field in ("energy", "forces", "virial", "force_cov"):
            assert deviation(after[field], before[field]) < TIGHT, (name, field)


@EVERY
def test_no_net_force(structure):
    forces = run_model(MODEL, STACK, STRUCTURES[structure]()).forces
    assert forces.sum(1).abs().max() < 1e-12 * forces.abs().max() * forces.shape[1]


@EVERY
def test_volume_of_the_layout(structure):
    from race_calc.data.graph import from_atoms

    atoms = STRUCTURES[structure]()
    expected = atoms.get_volume() if atoms.cell.rank == 3 and atoms.pbc.any() else 0.0
    assert from_atoms(atoms, CUTOFF).volume == pytest.approx([expected])


def test_far_fragments_add():
    one, two = ethanol(), ethanol()[2:7]
    two.rattle(0.2, seed=5)
    far = two.copy()
    far.translate([50.0, 3.0, 0.0])
    single = [run_model(MODEL, STACK, atoms) for atoms in (one, two)]
    both = run_model(MODEL, STACK, one + far)
    assert deviation(both.energy, single[0].energy + single[1].energy) < TIGHT
    assert deviation(both["energy_var"], single[0]["energy_var"] + single[1]["energy_var"]) < TIGHT
    for name in ("forces", "force_cov"):
        assert deviation(both[name], torch.cat([s[name] for s in single], 1)) < TIGHT


@pytest.mark.parametrize("symbol", ["H", "C", "O"])
@pytest.mark.parametrize("pbc", [False, True])
def test_one_isolated_atom(symbol, pbc):
    """A finite constant of the species, zero forces, and the limit of far fragments."""
    alone = run_model(MODEL, STACK, Atoms(symbol, cell=[9, 9, 9] if pbc else None, pbc=pbc))
    for name in ("energy", "atom_energy", "forces", "virial", "energy_var", "force_cov"):
        assert torch.isfinite(alone[name]).all(), name
    assert torch.equal(alone.forces, torch.zeros(2, 1, 3, dtype=torch.float64))
    assert torch.equal(alone.virial, torch.zeros(2, 1, 3, 3, dtype=torch.float64))
    assert (alone.energy != 0).all()
    molecule = ethanol()
    both = run_model(MODEL, STACK, molecule + Atoms(symbol, positions=[[0, 0, 50.0]]))
    assert deviation(both.energy - run_model(MODEL, STACK, molecule).energy, alone.energy) < 1e-10
    assert deviation(both.atom_energy[:, -1:], alone.atom_energy) < TIGHT
    assert torch.equal(both.forces[:, -1], torch.zeros(2, 3, dtype=torch.float64))


def test_supercell():
    atoms = crystal()
    small, large = (run_model(MODEL, STACK, a) for a in (atoms, make_supercell(atoms, 2 * np.eye(3))))
    assert deviation(large.energy, 8 * small.energy) < TIGHT
    assert deviation(large["energy_var"], 8 * small["energy_var"]) < TIGHT
    assert deviation(large.virial / 8, small.virial) < TIGHT  # the stress is the same
    again = run_model(MODEL, STACK, make_supercell(chain(), np.diag([1, 3, 1])))
    assert deviation(again.energy, 3 * run_model(MODEL, STACK, chain()).energy) < TIGHT


def test_a_pair_crosses_the_cutoff_smoothly():
    """A neighbour δ inside the cutoff differs from one δ outside by δ⁴ in the energy, δ³ in the forces."""

    def at(distance: float) -> Atoms:
        atoms = Atoms("COH", positions=[[0, 0, 0], [1.1, 0.2, 0], [0, 0, 0]])
        atoms.positions[2] = [-distance * np.sin(0.3), distance * np.cos(0.3), 0]
        return atoms

    def gap(delta: float) -> dict[str, float]:
        inside, outside = (run_model(MODEL, STACK, at(CUTOFF + sign * delta)) for sign in (-1, 1))
        names = ("energy", "forces", "force_cov")
        return {name: float((inside[name] - outside[name]).abs().max()) for name in names}

    wide, narrow = gap(3e-2), gap(3e-3)  # of smaller ones rounding is seen
    for name, factor in {"energy": 5000, "forces": 500, "force_cov": 5000}.items():
        assert wide[name] > factor * narrow[name] > 0, name
    assert max(gap(1e-4).values()) < 1e-11
