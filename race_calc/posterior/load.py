"""The posterior of a checkpoint, ready to predict on a device."""

from typing import Any

import torch

from race_calc.model.baseline import baseline_of, check
from race_calc.model.compiled import compiled_evaluate
from race_calc.model.kernels.messages import kernels_usable, why_not
from race_calc.model.kernels.step import CompiledStep
from race_calc.model.parameters import Parameters, expanded, shares_trunk
from race_calc.model.surfaces import of_surface, plain
from race_calc.model.table import tabulated
from race_calc.model.weights import ready
from race_calc.posterior.base import by_name
from race_calc.posterior.checkpoint import Checkpoint
from race_calc.posterior.pairs import foldable, folded, is_closed_form
from race_calc.posterior.stack import StackPosterior


@torch.inference_mode(False)
def load_stack(
    checkpoint: Checkpoint,
    dtype: torch.dtype,
    device: torch.device,
    compile: bool | None = None,
    tables: bool = True,
    forces_epistemic: bool = True,
    baseline: Any = None,
) -> StackPosterior:
    """The stack of a checkpoint, cast to `dtype` on `device`.

    `compile`: on a CPU, use the compiled library; None: where the package has it. On a GPU, True: let torch compile the
    model. `tables`: with the library, radial functions from tables, and a prediction is one call. `forces_epistemic`: False
    leaves out the forces of every member where they share their trunk, which makes a step nearly as cheap as that of one
    model. `baseline`: the calculator of a model whose baseline is `external`.

    Raises RuntimeError when `compile` is True and there are no compiled kernels (CPU) or torch is too old to compile (GPU),
    ValueError when `forces_epistemic` is False and the members share nothing, and where the baseline is not that of the
    training (`race_calc.model.baseline`).
    """
    parameters = checkpoint.parameters
    if checkpoint.center is not None:
        parameters = {name: torch.cat([checkpoint.center[name], value]) for name, value in expanded(parameters).items()}
    if not forces_epistemic and not shares_trunk(parameters):
        raise ValueError(
            f"forces_epistemic=False is for posteriors whose members share their trunk (shallow-ensemble, llpr); "
            f"those of this {checkpoint.posterior} share nothing: leave it out"
        )
    kernels = _uses_kernels(checkpoint, device, compile)
    config = checkpoint.model.plan.config
    added = baseline_of(config.baseline, config.cutoff, baseline)
    check(config.baseline, added, checkpoint.baseline)
    posterior = by_name(checkpoint.posterior)
    fold = forces_epistemic and posterior.paired and checkpoint.center is None and not checkpoint.surfaces and foldable(parameters)
    parameters = folded(parameters) if fold else parameters
    parameters = tabulated(parameters, config) if kernels and tables else parameters
    parameters = ready({name: value.to(device=device, dtype=dtype) for name, value in parameters.items()}, checkpoint.model.plan)
    model = plain(checkpoint.model) if checkpoint.surfaces else checkpoint.model
    whole = expanded(parameters) if forces_epistemic else parameters
    return StackPosterior(
        model,
        checkpoint.references,
        whole,
        kernels,
        compiled_evaluate(model) if compile and not kernels else None,
        checkpoint.noise,
        checkpoint.last_layer,
        posterior.paired,
        checkpoint.center is not None,
        fold,
        forces_epistemic and is_closed_form(checkpoint.parameters, checkpoint.last_layer),
        added,
        shares_trunk(checkpoint.parameters),
        checkpoint.feature_distance,
        checkpoint.known_distances,
        checkpoint.surfaces[0] if checkpoint.surfaces else None,
        _step(checkpoint, parameters, forces_epistemic, whole) if kernels and tables else None,
    )


def _uses_kernels(checkpoint: Checkpoint, device: torch.device, compile: bool | None) -> bool:
    """Raises what `load_stack` raises for `compile`."""
    kernels = compile is not False and kernels_usable(device)
    if compile and not kernels and checkpoint.surfaces:
        raise ValueError("torch does not compile models of several states or properties: leave out compile=True")
    if compile and not kernels and device.type == "cpu":
        raise RuntimeError(why_not(device))
    return kernels


def _step(checkpoint: Checkpoint, parameters: Parameters, each: bool, whole: Parameters) -> CompiledStep:
    """Of all surfaces. `each`: forces of every member. `whole`: the parameters of the posterior."""
    models = [plain(checkpoint.model, k, known.references.scale) for k, known in enumerate(checkpoint.surfaces)] or [checkpoint.model]
    return CompiledStep(models, [of_surface(parameters, k) for k in range(len(models))], each, whole)
