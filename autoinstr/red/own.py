"""The agent's own metrics: what was lost, what was done, how things stand.

In: `Health`. Out: `SelfMetric`s. Every kind of loss, and every reason, is told from the start, at 0, so that an
alert on it can be written before it happens.
"""

from __future__ import annotations

from autoinstr.health import Health, Loss, Orphan
from autoinstr.model import SelfMetric

PREFIX = "autoinstr"
LOST = f"{PREFIX}.lost"
LOST_DESCRIPTION = "What went missing, by kind of loss"
ORPHANS = f"{PREFIX}.without_parent"
ORPHANS_DESCRIPTION = "Requests that begin a trace, by why they have no parent"
WORK_DESCRIPTION = "Work done by autoinstr since its start"
GAUGE_DESCRIPTION = "State of autoinstr"
# Units by the last word of a name.
_UNITS = {"bytes": "By", "seconds": "s", "ratio": "1"}


def own_metrics(health: Health, start: int) -> list[SelfMetric]:
    """`start`: since when `health` counts, ns since the Unix epoch."""
    found = [
        SelfMetric(LOST, "", LOST_DESCRIPTION, {"loss": loss.label}, health.lost[loss], True, start) for loss in Loss
    ]
    found += [
        SelfMetric(ORPHANS, "", ORPHANS_DESCRIPTION, {"reason": why.label}, health.orphans[why], True, start)
        for why in Orphan
    ]
    # Copies: other threads may add to these while we read.
    for name, count in sorted(health.work.copy().items()):
        found.append(SelfMetric(f"{PREFIX}.{name}", _unit(name), WORK_DESCRIPTION, {}, count, True, start))
    for name, value in sorted(health.gauges.copy().items()):
        found.append(SelfMetric(f"{PREFIX}.{name}", _unit(name), GAUGE_DESCRIPTION, {}, value, False))
    return found


def _unit(name: str) -> str:
    return _UNITS.get(name.rpartition("_")[2], "")
