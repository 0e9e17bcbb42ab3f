"""Which commands a saga has sent, and which of them were answered, as far as its history tells. Pure.

A history keeps digests of what was sent, no ids. Ids follow from the messages handled, so where today's code makes a
commit again as it was, the ids are those that it gave; elsewhere they are tried out: an answer names what caused it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

import msgspec
from attrs import frozen

from sagabus.commit import Half, HistoryEntry, Outcome
from sagabus.digest import EffectDigest, HalfDigest, digests
from sagabus.envelope import Envelope, SagaKey, derive_id
from sagabus.observe.rerun import Comparison, Rerun
from sagabus.outgoing import OutgoingKind

_HALVES: Final = ("", "merge", "late")
"""What stands in the ids of what the handlers of facts ask for."""


@frozen
class Request:
    """A command that a saga has sent, and that nobody has answered yet.

    Attributes:
        to: the endpoint.
        type: the wire name of the message.
        id: its id; empty where it cannot be told.
        at_ms: when the commit that sent it was stored, ms since 1970.
    """

    to: str
    type: str
    id: str
    at_ms: int


@frozen
class _Sent:
    to: str
    type: str
    ids: tuple[str, ...]
    at_ms: int


def unanswered(comparison: Comparison, life: int, starter_replyto: str = "") -> tuple[Request, ...]:
    """Return the commands of one life of a saga that no message in its history answers, oldest first.

    What went back to who started the saga, or as an answer to another saga, waits for nothing. A command that nobody
    ever answers stays here: only its receiver knows that.

    Args:
        comparison: what today's code makes of the history.
        life: which life.
        starter_replyto: the endpoint that waits for the saga's own answer; empty for none.
    """
    recorded = comparison.recorded
    made = {id(rerun.entry): rerun for rerun in comparison.commits}
    answers = _answers(recorded.history)
    found: list[Request] = []
    for entry in recorded.history:
        if entry.life != life:
            continue
        for sent in _sent(recorded.key, entry, made.get(id(entry))):
            if sent.to != starter_replyto and not _answered(sent, answers):
                found.append(Request(sent.to, sent.type, sent.ids[0] if len(sent.ids) == 1 else "", sent.at_ms))
    return tuple(found)


def _answers(history: tuple[HistoryEntry, ...]) -> dict[str, set[str]]:
    """Return what was answered: the id of a command -> where answers to it came from; itself, where it came back."""
    answers: dict[str, set[str]] = {}
    for entry in history:
        for message in entry.messages:
            answers.setdefault(message.id, set()).add("")
            if message.causationid:
                answers.setdefault(message.causationid, set()).add(message.source.removeprefix("/"))
    return answers


def _answered(sent: _Sent, answers: dict[str, set[str]]) -> bool:
    if len(sent.ids) == 1:
        return sent.ids[0] in answers
    for id_ in sent.ids:
        if sent.to in answers.get(id_, ()):
            # One answer is for one command: another that may have had this id is to find its own.
            answers[id_].discard(sent.to)
            return True
    return False


def _sent(key: SagaKey, entry: HistoryEntry, made: Rerun | None) -> Iterator[_Sent]:
    """Yield the commands that left with *entry*."""
    released = entry.outcome is Outcome.STORED
    if made is not None and as_recorded(entry, made):
        halves = [made.commit.facts, *([made.commit.decision] if released and made.commit.decision else [])]
        for half in halves:
            yield from _of_half(half, entry.at_ms)
        return
    yield from _of_digest(key, entry, entry.facts, _HALVES)
    if released:
        yield from _of_digest(key, entry, entry.decision, ("decision",))


def as_recorded(entry: HistoryEntry, made: Rerun) -> bool:
    """Return whether today's code asks for the same with a commit, so that ids are what they were."""
    if entry.facts is None:
        return not made.differences
    facts, decision = digests(made.commit)
    return _counted(facts) == _counted(entry.facts) and _counted(decision) == _counted(entry.decision)


def _counted(half: HalfDigest | None) -> Counter[EffectDigest]:
    return Counter(half.effects if half is not None else ())


def _of_half(half: Half, at_ms: int) -> Iterator[_Sent]:
    for messages in half.outgoing.values():
        for message in messages:
            envelope = msgspec.json.decode(message.body, type=Envelope)
            # Only answers are addressed to a saga.
            if message.kind is OutgoingKind.COMMAND and not envelope.saga:
                yield _Sent(message.to, envelope.type, (message.id,), at_ms)


def _of_digest(key: SagaKey, entry: HistoryEntry, half: HalfDigest | None, names: tuple[str, ...]) -> Iterator[_Sent]:
    """Yield the commands that a digest lists, with every id that each may have had."""
    effects = half.effects if half is not None else ()
    asking = {message.replyto for message in entry.messages if message.replysaga}
    causes = [message.id for message in entry.messages]
    sure = len(causes) == 1 and len(entry.parents) < 2 and all(effect.kind is not None for effect in effects)
    half_name = "late" if entry.outcome is Outcome.LATE else names[0]
    for ordinal, effect in enumerate(effects):
        if effect.kind is not OutgoingKind.COMMAND or effect.to in asking:
            continue
        if sure:
            ids: tuple[str, ...] = (derive_id(key, entry.life, causes[0], half_name, ordinal),)
        else:
            ids = tuple(
                derive_id(key, entry.life, cause, name, n)
                for cause in causes
                for name in names
                for n in range(len(effects))
            )
        yield _Sent(effect.to, effect.type, ids, entry.at_ms)
