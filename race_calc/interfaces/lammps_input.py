"""A LAMMPS input file with `pair_style race`: what stands before the model, its elements, and what stands behind."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Input:
    """Commands before and behind `pair_style race`, and the element of each atom type."""

    before: str
    elements: tuple[str, ...]
    behind: str


def split_input(text: str) -> Input:
    """Of an input that has one line `pair_style race` and then one `pair_coeff * * H C N O`, the elements of the types in their order.

    Raises ValueError where they are missing or stand there more than once.
    """
    lines = text.splitlines()
    words = [line.split("#")[0].split() for line in lines]
    styles = [k for k, line in enumerate(words) if line[:1] == ["pair_style"] and line[1:2] == ["race"]]
    if len(styles) != 1:
        raise ValueError(f"the input has {len(styles)} lines `pair_style race`: it needs one, and no other pair style")
    at = styles[0]
    coefficients = [k for k, line in enumerate(words) if line[:3] == ["pair_coeff", "*", "*"] and k > at]
    if len(coefficients) != 1 or len(words[coefficients[0]]) < 4:
        raise ValueError("after `pair_style race` the input needs one line `pair_coeff * * H C N O`, with the element of each atom type")
    place = coefficients[0]
    behind = lines[at + 1 : place] + lines[place + 1 :]
    return Input("\n".join(lines[:at]), tuple(words[place][3:]), "\n".join(behind))
