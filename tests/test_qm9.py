"""benchmarks/qm9.py: the tables of qm9pack as structures, and the table that it prints. The package itself is not needed."""

import sys
from pathlib import Path

import numpy as np
import pytest
from ase.io import read

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import qm9
import qm9_data

HEADER = "XYZ_file,Index,Elements,XYZ_Ang,Mulliken_pop," + ",".join(column for column, _, _ in qm9_data.TARGETS.values())


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """Three tables of two waters each, in the form of qm9pack."""
    for k, name in enumerate(qm9_data.TABLES):
        rows = []
        for i in (1, 2):
            index = 2 * k + i
            numbers = ",".join(str(index + 0.5 * j) for j in range(len(qm9_data.TARGETS)))
            rows.append(
                f'"a.xyz",{index},"[\'O\',\'H\',\'H\']","[[0.0,0.0,{0.1 * index}],[0.0,0.76,-0.5],[0.0,-0.76,-0.5]]","[0.1]",{numbers}'
            )
        (tmp_path / name).write_text("\n".join([HEADER, *rows]) + "\n")
    monkeypatch.setattr(qm9_data, "_tables", lambda: tmp_path)
    monkeypatch.setattr(qm9_data, "COUNT", 6)
    monkeypatch.setattr(qm9_data, "PARTS", {"train": 2, "test": 2, "rest": 2})
    return tmp_path


def test_rows_become_structures_in_the_units_of_the_papers(tables, tmp_path):
    paths = qm9_data.files(tmp_path / "data")
    parts = {part: read(path, ":") for part, path in paths.items()}
    assert {part: len(frames) for part, frames in parts.items()} == {"train": 2, "test": 2}
    indices = [atoms.info["index"] for frames in parts.values() for atoms in frames]
    assert indices == [int(i) + 1 for i in np.random.default_rng(0).permutation(6)[:4]]
    one = parts["train"][0]
    names = list(qm9_data.TARGETS)
    assert one.get_chemical_formula() == "H2O" and one.positions[0, 2] == pytest.approx(0.1 * one.info["index"])
    assert one.info["mu"] == one.info["index"] and one.info["Cv"] == pytest.approx(one.info["index"] + 0.5 * names.index("Cv"))
    assert one.info["U0"] == pytest.approx(27.211386 * (one.info["index"] + 0.5 * names.index("U0")))
    before = paths["train"].read_bytes()
    assert qm9_data.files(tmp_path / "data") == paths and paths["train"].read_bytes() == before
    rest = qm9_data.files(tmp_path / "data", full=True)["rest"]
    assert paths["train"].read_bytes() == before and not {atoms.info["index"] for atoms in read(rest, ":")} & set(indices)


def test_a_user_without_the_package_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(qm9_data.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="pip install --no-deps qm9pack"):
        qm9_data.files(tmp_path)


def test_another_package_is_noticed(tables, tmp_path, monkeypatch):
    monkeypatch.setattr(qm9_data, "COUNT", 7)
    with pytest.raises(SystemExit, match="hold 6 molecules, not 7"):
        qm9_data.files(tmp_path / "data")


def test_the_table_has_what_was_run():
    one = {target: {"mae": 0.1234, "coverage": 90.04} for target in qm9.TARGETS} | {"cpu_minutes": 12.3}
    alone = {"U0": {"mae": 55.5, "coverage": 88.0}, "cpu_minutes": 3.0}
    lines = qm9.table({"all-1000": one, "all-2000": one, "U0-2000": alone}).splitlines()
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
    assert "| mu | D | 0.123 | 0.123 | 90.0 % | 0.027 |" in lines
    assert "| U0, a model of its own | meV | – | 55.5 | 88.0 % | |" in lines
    assert "| U0, FCHL (2018) | meV | 67.8 | – | | |" in lines and "| CPU minutes, one trunk | | 12 | 12 | | |" in lines
