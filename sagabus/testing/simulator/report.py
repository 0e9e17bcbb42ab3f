"""The report of a failure: the schedule in words, the version graph, a token to replay it, and a test to paste."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

from attrs import frozen

from sagabus.bus import Bus
from sagabus.observe.graph import draw
from sagabus.testing.simulator.sagas import Fault
from sagabus.testing.simulator.schedule import Schedule, token_of
from sagabus.testing.simulator.telling import Told

_INDENT: Final = "    "


@frozen
class Failure:
    """A schedule that breaks something, and all that helps to mend it.

    Attributes:
        kind: a stable word: `stuck`, `livelock`, `outcome`, `invariant`, `finally`, `merger`, `lost-effect`, `impure`,
            `dead-letter`, `unmergeable`, `unsettled`, `completed-twice` or `siblings`.
        problem: what is wrong, in a line.
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
    test = _test(fault, call, subject, token)
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
    return Failure(fault.kind, fault.problem, told.lines, told.schedule, token, graph, test, "\n".join(parts))


def _graphs(told: Told) -> Iterator[str]:
    several = sum(1 for _, history in told.histories if history) > 1
    for key, history in told.histories:
        if history:
            if several:
                yield f"{key}"
            yield draw(history)


# -- the test to paste -----------------------------------------------------------------------------------------------


def _test(fault: Fault, call: Mapping[str, Any], subject: Any, token: str) -> str:
    arguments = [f"{_INDENT * 2}{_expression(subject)},"]
    arguments += [f"{_INDENT * 2}{name}={_value(value)}," for name, value in call.items()]
    arguments.append(f'{_INDENT * 2}replay="{token}",')
    name = f"test_{_snake(_subject_name(subject))}_is_not_{fault.kind.replace('-', '_')}"
    head = "\n".join(_imports(subject, call))
    body = "\n".join(arguments)
    return f"{head}\n\n\ndef {name}() -> None:\n{_INDENT}explore(\n{body}\n{_INDENT}).assert_ok()\n"


def _imports(subject: Any, call: Mapping[str, Any]) -> list[str]:
    names: dict[str, set[str]] = {}
    for value in _classes(subject, call):
        names.setdefault(value.__module__, set()).add(value.__qualname__.partition(".")[0])
    lines = [f"from {module} import {', '.join(sorted(found))}" for module, found in sorted(names.items())]
    return [*lines, "from sagabus.testing import explore"]


def _classes(subject: Any, call: Mapping[str, Any]) -> Iterator[type]:
    if isinstance(subject, type):
        yield subject
    elif not isinstance(subject, Bus):
        yield from subject
    for name in ("start", "messages"):
        for message in call.get(name, ()):
            yield type(message)


def _subject_name(subject: Any) -> str:
    if isinstance(subject, Bus):
        return "bus"
    first: type = subject if isinstance(subject, type) else subject[0]
    return first.__name__


def _expression(subject: Any) -> str:
    if isinstance(subject, Bus):
        return "bus"
    if isinstance(subject, type):
        return subject.__qualname__
    return f"[{', '.join(saga.__qualname__ for saga in subject)}]"


def _value(value: Any) -> str:
    if callable(value):
        return getattr(value, "__qualname__", repr(value))
    if isinstance(value, tuple | list) and not _is_messages(value):
        inside = "".join(f"\n{_INDENT * 3}{_value(item)}," for item in value)
        return f"[{inside}\n{_INDENT * 2}]" if inside else "[]"
    return repr(list(value)) if _is_messages(value) else repr(value)


def _is_messages(value: Any) -> bool:
    return type(value).__name__ == "Messages"


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).strip("_")
