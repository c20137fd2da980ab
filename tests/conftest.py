"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the DFT data: RACE_CALC_DATA, else ../shared/data beside the repository."""
    given = os.environ.get("RACE_CALC_DATA")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    if given and not folder.is_dir():
        pytest.fail(f"RACE_CALC_DATA is {given}, which is not a folder")
    if not folder.is_dir():
        pytest.skip(f"no data folder {folder}: set RACE_CALC_DATA to run this test")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """Folder of an untrained model for H, C and O: 2 members, natural parity, 4 channels, 2 layers, joint head.

    Its thresholds are those of twenty rattled ethanol molecules. Copy it before changing anything in it.
    """
    import numpy as np
    import torch
    from ase.build import molecule

    from race_calc.data.graph import collate, from_atoms
    from race_calc.data.references import References
    from race_calc.model.config import ModelConfig
    from race_calc.model.parameters import initialise
    from race_calc.model.plan import make_plan
    from race_calc.model.race import Race
    from race_calc.posterior.checkpoint import Checkpoint, save_checkpoint
    from race_calc.posterior.load import load_stack
    from race_calc.uncertainty.scores import all_scores
    from race_calc.uncertainty.thresholds import auto_thresholds

    config = ModelConfig(hidden_irreps="4x0e+4x1o+4x2e", l_max=2, layers=2, features_dim=4, radial_hidden=(8,), cutoff=4.0)
    references = References(species=(1, 6, 8), energies=(-13.6, -1029.5, -2042.0), shift=-0.1, scale=0.5)
    plan = make_plan(config, len(references.species))
    parameters = initialise(plan, [11, 12], {"energy_var_offset": -6.0, "force_cov_offset": -4.0})
    training = {
        "race_calc": "0.1.0",
        "torch": torch.__version__,
        "date": "2026-01-02",
        "config": {"training": {"recipe": "detached", "epochs": 5, "seed": 11}},
        "member_seeds": [11, 12],
        "best_epochs": [4, 5],
        "skipped_steps": [0, 1],
        "validation": {
            "energy_rmse_eV": [0.04, 0.05],
            "force_rmse_eV_per_A": [0.08, 0.09],
            "mean_energy_rmse_eV": 0.035,
            "mean_force_rmse_eV_per_A": 0.075,
        },
        "false_alarm_rate": 1e-4,
    }
    data = {"sha256": "0123456789abcdef" * 4, "split": {"train": [0, 1, 2, 3], "validation": [4, 5], "seed": 11}}
    model = Race(plan, references.species, references.scale, 6.0)
    checkpoint = Checkpoint(model, references, parameters, "deep-ensemble", training=training, data=data)
    graphs = []
    for seed in range(20):
        atoms = molecule("CH3CH2OH")
        atoms.positions += np.random.default_rng(seed).normal(scale=0.05, size=atoms.positions.shape)
        graphs.append(from_atoms(atoms, config.cutoff))
    prediction = load_stack(checkpoint, torch.float64, torch.device("cpu")).predict(collate(graphs))
    scores = {name: values for name, (values, _) in all_scores(prediction).items()}
    checkpoint.thresholds.update(auto_thresholds(scores))
    folder = tmp_path_factory.mktemp("tiny") / "model"
    save_checkpoint(folder, checkpoint, "# an untrained model for tests\n")
    return folder
