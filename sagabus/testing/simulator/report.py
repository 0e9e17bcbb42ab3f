"""The report of a failure: the schedule in words, the version graph, a token to replay it, and a test to paste."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

from attrs import frozen

from sagabus.observe.graph import draw
from sagabus.testing.simulator.pasting import test_of
from sagabus.testing.simulator.runs import Fault
from sagabus.testing.simulator.schedule import LeavesOut, Schedule, token_of
from sagabus.testing.simulator.telling import Told

_INDENT: Final = "    "


@frozen
class Failure:
    """A schedule that breaks something, and all that helps to mend it.

    Attributes:
        kind: a stable word: `stuck`, `livelock`, `outcome`, `invariant`, `finally`, `merger`, `lost-effect`, `impure`,
            `dead-letter`, `unmergeable`, `unsettled`, `completed-twice` or `siblings`.
        problem: what is wrong, for people.
        trace: what happened, a line a step.
        events: the schedule.
        token: the schedule, for `explore(..., replay=token)`.
        graph: the versions of the sagas, as drawn by `sagabus inspect`.
        test: a test that fails by this schedule, ready to paste.
        report: all of it.
    """

    kind: str
    problem: str
    trace: tuple[str, ...]
    events: Schedule
    token: str
    graph: str
    test: str
    report: str


def failure_of(fault: Fault, told: Told, call: Mapping[str, Any], subject: Any, searched: str) -> Failure:
    """Return what is told of a fault.

    Args:
        told: the schedule in words.
        call: the arguments of `explore` that are not defaults.
        subject: what was explored.
        searched: how the schedule was found.
    """
    token = token_of(told.schedule)
    graph = "\n".join(_graphs(told))
    test = test_of(fault.kind, subject, call, token)
    parts = [
        f"{fault.kind}: {fault.problem}",
        "",
        f"{searched}; its {len(told.lines)} steps:",
        *(f"{number:>4}  {line}" for number, line in enumerate(told.lines, 1)),
    ]
    if graph:
        parts += ["", "the versions:", textwrap.indent(graph, "  ")]
    parts += [
        "",
        f'to see it again: explore(..., replay="{token}")',
        "",
        "as a test:",
        "",
        textwrap.indent(test, _INDENT),
    ]
    events = tuple(step for step in told.schedule if not isinstance(step, LeavesOut))
    return Failure(fault.kind, fault.problem, told.lines, events, token, graph, test, "\n".join(parts))


def _graphs(told: Told) -> Iterator[str]:
    several = sum(1 for _, history in told.histories if history) > 1
    for key, history in told.histories:
        if history:
            if several:
                yield f"{key}"
            yield draw(history)
