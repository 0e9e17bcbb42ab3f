"""The page that a run leaves: docs/soak.md, with all samples beside it."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Iterator, Sequence
from typing import Any, Final

from attrs import frozen

from benchmarks.soak.run import Verdict
from benchmarks.soak.samples import Flatness, Sample, flatness

_WARM_UP_S: Final = 600.0
_LEAST: Final = 30
_ROWS: Final = 12


@frozen
class Curve:
    """One series that must be flat."""

    name: str
    unit: str
    flatness: Flatness


def curves(verdict: Verdict) -> list[Curve]:
    """Return what must be flat, from minute 10 on; of a short run, from its middle on. Empty where it is too short."""
    seconds = verdict.seconds
    warm_s = min(_WARM_UP_S, seconds / 2)
    # What the store holds before a whole retention has passed is still growing.
    warm_s = max(warm_s, min(2 * verdict.plan.window_s, seconds))
    samples = [sample for sample in verdict.samples if sample.at_s >= warm_s]
    if len(samples) < _LEAST:
        return []
    times = [sample.at_s for sample in samples]
    kept = [float(sample.kept) for sample in samples]
    killed = [sample for sample in samples if sample.victim_mb]
    found = [
        Curve("worker that is never killed, RSS", "MB", flatness(times, [s.steady_mb for s in samples])),
        Curve("store, used memory", "MB", flatness(times, [s.store_used_mb for s in samples], kept)),
        Curve("store, keys", "", flatness(times, [float(s.dbsize) for s in samples], kept)),
    ]
    if len(killed) >= _LEAST:
        rss = flatness([sample.at_s for sample in killed], [sample.victim_mb for sample in killed])
        found.insert(1, Curve("workers that are killed, RSS of the oldest", "MB", rss))
    return found


def lines(verdict: Verdict) -> Iterator[str]:
    """Yield what is printed at the end; the last line is for machines."""
    for text in (*verdict.lost[:10], *verdict.findings, *verdict.left_over[:20]):
        yield f"WRONG: {text}"
    for curve in curves(verdict):
        yield f"{curve.name}: {_flat(curve)}"
    totals = verdict.totals
    yield (
        f"cases={totals.accepted} closed={totals.closed} lost={len(verdict.lost)} twice={totals.twice} "
        f"contradictory={totals.contradictory} left_over={len(verdict.left_over)} ticks={verdict.ticks} "
        f"worker_kills={verdict.worker_kills} store_kills={verdict.store_kills} seconds={verdict.seconds:.0f} "
        f"flat={'yes' if is_flat(verdict) else 'no' if curves(verdict) else 'too-short'}"
    )


def is_flat(verdict: Verdict) -> bool:
    """Return whether every curve is flat; not where the run was too short to say."""
    found = curves(verdict)
    return bool(found) and all(curve.flatness.flat for curve in found)


def page(verdict: Verdict, place: dict[str, Any], command: str, today: datetime.date) -> str:
    """Return the page, Markdown."""
    plan, totals = verdict.plan, verdict.totals
    head = f"""# The soak

`{command}` on {today:%Y-%m-%d}, {place["cores"]} cores ({place["processor"]}) for store, workers, driver
and judge; {place["server"]} with `appendfsync always`, Python {place["python"]}, redis-py {place["redis-py"]},
sagabus {place["sagabus"]}.

{verdict.seconds / 60:.1f} minutes at full speed in a closed loop: credit checks, gatherings of 25 replies, alarms
that are moved and guards that are cancelled, and sagas that get messages for ever. Retention and dedupe window
{plan.window_s:g} s. A worker was killed with SIGKILL every {plan.kill_worker_every_s:g} s, one was never killed; the
store was killed every {plan.kill_store_every_s:g} s and started again on its append-only file. A judge outside of all
of it kept the ledger.

| | |
| --- | ---: |
| cases accepted | {totals.accepted:,} |
| lost | {len(verdict.lost)} |
| done twice | {totals.twice} |
| contradictory | {totals.contradictory} |
| left over when all was done and forgotten: messages, letters, timers, keys, miscounts | {len(verdict.left_over)} |
| ticks counted by sagas that never end | {verdict.ticks:,} |
| second copies of an outcome, with equal ids | {totals.repeats:,} |
| workers killed | {verdict.worker_kills:,} |
| store killed; away for | {verdict.store_kills}; {verdict.down_s:.1f} s |
| sends made again while it was away | {verdict.retries:,} |
| cases a second | {totals.closed / verdict.seconds:,.0f} |
| the store at the end, all forgotten, MB | {verdict.end_used_mb:.1f} |
"""
    if verdict.late_ms is not None:
        median, worst = verdict.late_ms
        head += f"| the last 10,000 alarms came late by, median and worst | {median:,.0f} ms, {worst:,} ms |\n"
    wrong = [f"- {text}" for text in (*verdict.lost[:10], *verdict.findings, *verdict.left_over[:20])]
    if wrong:
        head += "\nWhat is wrong:\n\n" + "\n".join(wrong) + "\n"
    return head + _curves_part(verdict) + _samples_part(verdict.samples)


def _curves_part(verdict: Verdict) -> str:
    found = curves(verdict)
    if not found:
        return "\nThe run was too short to say what is flat.\n"
    rows = "\n".join(f"| {c.name} | {c.flatness.median:,.1f} {c.unit} | {_flat(c)} |" for c in found)
    return f"""
## Flat

Flat is: from minute 10 on (of a run below 20 minutes, from its middle on, after two retentions at least), a straight
line fitted to the samples rises or falls by no more than 5% of their median, and no fifth of that time has a median
more than 5% from the median of all. Of what the store holds, that part is taken off first which goes with the number of
cases closed within the last retention: that is the load's.

| | median | |
| --- | ---: | --- |
{rows}
"""


def _samples_part(samples: Sequence[Sample]) -> str:
    if not samples:
        return ""
    size = max(1, -(-len(samples) // _ROWS))
    parts = [samples[first : first + size] for first in range(0, len(samples), size)]
    rows = []
    for part in parts:
        middle = {name: statistics.median(getattr(s, name) for s in part) for name in _COLUMNS}
        figures = " | ".join(f"{middle[name]:,.0f}" if name in _WHOLE else f"{middle[name]:,.1f}" for name in _COLUMNS)
        rows.append(f"| {part[0].at_s / 60:.0f} - {part[-1].at_s / 60:.0f} | {figures} |")
    return f"""
## Samples

Medians; all samples are in [soak.csv](soak.csv).

| minutes | cases a second | steady worker, MB | killed, MB | judge, MB | store, MB | its RSS, MB | keys | AOF, MB |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
{chr(10).join(rows)}
"""


_COLUMNS: Final = (
    "cases_per_s",
    "steady_mb",
    "victim_mb",
    "judge_mb",
    "store_used_mb",
    "store_rss_mb",
    "dbsize",
    "aof_mb",
)
_WHOLE: Final = {"cases_per_s", "dbsize"}


def _flat(curve: Curve) -> str:
    f = curve.flatness
    verdict = "flat" if f.flat else "NOT flat"
    return f"{verdict}: drift {f.drift:+.1%}, windows within {f.spread:.1%}"
