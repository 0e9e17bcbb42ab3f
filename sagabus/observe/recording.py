"""Recordings of races: what the lines of a replay file say. The format is described in `sagabus.observe.replay`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from attrs import field, frozen

from sagabus.commit import Outcome
from sagabus.envelope import Envelope, SagaKey
from sagabus.errors import ConfigurationError

FORMAT: Final = 1
"""The version of the format."""
NOTHING: Final = "nothing"
"""What `expect` calls a run that had nothing to commit."""
_START: Final = "2026-01-01T00:00:00Z"
_EXPECTED: Final = frozenset({"outcome", "reason", "siblings", "state", "released", "dropped", "merge", "completed"})
_STEP: Final = frozenset({"worker", "do", "messages", "expect", "note", "at"})
_OUTCOMES: Final = frozenset({outcome.value for outcome in Outcome} | {NOTHING})


class RecordingError(ConfigurationError):
    """A recording does not say what to do, or says what cannot be done.

    Attributes:
        line: where, from 1.
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(
            f"line {line} of the recording: {problem}; the format is in the docstring of sagabus.observe.replay"
        )
        self.line = line


@frozen
class Step:
    """One line of a recording.

    Attributes:
        line: its number, from 1.
        worker: who does it.
        do: `load`, `commit` or `crash`.
        messages: of a load: envelopes, `merge`, or `timer:NAME`.
        expect: what the result must be; empty for anything.
        note: text to show with it.
        at_ms: the store's time; None for a millisecond after the step before.
    """

    line: int
    worker: str
    do: str
    messages: tuple[Envelope | str, ...] = ()
    expect: Mapping[str, Any] = field(factory=dict)
    note: str = ""
    at_ms: int | None = None


@frozen
class Recording:
    """A recorded race.

    Attributes:
        app: which bus, as `sagabus worker` takes it.
        saga: which saga of it.
        steps: what the workers do, in order.
        start_ms: the store's time at the start, ms since 1970.
        title: text to show.
    """

    app: str
    saga: SagaKey
    steps: tuple[Step, ...]
    start_ms: int
    title: str = ""


def parse(lines: Iterable[str]) -> Recording:
    """Return the recording that *lines* hold.

    Raises:
        RecordingError: they do not follow the format; with the line.
    """
    objects = [
        (number, _object(number, line))
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.startswith("#")
    ]
    if not objects or "sagabus-replay" not in objects[0][1]:
        raise RecordingError(1, 'it begins with no head {"sagabus-replay": 1, "app": ..., "saga": ...}')
    (number, head), *rest = objects
    if head["sagabus-replay"] != FORMAT:
        raise RecordingError(number, f"format {head['sagabus-replay']!r} is not known here, only {FORMAT}")
    _check(number, head, frozenset({"sagabus-replay", "app", "saga", "title", "at"}))
    app, saga = head.get("app"), head.get("saga")
    if not isinstance(app, str) or not isinstance(saga, str) or "/" not in saga:
        raise RecordingError(number, "the head needs app (package.module:bus) and saga (NAME/ID)")
    steps = tuple(read_step(n, o) for n, o in rest)
    times = (m.time for step in steps for m in step.messages if isinstance(m, Envelope) and m.time)
    start_ms = _time(number, head.get("at") or next(times, _START))
    return Recording(app, SagaKey.parse(saga), steps, start_ms, str(head.get("title", "")))


def _object(number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordingError(number, f"no JSON ({error})") from error
    if not isinstance(value, dict):
        raise RecordingError(number, "no JSON object")
    return value


def _check(number: int, value: Mapping[str, Any], known: frozenset[str]) -> None:
    unknown = sorted(set(value) - known)
    if unknown:
        raise RecordingError(number, f"unknown {', '.join(unknown)}; known are {', '.join(sorted(known))}")


def read_step(number: int, value: Mapping[str, Any]) -> Step:
    """Return the step that one line, number *number*, holds.

    Raises:
        RecordingError: it does not follow the format.
    """
    _check(number, value, _STEP)
    worker, do = value.get("worker"), value.get("do")
    if not isinstance(worker, str) or not worker:
        raise RecordingError(number, "a step needs a worker")
    if do not in ("load", "commit", "crash"):
        raise RecordingError(number, f"a step does load, commit or crash, not {do!r}")
    messages, expect = value.get("messages", []), value.get("expect", {})
    if (do == "load") != bool(messages) or not isinstance(messages, list):
        raise RecordingError(number, "a load, and nothing else, has a list of messages that is not empty")
    if expect and do != "commit":
        raise RecordingError(number, "only a commit can expect something")
    expect = {"outcome": expect} if isinstance(expect, str) else expect
    if not isinstance(expect, dict) or expect.get("outcome", NOTHING) not in _OUTCOMES:
        raise RecordingError(
            number, f"expect is one of {', '.join(sorted(_OUTCOMES))}, or an object with such an outcome"
        )
    _check(number, expect, _EXPECTED)
    return Step(
        line=number,
        worker=worker,
        do=do,
        messages=tuple(_message(number, item) for item in messages),
        expect=expect,
        note=str(value.get("note", "")),
        at_ms=_time(number, value["at"]) if "at" in value else None,
    )


def _message(number: int, item: Any) -> Envelope | str:
    if isinstance(item, str) and (item == "merge" or item.startswith("timer:")):
        return item
    if not isinstance(item, dict):
        raise RecordingError(number, f'a message is an envelope, "merge" or "timer:NAME", not {item!r}')
    try:
        data = msgspec.json.encode({"specversion": "1.0", "source": "/client"} | item)
        return msgspec.json.decode(data, type=Envelope)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RecordingError(number, f"no envelope: {error}") from error


def _time(number: int, text: Any) -> int:
    try:
        at = datetime.fromisoformat(text)
        return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    except (TypeError, ValueError, OverflowError) as error:
        raise RecordingError(number, f"{text!r} is no time; write it as {_START}") from error
