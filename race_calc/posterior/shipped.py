"""The models that come with the package, by name. Imports nothing heavy."""

import os
from pathlib import Path
from typing import Any

INSTALLED = Path(__file__).parents[1] / "models"  # setup.py copies them there from the top of the repository
CHECKOUT = Path(__file__).parents[2] / "models"  # where the package runs from the repository itself


def shipped() -> dict[str, Path]:
    """Name → folder, in alphabetical order."""
    home = INSTALLED if INSTALLED.is_dir() else CHECKOUT
    return {path.parent.name: path.parent for path in sorted(home.glob("*/config.json"))}


def model_folder(model: Any) -> Any:
    """The folder of what a user gave: a string without a path separator is the name of a shipped model, or else of a folder here.

    A `Path` is a path, and what is no path at all comes back as it is: whoever reads it says what is wrong with it.
    """
    if not isinstance(model, str):
        return model
    named = os.sep not in model and (os.altsep is None or os.altsep not in model)
    return shipped().get(model, Path(model)) if named else Path(model)


def told_names() -> str:
    """For messages: which names there are."""
    names = ", ".join(shipped())
    return f"one of the models by name: {names}" if names else "another one: no models came with this installation"
