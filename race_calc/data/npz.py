"""The two npz layouts of rMD17, and one of electronic states."""

import re
from typing import Any

import numpy as np
from ase import Atoms

from race_calc.data.files import shortened

KCAL_PER_MOL = 0.0433641042418009  # eV; 4184 J / (Avogadro constant * elementary charge)


def read_npz(name: str, part: str | None = None, index: str | int | slice = ":") -> list[tuple[Atoms, float, np.ndarray]]:
    """Frames (Atoms in Å, energy in eV, forces (N, 3) in eV/Å) of one molecule.

    Layouts (B frames, N atoms), chosen by the keys found:

    - split files, eV and Å: Z (N,), R_train (B, N, 3), E_train (B,), F_train (B, N, 3) and the same with test, chosen by ``part``,
      which must be given: the training part taken for the test would flatter a model;
    - the published rMD17 (Christensen & von Lilienfeld 2020, 10.1088/2632-2153/abba6f), kcal/mol and Å: nuclear_charges, coords,
      energies, forces; no parts;
    - S electronic states, eV and Å: Z (N,), R (B, N, 3), E (B, S), F (B, S, N, 3); no parts. Energy and forces are those of the first;
      info and arrays have all, as `race_calc.data.surfaces` names them (S0, S1, …), other keys of a number or a vector for each, and
      h01_squared, Σ |h01|², of couplings h01 (B, N, 3).

    Raises ``ValueError`` for an unreadable file, an unknown part, a part that is not chosen, missing keys, shapes that do not fit and an
    index outside the file.
    """
    if part not in (None, "train", "test"):
        raise ValueError(f"{name}#{part}: unknown part {part!r}; write #train or #test")
    arrays = _read(name)
    keys, unit = _layout(name, arrays, part)
    states: list[Atoms] = []
    if keys[1:] == [*"REF"]:
        states = _of_states(name, arrays)
        arrays |= {"E": arrays["E"][:, 0], "F": arrays["F"][:, 0]}
    numbers, positions, energies, forces = _checked(name, {key: arrays[key] for key in keys})
    from ase.io.formats import string2index  # here: see `race_calc.data.dataset`

    try:
        place: Any = string2index(index) if isinstance(index, str) else index
        chosen = np.atleast_1d(np.arange(len(energies))[place])
    except (IndexError, ValueError) as error:
        raise ValueError(f"index {index!r} does not fit {name}, which has {len(energies)} frames") from error
    frames = states or [Atoms(numbers=numbers, positions=where) for where in positions]
    return [(frames[i], float(energies[i]) * unit, forces[i] * unit) for i in chosen]


def _read(name: str) -> dict[str, np.ndarray]:
    try:
        with np.load(name, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except Exception as error:  # zip, pickle and value errors
        raise ValueError(f"cannot read {name} ({shortened(str(error))}): give an npz file of plain arrays") from error


def _layout(name: str, arrays: dict[str, np.ndarray], part: str | None) -> tuple[list[str], float]:
    """Keys of numbers, positions, energies and forces, and the unit of energies in eV."""
    sizes = {one: arrays[f"E_{one}"].size for one in ("train", "test") if f"E_{one}" in arrays and "Z" in arrays}
    if part is None and sizes:
        choices = " or ".join(f"{name}#{one} ({size} frames)" for one, size in sizes.items())
        raise ValueError(f"{name} has parts, and none is chosen: write {choices}")
    if {"Z", *"REF"} <= set(arrays) and arrays["E"].ndim == 2:
        return ["Z", *"REF"], 1.0
    split_keys = ["Z", *(f"{key}_{part or 'train'}" for key in "REF")]
    if set(split_keys) <= set(arrays):
        return split_keys, 1.0
    plain_keys = ["nuclear_charges", "coords", "energies", "forces"]
    if not set(plain_keys) <= set(arrays):
        raise ValueError(f"{name} has the keys {sorted(arrays)}: expected {split_keys} (eV, Å) or {plain_keys} (kcal/mol, Å)")
    if part is not None:
        raise ValueError(f"{name} has no parts: remove '#{part}' and select frames with an index")
    return plain_keys, KCAL_PER_MOL


def _checked(name: str, arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Numbers, positions, energies and forces, energies as (B,)."""
    keys, (numbers, positions, energies, forces) = list(arrays), arrays.values()
    for key, array in arrays.items():
        if array.dtype.kind not in "iuf":
            raise ValueError(f"{name}: {key} holds {array.dtype}: give real numbers")
    if not np.array_equal(numbers, np.rint(numbers)):
        raise ValueError(f"{name}: {keys[0]} holds atomic numbers that are no whole numbers: repair the file")
    energies = energies.reshape(-1)  # some files store (B, 1)
    expected = (*energies.shape, *numbers.shape, 3)
    if numbers.ndim != 1 or positions.shape != expected or forces.shape != expected:
        raise ValueError(
            f"{name}: shapes do not fit together: {keys[0]} {numbers.shape}, {keys[1]} {positions.shape}, "
            f"{keys[2]} {energies.shape}, {keys[3]} {forces.shape}; expected (N,), (B, N, 3), (B,), (B, N, 3)"
        )
    return numbers, positions, energies, forces


def _of_states(name: str, arrays: dict[str, np.ndarray]) -> list[Atoms]:
    """With the labels of every state. Raises ValueError where shapes do not fit together."""
    frames, states = arrays["E"].shape
    expected = (frames, states, len(arrays["Z"]), 3)
    if arrays["F"].shape != expected or arrays["R"].shape != (frames, *expected[2:]):
        raise ValueError(
            f"{name}: E {arrays['E'].shape} asks for F of the shape {expected}, found {arrays['F'].shape}; R {arrays['R'].shape}"
        )
    numbers = {f"energy_S{k}": arrays["E"][:, k] for k in range(states)}
    vectors = {f"forces_S{k}": arrays["F"][:, k] for k in range(states)}
    for key in set(arrays) - {"Z", *"REF"}:
        if arrays[key].shape == (frames,):
            numbers[key] = arrays[key]
        elif arrays[key].shape == arrays["R"].shape:
            vectors[key] = arrays[key]
            if re.fullmatch(r"h\d\d", key):
                numbers[f"{key}_squared"] = (arrays[key] ** 2).sum((1, 2))
    found = [Atoms(numbers=arrays["Z"], positions=where) for where in arrays["R"]]
    for i, atoms in enumerate(found):
        atoms.info.update({key: values[i].item() for key, values in numbers.items()})
        atoms.arrays.update({key: values[i] for key, values in vectors.items()})
    return found
