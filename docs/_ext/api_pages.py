"""Writes the pages of the reference: one for every room of the package, found by looking, and an index.

A room is a folder of the package. Files that lie beside the rooms share one page. So a module that moves, comes or goes
needs no edit here.
"""

import ast
import pkgutil
from collections import defaultdict
from pathlib import Path

import race_calc

PACKAGE = race_calc.__name__
LOOSE = "beside the rooms"
MEMBERS = "   :members:\n"
MODULE = MEMBERS + "   :ignore-module-all:\n"


def setup(app):
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir) / "api"))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write_pages(folder: Path) -> None:
    rooms = modules_by_room()
    pages = {f"{room.replace(' ', '-')}.rst": room_page(room, modules) for room, modules in rooms.items()}
    pages["index.rst"] = index_page(rooms, list(pages))
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.rst"):
        old.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")


def modules_by_room() -> dict[str, list[str]]:
    """Room → its modules with their full names; the room itself comes first, as `race_calc.model`."""
    rooms = defaultdict(list)
    for module in pkgutil.walk_packages(race_calc.__path__, f"{PACKAGE}."):
        parts = module.name.split(".")[1:]
        empty = module.ispkg and len(parts) > 1 and not first_sentence(module.name)  # a folder in a room that says nothing
        if empty or any(part.startswith("_") for part in parts):
            continue
        rooms[parts[0] if len(parts) > 1 or module.ispkg else LOOSE].append(module.name)
    return {room: sorted(rooms[room]) for room in sorted(rooms, key=lambda room: (room == LOOSE, room))}


def room_page(room: str, modules: list[str]) -> str:
    parts = [heading(room, "=")]
    if modules[0] == f"{PACKAGE}.{room}":
        parts.append(f".. automodule:: {modules.pop(0)}\n{MODULE}")
    parts.append(overview(modules))
    for name in modules:
        parts.append(heading(short(room, name), "-") + f"\n.. automodule:: {name}\n{MODULE}")
    return "\n".join(parts)


def overview(modules: list[str]) -> str:
    rows = "".join(f"   * - `{name}`\n     - {first_sentence(name)}\n" for name in modules)
    return f".. list-table::\n   :widths: auto\n\n{rows}"


def index_page(rooms: dict[str, list[str]], pages: list[str]) -> str:
    public = {name: "class" if isinstance(getattr(race_calc, name), type) else "function" for name in race_calc.__all__}
    documented = "\n".join(
        f".. auto{kind}:: {PACKAGE}.{name}\n{MEMBERS * (kind == 'class')}   :no-index:\n" for name, kind in public.items()
    )
    listed = "\n".join(f"   {Path(page).stem}" for page in pages)
    return (
        heading("Reference", "=")
        + f"\nThe names that `from {PACKAGE} import …` gives come first. Every other module is on the page of its room.\n\n"
        + f".. toctree::\n   :caption: Rooms\n   :maxdepth: 1\n\n{listed}\n\n{documented}"
    )


def heading(title: str, line: str) -> str:
    return f"{title}\n{line * len(title)}\n"


def short(room: str, name: str) -> str:
    return name.removeprefix(f"{PACKAGE}.").removeprefix(f"{room}.")


def first_sentence(name: str) -> str:
    """The first line of a module's docstring, read without importing the module."""
    path = Path(race_calc.__path__[0], *name.split(".")[1:])
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]
