"""race-calc select: from a pool to a file, with what is known left out."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read, write
from typer.testing import CliRunner

from race_calc.cli import app
from race_calc.uncertainty.acquisition import METHODS


def run(*arguments):
    done = CliRunner().invoke(app, ["select", *map(str, arguments)])
    return done.exit_code, done.output


@pytest.fixture
def pool(tmp_path):
    rng = np.random.default_rng(1)
    structures = [molecule("CH3CH2OH") for _ in range(12)]
    for i, atoms in enumerate(structures):
        atoms.positions += rng.normal(scale=0.02 * (i + 1), size=atoms.positions.shape)
        atoms.info["temperature"] = 100 * i
    write(tmp_path / "pool.xyz", [*structures, structures[3]])  # one twice
    return tmp_path / "pool.xyz"


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method(tiny_model, pool, tmp_path, method):
    code, output = run(tiny_model, pool, "--n", 4, "--method", method, "--out", tmp_path / "new" / "chosen.xyz")
    assert code == 0 and f"4 of 12 by {method}" in output and "there twice, left out: 1" in output, output
    chosen, every = read(tmp_path / "new" / "chosen.xyz", ":"), read(pool, ":")
    assert [atoms.info["selected_by"] for atoms in chosen] == [method] * 4
    for atoms in chosen:
        source = every[atoms.info["selected_from"]]
        np.testing.assert_allclose(atoms.positions, source.positions)
        assert atoms.info["temperature"] == source.info["temperature"]


def test_known_structures_are_left_out_and_frames_keep_their_numbers(tiny_model, pool, tmp_path):
    write(tmp_path / "known.xyz", read(pool, "8:12"))
    picture = tmp_path / "pool.png"
    options = ["--known", tmp_path / "known.xyz", "--frames", "4:12", "--method", "lcmd", "--out", tmp_path / "c.xyz", "--picture", picture]
    code, output = run(tiny_model, pool, "--n", 4, *options)
    assert code == 0 and picture.stat().st_size > 5000, output
    assert sorted(atoms.info["selected_from"] for atoms in read(tmp_path / "c.xyz", ":")) == [4, 5, 6, 7]


def test_a_run_on_top_of_another_gives_the_same(tiny_model, pool, tmp_path):
    found = []
    for name in ("a.xyz", "b.xyz"):
        assert run(tiny_model, pool, "--n", 3, "--method", "random", "--seed", 5, "--out", tmp_path / name)[0] == 0
        found.append([atoms.info["selected_from"] for atoms in read(tmp_path / name, ":")])
    assert "is there already" in run(tiny_model, pool, "--n", 3, "--out", tmp_path / "a.xyz")[1]
    assert found[0] == found[1] and len(found[0]) == 3


def test_broken_structures_are_left_out(tiny_model, pool, tmp_path):
    structures = read(pool, ":12")
    structures[2].positions[0, 0] = np.nan
    structures[5].positions[1] = structures[5].positions[0]
    write(tmp_path / "broken.xyz", structures)
    code, output = run(tiny_model, tmp_path / "broken.xyz", "--n", 10, "--method", "random", "--out", tmp_path / "c.xyz")
    assert code == 0 and "structures that cannot be predicted, left out: 2, the first frame 2: " in output, output
    assert not {2, 5} & {atoms.info["selected_from"] for atoms in read(tmp_path / "c.xyz", ":")}


@pytest.mark.parametrize(
    "options, said",
    [
        (["--n", "13"], "12 structures of"),
        (["--method", "magic"], "there is no method 'magic'"),
        (["--frames", "40"], "names no frames"),
        (["--frames", "x"], "names no frames"),
        (["--known", "missing.xyz"], "does not exist"),
        (["--picture", "a.foo"], "ends in .png, .pdf, .svg"),
        (["--calculator", "a:b"], "in the place of the model"),
    ],
)
def test_what_cannot_be(tiny_model, pool, tmp_path, options, said):
    code, output = run(tiny_model, pool, "--out", tmp_path / "c.xyz", "--n", "2", *options)
    assert code == 1 and said in " ".join(output.split()), output
    assert not (tmp_path / "c.xyz").exists()


def test_other_elements_and_the_pool_as_target(tiny_model, pool, tmp_path):
    write(tmp_path / "gold.xyz", [Atoms("Au2", [(0, 0, 0), (0, 0, 2.5)]), Atoms("Au2", [(0, 0, 0), (0, 0, 2.6)])])
    code, output = run(tiny_model, tmp_path / "gold.xyz", "--n", 1, "--out", tmp_path / "c.xyz")
    assert code == 1 and "does not know Au" in output


def test_no_file_that_is_read_is_replaced(tiny_model, pool, tmp_path):
    write(tmp_path / "known.xyz", read(pool, "8:12"))
    before = {path: path.read_bytes() for path in (pool, tmp_path / "known.xyz")}
    for options in (
        ["--out", pool],
        ["--known", tmp_path / "known.xyz", "--out", tmp_path / "known.xyz"],
        ["--out", tmp_path / "a.png", "--picture", tmp_path / "a.png"],
    ):
        code, output = run(tiny_model, pool, "--n", 1, *options)
        assert code == 1 and "would replace" in output, output
    assert before == {path: path.read_bytes() for path in before}
    assert not (tmp_path / "a.png").exists()


def test_a_pool_of_broken_structures_says_so(tiny_model, tmp_path):
    write(tmp_path / "broken.xyz", [Atoms("O2", [(0, 0, 0), (0, 0, 0.01 * k)]) for k in range(3)])
    code, output = run(tiny_model, tmp_path / "broken.xyz", "--n", 2, "--out", tmp_path / "c.xyz")
    assert code == 1 and "0 structures" in output and "left out: 3" in output
