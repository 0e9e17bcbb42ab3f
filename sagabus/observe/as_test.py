"""A recorded saga as a pytest test: the same messages, loaded and committed in the same order. Pure.

The test plays what happened through the saga's own code (`sagabus.testing.play`), and expects what came of it. Where
today's code does something else than was recorded, it expects what was recorded, and a comment says so: change what is
expected, and mend the code until it comes out so. Fields that are encrypted stay so, and need their keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from attrs import define, field

from sagabus.commit import HistoryEntry, Outcome
from sagabus.definition import SagaDefinition
from sagabus.envelope import Envelope, rfc3339
from sagabus.errors import SagabusError
from sagabus.messages import MERGE
from sagabus.observe.record import RecordedSaga
from sagabus.observe.recording import read_step
from sagabus.observe.replay import Happened, Replay, type_of_outgoing
from sagabus.observe.rerun import Rerun, rerun
from sagabus.printable import printable
from sagabus.secrecy.sealing import is_sealed

_WIDTH: Final = 110
_INDENT: Final = "    "
_NOT_OURS: Final = (
    *("specversion", "time", "attempt", "traceparent", "signature", "signaturekey"),
    *("correlationid", "causationid"),
)
"""What of an envelope no handler sees."""


class NoTestError(SagabusError):
    """No test can be made of a saga.

    Attributes:
        key: which, as `NAME/ID`.
    """

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"no test can be made of {key}: {why}")
        self.key = key


def as_test(definition: SagaDefinition, recorded: RecordedSaga) -> str:
    """Return the source of a test that plays a recorded saga again.

    Args:
        recorded: the saga; its `app` says where the test finds the bus.

    Raises:
        NoTestError: its history does not reach back to the start of a life.
    """
    return "\n".join([*_imports(recorded.app), "", "", *_body(definition, recorded, _name(recorded)), ""])


def as_tests(recorded: Iterable[tuple[SagaDefinition, RecordedSaga]]) -> Iterator[str]:
    """Yield the parts of one file that has a test for each recorded saga of one app, each with its end of line.

    Raises:
        NoTestError: as of `as_test`; when the tests before have come.
    """
    names: set[str] = set()
    for definition, saga in recorded:
        name = _name(saga)
        number = 2
        while name in names:
            name, number = f"{_name(saga)}_{number}", number + 1
        lines = _body(definition, saga, name)
        yield "\n".join([*([] if names else _imports(saga.app)), "", "", *lines, ""])
        names.add(name)


def _imports(app: str) -> list[str]:
    module, _, attribute = app.partition(":")
    return ["from sagabus.testing import play", "", f"from {module} import {attribute or 'bus'}"]


def _body(definition: SagaDefinition, recorded: RecordedSaga, name: str) -> list[str]:
    comparison = rerun(definition, recorded)
    if not comparison.commits:
        raise NoTestError(str(recorded.key), comparison.refusal or "it has no history")
    attribute = recorded.app.partition(":")[2]
    life = comparison.commits[0].entry.life
    script = _Script(definition, recorded, comparison.commits, life)
    steps = list(script.steps())
    remarks = [*comparison.notes, *([comparison.refusal] if comparison.refusal else [])]
    if any(is_sealed(value) for value in _values([step for step, _ in steps])):
        remarks.append("it holds encrypted values: run it with the keys that they were encrypted with (SAGABUS_KEYS)")
    lines = [
        f"def {name}() -> None:",
        f'{_INDENT}"""{_docstring(recorded)}"""',
        *(f"{_INDENT}# {printable(remark)}" for remark in remarks),
        *(f"{_INDENT}# {letter} is worker {printable(worker)}" for letter, worker in script.workers.items()),
        f"{_INDENT}play(",
        f"{_INDENT * 2}{attribute or 'bus'},",
        f"{_INDENT * 2}{_inline(str(recorded.key))},",
        f"{_INDENT * 2}[",
    ]
    for step, remark in steps:
        if remark:
            lines.append(f"{_INDENT * 3}# {printable(remark)}")
        lines.append(f"{_INDENT * 3}{_literal(step, 3)},")
    return [*lines, f"{_INDENT * 2}],", *([f"{_INDENT * 2}life={life},"] if life > 1 else []), f"{_INDENT})"]


@define
class _Script:
    """The steps of a test, found by playing them."""

    definition: SagaDefinition
    recorded: RecordedSaga
    commits: Sequence[Rerun]
    life: int
    workers: dict[str, str] = field(factory=dict)
    _busy: dict[str, int] = field(factory=dict)

    def steps(self) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield each step, and what is to be said of it."""
        first = self.commits[0].entry
        replay = Replay(self.definition, self.recorded.key, first.loaded_ms or first.at_ms, life=self.life)
        for number, made in enumerate(self.commits):
            for index, other in enumerate(self.commits):
                if other.loaded == number:
                    load = self._load(other.entry, index)
                    replay.play(read_step(0, load))
                    yield load, ""
            letter = next(letter for letter, index in self._busy.items() if index == number)
            del self._busy[letter]
            step: dict[str, Any] = {"worker": letter, "do": "commit", "at": rfc3339(made.entry.at_ms)}
            happened = replay.play(read_step(0, step))
            step["expect"], remark = _expected(made, happened)
            yield step, remark

    def _load(self, entry: HistoryEntry, index: int) -> dict[str, Any]:
        letter = self._letter(entry.by)
        self._busy[letter] = index
        at = rfc3339(entry.loaded_ms or entry.at_ms)
        return {"worker": letter, "do": "load", "at": at, "messages": [_message(m) for m in entry.messages]}

    def _letter(self, worker: str) -> str:
        """Return what a worker is called here: another letter for each thing that it does at the same time."""
        for letter, known in self.workers.items():
            if known == worker and letter not in self._busy:
                return letter
        number = len(self.workers)
        letter = chr(ord("A") + number) if number < 26 else f"W{number + 1}"
        self.workers[letter] = worker
        return letter


