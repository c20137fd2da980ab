"""The one door to e3nn, which gives irreps, coupling coefficients and one spherical harmonic as a reference.

e3nn 0.4.4, which mace-torch pins, reads its own table of constants with `torch.load`, and since torch 2.6 that refuses the
slices in it. They are allowed while e3nn is imported, and only then: what the process may unpickle is the same afterwards.
Where e3nn was imported before, by MACE for example, nothing is done.
"""

import sys
from contextlib import nullcontext

import torch


def _slices_allowed():
    """A context in which `torch.load` accepts slices; an empty one where it does already or where nothing will be loaded."""
    if "e3nn.o3" in sys.modules or not hasattr(torch.serialization, "safe_globals"):  # torch < 2.5 refuses nothing
        return nullcontext()
    if slice in torch.serialization.get_safe_globals():  # the user's own; leaving the context would take it away
        return nullcontext()
    return torch.serialization.safe_globals([slice])


with _slices_allowed():
    from e3nn import o3

__all__ = ["o3"]
