"""What pair_style race refuses, with one message each; another LAMMPS; what the licence asks for."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import lammps_plugin
import numpy as np
import pytest
from ase import Atoms
from ase.io.lammpsdata import write_lammps_data
from test_lammps_pair import commands, silicon

if reason := lammps_plugin.why_not():
    pytest.skip(reason, allow_module_level=True)
COMPUTE = "compute sigma all race/sigma"
FLAT = ["region box block 0 9 0 9 -0.5 0.5", "create_box 1 box", "create_atoms 1 single 1 1 0", "mass 1 28"]


def changed(lines, start, line=None):
    """The input with another line in the place of that which starts so, or without it."""
    assert any(one.startswith(start) for one in lines)
    return [found for one in lines for found in ([one] if not one.startswith(start) else [] if line is None else [line])]


def bonded(folder):
    """Two silicon atoms with a bond, and the commands that read them."""
    text = "\n\n2 atoms\n1 bonds\n1 atom types\n1 bond types\n0 9 xlo xhi\n0 9 ylo yhi\n0 9 zlo zhi\n\nMasses\n\n1 28.0\n"
    text += "\nAtoms # bond\n\n1 1 1 0 0 0\n2 1 1 2.3 0 0\n\nBonds\n\n1 1 1 2\n"
    (folder / "bonded.data").write_text(text)
    return [f"read_data {folder}/bonded.data", "bond_style zero", "bond_coeff 1"]


def test_one_message_each(race_plugin, race_files, tmp_path):
    good = [*commands(tmp_path, race_plugin, race_files, silicon(1, 1, 1), "silicon"), "run 0"]
    content = (race_files / "silicon.race").read_bytes()
    files = {"cut": content[: len(content) // 2], "damaged": content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]}
    files |= {"newer": content[:8] + (99).to_bytes(8, "little") + content[16:], "other": b"no model at all" * 100, "empty": b""}
    for name, block in files.items():
        (tmp_path / f"{name}.race").write_bytes(block)
    write_lammps_data(tmp_path / "on-one-place.data", Atoms("Si2", [[0, 0, 0], [1e-9, 0, 0]], cell=[9, 9, 9], pbc=True), masses=True)
    of_file = {name: changed(good, "pair_style", f"pair_style race {name}.race") for name in [*files, "missing"]}
    with_bonds = [line for one in good for line in (bonded(tmp_path) if one.startswith("read_data") else [one])]
    with_bonds = changed(with_bonds, "atom_style", "atom_style bond")
    late = changed(good, COMPUTE)
    cases = {
        "the file is cut short": of_file["cut"],
        "the file is damaged: its hash differs": of_file["damaged"],
        "the file is from a newer version of race_calc": of_file["newer"],
        "this is no file of `race-calc export c`": of_file["other"],
        "empty.race: this is no file": of_file["empty"],
        "missing.race cannot be opened": of_file["missing"],
        "needs one argument": changed(good, "pair_style", "pair_style race"),
        "does not know C; it knows Si": changed(good, "pair_coeff", "pair_coeff * * C"),
        "does not know NULL": changed(good, "pair_coeff", "pair_coeff * * NULL"),
        "there are 1 atom types and 2 elements": changed(good, "pair_coeff", "pair_coeff * * Si Si"),
        "must start with * *": changed(good, "pair_coeff", "pair_coeff 1 1 Si"),
        "All pair coeffs are not set": changed(good, "pair_coeff"),
        "units lj are not supported": changed(good, "units", "units lj"),
        "needs newton on": ["newton off", *good],
        "this atom style takes bonded ones out": with_bonds,
        "leave out neigh_modify exclude": [*good[:-1], "neigh_modify exclude type 1 1", "run 0"],
        "leave out compute stress/atom": [*good[:-1], "compute p all stress/atom NULL", "dump d all custom 1 p.dump c_p[1]", "run 0"],
        "needs dimension 3": [line for one in ["dimension 2", *good] for line in (FLAT if one.startswith("read_data") else [one])],
        "leave out neigh_modify include": [*good[:-1], "group part id 1", "atom_modify first part", "neigh_modify include part", "run 0"],
        "two atoms lie on one place": changed(good, "read_data", f"read_data {tmp_path}/on-one-place.data"),
        "needs pair_style race before it": ["plugin load " + str(race_plugin / "raceplugin.so"), COMPUTE],
        "takes no arguments": [*good[:-1], "compute more all race/sigma 3"],
        "was not asked for before step 0": [*changed(late, "thermo_style", "thermo_style custom step pe etotal press"), COMPUTE],
    }  # fmt: skip
    found = lammps_plugin.run(tmp_path, [*cases.values(), good])
    assert "error" not in found.pop()  # the next LAMMPS of the process works
    for message, told in zip(cases, found):
        assert message in told.get("error", ""), (message, told)
    on_two = lammps_plugin.run(tmp_path, [of_file["cut"], good], ranks=2)
    assert "the file is cut short" in on_two[0]["error"] and "error" not in on_two[1]


def test_beside_bonds_and_another_pair_style(race_plugin, race_files, tmp_path):
    good = [*commands(tmp_path, race_plugin, race_files, silicon(1, 1, 1), "silicon"), "run 0"]
    atomic = changed(good, "read_data", f"read_data {tmp_path}/plain.data")
    write_lammps_data(tmp_path / "plain.data", Atoms("Si2", [[0, 0, 0], [2.3, 0, 0]], cell=[9, 9, 9], pbc=True), masses=True)
    bonds = [line for one in good for line in (bonded(tmp_path) if one.startswith("read_data") else [one])]
    bonds = [*changed(bonds, "atom_style", "atom_style bond")[:-1], "special_bonds lj/coul 1 1 1", "run 0"]
    beside = changed(atomic, "pair_style", f"pair_style hybrid/overlay race {race_files}/silicon.race zero 5")
    both = ["pair_coeff * * race Si", "pair_coeff * * zero"]
    beside = [line for one in beside for line in (both if one.startswith("pair_coeff") else [one])]
    plain, with_bonds, hybrid = lammps_plugin.run(tmp_path, [atomic, bonds, beside])
    assert with_bonds["energy"] == plain["energy"]
    np.testing.assert_array_equal(with_bonds["f"], plain["f"])
    assert hybrid["energy"] == plain["energy"] and hybrid["vector"] == plain["vector"]


def test_a_plugin_for_another_lammps_is_refused(race_plugin, tmp_path):
    lammps_plugin.build(tmp_path, built_for=20220107, others=race_plugin)
    (found,) = lammps_plugin.run(tmp_path, [[f"plugin load {tmp_path}/raceplugin.so"]])
    assert f"it was built for LAMMPS 20220107 and this is {lammps_plugin.version()}: build it again" in found["error"]


@pytest.mark.nightly
def test_with_cmake(tmp_path, race_files):
    """The README's way, and its example, which halts."""
    if shutil.which("cmake") is None:
        pytest.skip("no cmake")
    source = Path(__file__).resolve().parents[2] / "interfaces" / "lammps"
    environment = os.environ | {"PYTHONPATH": str(source.parents[1])}
    for command in (["-S", str(source), "-B", "build", f"-DPython_EXECUTABLE={sys.executable}"], ["--build", "build"]):
        subprocess.run(["cmake", *command], cwd=tmp_path, check=True, env=environment)
    shutil.copy(race_files / "silicon.race", tmp_path)
    lines = [line for line in (source / "examples" / "halt.lmp").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "plugin load build/raceplugin.so" and lines[-1].startswith("write_restart")  # which forgets the uncertainty
    (found,) = lammps_plugin.run(tmp_path, [lines[:-1]])
    assert "error" not in found and 0 < found["step"] < 2000 and found["step"] % 10 == 0 and found["vector"][1] > 0.3


def test_single_precision_is_refused(race_plugin, tmp_path):
    """Of a LAMMPS that says so: here a function in its place."""
    source = "#include <string.h>\nint lammps_config_accelerator(const char *p, const char *c, const char *s)\n"
    source += '{ return !strcmp(p, "KOKKOS") && !strcmp(c, "precision") && !strcmp(s, "single"); }\n'
    (tmp_path / "single.cpp").write_text('extern "C" {\n' + source + "}\n")
    build = [str(lammps_plugin.compiler()), "-shared", "-fPIC", str(tmp_path / "single.cpp"), "-o", str(tmp_path / "single.so")]
    subprocess.run(build, check=True)
    (found,) = lammps_plugin.run(
        tmp_path, [[f"plugin load {race_plugin}/raceplugin.so"]], environment={"LD_PRELOAD": str(tmp_path / "single.so")}
    )
    assert "is built in single precision (KOKKOS)" in found["error"]
