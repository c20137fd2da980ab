"""A dynamics that is put back makes the same steps again, also a new one in the place of the first."""

import json

import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.md.andersen import Andersen
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.melchionna import MelchionnaNPT
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT, NoseHooverChainNVT
from ase.md.nptberendsen import NPTBerendsen
from ase.md.nvtberendsen import NVTBerendsen
from ase.md.verlet import VelocityVerlet

from race_calc.md.snapshot import draw, other_settings, plain, put, share_random_numbers, steps_of, take

FS = units.fs
MAKERS = {
    "verlet": lambda a, r: VelocityVerlet(a, FS),
    "langevin": lambda a, r: Langevin(a, FS, temperature_K=500, friction=0.02 / FS, fixcm=False, rng=r),
    "langevin, shared random numbers": lambda a, r: Langevin(a, FS, temperature_K=500, friction=0.02 / FS, fixcm=False),
    "baoab": lambda a, r: LangevinBAOAB(a, FS, temperature_K=500, T_tau=50 * FS, rng=r),
    "baoab, pressure": lambda a, r: LangevinBAOAB(a, FS, temperature_K=500, externalstress=0.0, T_tau=50 * FS, P_tau=500 * FS, rng=r),
    "andersen": lambda a, r: Andersen(a, FS, temperature_K=500, andersen_prob=0.1, fixcm=False, rng=np.random.RandomState(3)),
    "bussi": lambda a, r: Bussi(a, FS, 500, 50 * FS, rng=r),
    "berendsen": lambda a, r: NVTBerendsen(a, FS, 500, taut=50 * FS, fixcm=False),
    "nose-hoover": lambda a, r: NoseHooverChainNVT(a, FS, 500, 50 * FS),
    "npt-berendsen": lambda a, r: NPTBerendsen(a, FS, temperature_K=500, pressure_au=0.0, compressibility_au=1.0),
    "npt-melchionna": lambda a, r: MelchionnaNPT(a, FS, temperature_K=500, externalstress=0.0, ttime=25 * FS, pfactor=10.0),
    "npt-mtk": lambda a, r: MTKNPT(a, FS, temperature_K=500, pressure_au=0.0, tdamp=50 * FS, pdamp=100 * FS),
    "npt-isotropic": lambda a, r: IsotropicMTKNPT(a, FS, temperature_K=500, pressure_au=0.0, tdamp=50 * FS, pdamp=100 * FS),
}


def made(name: str):
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    atoms.set_cell(np.triu(atoms.cell.array))
    atoms.calc = EMT()
    random = np.random.default_rng(7)
    atoms.set_momenta(np.sqrt(atoms.get_masses() * units.kB * 500)[:, None] * random.standard_normal((len(atoms), 3)))
    return MAKERS[name](atoms, np.random.default_rng(1))


def state(dynamics) -> np.ndarray:
    return np.concatenate([dynamics.atoms.positions, dynamics.atoms.get_momenta(), dynamics.atoms.cell.array])


@pytest.mark.parametrize("name", MAKERS)
def test_the_same_steps_again(name):
    np.random.seed(5)  # noqa: NPY002  (what ASE takes without a generator)
    dynamics = made(name)
    dynamics.run(7)
    told = json.loads(json.dumps(plain(take(dynamics))))
    dynamics.atoms.calc = EMT()  # a list of neighbours, kept from before, changes the order of sums
    dynamics.run(8)
    after = state(dynamics)

    dynamics.run(3)
    put(dynamics, told)
    dynamics.atoms.calc = EMT()
    assert dynamics.nsteps == steps_of(told) == 7
    dynamics.run(8)
    np.testing.assert_array_equal(state(dynamics), after)

    np.random.seed(11)  # noqa: NPY002
    other = made(name)
    put(other, told)
    other.atoms.calc = EMT()
    other.run(8)
    np.testing.assert_array_equal(state(other), after)
    assert other.nsteps == 15


def test_states_of_another_dynamics_are_refused():
    told = take(made("nose-hoover"))
    other = made("langevin")
    before = state(other)
    with pytest.raises(ValueError, match="not that of this Langevin"):
        put(other, told)
    np.testing.assert_array_equal(state(other), before)
    small = molecule("H2O")
    small.calc = EMT()
    with pytest.raises(ValueError, match="other atoms"):
        put(VelocityVerlet(small, FS), take(made("verlet")))


def test_a_snapshot_does_not_follow_the_run():
    dynamics = made("langevin")
    told = take(dynamics)
    copy = json.dumps(plain(told))
    dynamics.run(5)
    assert json.dumps(plain(told)) == copy


def test_a_snapshot_in_memory_is_put_back_twice():
    dynamics = made("npt-melchionna")
    dynamics.run(5)
    told = take(dynamics)
    runs = []
    for _ in range(2):
        put(dynamics, told)
        dynamics.atoms.calc = EMT()
        dynamics.run(6)
        runs.append(state(dynamics))
    np.testing.assert_array_equal(*runs)


@pytest.mark.parametrize("name", MAKERS)
def test_back_to_the_very_begin(name):
    np.random.seed(5)  # noqa: NPY002
    dynamics = made(name)
    told = take(dynamics)
    runs = []
    for _ in range(2):
        dynamics.atoms.calc = EMT()
        dynamics.run(5)
        runs.append(state(dynamics))
        put(dynamics, told)
    np.testing.assert_allclose(*runs, atol=1e-12)


def test_other_atoms_are_refused_and_other_settings_are_named():
    dynamics = made("langevin")
    begin = take(dynamics)
    assert other_settings(made("langevin"), begin) == []
    dynamics.set_timestep(2 * FS)
    assert "dt" in other_settings(dynamics, begin)
    silver = made("langevin")
    silver.atoms.numbers[:] = 47
    with pytest.raises(ValueError, match="other atoms"):
        put(silver, begin)


def test_random_numbers_are_drawn_and_shared_ones_are_seen():
    one, other = made("langevin"), made("langevin")
    draw(one, 3)
    for dynamics in (one, other):
        dynamics.run(2)
    assert not np.allclose(state(one), state(other))
    assert not share_random_numbers([one, other])
    shared = "langevin, shared random numbers"
    assert share_random_numbers([made(shared), made(shared)]) and not share_random_numbers([made(shared), made("verlet")])
