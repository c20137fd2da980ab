"""Print the lowest version that pyproject.toml allows of everything it names, one `name==version` a line, for pip.

    python tools/lowest.py > lowest.txt

Used by `make test-lowest` as constraints. Covers the build system, the dependencies and the extra `test`; the extra
`scatter` needs a compiler and is left out, and so are `lint` and `docs`, which the tests do not need. Needs Python 3.11
(tomllib). Ends with a message and status 1 when a requirement has no lower bound.
"""

import re
import sys
from pathlib import Path

import tomllib

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def lowest(requirement: str) -> str:
    """`name>=version`, with anything after it, → `name==version`."""
    found = re.match(r"\s*([A-Za-z0-9._-]+)\s*>=\s*([0-9][^,;\s]*)", requirement)
    if not found:
        sys.exit(f"{PYPROJECT.name}: {requirement!r} has no lower bound: write it as name>=version")
    return "==".join(found.groups())


content = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
project = content["project"]
for requirement in content["build-system"]["requires"] + project["dependencies"] + project["optional-dependencies"]["test"]:
    print(lowest(requirement))
