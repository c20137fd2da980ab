"""`python -m race_calc` is `race-calc`."""

from race_calc.cli import app

app()
