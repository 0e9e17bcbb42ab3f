"""How a person ends a saga: the commit that completes it, beside `advance`, and by the same commit rules. Pure.

A saga that hangs for good is cancelled: it gets its tombstone, its timers end, and what still comes is late. Nothing of
its own code is asked, so nothing leaves it, and one whose state cannot be read any more can be cancelled too. Siblings
are merged in the same write; where the merger refuses, or must not be asked, one of them is named whose state the
tombstone keeps. The commit must settle (rule 4): where somebody has written meanwhile, the store answers `again`, and
whoever cancels looks at the saga anew. Its id is consumed like any other, so to ask twice with one id ends one life.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sagabus.commit import Commit, Half, Lifecycle, Snapshot
from sagabus.definition import SagaDefinition
from sagabus.envelope import Envelope, SagaKey, check_attributes, rfc3339
from sagabus.merging import merge_order, merged
from sagabus.versions import Dot

CANCEL: Final = "sagabus.CancelSaga"
"""What stands in a history for the cancellation. No queue carries it, so nobody can send it to a saga."""


class Cancellation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a history says of a cancellation.

    Attributes:
        by: who wanted it, as `user@host`.
        why: in their words.
        keep: of a saga that had siblings and did not merge them: the version whose state its tombstone keeps.
    """

    by: str
    why: str = ""
    keep: str = ""


def cancellation(key: SagaKey, life: int, id_: str, said: Cancellation, now_ms: int) -> Envelope:
    """Return the message that stands in the history of the saga *key* for what was *said*.

    Raises:
        CodecError: a name is too long, or has a character that none may have.
    """
    envelope = Envelope(
        specversion="1.0",
        id=id_,
        source="/client",
        type=CANCEL,
        time=rfc3339(now_ms),
        data=msgspec.Raw(msgspec.json.encode(said)),
        correlationid=id_,
        saga=str(key),
        sagalife=life,
    )
    check_attributes(envelope)
    return envelope


def read_cancellation(envelope: Envelope) -> Cancellation:
    """Return what was said by an envelope that `cancellation` made."""
    return msgspec.json.decode(envelope.data, type=Cancellation)


def ended(definition: SagaDefinition, snapshot: Snapshot, envelope: Envelope) -> Commit:
    """Return the commit that ends a saga as *envelope* says.

    It has no `ids` where there is nothing to end: the saga is not live, lives another life, or was ended under this id;
    or where siblings cannot be merged, with the reason in `unmergeable`; or where the version to keep is not live.
    """
    nothing = Commit(key=snapshot.key)
    live = snapshot.lifecycle is Lifecycle.LIVE and snapshot.life == envelope.sagalife
    if not live or envelope.id in snapshot.consumed:
        return nothing
    state: bytes | None = None
    keep = read_cancellation(envelope).keep
    if keep and not any(str(version.dot) == keep for version in snapshot.versions):
        return nothing
    if len(snapshot.versions) > 1:
        try:
            state = _last_state(definition, snapshot, keep)
        except Exception as error:
            return Commit(key=snapshot.key, unmergeable=error)
    return Commit(
        key=snapshot.key,
        ids=(envelope.id,),
        life=snapshot.life,
        context=snapshot.clock,
        parents=_dots(snapshot),
        facts=Half(state),
        completes=True,
        must_settle=True,
        messages=(envelope,),
        loaded_ms=snapshot.now_ms,
        limits=definition.limits,
    )


def _last_state(definition: SagaDefinition, snapshot: Snapshot, keep: str) -> bytes:
    kept = next((version.state for version in snapshot.versions if str(version.dot) == keep), None)
    if kept is not None:
        return kept
    return definition.codec.encode(merged(definition, merge_order(definition, snapshot.versions)))


def _dots(snapshot: Snapshot) -> tuple[Dot, ...]:
    return tuple(version.dot for version in snapshot.versions)
