"""What a monitor counts and where its thresholds stand, as plain values: a run in another process halts where this one would."""

from dataclasses import asdict, replace
from typing import Any

from race_calc.md.attach import UncertaintyMonitor
from race_calc.md.barostat import Limit
from race_calc.uncertainty.decisions import PRESSURE, Criterion, MonitorState


def counts_of(monitor: UncertaintyMonitor) -> dict[str, Any]:
    """Criteria, violations in a row, and the volume at which the limit of the pressure was computed (None without one)."""
    limit = monitor._limit
    criteria = [asdict(criterion) for criterion in monitor.criteria]
    return {"criteria": criteria, "in_a_row": list(monitor.state.in_a_row), "volume": None if limit is None else limit.volume}


def put_counts(monitor: UncertaintyMonitor, counts: dict[str, Any]) -> None:
    """Give them to a monitor with the same criteria; one with others begins to count anew."""
    before = tuple(Criterion(**criterion) for criterion in counts["criteria"])
    if [_told(criterion) for criterion in before] != [_told(criterion) for criterion in monitor.criteria]:
        return
    if counts["volume"] is not None and monitor._limit is not None:
        pressure = next(c for c in before if c.name == PRESSURE and c.consecutive == monitor._limit.criterion.consecutive)
        monitor._limit = Limit(pressure, float(counts["volume"]))
    monitor._criteria = before
    monitor.state = MonitorState(tuple(counts["in_a_row"]))


def _told(criterion: Criterion) -> Criterion:
    """Without the threshold of a pressure, which moves with the structure."""
    return replace(criterion, threshold=0.0) if criterion.name == PRESSURE else criterion
