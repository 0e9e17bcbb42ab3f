"""All checks of a bus, and those of its queues, sagas, dead letters and timers: pure functions over facts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sagabus.envelope import rfc3339
from sagabus.health.facts import Facts, SagaFacts
from sagabus.health.finding import Finding, fail, ok, warn
from sagabus.health.server_checks import reachable, servers
from sagabus.telemetry.card import Pause

_FILLING: Final = 0.5
_FULL: Final = 0.9
_OVERDUE_S: Final = 10.0
_SHOWN: Final = 5
"""How many of a kind are named."""


def check_all(facts: Facts) -> list[Finding]:
    """Return what all checks say of *facts*, in a fixed order."""
    return [finding for check in _ALL for finding in check(facts)]


def said_of(pause: Pause) -> str:
    """Return who has paused an endpoint, since when, and why."""
    since = f" since {rfc3339(pause.at_ms)}" if pause.at_ms else ""
    return f"by {pause.by or 'somebody'}{since}" + (f": {pause.why}" if pause.why else "")


def queues(facts: Facts) -> Iterator[Finding]:
    """Check that queues have room, and somebody at work on them."""
    for queue in facts.queues:
        name = f"queue: {queue.endpoint}"
        if queue.depth < 0:
            yield ok(name, "the broker cannot tell how long it is")
            continue
        shown = f"{queue.depth} messages"
        if queue.oldest_s is not None and queue.depth:
            shown += f", the oldest for {_time(queue.oldest_s)}"
        if queue.consumers is not None:
            shown += f", {queue.consumers} at work on it"
        share = queue.depth / queue.max_length if queue.max_length else 0.0
        if queue.paused:
            held_up = f", of {queue.max_length}: senders are held up" if share >= _FULL else ""
            found, mend = f"{shown}{held_up}; paused {queue.paused}", f"go on: sagabus resume APP {queue.endpoint}"
            yield fail(name, found, mend) if held_up else warn(name, found, mend)
        elif queue.depth and queue.consumers == 0:
            yield fail(name, shown, f"start a worker: sagabus worker APP --endpoints {queue.endpoint}")
        elif share >= _FULL:
            yield fail(name, f"{shown}, of {queue.max_length}: senders are held up", "start more workers for it")
        elif share >= _FILLING:
            yield warn(name, f"{shown}, of {queue.max_length}", "start more workers for it")
        else:
            yield ok(name, shown)


def records(facts: Facts) -> Iterator[Finding]:
    """Check that all records can be read."""
    if facts.unreadable:
        for key, error in list(facts.unreadable.items())[:_SHOWN]:
            yield fail("records", error, f"restore the keys of {key} from a backup, or delete them to start it anew")
        if len(facts.unreadable) > _SHOWN:
            yield fail("records", f"{len(facts.unreadable)} cannot be read", "as the first of them")
        return
    seen = f"{facts.sagas_seen} sagas looked at, and all can be read"
    yield ok("records", seen + ("; there are more (--limit)" if facts.sagas_left else ""))


def index(facts: Facts) -> Iterator[Finding]:
    """Check that the index knows the sagas that are stored."""
    if facts.unindexed:
        yield warn(
            "index",
            f"{facts.unindexed} of {facts.sagas_seen} sagas looked at are not in it: lists and counts leave them out",
            "bring in what an older sagabus has stored, or what was lost: sagabus reindex APP",
        )
    elif facts.unindexed is not None:
        yield ok("index", f"it knows all {facts.sagas_seen} sagas looked at")


def sagas(facts: Facts) -> Iterator[Finding]:
    """Check that sagas get on: what they send leaves, and siblings are merged."""
    merging = [saga for saga in facts.sagas if saga.unmergeable]
    yield from _each(
        "mergers",
        [f"{saga.key}: {saga.siblings} siblings cannot be folded: {saga.unmergeable}" for saga in merging],
        "mend the merger and deploy it: the messages of such a saga are parked until then",
        "the siblings of all sagas can be folded",
    )
    late_s = facts.claim_s
    stuck = [
        f"{saga.key}: what {saga.undispatched} of its messages caused has not left for {_time(saga.undispatched_s)}"
        for saga in facts.sagas
        if saga.undispatched and (saga.undispatched_s is None or saga.undispatched_s > late_s)
    ]
    stuck += [
        f"{saga.key}: {saga.siblings} siblings and no MergeSagaState under way"
        for saga in facts.sagas
        if _forked(saga, late_s) and not saga.pending_merge
    ]
    stuck += [
        f"{saga.key}: {saga.siblings} siblings, and their MergeSagaState has been under way for {_time(saga.quiet_s)}"
        for saga in facts.sagas
        if _forked(saga, late_s) and saga.pending_merge and not saga.unmergeable
    ]
    yield from _each(
        "stuck sagas",
        stuck,
        "start workers for its endpoint; if they run, send the saga a message, or one that it handled again, by its id",
        "none",
    )
    unknown = sorted({saga.key.partition("/")[0] for saga in facts.sagas if saga.unknown})
    if unknown:
        yield warn(
            "classes",
            f"this app has no saga {', '.join(unknown)}, and some are stored",
            "deploy the class again, under name= where it was renamed, or use the app that has it",
        )


def _forked(saga: SagaFacts, late_s: float) -> bool:
    return saga.live and saga.siblings > 1 and (saga.quiet_s is None or saga.quiet_s > late_s)


def dead_letters(facts: Facts) -> Iterator[Finding]:
    """Check that no message was given up."""
    if not facts.letters:
        yield ok("dead letters", "none")
        return
    shown = ", ".join(f"{count} {reason}" for reason, count in sorted(facts.letters.items()))
    yield warn("dead letters", shown, "look at them with `sagabus dead list APP`, mend, and `sagabus dead retry`")


def timers(facts: Facts) -> Iterator[Finding]:
    """Check that what is due is sent."""
    if facts.overdue and facts.overdue_s > _OVERDUE_S:
        yield fail(
            "timers",
            f"{facts.overdue} overdue, the first for {_time(facts.overdue_s)}",
            "start a worker; any one of the app sends them. If one runs, look for timers-waiting in its log",
        )
    else:
        yield ok("timers", f"{facts.overdue} due just now" if facts.overdue else "none overdue")


def packages(facts: Facts) -> Iterator[Finding]:
    """Check that no package of the user hides one of ours."""
    yield from _each("packages", list(facts.shadowed), "rename your package", "none of ours is hidden")


def _each(name: str, problems: list[str], mend: str, well: str) -> Iterator[Finding]:
    if not problems:
        yield ok(name, well)
    for problem in problems[:_SHOWN]:
        yield fail(name, problem, mend)
    if len(problems) > _SHOWN:
        yield fail(name, f"and {len(problems) - _SHOWN} more", mend)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "a time that its history does not tell"
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


_ALL: Final = (reachable, servers, queues, records, index, sagas, dead_letters, timers, packages)
