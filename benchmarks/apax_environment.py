"""An environment with apax 0.14, and apax models with random weights, for the script that compares."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / ".venv-apax" / "bin" / "python"
MODELS = """
import os
os.environ.setdefault("JAX_PLATFORMS", "cpu")
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import numpy as np
from apax.config.train_config import Config
from apax.md import ase_calc

def make(name, members=0):
    ensemble = {"kind": "shallow", "n_members": members} if members else None
    data = {"directory": "x", "experiment": "x", "train_data_path": "x", "val_data_path": "x"}
    model = {"name": name, "ensemble": ensemble, "basis": {"name": "bessel", "r_max": 6.0}}
    config = Config(n_epochs=1, data=data, loss=[{"name": "energy"}], model=model)
    builder = config.model.get_builder()(config.model.model_dump(), n_species=119)
    net = builder.build_energy_derivative_model(apply_mask=True, init_box=np.zeros((3, 3)), inference_disp_fn=None)
    water = jnp.array([[0.0, 0.0, 0.1], [0.0, 0.8, -0.5], [0.0, -0.8, -0.5]]), jnp.array([8, 1, 1])
    pairs = jnp.array([[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]])
    parameters = net.init(jax.random.PRNGKey(0), *water, pairs, jnp.zeros((3, 3)), jnp.zeros((6, 3)))
    ase_calc.restore_parameters = lambda folder: (config, parameters)  # instead of those of a training
    return ase_calc.ASECalculator("none")
"""


def ready(setup: bool) -> None:
    """The environment is there, made anew with `setup`; ends the script where it is not."""
    if setup:
        subprocess.run([sys.executable, "-m", "venv", str(PYTHON.parents[1])], check=True)
        subprocess.run([str(PYTHON), "-m", "pip", "install", "-q", "apax==0.14.0"], check=True)
    if not PYTHON.exists():
        sys.exit("there is no .venv-apax: add --setup 1 once")
