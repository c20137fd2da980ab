"""Tables of molecular properties."""

from collections.abc import Mapping

from rich.table import Table

from race_calc.evaluate.properties import PropertyErrors
from race_calc.report.tables import percents, plain_table, row


def errors_table(title: str, errors: Mapping[str, PropertyErrors | None], calibrated: bool) -> Table:
    """A line for each property, in the unit of its labels."""
    table = plain_table(
        title, ["property", "labels", "MAE", "RMSE", "NLL, nat", "inside 68/90/95 %" + (", calibrated" if calibrated else "")]
    )
    for name, one in errors.items():
        if one is None:
            row(table, name, "0", *["–"] * 4)
        else:
            nll = "–" if one.nll is None else f"{one.nll:.2f}"
            row(table, name, f"{one.count}", f"{one.mae:.4g}", f"{one.rmse:.4g}", nll, percents(one.coverage))
    return table
