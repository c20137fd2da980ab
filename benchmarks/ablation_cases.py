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


def cheap(expected: str, **settings) -> Case:
    """With low_level.xyz in the data folder: GFN2-xTB of every third training frame and of 400 frames of its own MD (cheap.py)."""
    return Case(expected, {"data": {"low_level": {"file": "low_level.xyz", **settings}}})


def members(expected: str, n: int, **settings) -> Case:
    """The same minutes for n members together."""
    return Case(expected, {"posterior": "deep-ensemble", "members": n, "model": settings})


WIDE = {"layers": 2, "hidden_irreps": "48x0e+48x1o+24x2e", "features_dim": 48, "product_channels": 48}
NARROW = {"hidden_irreps": "16x0e+16x1o+8x2e", "features_dim": 16, "product_channels": 16}
CASES = {
    "as it is": Case("F 16.5 / 42 / 104, as before"),
    "5 Bessel functions": model("1200 K lower by 5, as fewer waves are smoother", n_bessel=5),
    "batch 2": training("better at 300 K, equal hot", batch_size=2, learning_rate=0.01),
    "2 layers of 48": model("as good, cheaper steps", **WIDE),
    "l 3": model("better hot per epoch, equal per minute", l_max=3, hidden_irreps="32x0e+32x1o+16x2e+8x3o"),
    "smoothness 0.1": training("hot a little better, 300 K worse", smoothness=0.1),
    "correlation 3": model("equal, fewer epochs", correlation=3),
    "seed 1": training("within 1.2 / 1.9 / 4.8 of seed 0", seed=1),
    "rate 0.032": training("worse: 0.016 was the best of three in short runs", learning_rate=0.032),
    "energy weight 20": training("energies better, forces equal", energy_weight=20.0),
    "16 product channels": model("equal with more epochs", product_channels=16),
    "radial 8": model("hot equal, 300 K worse", radial_hidden=[8]),
    "radial 32 and 32": model("hot errors higher by a quarter, as before", radial_hidden=[32, 32]),
    "cutoff 4": model("more epochs, worse energies", cutoff=4.0),
    "cutoff 6": model("fewer epochs, worse everywhere", cutoff=6.0),
    "correlation 1": model("1.4 times the force errors: it underfits", correlation=1),
    "no smoothness": training("hot worse by a tenth", smoothness=0.0),
    "rate 0.008": training("worse by a tenth at this length", learning_rate=0.008),
    "average 0.999": training("equal: the rate goes to zero", ema_decay=0.999),
    "two levels": cheap("300 K 1.05 times, 1200 K 0.75 times as it is: fewer epochs, but hot geometries"),
    "two levels with weight 0.3": cheap("300 K better than with weight 1, hot a little worse", weight=0.3),
    "two levels with weight 3": cheap("300 K worse, hot equal", weight=3.0),
    "difference to GFN2-xTB": model("0.6 / 0.5 / 0.5 times as it is", baseline="gfn2-xtb"),
    "batch 10": training("worse: half the steps", batch_size=10, learning_rate=0.022),
    "two members": members("300 K worse by a tenth with half the epochs, hot equal", 2),
    "four members of half the width": members("worse everywhere: too few epochs", 4, **NARROW),
    "one member of half the width": model("more epochs, 300 K worse by a fifth", **NARROW),
    "constant rate": training("worse by a fifth: the average does only a part of what a falling rate does", schedule="constant"),
    "force weight 20": training("energies better, forces worse by a twentieth", force_weight=20.0),
    "force weight 500": training("equal: forces have most of the labels already", force_weight=500.0),
}
