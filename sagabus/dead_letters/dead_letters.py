"""The dead letters of a bus: found, sent again, dropped; every step on the audit trail."""

from __future__ import annotations

import getpass
import itertools
import os
import socket
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from sagabus.dead_letters.audit import AuditLine
from sagabus.dead_letters.copy import Copy, as_it_was, edited, message_of
from sagabus.dead_letters.groups import Groups, LetterGroup, grouped
from sagabus.dead_letters.letter import DeadLetter
from sagabus.dead_letters.part import Count, LetterStore, Removal
from sagabus.dead_letters.sought import Sought
from sagabus.envelope import MAX_ID_LENGTH
from sagabus.errors import (
    AmbiguousDeadLetterError,
    ConfigurationError,
    DeadLetterNotFoundError,
    QueueFullError,
    SagabusError,
    UnknownEndpointError,
)
from sagabus.messages import registry
from sagabus.transport import Parcel, Refusal

if TYPE_CHECKING:
    from sagabus.bus import Bus

_FULL_WAIT_S: Final = 10.0
_BATCH: Final = 500
_SHOWN: Final = 5


@frozen
class Retried:
    """What became of one letter that was to be sent again.

    Attributes:
        letter: the letter.
        id: the id that the message was sent under.
        to: the endpoint that it went to.
        error: why it was not sent; the letter is where it was. None where it was.
    """

    letter: DeadLetter
    id: str
    to: str
    error: SagabusError | None = None


