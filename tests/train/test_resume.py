"""Every posterior, stopped after every epoch of a small run and resumed: every file is the same to the bit."""

import pytest
from resumed import CPU, differing_epochs, small_run_of

from race_calc.posterior.base import by_name, names
from race_calc.train.files import load_state
from race_calc.train.loop import train

EPOCHS = 4  # 20 of them: benchmarks/resume.py


@pytest.mark.parametrize("posterior", names())
def test_resumes_to_the_same_bits_after_every_epoch(tmp_path, posterior):
    config, prepared = small_run_of(tmp_path, posterior, EPOCHS, 6, data__validation=2)
    stops = list(differing_epochs(config, prepared, tmp_path))
    assert [epoch for epoch, _ in stops] == list(range(1, EPOCHS)) and not any(files for _, files in stops), stops


@pytest.mark.parametrize("posterior", ["deep-ensemble", "swag"])
def test_a_state_lies_in_memory_as_torch_lays_it(tmp_path, posterior):
    """In the file tensors begin at any eighth byte; torch's kernels may round differently there."""
    config, prepared = small_run_of(tmp_path, posterior, EPOCHS, 6, data__validation=2)
    train(config, prepared, tmp_path / "out", CPU, resume=False)
    trained, _ = load_state(tmp_path / "out", prepared.fingerprint, by_name(posterior), CPU)
    tensors = [*trained.state.tensors().values(), *(vars(trained.collected).values() if trained.collected else ())]
    assert {tensor.data_ptr() % 64 for tensor in tensors} == {0}
