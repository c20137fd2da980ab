"""Checks of numbers that a user gives."""

from numbers import Integral


def whole(name: str, value: object, least: int = 1) -> int:
    """`value` as an int, of Python's or NumPy's types. Raises TypeError for another type and bool, ValueError for one below `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number such as 10, got {value!r} ({type(value).__name__})")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)
