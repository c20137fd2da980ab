"""`race-calc export metatomic`: a checkpoint as a file that the engines of metatomic load, without this package."""

from pathlib import Path
from typing import Any

import torch

from race_calc.interfaces.offered import offered
from race_calc.model.channels import Spread
from race_calc.model.heads import Cholesky, EnergyVariance, MatrixLog
from race_calc.model.stress_covariance import StressCovariance
from race_calc.posterior.checkpoint import Checkpoint

KNOWN = (EnergyVariance, MatrixLog, Cholesky, StressCovariance)


def export(checkpoint: Checkpoint, path: Path, dtype: torch.dtype = torch.float64) -> tuple[str, ...]:
    """Write the model to `path`, calibrated where the checkpoint is; the names of its outputs. `dtype`: of the network, what goes in and
    comes out is float64.

    Raises ValueError where metatomic is not installed, for models of several states or properties, a baseline other than zbl, and
    variances of a head that is not one of the package.
    """
    check(checkpoint)
    metatomic = imported()
    from race_calc.interfaces.metatomic.served import COVARIANCE, SIGMA, RaceModel
    from race_calc.interfaces.metatomic.sets import sets_of

    model, given = checkpoint.model, offered(checkpoint, members=True, forces_epistemic=True)
    outputs = {"energy": metatomic.ModelOutput(unit="eV", sample_kind="atom")}
    if "energy_uncertainty" in given:
        outputs["energy_uncertainty"] = metatomic.ModelOutput(unit="eV", sample_kind="atom")
    if checkpoint.members > 1:
        outputs["energy_ensemble"] = metatomic.ModelOutput(unit="eV", sample_kind="atom")
    if "forces_covariance" in given:
        outputs[SIGMA] = metatomic.ModelOutput(unit="eV/Angstrom", sample_kind="atom", description="largest principal σ of the force")
        unit = "(eV/Angstrom)^2"
        outputs[COVARIANCE] = metatomic.ModelOutput(unit=unit, sample_kind="atom", description="total covariance of the force")
    capabilities = metatomic.ModelCapabilities(
        outputs=outputs,
        atomic_types=list(model.species),
        interaction_range=model.plan.config.layers * model.plan.config.cutoff,
        length_unit="angstrom",
        supported_devices=["cpu", "cuda"],
        dtype="float64",
    )
    spreads = "as the model gives them" if checkpoint.calibration is None else "calibrated"
    metadata = metatomic.ModelMetadata(
        name=f"RACE, {checkpoint.posterior} of {checkpoint.members}",
        description=f"Written by race_calc. Uncertainties are {spreads}; the energies of the ensemble are the members' own.",
    )
    served = RaceModel(checkpoint, sets_of(checkpoint), dtype).eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    metatomic.AtomisticModel(served, metadata, capabilities).save(path)
    return tuple(outputs)


def check(checkpoint: Checkpoint) -> None:
    """Raises ValueError for a model that cannot be exported."""
    plan = checkpoint.model.plan
    if checkpoint.surfaces:
        raise ValueError("models of several states or properties cannot be exported to metatomic: use RACECalculator or PropertyModel")
    if plan.config.baseline not in ("zbl", "none"):
        raise ValueError(
            f"the baseline {plan.config.baseline} is a program of its own, which TorchScript cannot call: train with baseline zbl or none, "
            "or use RACECalculator"
        )
    foreign = [output.name for output in plan.outputs if isinstance(output, Spread) and type(output) not in KNOWN]
    if foreign:
        raise ValueError(f"the variances {', '.join(foreign)} are of a head of yours, which cannot be exported: use RACECalculator")


def imported() -> Any:
    """metatomic.torch. Raises ValueError, with what to do, where it is not there."""
    try:
        import metatomic.torch
    except ImportError as error:
        raise ValueError(f"{error}: pip install 'race_calc[metatomic]'") from error
    return metatomic.torch
