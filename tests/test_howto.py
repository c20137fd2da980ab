"""The Python lines of docs/howto.md run as they stand, and every `race-calc` line of the documentation names options that exist."""

import re
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from typer.main import get_command

from race_calc.cli import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
CALL = re.compile(r"^race-calc\s+(.*)$|`race-calc\s+([^`\n]+)`", re.MULTILINE)


@pytest.mark.slow
def test_python_of_the_howto_runs(tmp_path, monkeypatch):
    if not (ROOT / "models" / "3bpa-de" / "weights.safetensors").is_file():
        pytest.skip("models/3bpa-de holds no trained weights")
    (tmp_path / "models").symlink_to(ROOT / "models")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "howto.md").read_text(encoding="utf-8")
    pieces = [code for language, code in FENCED.findall(text) if language == "python"]
    assert len(pieces) >= 7
    exec(compile("\n".join(pieces), "howto.md", "exec"), {})
    assert Path("monitor.jsonl").stat().st_size > 0


def test_the_potential_of_foreign_md_runs():
    code = dict(FENCED.findall((ROOT / "docs" / "foreign.md").read_text(encoding="utf-8").split("## One of your own")[1]))["python"]
    names: dict = {}
    exec(compile(code, "foreign.md", "exec"), names)
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    atoms.calc = EMT()
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    atoms.calc = names["Mine"]([lambda atoms, k=k: (k * energy, k * forces) for k in (0.9, 1.0, 1.1)])
    assert abs(atoms.get_potential_energy() - energy) < 1e-12
    spread = atoms.calc.get_property("forces_uncertainty")
    np.testing.assert_allclose(spread, np.std([0.9, 1.0, 1.1]) * np.abs(forces), atol=1e-12)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_in_the_documentation_exist(page):
    calls = [first or second for first, second in CALL.findall(page.read_text(encoding="utf-8"))]
    assert [call for call in calls if not exists(call)] == []


def exists(call: str) -> bool:
    """Whether `train --from X` is a command with that option; what stands behind a pipe, a comment or an arrow is not looked at."""
    words, command = re.split(r"\s[#|>→;]|\s2>", call)[0].replace("`", " ").split(), get_command(app)
    while getattr(command, "commands", None) and words and re.match(r"[a-z]", words[0]):
        name = words.pop(0).rstrip(",.:;)")
        if name not in command.commands:
            return False
        command = command.commands[name]
    known = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]} | {"--help"}
    given = {re.split(r"[=,.)\]]", word.lstrip("[("))[0] for word in words if word.lstrip("[(").startswith("--")}
    return given <= known


def test_a_wrong_command_and_a_wrong_option_would_be_seen():
    assert exists("train my.yaml --data FOLDER --out runs/mine") and exists("posterior fit runs/mine --method llpr")
    assert not exists("trian my.yaml") and not exists("train my.yaml --dtaa FOLDER")