def _message(envelope: Envelope) -> Any:
    if envelope.type == MERGE:
        return "merge"
    if envelope.timer:
        return f"timer:{envelope.timer}"
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(envelope))
    for name in _NOT_OURS:
        plain.pop(name, None)
    if plain.get("source") == "/client":
        del plain["source"]
    return plain


def _expected(made: Rerun, happened: Happened) -> tuple[dict[str, Any], str]:
    """Return what a commit is expected to come out as, and why that is not what comes now, if it is not."""
    entry = made.entry
    expect: dict[str, Any] = {"outcome": entry.outcome.value}
    if entry.completed or happened.outcome != entry.outcome.value:
        expect["completed"] = entry.completed
    if made.differences or happened.outcome != entry.outcome.value:
        said = "; ".join(difference.text for difference in made.differences) or f"now {happened.outcome}"
        return expect, f"today's code differs here: {said}"
    if entry.outcome is Outcome.FORKED or len(entry.parents) > 1:
        expect["siblings"] = len(happened.states)
    if happened.written is not None:
        expect["state"] = happened.written
    released = [name for m in happened.released if (name := type_of_outgoing(m)) != MERGE]
    dropped = [type_of_outgoing(m) for m in happened.dropped]
    posted = bool(happened.result and happened.result.posted_merge)
    return expect | {
        name: value for name, value in (("released", released), ("dropped", dropped), ("merge", posted)) if value
    }, ""


# -- source ------------------------------------------------------------------------------------------------------


def _name(recorded: RecordedSaga) -> str:
    parts = re.sub(r"[^0-9A-Za-z]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(recorded.key)))
    return f"test_{parts.strip('_').lower()[:60]}_as_recorded"


def _docstring(recorded: RecordedSaga) -> str:
    history = recorded.history
    forks = sum(entry.outcome is Outcome.FORKED for entry in history)
    merges = sum(len(entry.parents) > 1 for entry in history)
    counts = [(len(history), "commit"), (forks, "fork"), (merges, "merge")]
    said = ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for count, name in counts if count)
    key = printable(str(recorded.key)).replace("\\", "/").replace('"', "'")
    return f"{key} as it was recorded at {recorded.recorded_at}: {said}; {recorded.lifecycle.value}."


def _literal(value: Any, depth: int) -> str:
    """Return plain data as Python, on one line where it fits."""
    short = _inline(value)
    if len(short) + len(_INDENT) * depth <= _WIDTH or not isinstance(value, dict | list) or not value:
        return short
    inner = _INDENT * (depth + 1)
    if isinstance(value, dict):
        items = [f"{_inline(name)}: {_literal(item, depth + 1)}" for name, item in value.items()]
        opening, closing = "{", "}"
    else:
        items = [_literal(item, depth + 1) for item in value]
        opening, closing = "[", "]"
    body = "".join(f"\n{inner}{item}," for item in items)
    return f"{opening}{body}\n{_INDENT * depth}{closing}"


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_inline(name)}: {_inline(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    written = repr(value)
    # As formatters have it: where there is no quote of either kind inside, repr takes the single one.
    plain = isinstance(value, str) and "'" not in value and '"' not in value
    return f'"{written[1:-1]}"' if plain else written


def _values(plain: Any) -> Iterator[Any]:
    if isinstance(plain, Mapping):
        for item in plain.values():
            yield from _values(item)
    elif isinstance(plain, list | tuple):
        for item in plain:
            yield from _values(item)
    else:
        yield plain
