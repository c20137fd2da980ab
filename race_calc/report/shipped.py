"""What comes with the package, in a few words each. Imports no torch."""

import json
from typing import Any

from ase.data import chemical_symbols

from race_calc.posterior.manifest import CARD, CONFIG, check_files, read_manifest
from race_calc.posterior.shipped import shipped


def rows() -> list[dict[str, Any]]:
    """Name, folder, title of the card, elements and size of each. Raises CheckpointError for a file that is not what the manifest says."""
    found = []
    for name, folder in shipped().items():
        hashes = read_manifest(folder)
        check_files(folder, hashes, hashes or ())
        numbers = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["references"]["species"]
        title = (folder / CARD).read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").removeprefix(f"{name}: ")
        size = sum(path.stat().st_size for path in folder.iterdir())
        elements = [chemical_symbols[z] for z in numbers]
        found.append({"name": name, "folder": str(folder), "title": title, "elements": elements, "megabytes": size / 1e6})
    return found
