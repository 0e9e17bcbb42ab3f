"""What is recorded of a key, and what becomes of the record. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from attrs import evolve, frozen

SAID_AGAIN_FOR: Final = timedelta(days=7)
"""For how long the notification that did it has the action say its messages again: a worker that died may come back
late, and a notification that is published anew under an old id must do nothing."""


class OnceStatus(StrEnum):
    """How far it has come with a key."""

    BEGUN = "begun"
    DONE = "done"
    FORGOTTEN = "forgotten"


@frozen
class OnceRecord:
    """What is kept of one key, for ever.

    Attributes:
        status: `begun`, `done`, or `forgotten` by an operator: the next notification begins.
        idempotency_key: what the action gets, at every attempt of this round. It follows from name, key and round, so
            that it is the same again where a store has lost the record.
        message_id: of the notification whose attempt it is, or that has done it.
        begun_at: when the action was begun last, UTC, store's clock.
        attempts: how often it was begun in this round; more than once after a crash, a failure, a time-out, or where a
            message was delivered twice at once.
        round: counts from 1; one more each time that something done was forgotten.
        has_said: whether the action had messages to send when it was done.
    """

    status: OnceStatus
    idempotency_key: str
    message_id: str
    begun_at: datetime
    attempts: int = 1
    round: int = 1
    has_said: bool = False


def begun(
    known: OnceRecord | None, first_key: str, message_id: str, now: datetime, takeover_after: timedelta | None
) -> OnceRecord | None:
    """Return the record to write before the action runs, or None where there is nothing to do. Pure.

    Args:
        known: what is recorded; None for nothing.
        first_key: the idempotency key of the first round.
    """
    if known is None:
        return OnceRecord(OnceStatus.BEGUN, first_key, message_id, now)
    again = evolve(known, message_id=message_id, begun_at=now, attempts=known.attempts + 1)
    if known.status is OnceStatus.FORGOTTEN:
        return evolve(again, status=OnceStatus.BEGUN)
    own = known.message_id == message_id
    if known.status is OnceStatus.DONE:
        # What it said may not have left: a worker can die between the mark and the sending.
        return again if own and known.has_said and now - known.begun_at < SAID_AGAIN_FOR else None
    overdue = takeover_after is not None and now - known.begun_at >= takeover_after
    return again if own or overdue else None


def finished(known: OnceRecord | None, mine: OnceRecord) -> OnceRecord | None:
    """Return what marks the attempt *mine* as done, or None where somebody else has done it already. Pure.

    Args:
        known: what is recorded by now, which may be somebody else's; None where the store has lost it.
    """
    if known is None:
        return mine
    if known.round > mine.round or (known.round == mine.round and known.status is OnceStatus.DONE):
        return None
    return evolve(mine, attempts=known.attempts)


def forgotten(known: OnceRecord, next_key: Callable[[int], str]) -> OnceRecord:
    """Return what lets the next notification begin. Pure.

    Args:
        next_key: round -> idempotency key.
    """
    if known.status is OnceStatus.BEGUN:
        # Who knows how far the attempt has come: what resumes it must be counted as the same.
        return evolve(known, status=OnceStatus.FORGOTTEN)
    if known.status is OnceStatus.FORGOTTEN:
        return known
    return evolve(
        known,
        status=OnceStatus.FORGOTTEN,
        idempotency_key=next_key(known.round + 1),
        attempts=0,
        round=known.round + 1,
        has_said=False,
    )
