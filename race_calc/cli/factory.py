"""Python objects on the command line, by import path: foreign potentials (--calculator), external baselines (--baseline)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from race_calc.label.methods import made_by
from race_calc.posterior.shipped import model_folder

Model = Annotated[Path, typer.Argument(parser=model_folder, metavar="MODEL", help="a model by name (`race-calc models`), or its folder")]
AsJson = Annotated[bool, typer.Option("--json", help="for machines: JSON in place of the text")]
HELP = 'in place of MODEL: "module:function" that makes a calculator with uncertainties (Committee, from_results); this runs your code'
STATE = "electronic state, by name or number, of a model of several (the first)"
BASELINE = '"module:function" that makes the ASE calculator of a model with baseline external; this runs your code'


def baseline_from(spec: str | None) -> Any:
    """The calculator that the function makes; None without one. Raises what `race_calc.label.methods.made_by` raises."""
    return None if spec is None else made_by(spec, "--baseline")


def given(options: Mapping[str, object]) -> str:
    """Names of the options that are not None, for messages; "" for none."""
    return " and ".join(name for name, value in options.items() if value is not None)


def state_from(given: str | None) -> int | str:
    """The state as RACECalculator takes it."""
    return 0 if given is None else int(given) if given.isdigit() else given


def calculator_from(spec: str):
    """The potential that the function of "module:function" makes, with its predictions.

    Raises what `race_calc.label.methods.made_by` raises, and ValueError for what has no predictions.
    """
    made = made_by(spec)
    if not callable(getattr(made, "prediction", None)):
        raise ValueError(
            f"--calculator {spec} made a {type(made).__name__}, which has no predictions: wrap it in race_calc.Committee or "
            "race_calc.from_results"
        )
    return made


def model_and_data(model: str, data: str | None, calculator: str | None, of_model: Mapping[str, str | None]) -> tuple[Path | None, str]:
    """The arguments MODEL DATA, or DATA alone beside --calculator.

    `of_model`: options that only a model knows, with their values, None where they were not given. Raises ValueError for one argument too
    few or too many, and for such an option beside --calculator.
    """
    if calculator is None:
        if data is None:
            raise ValueError("give the folder of the model and a data file, or --calculator and a data file")
        return model_folder(model), data
    if data is not None:
        raise ValueError("--calculator stands in the place of the model: give the data file only")
    if told := given(of_model):
        raise ValueError(f"{told} cannot be told to a --calculator: leave it out, set it in the function that makes the potential")
    return None, model
