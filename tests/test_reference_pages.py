"""The pages that docs/_ext writes name every command, option and key."""

import sys
from pathlib import Path

import pytest

EXTENSIONS = Path(__file__).parent.parent / "docs" / "_ext"


@pytest.fixture
def written(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(EXTENSIONS), *sys.path])
    import command_pages
    import settings_pages

    return command_pages, settings_pages


def test_every_command_and_option_is_there_with_its_default(written):
    commands, _ = written
    page = commands.page()
    names = [name for name, _ in commands.commands()]
    assert {"race-calc train", "race-calc evaluate", "race-calc posterior fit"} <= set(names)
    for name, command in commands.commands():
        section = page.split(f"\n{name}\n---")[1].split("\nrace-calc ")[0]
        assert all(option in section for parameter in command.params for option in parameter.opts if option.startswith("--"))
        assert command.help.split("\n")[0] in section
    evaluate = page.split("\nrace-calc evaluate\n---")[1]
    row = evaluate.split("``--frames``")[1].split("   * -")[0]
    assert "text" in row and "``:``" in row and "which frames of DATA" in row


def test_every_key_is_there_with_its_default(written):
    from race_calc.train.config import DataConfig, LowLevelConfig, TrainingConfig

    page = written[1].page()
    for kind in (TrainingConfig, DataConfig, LowLevelConfig):
        assert all(f"* - ``{key}``" in page for key in kind.model_fields)
    assert "\ndata.low_level\n~~~" in page and "\nexploration\n~~~" in page and "\nbudget\n~~~" in page
    rows = {row.split("``")[1]: row.split("\n") for row in page.split("   * - ")[1:] if row.startswith("``")}
    assert rows["ema_decay"][1].strip() == "- ``0.99``"
    assert rows["repeats"][1].strip() == "- ``[]``"
    assert rows["reference"][1].strip() == "- required"


def test_options_and_files_in_a_sentence_are_shown_as_typed(written):
    plain = written[0].plain
    assert plain("with --out, not `train --out`: a.xyz@0:450 or so") == "with ``--out``, not `train --out`: ``a.xyz@0:450`` or so"


def test_yaml_of_defaults(written):
    assert [written[1].written(value) for value in (None, True, (64, 64), "last", 0.5)] == ["null", "true", "[64, 64]", "last", "0.5"]
