"""The kernels, where they work, and each of their variants."""

import pytest
import torch

from race_calc.model.kernels import build
from race_calc.model.kernels.messages import why_not


@pytest.fixture(scope="module")
def kernels():
    problem = why_not(torch.device("cpu"))
    if problem:
        pytest.skip(problem)


VARIANTS = ["baseline", "avx2", "avx512"]  # a processor that can run one can run those before it


@pytest.fixture(params=VARIANTS)
def variant(request, monkeypatch):
    """The kernels for each kind of processor that this one can stand for."""
    if VARIANTS.index(request.param) > VARIANTS.index(build.variant()):
        pytest.skip(f"not for {request.param}: this processor, or this build, has {build.variant()}")
    monkeypatch.setattr(build, "variant", lambda: request.param)
    build.kernel.cache_clear()
    yield request.param
    build.kernel.cache_clear()
