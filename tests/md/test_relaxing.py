"""Relaxations under the monitor: a structure, its cell, a band."""

import json

import numpy as np
import pytest
from ase.build import bulk, fcc100, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.io import read, write
from fake_calculator import HarmonicEnsemble
from typer.testing import CliRunner

from race_calc import Committee
from race_calc.cli import app
from race_calc.md.relaxing import relax, relax_band


def committee():
    """Two copies of EMT of which one has all energies a little larger: they agree about the minimum."""
    calc = Committee([EMT(), Larger()])
    calc.thresholds = {f"forces_uncertainty_{name}_epistemic": 1e3 for name in ("rms", "max")}
    return calc


class Larger(EMT):
    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.results = {name: 1.01 * value for name, value in self.results.items()}


def test_a_structure_and_its_cell(tmp_path):
    atoms = bulk("Cu", a=3.7, cubic=True)
    atoms.rattle(0.05, seed=0)
    atoms.calc = committee()
    found = relax(atoms, tmp_path, 0.01, 300)
    assert found.converged and np.abs(atoms.get_forces()).max() < 0.01
    found = relax(atoms, tmp_path, 0.005, 500, cell=True)
    assert found.converged and atoms.cell.cellpar()[0] == pytest.approx(3.59, abs=0.01)  # EMT's
    frame = read(tmp_path / "relaxed.xyz")
    assert frame.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-6) and "energy_uncertainty" in frame.info
    assert not relax(_far(), tmp_path, 1e-4, 2).converged
    with pytest.raises(ValueError, match="leave out --cell"):
        water = molecule("H2O")
        water.calc = HarmonicEnsemble(water)
        relax(water, tmp_path, 0.01, 10, cell=True)


