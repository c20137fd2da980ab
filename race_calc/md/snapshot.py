"""The whole state of a running ASE dynamics, as plain values: to rewind it, and to go on in another process. Uses ASE.

What is taken: positions, momenta and cell of the atoms, all numbers and arrays that the dynamics and its thermostat keep, and the state
of its random numbers. A dynamics that is made in the same way and `put` to it makes the same steps, bit by bit.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

Snapshot = dict[str, Any]  # numbers, arrays and random states by name; `plain` makes JSON of it
KIND, ATOMS = "kind", "atoms"
_LEFT_OUT = ("atoms", "observers", "max_steps", "optimizable", "masses")  # not a part of the state
_NUMBERS = (bool, int, float, np.generic)


def take(dynamics: Any) -> Snapshot:
    """What there is now; nothing of it changes when the dynamics goes on."""
    atoms = dynamics.atoms
    found: Snapshot = {
        KIND: type(dynamics).__name__,
        f"{ATOMS}.numbers": atoms.numbers.copy(),
        f"{ATOMS}.positions": atoms.positions.copy(),
    }
    found[f"{ATOMS}.cell"] = atoms.cell.array.copy()
    if atoms.has("momenta"):
        found[f"{ATOMS}.momenta"] = atoms.get_momenta()
    for path, value, _ in _parts(dynamics, ""):
        found[path] = deepcopy(value)
    return found


def plain(snapshot: Snapshot) -> Snapshot:
    """The same in Python's own types."""
    return {name: _plain(value) for name, value in snapshot.items()}


def put(dynamics: Any, snapshot: Snapshot) -> None:
    """Bring the dynamics to the state of a snapshot of its kind, as it was taken or `plain`.

    Raises ValueError, and changes nothing, for that of another kind or of other atoms.
    """
    atoms, kind = dynamics.atoms, type(dynamics).__name__
    same_atoms = np.array_equal(snapshot.get(f"{ATOMS}.numbers", ()), atoms.numbers)
    if snapshot.get(KIND) != kind or not same_atoms:
        what = f"it is one of a {snapshot.get(KIND)}" if same_atoms else "it has other atoms"
        raise ValueError(f"the state is not that of this {kind} ({what}): make the dynamics as it was made before")
    atoms.set_cell(np.array(snapshot[f"{ATOMS}.cell"]), scale_atoms=False, apply_constraint=False)
    atoms.positions[:] = snapshot[f"{ATOMS}.positions"]
    if f"{ATOMS}.momenta" in snapshot:
        atoms.set_momenta(np.array(snapshot[f"{ATOMS}.momenta"]), apply_constraint=False)
    parts = {path: (value, give) for path, value, give in _parts(dynamics, "")}
    for path, value in snapshot.items():
        if path in parts:
            now, give = parts[path]
            give(_like(now, value))
        elif path != KIND and "." not in path:  # what it has from its first step on
            setattr(dynamics, path, _like(None, value))


def other_settings(dynamics: Any, begin: Snapshot) -> list[str]:
    """Names of the single numbers, such as the time step, that a new dynamics has otherwise than one at whose begin this was taken."""
    own = take(dynamics)
    return [name for name, value in begin.items() if np.ndim(value) == 0 and not isinstance(value, dict) and own.get(name, value) != value]


def share_random_numbers(dynamics: Sequence[Any]) -> bool:
    """Whether some of these dynamics draw from one source, such as NumPy's shared one, which ASE takes where none is given."""
    sources = [id(value) for one in dynamics for value in vars(one).values() if _random(value) is not None]
    return len(set(sources)) < len(sources)


def draw(dynamics: Any, count: int) -> None:
    """Use up so many random numbers of the dynamics, where it has any: from there on it makes other steps."""
    for value in vars(dynamics).values():
        if _random(value) is not None:
            value.standard_normal(count)


def steps_of(snapshot: Snapshot) -> int:
    """Steps that the dynamics had made."""
    return int(snapshot["nsteps"])


def _parts(owner: Any, prefix: str) -> Iterator[tuple[str, Any, Callable[[Any], None]]]:
    """(path, value, what sets it) of all that an object keeps, and the thermostats and barostats in it."""
    for name, value in list(vars(owner).items()):
        path = prefix + name
        if not prefix and name in _LEFT_OUT:
            continue
        if (random := _random(value)) is not None:
            yield path, random, _seeding(value)
        elif isinstance(value, _NUMBERS) or _numeric(value):
            yield path, value, _setting(owner, name)
        elif type(value).__module__.startswith("ase.md."):
            yield from _parts(value, path + ".")


def _setting(owner: Any, name: str) -> Callable[[Any], None]:
    return lambda value: setattr(owner, name, value)


def _random(value: Any) -> dict[str, Any] | None:
    """The state of a source of random numbers, NumPy's shared one too; None for anything else."""
    if isinstance(value, np.random.Generator):
        return dict(value.bit_generator.state)
    if value is np.random or isinstance(value, np.random.RandomState):
        return dict(value.get_state(legacy=False))
    return None


def _seeding(source: Any) -> Callable[[Any], None]:
    if isinstance(source, np.random.Generator):
        return lambda state: setattr(source.bit_generator, "state", state)
    return lambda state: source.set_state(state)


def _numeric(value: Any) -> bool:
    """An array of numbers, or a list or tuple of them."""
    if isinstance(value, (list, tuple)):
        return all(isinstance(one, _NUMBERS) or _numeric(one) for one in value)
    return isinstance(value, np.ndarray) and value.dtype.kind in "biuf"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def _like(value: Any, plain: Any) -> Any:
    """The plain value in the type of the one that it replaces."""
    if isinstance(value, dict) and isinstance(plain, dict):
        return {name: _like(value.get(name), one) for name, one in plain.items()}
    if isinstance(value, np.ndarray) and np.ndim(plain) == value.ndim:  # some are numbers until the first step
        return np.array(plain, dtype=value.dtype)
    if isinstance(value, (list, tuple)):
        return type(value)(_like(old, one) for old, one in zip(value, plain)) if len(value) == len(plain) else type(value)(plain)
    return np.array(plain) if isinstance(plain, (list, np.ndarray)) else plain
