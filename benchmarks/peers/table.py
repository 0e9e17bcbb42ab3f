"""The table, its JSON, and the ratios that are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.peers.course import Rate, Wait

TARGETS = (
    ("checks_per_s", "dramatiq", "at least", 12.0),
    ("checks_per_s", "restate", "at least", 25.0),
    ("checks_per_s", "watch", "at least", 4.0),
    ("checks_per_s", "batch", "at least", 0.6),
    ("p50_ms", "batch", "at most", 1.5),
    ("us_a_reply_at_1000", "batch", "at most", 2.0),
)
"""Figure, against whom, and what ours divided by theirs should be."""

_COLUMNS = (
    ("checks_per_s", "checks/s", "{:,.0f}"),
    ("p50_ms", "p50 ms", "{:.1f}"),
    ("p99_ms", "p99 ms", "{:.1f}"),
    ("us_a_reply_at_1000", "µs a reply, 1,000 to one", "{:,.0f}"),
    ("worker_us_a_check", "worker CPU µs a check", "{:,.0f}"),
    ("server_us_a_check", "server CPU µs a check", "{:,.0f}"),
    ("driver_us_a_check", "driver CPU µs a check", "{:,.0f}"),
    ("commands_a_check", "commands a check", "{:.1f}"),
    ("reads_a_check", "round trips a check", "{:.2f}"),
)


def figures_of(rate: Rate, wait: Wait, widths: Mapping[int, float]) -> dict[str, Any]:
    """Return the figures of one run by name."""
    usage, checks = rate.usage, rate.checks_per_s
    return {
        "checks_per_s": checks,
        "p50_ms": wait.p50_ms,
        "p99_ms": wait.p99_ms,
        **{f"us_a_reply_at_{width}": us for width, us in widths.items()},
        "worker_us_a_check": usage.workers / checks * 1e6,
        "server_us_a_check": usage.server / checks * 1e6,
        "driver_us_a_check": usage.driver / checks * 1e6,
        "commands_a_check": usage.commands / usage.seconds / checks,
        "reads_a_check": usage.reads / usage.seconds / checks,
        "other_cores": usage.others,
        "noisy": rate.noisy,
    }


def summary(name: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the medians over *runs*, and the runs."""
    numbers = [figure for figure, value in runs[0].items() if not isinstance(value, bool)]
    return {"name": name, **{figure: median([run[figure] for run in runs]) for figure in numbers}, "runs": list(runs)}


def ratios(figures: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return ours against theirs, of all peers that were run."""
    ours = figures.get("sagabus")
    found = []
    for figure, peer, way, target in TARGETS:
        if ours is None or peer not in figures or figure not in ours or figure not in figures[peer]:
            continue
        ratio = ours[figure] / figures[peer][figure]
        met = ratio >= target if way == "at least" else ratio <= target
        found.append({"figure": figure, "peer": peer, "ratio": ratio, "way": way, "target": target, "met": met})
    return found


def rendered(
    figures: Mapping[str, Mapping[str, Any]], keeps: Mapping[str, str], place: Mapping[str, Any], date: str
) -> str:
    """Return the table, Markdown."""
    columns = [column for column in _COLUMNS if all(column[0] in each for each in figures.values())]
    lines = [
        f"{date}, {place['cores']} cores ({place['processor']}) for server, workers and driver; {place['server']} with "
        f"`appendfsync everysec`, Python {place['python']}. Medians; every decision was verified.",
        "",
        f"| | {' | '.join(title for _, title, _ in columns)} | keeps |",
        f"| --- |{' ---: |' * len(columns)} --- |",
    ]
    for name, each in figures.items():
        cells = [shape.format(each[figure]) for figure, _, shape in columns]
        lines.append(f"| {each['name']} | {' | '.join(cells)} | {keeps[name]} |")
    found = ratios(figures)
    if found:
        lines += ["", "| ours against | figure | ratio | wanted | |", "| --- | --- | ---: | ---: | --- |"]
    for ratio in found:
        verdict = "met" if ratio["met"] else "missed"
        lines.append(
            f"| {figures[ratio['peer']]['name']} | {ratio['figure']} | {ratio['ratio']:.2f} "
            f"| {ratio['way']} {ratio['target']:g} | {verdict} |"
        )
    return "\n".join(lines) + "\n"
