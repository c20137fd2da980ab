"""What a step of the exported file costs in metatomic's own ASE calculator, beside RACECalculator. Needs metatomic-torch and metatomic-ase.

    OMP_NUM_THREADS=1 python benchmarks/metatomic_step.py [--rounds 20]

27 atoms of 3BPA, models/3bpa-de and models/3bpa-llpr, one thread, float64; every round runs each case once on the same new positions.
All: energy, forces, σ of the energy, σ and covariance of forces. Torch: RACECalculator without the compiled kernels, which gives these.
"""

import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from common import arguments, interleaved, report, start
from metatomic.torch import ModelOutput
from metatomic_ase import MetatomicCalculator

from race_calc import RACECalculator
from race_calc.interfaces.metatomic.export import export
from race_calc.posterior.checkpoint import load_checkpoint

MODELS = Path(__file__).resolve().parents[1] / "models"
WARM_UP = 4  # rounds: TorchScript optimises in its first calls


def main() -> None:
    given = arguments(__doc__, rounds=20)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # TorchScript
    results: dict[str, float] = {}
    for name in ("3bpa-de", "3bpa-llpr"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.pt"
            export(load_checkpoint(MODELS / name), path)
            extra = {f"race_calc::force_{what}": ModelOutput(sample_kind="atom") for what in ("sigma", "covariance")}
            extra["energy_uncertainty"] = ModelOutput(sample_kind="system")
            calculators = {
                "torch": RACECalculator(MODELS / name, "cpu", compile=False),
                "kernels": RACECalculator(MODELS / name, "cpu"),
                "metatomic, all": MetatomicCalculator(path, device="cpu", uncertainty_threshold=None, additional_outputs=extra),
                "metatomic, forces": MetatomicCalculator(path, device="cpu", uncertainty_threshold=None),
            }
            atoms, rng = start(300.0, 0), np.random.default_rng(0)

            def step(calculator, first, atoms=atoms, rng=rng):
                if first:
                    atoms.positions += rng.normal(0.0, 1e-3, atoms.positions.shape)
                one = atoms.copy()
                one.calc = calculator
                return one.get_forces()

            cases = {what: lambda c=c, first=what == "torch": step(c, first) for what, c in calculators.items()}
            found = interleaved(cases, given.rounds, before=WARM_UP)
            results |= {f"{name}: {what} (ms)": value for what, value in found.items()}
            results |= {f"{name}: {what} / torch": found[what] / found["torch"] for what in ("metatomic, all", "metatomic, forces")}
    report(given, results)


if __name__ == "__main__":
    main()
