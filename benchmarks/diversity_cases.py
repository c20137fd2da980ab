"""The ways of diversity.py to make five members different, and what was expected before the run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Way:
    """`members`: changes of the configuration of each. `prior`: RMS force of a fixed random function beside each, in shares of the labels'.
    `repelled`: weight of a term that pushes the members' forces apart on rattled frames."""

    expected: str
    members: tuple[dict, ...] = ({},) * 5
    prior: float = 0.0
    repelled: float = 0.0


def model(expected: str, **settings: tuple) -> Way:
    """One value of each setting for each member."""
    return Way(expected, tuple({"model": dict(zip(settings, values))} for values in zip(*settings.values())))


WAYS = {
    "as it is": Way("error over spread 1.2 / 1.5 / 1.8"),
    "cutoffs 4 to 6 Å": model("error over spread a tenth lower, errors as before", cutoff=(4.0, 4.5, 5.0, 5.5, 6.0)),
    "radial bases": model(
        "a tenth lower where bonds are compressed", n_bessel=(5, 6, 8, 10, 12), radial_hidden=([8], [16], [16], [32], [32])
    ),
    "smoothness 0.003 to 0.3": Way(
        "lower at 1200 K, errors there a little worse", tuple({"training": {"smoothness": s}} for s in (0.003, 0.01, 0.03, 0.1, 0.3))
    ),
    "with and without repulsion of nuclei": model(
        "lower for compressed bonds, equal elsewhere", baseline=("zbl", "none", "zbl", "none", "zbl")
    ),
    "depths 2 to 4": model("a tenth lower, errors a little worse", layers=(2, 2, 3, 3, 4)),
    "random priors": Way("a tenth lower off the data, errors at 300 K a tenth worse", prior=0.3),
    "repelled on rattled frames": Way("far lower at 1200 K, errors at 300 K worse, as steps take twice as long", repelled=3.0),
    "repelled weakly": Way("a tenth lower at 1200 K, errors at 300 K a fifth worse, as steps take twice as long", repelled=0.1),
}
