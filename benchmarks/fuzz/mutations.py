"""Faults that files meet: flipped bytes, lost ends, wrong values, other files in their place. Each is drawn with a generator."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save

WRONG: list[Any] = [
    None,
    True,
    -1,
    0,
    7,
    10**9,
    10**30,
    -3.5,
    1e-300,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "1",
    "nan",
    [],
    {},
    [1, 2],
    {"a": 1},
]


def flip(content: bytes, random: np.random.Generator) -> bytes:
    """One to four bytes changed, often in the head of the file."""
    changed = bytearray(content)
    for _ in range(random.integers(1, 5) if changed else 0):
        end = len(changed) if random.random() < 0.5 else min(len(changed), 400)
        changed[random.integers(end)] ^= random.integers(1, 256)
    return bytes(changed)


def cut(content: bytes, random: np.random.Generator) -> bytes:
    return content[: int(random.integers(len(content) + 1))]


def doubled(content: bytes, random: np.random.Generator) -> bytes:
    at = int(random.integers(len(content) + 1))
    return content[:at] + content[max(0, at - int(random.integers(1, 200))) :]


def with_value(content: Any, random: np.random.Generator) -> Any:
    """A copy of plain JSON types in which one entry, anywhere, is deleted, replaced, renamed or doubled."""
    content = json.loads(json.dumps(content))
    places = [(parent, key) for parent, key in _places(content) if random.random() < 0.9]
    parent, key = places[random.integers(len(places))]
    kind = random.choice(["delete", "replace", "replace", "replace", "scale", "deep"])
    if kind == "delete":
        del parent[key]
    elif kind == "scale" and isinstance(parent[key], (int, float)) and not isinstance(parent[key], bool):
        parent[key] = parent[key] * float(random.choice([-1.0, 0.0, 2.0, 1.01, 1e6]))
    elif kind == "deep":
        deep: Any = parent[key]
        for _ in range(200):
            deep = [deep]
        parent[key] = deep
    else:
        parent[key] = WRONG[random.integers(len(WRONG))]
    return content


def _places(content: Any):
    """Every (container, key); of a long list only a few entries, else they would be all that is drawn."""
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    for key in keys if len(keys) < 12 else keys[:: max(1, len(keys) // 6)]:
        yield content, key
        if isinstance(content[key], (dict, list)):
            yield from _places(content[key])


def with_tensor(content: bytes, random: np.random.Generator) -> bytes:
    """One tensor of a safetensors file has a wrong number, type or shape, is swapped with another, or is missing."""
    tensors = load(content)
    name = sorted(tensors)[random.integers(len(tensors))]
    kind = random.choice(["nan", "inf", "number", "type", "shape", "delete", "swap"])
    tensor = tensors[name].clone()
    if kind in ("nan", "inf", "number"):
        tensor.view(-1)[random.integers(tensor.numel())] = {"nan": float("nan"), "inf": float("inf"), "number": 3.0}[kind]
        tensors[name] = tensor
    elif kind == "type":
        tensors[name] = tensor.to([torch.float32, torch.int64, torch.bool, torch.float16][random.integers(4)])
    elif kind == "shape":
        tensors[name] = tensor.reshape(-1)
    elif kind == "delete":
        del tensors[name]
    else:
        other = sorted(tensors)[random.integers(len(tensors))]
        tensors[name], tensors[other] = tensors[other], tensors[name]
    return save(tensors)


def replace_file(path: Path, random: np.random.Generator) -> str:
    """Something else than a file in its place, or nothing."""
    kind = str(random.choice(["nothing", "folder", "pipe", "dangling", "loop", "zero", "link"]))
    if path.is_file():
        if kind == "link":
            path.rename(path.parent.parent / "elsewhere")
        else:
            path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind in ("dangling", "loop", "link"):
        path.symlink_to({"dangling": "nowhere", "loop": path.name, "link": path.parent.parent / "elsewhere"}[kind])
    elif kind == "zero":
        path.write_bytes(b"")
    return kind
