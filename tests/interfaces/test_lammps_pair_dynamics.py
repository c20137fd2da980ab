"""pair_style race over many steps: the trajectory and the drift of ASE, a restart, the halt, and who may ask for the uncertainty."""

import lammps_plugin
import numpy as np
import pytest
from ase import units
from ase.md.verlet import VelocityVerlet
from test_lammps_pair import commands, molecule_of_3bpa, silicon

from race_calc import Criterion, RACECalculator, UncertaintyMonitor

if reason := lammps_plugin.why_not():
    pytest.skip(reason, allow_module_level=True)
LIMIT = 0.5  # eV/Å
NVE = ["fix nve all nve", "timestep 0.0005"]


def test_the_trajectory_is_that_of_ase(race_plugin, race_files, tmp_path):
    """NVE of a molecule: positions, and how the total energy moves."""
    atoms, steps = molecule_of_3bpa(3), 60
    width = np.sqrt(atoms.get_masses() * 300 * units.kB)[:, None]
    atoms.set_momenta(width * np.random.default_rng(0).normal(size=(len(atoms), 3)))
    begin = commands(tmp_path, race_plugin, race_files, atoms, "3bpa-de")
    start, end = lammps_plugin.run(tmp_path, [[*begin, *NVE, "run 0"], [*begin, *NVE, f"run {steps}"]])
    atoms.positions = start["x"]
    atoms.calc = RACECalculator("models/3bpa-de", "cpu")
    before = atoms.get_total_energy()
    VelocityVerlet(atoms, 0.5 * units.fs).run(steps)
    np.testing.assert_allclose(end["x"], atoms.positions, rtol=0, atol=1e-6)  # constants of the two differ in the seventh digit
    assert end["total"] - start["total"] == pytest.approx(atoms.get_total_energy() - before, abs=1e-7)
    assert abs(end["total"] - start["total"]) < 1e-3 * len(atoms)


def test_the_halt_is_that_of_the_monitor(race_plugin, race_files, tmp_path):
    """A molecule that loses an atom: the same criterion ends the run at the step at which it does in ASE. Also on two ranks."""
    atoms = molecule_of_3bpa(2)
    momenta = np.zeros((len(atoms), 3))
    momenta[np.argmax(atoms.positions[:, 0]), 0] = np.sqrt(2 * 1.008 * 8.0)  # 8 eV
    atoms.set_momenta(momenta)
    begin = commands(tmp_path, race_plugin, race_files, atoms, "3bpa-de")
    halt = ["variable worst equal c_sigma[2]", f"fix watch all halt 1 v_worst > {LIMIT} error continue"]
    steps = [lammps_plugin.run(tmp_path, [[*begin, *NVE, *halt, "run 60"]], ranks)[0]["step"] for ranks in (1, 2)]
    atoms.calc = RACECalculator("models/3bpa-de", "cpu")
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    monitor = UncertaintyMonitor(dynamics, [Criterion("forces_uncertainty_max", LIMIT, "halt")], flagged=None)
    dynamics.run(60)
    assert monitor.halt_reason is not None and 0 < dynamics.nsteps < 60
    assert all(abs(step - dynamics.nsteps) <= 1 for step in steps), (steps, dynamics.nsteps)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_restart_goes_on_as_if_nothing_had_happened(race_plugin, race_files, tmp_path, ranks):
    """The restart file has no model: the input gives it again."""
    begin = commands(tmp_path, race_plugin, race_files, silicon(2, 2, 2, cubic=True), "silicon")
    warm = ["velocity all create 600 7 loop geom", "fix nve all nve", "timestep 0.001"]
    model = [line for line in begin if not line.startswith(("boundary", "atom_style", "read_data"))]
    whole = [*begin, *warm, "run 4", "run 4"]
    first = [*begin, *warm, "run 4", "write_restart half.restart"]
    second = [model[0], "read_restart half.restart", *model[1:], "fix nve all nve", "timestep 0.001", "run 4"]
    found, _, resumed = lammps_plugin.run(tmp_path, [whole, first, second], ranks)
    assert resumed["step"] == found["step"] == 8
    for name in ("x", "v", "f", "sigma"):
        np.testing.assert_allclose(resumed[name], found[name], rtol=0, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_step_at_which_nobody_asks(race_plugin, race_files, tmp_path, ranks):
    """Of draws of one trunk, only their mean is evaluated then: it has the forces of the others."""
    asked = [*commands(tmp_path, race_plugin, race_files, molecule_of_3bpa(5), "3bpa-llpr"), "run 0"]
    plain = [line.replace(" c_sigma", "") for line in asked if not line.startswith("compute")]
    with_sigma, without = lammps_plugin.run(tmp_path, [asked, plain], ranks)
    assert "sigma" in with_sigma and "sigma" not in without
    assert without["energy"] == pytest.approx(with_sigma["energy"], abs=1e-9)
    np.testing.assert_allclose(without["f"], with_sigma["f"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(without["pressure"], with_sigma["pressure"], rtol=1e-9)


def test_who_may_ask_for_the_uncertainty(race_plugin, race_files, tmp_path):
    """dump, thermo_style, fix ave/time, fix halt and a variable, each at steps of its own; nothing is computed for a group's others."""
    begin = commands(tmp_path, race_plugin, race_files, silicon(1, 1, 1, cubic=True), "silicon")
    asked = ["group some id 1 2", "compute part some race/sigma", "dump d all custom 3 d.dump id c_sigma[1] c_sigma[2] c_part[1]"]
    asked += ["fix a all ave/time 1 2 2 c_sigma c_sigma[2] c_part[2] c_part[4] file a.txt", "dump_modify d format float %.12g sort id"]
    asked += ["variable v equal c_sigma[3]", "compute e all pe/atom", "compute of_atoms all reduce sum c_e"]
    asked += ["fix p all print 2 '$(v_v:%.12g) $(c_of_atoms:%.12g)' file p.txt screen no"]
    (found,) = lammps_plugin.run(tmp_path, [[*begin, *asked, "thermo 5", "velocity all create 300 1", *NVE, "run 6"]])
    assert "error" not in found, found
    last = np.array([line.split() for line in (tmp_path / "d.dump").read_text().splitlines()[-8:]], float)
    sigma = np.array(found["sigma"])
    np.testing.assert_allclose(last[:, 1:3], sigma, rtol=1e-9)
    np.testing.assert_array_equal(last[:, 3], np.where(np.arange(8) < 2, last[:, 1], 0.0))
    average = [float(word) for word in (tmp_path / "a.txt").read_text().splitlines()[-1].split()]
    assert average[0] == 6 and average[3] <= average[2] and average[4] <= average[3]
    printed = [float(word) for word in (tmp_path / "p.txt").read_text().splitlines()[-1].split()]
    assert printed == pytest.approx([found["vector"][2], found["energy"]], rel=1e-9)
