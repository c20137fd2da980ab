"""Named arrays in one block of memory, as arrays.c reads them."""

import struct

import numpy as np

MAGIC = b"racecalc"
ALIGNED = 64
_HEAD, _ENTRY = struct.Struct("<8sqq"), struct.Struct("<48sqq")  # Head and Entry of arrays.h


def packed(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """One block (bytes,) uint8 that begins at a multiple of 64 bytes, with every array in it.

    Raises ValueError for a name that is too long.
    """
    names = [name.encode() for name in arrays]
    if too_long := [name.decode() for name in names if len(name) >= 48]:
        raise ValueError(f"the name of an array has at most 47 bytes: {', '.join(too_long)}")
    values = [np.ascontiguousarray(array) for array in arrays.values()]
    places, at = [], _up(_HEAD.size + len(arrays) * _ENTRY.size)
    for value in values:
        places.append(at)
        at = _up(at + value.nbytes)
    block = aligned(at)
    block[:] = 0
    block[: _HEAD.size] = np.frombuffer(_HEAD.pack(MAGIC, len(arrays), at), dtype=np.uint8)
    for k, (name, value, place) in enumerate(zip(names, values, places)):
        entry = _HEAD.size + k * _ENTRY.size
        block[entry : entry + _ENTRY.size] = np.frombuffer(_ENTRY.pack(name, place, value.nbytes), dtype=np.uint8)
        block[place : place + value.nbytes] = value.reshape(-1).view(np.uint8)
    return block


def aligned_copy(block: np.ndarray) -> np.ndarray:
    """The same bytes at a multiple of 64."""
    copy = aligned(len(block))
    copy[:] = block
    return copy


def aligned(size: int) -> np.ndarray:
    """Memory that begins at a multiple of 64 bytes; what is in it is not told."""
    whole = np.empty(size + ALIGNED, dtype=np.uint8)
    start = -whole.ctypes.data % ALIGNED
    return whole[start : start + size]


def _up(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED
