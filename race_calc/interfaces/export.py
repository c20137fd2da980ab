"""A model as one flat file for race.h: what a program without Python needs of it."""

import hashlib
import struct
from pathlib import Path

import numpy as np
import torch

from race_calc.data.files import write_atomically
from race_calc.interfaces.export_calibration import uncertainty_arrays
from race_calc.model.kernels.arrays import packed
from race_calc.model.kernels.model_arrays import arrays_of
from race_calc.model.repulsion import AMPLITUDES, COULOMB, DECAYS, reaches, screening_lengths
from race_calc.model.table import tabulated
from race_calc.model.weights import ready
from race_calc.posterior.base import by_name
from race_calc.posterior.checkpoint import Checkpoint
from race_calc.posterior.pairs import exact_pairs, foldable

VERSION = 1
_HEAD = struct.Struct("<8sqqq32s")  # FileHead of race_load.c


def export(checkpoint: Checkpoint, path: Path, dtype: torch.dtype = torch.float64) -> int:
    """Write the model to `path`, with its calibration where the checkpoint has one; the number of bytes.

    Raises ValueError for models of several states or properties, with a baseline other than zbl, with covariances of forces other than
    matrix-log, or whose means are those of another set (Laplace).
    """
    config = checkpoint.model.plan.config
    if checkpoint.surfaces:
        raise ValueError("models of several states or properties cannot be exported yet")
    if config.baseline not in ("zbl", "none"):
        raise ValueError(f"the baseline {config.baseline} is a program of its own: only models with zbl or none can be exported")
    covariance = checkpoint.model.plan.output("force_cov")
    if covariance is not None and covariance.compiled is None:
        raise ValueError(f"force_covariance: {config.force_covariance} is not in the file's format: only matrix-log can be exported")
    if checkpoint.center is not None:
        raise ValueError(f"the means of a {checkpoint.posterior} are those of a set beside its draws: it cannot be exported yet")
    paired = by_name(checkpoint.posterior).paired and foldable(checkpoint.parameters)
    parameters = tabulated(exact_pairs(checkpoint.parameters) if paired else checkpoint.parameters, config)
    parameters = ready({name: value.to(dtype) for name, value in parameters.items()}, checkpoint.model.plan)
    numbers = np.array(checkpoint.model.species, dtype=np.int64)
    arrays = arrays_of([checkpoint.model], [parameters])
    arrays |= {"numbers": numbers, "reference": checkpoint.references.per_atom(numbers)}
    arrays |= uncertainty_arrays(checkpoint, numbers)
    if config.baseline == "zbl":
        arrays |= {"zbl": repulsion_pairs(numbers, config.cutoff), "zbl_waves": np.concatenate([AMPLITUDES, DECAYS])}
    block = packed(arrays).tobytes()
    real = 4 if dtype == torch.float32 else 8
    write_atomically(path, _HEAD.pack(b"RACEFILE", VERSION, real, len(block), hashlib.blake2b(block, digest_size=32).digest()) + block)
    return _HEAD.size + len(block)


def repulsion_pairs(numbers: np.ndarray, cutoff: float) -> np.ndarray:
    """k z_i z_j in eV Å, screening length and reach in Å of every pair of elements (S, S, 3), as `race_calc.model.repulsion` has them."""
    z_i, z_j = np.meshgrid(numbers, numbers, indexing="ij")
    return np.stack([COULOMB * z_i * z_j, screening_lengths(z_i, z_j), reaches(z_i, z_j, cutoff)], axis=-1)
