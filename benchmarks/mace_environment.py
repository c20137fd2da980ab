"""An environment with mace-torch 0.3.16 and this package, and MACE models with random weights, for the scripts that compare.

mace-torch pins e3nn 0.4.4, whose constants torch loads only where slices are allowed.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / ".venv-mace" / "bin" / "python"
MODELS = """
import torch
torch.serialization.add_safe_globals([slice])
import numpy as np
from e3nn import o3
from mace import modules
from mace.calculators import MACECalculator

torch.set_default_dtype(torch.float32)
block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
def make(seed, irreps):
    torch.manual_seed(seed)
    return modules.ScaleShiftMACE(
        r_max=6.0, num_bessel=8, num_polynomial_cutoff=5, max_ell=3, interaction_cls=block, interaction_cls_first=block,
        num_interactions=2, num_elements=4, hidden_irreps=o3.Irreps(irreps), MLP_irreps=o3.Irreps("16x0e"),
        gate=torch.nn.functional.silu, atomic_energies=np.zeros(4), avg_num_neighbors=21.0, atomic_numbers=[1, 6, 7, 8],
        correlation=3, atomic_inter_scale=1.0, atomic_inter_shift=0.0,
    )
"""


def ready(setup: bool) -> None:
    """The environment is there, made anew with `setup`; ends the script where it is not."""
    if setup:
        subprocess.run([sys.executable, "-m", "venv", str(PYTHON.parents[1])], check=True)
        packages = ["mace-torch==0.3.16", "--editable", str(ROOT), "-c", str(ROOT / "constraints.txt")]
        subprocess.run([str(PYTHON), "-m", "pip", "install", "-q", *packages], check=True)
    if not PYTHON.exists():
        sys.exit("there is no .venv-mace: add --setup 1 once")