def _far():
    atoms = bulk("Cu", a=3.7, cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.calc = committee()
    return atoms


@pytest.mark.nightly
def test_the_band_of_an_atom_on_a_surface(tmp_path):
    slab = fcc100("Cu", (2, 2, 2), vacuum=6.0)
    slab.set_constraint(FixAtoms(range(len(slab) // 2)))
    first = slab.copy()
    top = slab.positions[:, 2].max() + 1.7
    a = slab.cell[0, 0] / 2
    hollow = slab.positions[-1][:2] + [a / 2, a / 2]
    ends = []
    for shift in (0.0, a):
        one = first.copy()
        one.extend(molecule("H2")[:1])
        one.symbols[-1], one.positions[-1] = "Cu", [hollow[0] + shift, hollow[1], top]
        ends.append(one)
    ends[0].calc = committee()
    found = relax_band(tuple(ends), 5, tmp_path, 0.1, 200)
    energies = [image.get_potential_energy() for image in found.images]
    assert found.converged and len(read(tmp_path / "band.xyz", ":")) == 5
    assert energies[4] == pytest.approx(energies[0], abs=0.01) and 0.2 < energies[2] - energies[0] < 0.8
    with pytest.raises(ValueError, match="at least 3"):
        relax_band(tuple(ends), 2, tmp_path, 0.05, 10)
    water = molecule("H2O")
    with pytest.raises(ValueError, match="same order"):
        relax_band((water, water[[1, 0, 2]]), 5, tmp_path, 0.05, 10)


def test_it_goes_on_through_the_unknown_and_ends_where_atoms_are_too_close(tmp_path):
    atoms = _far()
    atoms.calc.thresholds = {f"forces_uncertainty_{name}_epistemic": 1e-9 for name in ("rms", "max")}
    found = relax(atoms, tmp_path, 1e-2, 200)
    assert found.halt is None and found.converged and len(found.flags) == 2
    atoms = _far()
    atoms.positions[1] = atoms.positions[0] + [0.5, 0.0, 0.0]
    found = relax(atoms, tmp_path, 1e-2, 50)
    assert found.halt is not None and not found.converged and found.steps == 0 and found.flags
    assert found.explanation.startswith(f"{found.halt}.\nLeast known are the forces on atom")
    assert "Such a structure is not saved" in found.explanation


def test_the_flags_of_the_last_structure(tmp_path):
    """The members disagree by a hundredth of the forces: on the way, and no longer at the minimum."""
    for fmax, flagged in ((0.8, ["forces_uncertainty_max_epistemic"]), (0.02, [])):
        atoms = _far()
        atoms.calc.thresholds = {"forces_uncertainty_max_epistemic": 2e-3}
        found = relax(atoms, tmp_path, fmax, 200)
        assert found.converged and found.halt is None and [one.criterion for one in found.flags] == flagged


def test_folders_and_ends_that_do_not_fit(tmp_path):
    (tmp_path / "state.json").touch()
    with pytest.raises(ValueError, match="holds a run of MD"):
        relax(_far(), tmp_path, 0.01, 10)
    first, last = _far(), _far()
    last.set_cell(1.1 * last.cell)
    with pytest.raises(ValueError, match="other cells"):
        relax_band((first, last), 3, tmp_path / "band", 0.1, 10)


def test_a_band_whose_ends_are_not_relaxed_has_not_converged(tmp_path):
    first, last = bulk("Cu", cubic=True), bulk("Cu", cubic=True)
    last.positions[0] += [0.3, 0.0, 0.0]
    first.calc = committee()
    found = relax_band((first, last), 3, tmp_path, 1.0, 1)
    ends = [np.linalg.norm(one.get_forces(), axis=1).max() for one in found.images]
    assert ends[2] > 1.0 and not found.converged


def test_the_command(tmp_path):
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.03, seed=1)
    write(tmp_path / "start.xyz", atoms)
    command = ["relax", "silicon", str(tmp_path / "start.xyz"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*command, "--fmax", "0.05"])
    assert done.exit_code == 0 and "Energy -43.3" in done.output and (tmp_path / "out" / "relaxed.xyz").exists(), done.output
    short = CliRunner().invoke(app, [*command, "--fmax", "1e-6", "--steps", "2", "--json"])
    told = json.loads(short.stdout)
    assert short.exit_code == 4 and (told["steps"], told["converged"], told["halt"]) == (2, False, None)
    assert told["images"][0]["energy_eV"] == pytest.approx(-43.3, abs=0.3) and told["images"][0]["energy_uncertainty_eV"] > 0
    bad = CliRunner().invoke(app, [*command[:3], str(tmp_path / "start.xyz"), *command[3:], "--cell"])
    assert bad.exit_code == 1 and "leave out --cell" in bad.output


@pytest.mark.parametrize("model", ["several", "one"])
def test_the_command_tells_the_barrier_with_its_sigma(tiny_model, tmp_path, model, monkeypatch):
    """Of a model of one member without; where the highest image is an end it says so."""
    atoms = molecule("CH3CH2OH")
    write(tmp_path / "a.xyz", atoms)
    atoms.positions[-1] += [0.0, 0.3, 0.2]
    write(tmp_path / "b.xyz", atoms)
    if model == "one":
        monkeypatch.setattr("race_calc.observables.difference.check_members", lambda prediction: (_ for _ in ()).throw(ValueError("one")))
    options = ["--out", str(tmp_path / "out"), "--steps", "2", "--images", "4"]
    done = CliRunner().invoke(app, ["relax", str(tiny_model), str(tmp_path / "a.xyz"), str(tmp_path / "b.xyz"), *options])
    told = done.stdout.splitlines()[0]
    assert done.exit_code in (0, 3, 4) and ("Barrier" in told or "is an end" in told), done.output
    assert (" ± " in told) == (model == "several"), told
    done = CliRunner().invoke(app, ["relax", str(tiny_model), str(tmp_path / "a.xyz"), *options, "--fmax", "-1"])
    assert done.exit_code == 1 and "fmax must be above 0 eV/Å" in done.output
