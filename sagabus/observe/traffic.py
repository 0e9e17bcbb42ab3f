"""What came into a saga and what it asked for, commit by commit, and which message answered which. Pure.

A history keeps the messages that came in, and digests of what went out. So what went out is made again by today's code,
as `sagabus replay` does; where that asks for something else, only kind, type and addressee are known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from attrs import frozen

from sagabus.commit import HistoryEntry, Outcome
from sagabus.digest import HalfDigest
from sagabus.envelope import Envelope
from sagabus.observe.asked import Asked, asked
from sagabus.observe.record_lines import kind_name
from sagabus.observe.rerun import Comparison, Rerun
from sagabus.observe.sent_requests import as_recorded


@frozen
class Came:
    """A message that a commit has handled.

    Attributes:
        entry: the commit.
        envelope: the message.
    """

    entry: HistoryEntry
    envelope: Envelope

    @property
    def body(self) -> Any:
        """Return its body as plain data, secrets encrypted; text that says so where it is none."""
        return body_of(self.envelope)


@frozen
class Went:
    """What a commit asked for.

    Attributes:
        entry: the commit.
        what: the message, or the cancellation of a timer; without id and body where today's code asks for another.
        dropped: whether it never left, being of a decision that had not seen every version.
        answer: the first message of the history that was sent in answer to it; None for none, and where no id is known.
    """

    entry: HistoryEntry
    what: Asked
    dropped: bool
    answer: Came | None


def traffic(comparison: Comparison) -> tuple[Came | Went, ...]:
    """Return what came and went in the history of a saga, oldest first.

    Args:
        comparison: what today's code makes of it.
    """
    history = comparison.recorded.history
    made = {id(rerun.entry): rerun for rerun in comparison.commits}
    answers: dict[str, Came] = {}
    for entry in history:
        for message in entry.messages:
            answers.setdefault(message.causationid, Came(entry, message))
    found: list[Came | Went] = []
    for entry in history:
        found += (Came(entry, message) for message in entry.messages)
        for what, dropped in _out(entry, made.get(id(entry))):
            found.append(Went(entry, what, dropped, answers.get(what.id) if what.id else None))
    return tuple(found)


def body_of(message: Envelope) -> Any:
    """Return the body of a message as plain data, secrets encrypted; text that says so where it is none."""
    try:
        return msgspec.json.decode(message.data) if message.data else {}
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return f"unreadable: {error}"


def _out(entry: HistoryEntry, made: Rerun | None) -> Iterator[tuple[Asked, bool]]:
    """Yield what a commit asked for, and whether that was dropped."""
    if made is not None and as_recorded(entry, made):
        facts, decision = asked(made.commit.facts), asked(made.commit.decision)
    else:
        facts, decision = _digested(entry.facts), _digested(entry.decision)
    for what in facts:
        yield what, False
    if entry.outcome is not Outcome.LATE:
        for what in decision:
            yield what, entry.outcome is not Outcome.STORED


def _digested(half: HalfDigest | None) -> tuple[Asked, ...]:
    effects = half.effects if half is not None else ()
    return tuple(Asked(kind_name(effect.kind), effect.to, effect.type) for effect in effects)