class DeadLetters:
    """The dead letters of a bus, `bus.dead_letters`. Thread-safe.

    A message that is sent again keeps its id and begins its attempts anew. It is sent first and its letter removed
    afterwards: a crash in between leaves both, and sagas take the message once. One that is given up once more
    meanwhile is a new letter, and stays.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    @property
    def _letters(self) -> LetterStore:
        return self._bus.store.letters

    # -- looking -------------------------------------------------------------------------------------------------

    def find(
        self,
        *,
        endpoint: str = "",
        type: str | type = "",
        reason: str = "",
        saga: str = "",
        id: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        text: str = "",
    ) -> Iterator[DeadLetter]:
        """Yield the dead letters to which all that is said applies, newest first, page by page.

        Args:
            endpoint: whose queue they came from, or were meant for.
            type: a message class or its wire name.
            reason: why they were given up.
            saga: which saga they were for, as `name/id`.
            id: what their message id begins with.
            since, until: given up at or after, and before; with a time zone.
            text: what stands in their error.
        """
        return self._letters.find(sought(endpoint, type, reason, saga, id, since, until, text))

    def count(self, meant: Sought | None = None) -> Count:
        """Return how many dead letters there are, or are *meant*, by reason."""
        return self._letters.count(meant or Sought())

    def groups(self, limit: int = 10_000) -> Groups:
        """Return the newest *limit* dead letters in groups of those that went wrong alike."""
        heads = self._letters.heads(limit)
        return Groups(grouped(heads), len(heads), max(self._letters.total(), len(heads)))

    def of_group(self, group: LetterGroup) -> Iterator[DeadLetter]:
        """Yield all dead letters of *group*, newest first, page by page."""
        found = self.find(endpoint=group.endpoint, type=group.type, reason=group.reason)
        return (letter for letter in found if group.holds(letter))

    def get(self, id: str, *, endpoint: str = "") -> DeadLetter:
        """Return the dead letter of a message id, or of what only one id begins with.

        Args:
            endpoint: by which it was given up, where several did.

        Raises:
            DeadLetterNotFoundError: there is none.
            AmbiguousDeadLetterError: there are several.
        """
        if endpoint and (letter := self._letters.get(endpoint, id)) is not None:
            return letter
        found: list[DeadLetter] = []
        exact: list[DeadLetter] = []
        for letter in self._letters.find(Sought(endpoint=endpoint, id=id)) if id else ():
            (exact if letter.id == id else found).append(letter)
            if len(exact) > 1 or len(found) > _BATCH:
                break
        meant = exact or found
        if not meant:
            raise DeadLetterNotFoundError(id)
        if len(meant) > 1:
            raise AmbiguousDeadLetterError(id, [letter.name for letter in meant[:_SHOWN]])
        return meant[0]

    def audit(self, id: str = "", limit: int = 1000) -> list[AuditLine]:
        """Return what people did to dead letters, newest first; to messages whose id begins with *id*."""
        return self._letters.audit(id, limit)

    # -- sending again, and dropping -----------------------------------------------------------------------------

    def retry(
        self,
        letters: DeadLetter | Iterable[DeadLetter],
        *,
        to: str | None = None,
        by: str | None = None,
        exported: bool = False,
    ) -> list[Retried]:
        """Send messages again, 500 at a time, and remove their letters; what could not be sent says why.

        Args:
            letters: one, or many.
            to: another endpoint than the one that each was for.
            by: who wants it, for the audit trail; user and host of this process.
            exported: send those too that are on record no more.
        """
        done: list[Retried] = []
        for batch in _batches(letters):
            copies: list[Copy] = []
            for letter in batch:
                try:
                    bus = self._bus
                    copies.append(as_it_was(letter, bus.max_message_bytes, to=to, signing=bus.signing))
                except SagabusError as error:
                    done.append(Retried(letter, letter.id, to or letter.endpoint, error))
            done += self._send(copies, by, exported)
        return done

    def edit(
        self,
        letter: DeadLetter,
        body: Any,
        *,
        to: str | None = None,
        type: str | None = None,
        new_id: bool = False,
        by: str | None = None,
    ) -> Retried:
        """Send a message again with another body, and remove its letter; the audit trail keeps what changed.

        It keeps its id: sagas that have handled the message already pass it over. With *new_id* they handle it again.

        Args:
            body: an instance of a message class, or JSON for the class that the letter names.
            to: another endpoint.
            type: the wire name of the class that JSON is for, where the letter's own cannot be read or is wrong.
            new_id: give it a new id.
            by: as in `retry`.

        Raises:
            CodecError: the body does not fit the class, or is too large.
            UnreadableDeadLetterError: nothing says which type it has.
        """
        given = body.encode() if isinstance(body, str) else body
        message = message_of(letter, given, type) if isinstance(given, bytes) else given
        fresh = uuid.uuid4().hex if new_id else ""
        copy = edited(
            letter,
            message,
            self._bus.max_message_bytes,
            to=to,
            new_id=fresh,
            now_ms=time.time_ns() // 1_000_000,
            signing=self._bus.signing,
        )
        (retried,) = self._send([copy], by, exported=False)
        return retried

    def drop(self, letters: DeadLetter | Iterable[DeadLetter], *, by: str | None = None) -> int:
        """Remove letters for good, 500 at a time, and return how many there were still.

        One that was replaced by another since it was looked at stays.
        """
        count = 0
        for batch in _batches(letters):
            removals = [Removal(letter, self._line("drop", letter, by)) for letter in batch]
            count += sum(self._letters.remove(removals))
        return count

    def _send(self, copies: Sequence[Copy], by: str | None, exported: bool) -> list[Retried]:
        letters = self._letters
        if not copies:
            return []
        # Marked before they are sent: a redelivery of the copy must not be taken for that of a message given up, and
        # only a letter that still bears the mark is the one that was sent.
        token = f"{self._bus.store.next_due_ms()[0]}/{uuid.uuid4().hex}"
        there = letters.mark_resent([copy.letter for copy in copies], token)
        left = [copy for copy, is_there in zip(copies, there, strict=True) if is_there or exported]
        gone = [] if exported else [copy for copy, is_there in zip(copies, there, strict=True) if not is_there]
        done = [Retried(c.letter, c.envelope.id, c.to, DeadLetterNotFoundError(c.letter.id)) for c in gone]
        errors = self._deliver([copy.parcel() for copy in left])
        done += [Retried(c.letter, c.envelope.id, c.to, errors.get(i)) for i, c in enumerate(left)]
        unsent = [copy.letter for i, copy in enumerate(left) if i in errors]
        if unsent:
            letters.mark_resent(unsent, "")
        letters.remove(
            [
                Removal(c.letter, self._line("edit" if c.edited else "retry", c.letter, by, c.details), token)
                for i, c in enumerate(left)
                if i not in errors
            ]
        )
        return done

    def _deliver(self, parcels: Sequence[Parcel]) -> dict[int, SagabusError]:
        """Send *parcels*; return why some were not, by index."""
        errors: dict[int, SagabusError] = {}
        left = list(range(len(parcels)))
        waited_s = 0.0
        while left:
            refused = self._bus.transport.send([parcels[i] for i in left])
            for position, refusal in refused.items():
                if refusal is Refusal.NO_ENDPOINT:
                    known = [queue.endpoint for queue in self._bus.transport.queues()]
                    errors[left[position]] = UnknownEndpointError(parcels[left[position]].to, known)
            full = [left[position] for position, refusal in refused.items() if refusal is Refusal.FULL]
            if not full:
                break
            left = [i for i in left if i not in errors]
            if waited_s >= _FULL_WAIT_S:
                return errors | {i: QueueFullError(parcels[full[0]].to, waited_s) for i in left}
            pause_s = min(0.01 + waited_s / 2, 0.5)
            time.sleep(pause_s)
            waited_s += pause_s
        return errors

    def _line(self, what: str, letter: DeadLetter, by: str | None, details: Any = None) -> AuditLine:
        return AuditLine(
            what,
            by or whoami(),
            letter.id,
            letter.endpoint,
            uuid.uuid4().hex,
            letter.type,
            letter.saga,
            {"reason": letter.reason} | dict(details or {}),
        )


def sought(
    endpoint: str = "",
    type: str | type = "",
    reason: str = "",
    saga: str = "",
    id: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    text: str = "",
) -> Sought:
    """Return what `DeadLetters.find` looks for.

    Raises:
        ConfigurationError: a time has no time zone, or an id is longer than ids are.
    """
    if len(id) > MAX_ID_LENGTH:
        raise ConfigurationError(f"no message id is {len(id)} characters long; {MAX_ID_LENGTH} is the most")
    name = type if isinstance(type, str) else registry.of(type) and registry.of(type).name  # type: ignore[union-attr]
    return Sought(endpoint, name or "", reason, saga, id, milliseconds(since), milliseconds(until), text)


def milliseconds(moment: datetime | None) -> int | None:
    """Return *moment* in ms since 1970; None for none.

    Raises:
        ConfigurationError: it has no time zone.
    """
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ConfigurationError("since= and until= need a time zone; write datetime(..., tzinfo=UTC)")
    return round(moment.timestamp() * 1000)


def _batches(letters: DeadLetter | Iterable[DeadLetter]) -> Iterator[Sequence[DeadLetter]]:
    left = iter([letters] if isinstance(letters, DeadLetter) else letters)
    while batch := list(itertools.islice(left, _BATCH)):
        yield batch


def whoami() -> str:
    """Return who runs this process, as `user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())  # a container without a passwd entry
    return f"{user}@{socket.gethostname()}"
