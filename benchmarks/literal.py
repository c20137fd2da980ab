"""Ten members with covariances and BALD against ten times a run of the literal e3nn RACE of the tests; 3BPA, 6 Å, float64.

python benchmarks/literal.py                 64x0e+64x1o+64x2e, 5 layers, 128 features
python benchmarks/literal.py --paper 1       both parities, l up to 3 (slow: the literal form takes seconds)
"""

import sys
from pathlib import Path

import torch
from common import arguments, interleaved, report, start, untrained

from race_calc.data.graph import from_atoms
from race_calc.model.hardware import keep_freed_memory
from race_calc.posterior.load import load_stack

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "model"))
from literal_race import make_literal, run_literal

given = arguments(__doc__, rounds=5, paper=0, members=10)
keep_freed_memory()
names = ["0e", "1o", "2e"] if not given.paper else ["0e", "0o", "1e", "1o", "2e", "2o", "3e", "3o"]
settings = dict(
    hidden_irreps="+".join(f"64x{name}" for name in names),
    l_max=3 if given.paper else 2,
    layers=5,
    features_dim=128,
    radial_hidden=(64, 64),
    cutoff=6.0,
)
species = (1, 6, 7, 8)
checkpoint = untrained(species, given.members, 21.0, **settings)
stack = load_stack(checkpoint, torch.float64, torch.device("cpu"))
literal = make_literal(checkpoint.model.plan.config, species, 1.0, 21.0, seed=0)
atoms = start(300.0, 0)

times = interleaved({"ours": lambda: stack.predict(from_atoms(atoms, 6.0)), "literal": lambda: run_literal(literal, atoms)}, given.rounds)
report(
    given,
    {
        "threads": torch.get_num_threads(),
        "hidden irreps": settings["hidden_irreps"],
        "members": given.members,
        "all members, one step, ms": times["ours"],
        "one literal model, ms": times["literal"],
        "times faster than as many literal runs": given.members * times["literal"] / times["ours"],
    },
)
