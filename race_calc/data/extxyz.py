"""Structures as text of ASE's extended XYZ, with what must be done to info and arrays so that it gives them back. Uses ASE."""

import io
import json
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from ase import Atoms

TAKEN = ("Lattice", "Properties", "pbc")  # keys of the format itself
END = "end_of_item"  # a key of the trial line only


def as_extxyz(frames: Iterable[Atoms]) -> bytes:
    """The text of these frames with their energies, forces and stresses; info comes back as `storable` says, arrays as `column` does."""
    from ase.io import write  # here: see `race_calc.data.dataset`

    text = io.StringIO()
    for atoms in frames:
        written: Atoms = atoms.copy()
        written.info, written.calc = storable(atoms.info), atoms.calc
        for name in [one for one in atoms.arrays if one not in ("numbers", "positions")]:
            del written.arrays[name]
            if (values := column(name, atoms.arrays[name])) is not None:
                written.arrays[re.sub(r"[\s:]", "_", name)] = values
        write(text, written, format="extxyz")
    return text.getvalue().encode()


def column(name: str, values: np.ndarray) -> np.ndarray | None:
    """An array (N, …) that the format can hold: whole numbers with a sign, more than two axes one after the other in (N, k), texts without
    blanks, "_" for an empty one. Of what it has no letter for None, with a warning."""
    flat = values.reshape(len(values), -1) if values.ndim > 2 else values
    if flat.dtype.kind == "U":
        return np.array([re.sub(r"\s", "_", text) or "_" for text in flat.ravel().tolist()]).reshape(flat.shape)
    if flat.dtype.kind not in "biuf" or not flat.size:
        warnings.warn(f"the array {name!r} of kind {values.dtype} is left out of the file: extended XYZ cannot hold it", stacklevel=3)
        return None
    return flat.astype(np.int64) if flat.dtype.kind == "u" else flat


def storable(info: Mapping[Any, Any]) -> dict[str, Any]:
    """The same info in a form that ASE writes on one line and reads again to the same values, in any process.

    Values that the format would change or break (quotes, newlines, backslashes, text that looks like numbers, nested lists and
    dictionaries) become JSON, which ASE's reader knows. In keys, line breaks become spaces; a key that the format uses itself, or cannot
    give back with this value, gets an underscore at its end. What JSON cannot hold is left to ASE, which leaves it out with a warning.
    """
    return dict(_item(key, value) for key, value in info.items())


def _item(key: Any, value: Any) -> tuple[str, Any]:
    name = " ".join(str(key).splitlines()) or "_"
    name += "_" if name in TAKEN else ""
    as_json = _as_json(value)
    for told in (name, name + "_"):
        for stored in (value, as_json):
            if _comes_back(told, stored, value):
                return _escaped(told), stored
    return _escaped(name), as_json  # comes back in another form, such as a dictionary whose keys were numbers


def _escaped(key: str) -> str:
    return key.replace("\\", "\\\\").replace("=", "\\=")  # ASE quotes a key with spaces, brackets or quotes itself


def _as_json(value: Any) -> Any:
    """Text that ASE's reader takes for JSON; it drops backslashes, so they are doubled. Of what is no JSON the value itself."""
    plain = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    try:
        return "_JSON " + json.dumps(plain).replace("\\", "\\\\")
    except (TypeError, ValueError):
        return value


def _comes_back(key: str, stored: Any, value: Any) -> bool:
    """Whether ASE reads a line with this item, and another one after it, to the value."""
    from ase.io.extxyz import key_val_dict_to_str, key_val_str_to_dict  # here: see `race_calc.data.dataset`

    if isinstance(stored, str) and not (stored.isascii() and stored.isprintable()):
        return False
    try:
        line = key_val_dict_to_str({_escaped(key): stored, END: 1})
        found = key_val_str_to_dict(line)
    except Exception:  # whatever ASE's parser meets
        return False
    return line.isprintable() and list(found) == [key, END] and found[END] == 1 and _same(found[key], value)


def _same(found: Any, value: Any) -> bool:
    """Equal, lists and arrays of numbers being one thing, as the format has it; text equals text only."""
    if isinstance(value, str) or isinstance(found, str):
        return isinstance(value, str) and isinstance(found, str) and found == value
    try:
        return bool(np.array_equal(np.asarray(found), np.asarray(value), equal_nan=np.asarray(value).dtype.kind == "f"))
    except (TypeError, ValueError):  # of nested objects
        return bool(found == value)
