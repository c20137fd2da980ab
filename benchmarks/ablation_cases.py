"""The cases of ablation.py: what is changed, and what was expected before the run (F: force RMSE at 300 / 600 / 1200 K in meV/Å)."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    expected: str
    changes: dict = field(default_factory=dict)


def model(expected: str, **settings) -> Case:
    return Case(expected, {"model": settings})


def training(expected: str, **settings) -> Case:
    return Case(expected, {"training": settings})


SIMPLE = {"radial_hidden": [16], "n_bessel": 5}  # radial functions with few parameters
CASES = {
    "as it is": Case("F 18 / 46 / 135, from shorter runs"),
    "correlation 1": model("1.4 times the force errors: it underfits", correlation=1),
    "correlation 3": model("equal or slightly better hot, fewer epochs", correlation=3),
    "radial 16": model("hot errors fall by a tenth: simpler functions guess better", radial_hidden=[16]),
    "5 Bessel functions": model("the same for the same reason", n_bessel=5),
    "radial 16, 5 Bessel functions": model("both together, 1200 K below 120", **SIMPLE),
    "simple, batch 2": Case(
        "better at 300 K, as half the noise of the rate", {"model": SIMPLE, "training": {"batch_size": 2, "learning_rate": 0.01}}
    ),
    "simple, 2 layers of 48": Case(
        "as good, cheaper steps",
        {"model": SIMPLE | {"layers": 2, "hidden_irreps": "48x0e+48x1o+24x2e", "features_dim": 48, "product_channels": 48}},
    ),
    "simple, smoothness 0.1": Case("hot a little better, 300 K worse", {"model": SIMPLE, "training": {"smoothness": 0.1}}),
    "simple, energy weight 20": Case("energies better, forces equal", {"model": SIMPLE, "training": {"energy_weight": 20.0}}),
    "simple, 16 product channels": Case("equal with more epochs", {"model": SIMPLE | {"product_channels": 16}}),
    "simple, cutoff 4": Case("more epochs, worse energies", {"model": SIMPLE | {"cutoff": 4.0}}),
    "simple, cutoff 6": Case("fewer epochs, worse everywhere", {"model": SIMPLE | {"cutoff": 6.0}}),
    "simple, l 3": Case(
        "better hot per epoch, equal per minute", {"model": SIMPLE | {"l_max": 3, "hidden_irreps": "32x0e+32x1o+16x2e+8x3o"}}
    ),
    "simple, correlation 3": Case("as correlation 3 alone", {"model": SIMPLE | {"correlation": 3}}),
    "simple, rate 0.032": Case("worse: 0.016 was the best of three in short runs", {"model": SIMPLE, "training": {"learning_rate": 0.032}}),
    "simple, rate 0.008": Case("equal at this length", {"model": SIMPLE, "training": {"learning_rate": 0.008}}),
    "simple, average 0.999": Case("equal: the rate goes to zero", {"model": SIMPLE, "training": {"ema_decay": 0.999}}),
}
