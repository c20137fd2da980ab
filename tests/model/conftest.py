"""Both ways to sum messages: torch's own operations and the compiled kernels."""

import physics_cases
import pytest
import torch

from race_calc.model.kernels.messages import why_not


@pytest.fixture(params=["torch", "kernels"], scope="module")
def both_paths(request):
    """Run the tests of a module once with padded blocks and once with the kernels."""
    if request.param == "kernels":
        problem = why_not(torch.device("cpu"))
        if problem:
            pytest.skip(problem)
    physics_cases.PATH["padded"] = request.param == "torch"
    yield
    physics_cases.PATH["padded"] = True
