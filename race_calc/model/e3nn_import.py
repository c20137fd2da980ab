"""The one door to e3nn, which gives irreps, coupling coefficients and one spherical harmonic as a reference.

e3nn 0.4.4, which mace-torch pins, reads its own table of constants with `torch.load`, and since torch 2.6 that refuses the
slices in it. They are allowed while e3nn is imported, and only then: what the process may unpickle is the same afterwards.
Where e3nn was imported before, by MACE for example, nothing is done.

e3nn decorates one of its functions with `torch.compiler.disable`, which imports torch's compiler: as long as the whole of torch again. The
decorator waits until a compiler is there that could follow it into that function.
"""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch


def _slices_allowed():
    """A context in which `torch.load` accepts slices; an empty one where it does already or where nothing will be loaded."""
    if "e3nn.o3" in sys.modules or not hasattr(torch.serialization, "safe_globals"):  # torch < 2.5 refuses nothing
        return nullcontext()
    if slice in torch.serialization.get_safe_globals():  # the user's own; leaving the context would take it away
        return nullcontext()
    return torch.serialization.safe_globals([slice])


def _disabled_later(function: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.compiler.disable(function)`, from the first call on where torch's compiler is loaded."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        used = torch.compiler.disable(function) if "torch._dynamo" in sys.modules else function
        return used(*args, **kwargs)

    return call


@contextmanager
def _decorators_wait() -> Iterator[None]:
    if "e3nn.o3" in sys.modules or "torch._dynamo" in sys.modules:
        yield
        return
    disable = torch.compiler.disable
    torch.compiler.disable = _disabled_later  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compiler.disable = disable


with _slices_allowed(), _decorators_wait():
    from e3nn import o3

__all__ = ["o3"]
