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

OWN_TARGETS = (
    ("p99 against p50", lambda ours, _: ours["p99_ms"] / ours["p50_ms"], 5.0),
    ("a reply, 10,000 to one saga against 100", lambda _, alone: _by_width(alone, 10_000, 100), 1.5),
    ("a message, many sagas stored against few", lambda _, alone: _by_stored(alone), 1.15),
    ("worker CPU a message, 2 processes against 1", lambda _, alone: _by_processes(alone, 2), 1.1),
    ("worker CPU a message, 4 processes against 1", lambda _, alone: _by_processes(alone, 4), 1.1),
    ("an idle worker, cores", lambda _, alone: alone["idle_cores"], 0.01),
    ("from `sagabus worker` to the first message handled, s", lambda _, alone: alone["start_s"], 0.6),
    ("`import sagabus`, ms", lambda _, alone: alone["import_ms"], 120.0),
)
"""What is at most how much, of our figures beside others' and of those alone."""

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


def _by_width(alone: Mapping[str, Any], wide: int, narrow: int) -> float:
    took = {row["width"]: row["us_a_reply"] for row in alone["by_width"]}
    return float(took[wide] / took[narrow])


def _by_stored(alone: Mapping[str, Any]) -> float:
    few, many = (row["us_a_message"] for row in alone["by_stored"])
    return float(many / few)


def _by_processes(alone: Mapping[str, Any], processes: int) -> float:
    cost = {row["processes"]: row["worker_us_a_message"] for row in alone["by_processes"]}
    return float(cost[processes] / cost[1])


def own(figures: Mapping[str, Mapping[str, Any]], alone: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is asked of ours without regard to others."""
    found = [(what, float(measured(figures["sagabus"], alone)), target) for what, measured, target in OWN_TARGETS]
    return [{"what": what, "is": value, "target": target, "met": value <= target} for what, value, target in found]


def ratios(figures: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return ours against theirs, of all peers that were run: the median over the runs of both, side by side."""
    ours = figures.get("sagabus")
    found = []
    for figure, peer, way, target in TARGETS:
        if ours is None or peer not in figures or figure not in ours or figure not in figures[peer]:
            continue
        pairs = zip(ours["runs"], figures[peer]["runs"], strict=True)
        ratio = median([mine[figure] / theirs[figure] for mine, theirs in pairs])
        met = ratio >= target if way == "at least" else ratio <= target
        found.append({"figure": figure, "peer": peer, "ratio": ratio, "way": way, "target": target, "met": met})
    return found


def rendered(
    figures: Mapping[str, Mapping[str, Any]],
    keeps: Mapping[str, str],
    place: Mapping[str, Any],
    date: str,
    alone: Mapping[str, Any] | None = None,
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
    if alone is not None:
        lines += ["", "| ours alone | is | at most | |", "| --- | ---: | ---: | --- |"]
        for row in own(figures, alone):
            lines.append(
                f"| {row['what']} | {row['is']:.3g} | {row['target']:g} | {'met' if row['met'] else 'missed'} |"
            )
    return "\n".join(lines) + "\n"
