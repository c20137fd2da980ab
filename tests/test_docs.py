"""What the documentation points at exists: files, sections and names in the code."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted(path for path in (ROOT / "docs" / "notebooks").glob("*.md") if path.stem != "index")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs").glob("*/*.md"))]
PRESENT = [page for page in PAGES if page.name not in ("CONTRIBUTING.md", "contributing.md")]  # this one names files to be made
SOURCES = [path for path in sorted((ROOT / "race_calc").rglob("*")) if path.suffix in (".py", ".c")]
GENERATED = ("api/", "reference/")  # written by docs/_ext/*_pages.py when the documentation is built
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FILE = re.compile(r"`((?:docs|models|benchmarks|examples|tests|race_calc)/[\w./-]+)`")
DOTTED = re.compile(r"`race_calc((?:\.\w+)+)`")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
SECTIONS = re.compile(r"method(?:\.md)?,?\s+sections?\s+(\d+(?:(?:,| and)\s+\d+)*)")


def text_of(page: Path) -> str:
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_point_to_files_that_exist(page):
    targets = [target.split("#")[0] for target in LINK.findall(text_of(page)) if "://" not in target]
    wanted = [target for target in targets if target and not target.startswith(GENERATED)]
    assert [target for target in wanted if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PRESENT, ids=name_of)
def test_files_named_in_the_text_exist(page):
    assert [name for name in FILE.findall(text_of(page)) if not (ROOT / name).exists()] == []


def test_dotted_names_lead_somewhere():
    named = {(name_of(page), name) for page in [*PRESENT, *SOURCES] for name in DOTTED.findall(page.read_text(encoding="utf-8"))}
    assert {(page, name) for page, name in named if not leads_somewhere(name)} == set()


def leads_somewhere(dotted: str) -> bool:
    """Does `.room.module.name` lead to a folder, a file or a word in that file? Nothing is imported."""
    folder, parts = ROOT / "race_calc", dotted.strip(".").split(".")
    while parts and (folder / parts[0]).is_dir():
        folder = folder / parts.pop(0)
    file = folder / f"{parts.pop(0)}.py" if parts and (folder / f"{parts[0]}.py").is_file() else folder / "__init__.py"
    return not parts or re.search(rf"\b{parts[0]}\b", file.read_text(encoding="utf-8")) is not None


def test_sections_of_the_method_named_in_the_code_exist():
    headings = set(re.findall(r"^## (\d+)\. ", (ROOT / "docs" / "method.md").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        (name_of(path), number)
        for path in SOURCES
        for numbers in SECTIONS.findall(path.read_text(encoding="utf-8"))
        for number in re.findall(r"\d+", numbers)
    }
    assert named, "no docstring names a section: has the wording changed?"
    assert {(path, number) for path, number in named if number not in headings} == set()


def test_names_in_the_method_exist_in_the_code():
    words = {word for path in SOURCES for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))}
    names = re.findall(r"`([A-Za-z_]\w*)`", text_of(ROOT / "docs" / "method.md"))
    assert len(names) > 50
    assert sorted({name for name in names if name not in words}) == []


@pytest.mark.parametrize("page", NOTEBOOKS, ids=name_of)
def test_notebooks_check_what_they_say_and_are_listed(page):
    assert len(re.findall(r"^assert ", page.read_text(encoding="utf-8"), re.MULTILINE)) >= 2
    assert f"({page.name})" in (page.parent / "index.md").read_text(encoding="utf-8")


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 100
