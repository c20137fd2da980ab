"""Values of a stored configuration, checked."""

from pydantic import ValidationError

from race_calc.data.files import shortened


def number(values: dict, key: str, most: float = float("inf")) -> float:
    """A number ≥ 0 of the configuration. Raises KeyError, or ValueError with the key."""
    value = values[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise ValueError(f"{key} is {shortened(repr(value))}: a number from 0 to {most:g} is needed")
    return float(value)


def flag(values: dict, key: str) -> bool:
    """Yes or no of the configuration. Raises KeyError, or ValueError with the key."""
    if not isinstance(values[key], bool):
        raise ValueError(f"{key} is {shortened(repr(values[key]))}: true or false is needed")
    return bool(values[key])


def whole(values: dict, key: str, most: int) -> int:
    """A whole number from 1 on of the configuration. Raises KeyError, or ValueError with the key."""
    value = values[key]
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"{key} is {shortened(repr(value))}: a whole number from 1 to {most} is needed")
    return value


def told(error: Exception) -> str:
    """An error about a value in few words; pydantic's with their keys."""
    if isinstance(error, ValidationError):
        problems = [f"{'.'.join(str(step) for step in problem['loc'])}: {problem['msg']}" for problem in error.errors()]
        return shortened("; ".join(f"model.{problem}" for problem in problems))
    return shortened(str(error))
