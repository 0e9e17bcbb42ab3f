"""Do something once for a key, though it is announced many times within a millisecond.

    imports = bus.endpoint("imports")

    @once(imports, key="path", name="import")
    def import_file(m: FilePublished, idempotency_key: str) -> None:
        importer.import_(m.path, idempotency_key=idempotency_key)

It is no saga: a serial one would forget its key after the retention, and could not do the work itself.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import inspect
import json
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Generic, ParamSpec, TypeVar
from uuid import UUID

from attrs import evolve, frozen

from sagabus import ConcurrencyError, Context, Document, DocumentKey, Documents, Endpoint
from sagabus.errors import DefinitionError, DocumentNotFoundError
from sagas._functions import arguments_of_action, check_field, messages_of, subject_of_function, visible_names

P = ParamSpec("P")
R = TypeVar("R")

TAKEOVER_AFTER: Final = timedelta(hours=1)
_MAX_NAME: Final = 100
_KEPT_LENGTH: Final = 500
"""How long the name of a document may be. Longer ones end in a digest, and are the only ones of just this length."""


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


class _HeldContext(Context):
    """A context that keeps back what is said to it until it is released."""

    __slots__ = ("_real", "_said")

    def __init__(self, real: Context) -> None:
        super().__init__(real.endpoint, real.envelope, round(real.now.timestamp() * 1000), real.documents)
        self._real = real
        self._said: list[Callable[[], None]] = []

    def reply(self, message: Any) -> None:
        self._said.append(functools.partial(self._real.reply, message))

    def send(self, message: Any, to: str | None = None) -> None:
        self._said.append(functools.partial(self._real.send, message, to))

    def publish(self, message: Any) -> None:
        self._said.append(functools.partial(self._real.publish, message))

    @property
    def has_said(self) -> bool:
        return bool(self._said)

    def release(self) -> None:
        for say in self._said:
            say()


class Once(Generic[P, R]):
    """An action that is done once for a key; what `@once` makes of a function. Calling it calls the function itself.

    Attributes:
        name: what its keys are kept under.
        takeover_after: how old an attempt must be for a later notification to take it over; None for never.
    """

    def __init__(
        self,
        action: Callable[P, R],
        name: str,
        key_of: Callable[[Any], object],
        takeover_after: timedelta | None,
        *,
        wants_context: bool,
    ) -> None:
        functools.update_wrapper(self, action)
        self.name, self.takeover_after = name, takeover_after
        self._action, self._key_of, self._wants_context = action, key_of, wants_context

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the action itself, for its unit tests; nothing is recorded."""
        return self._action(*args, **kwargs)

    # -- for operators -------------------------------------------------------------------------------------------

    def state(self, documents: Documents, key: object) -> OnceRecord | None:
        """Return what is recorded of *key*; None where no notification of it was handled yet.

        Args:
            documents: `bus.documents`.
            key: as the messages have it.
        """
        return _recorded(documents.load(self.document_key(key), OnceRecord))

    def forget(self, documents: Documents, key: object) -> OnceRecord:
        """Have the next notification of *key* begin, and return what is recorded now.

        What was done is done again then, under another idempotency key: under the old one the service would do
        nothing. What was only begun, and is not resumed for want of its message, is resumed under the same.

        Args:
            documents: `bus.documents`.
            key: as the messages have it.

        Raises:
            DocumentNotFoundError: nothing is recorded of it.
            ConcurrencyError: an attempt has gone on meanwhile; look at `state`, and forget that if it is still right.
        """
        text = self._text(key)
        found = documents.load(self._document_key(text), OnceRecord)
        known = _recorded(found)
        if known is None:
            raise DocumentNotFoundError(str(found.key))
        record = forgotten(known, lambda count: self._idempotency_key(text, count))
        return documents.put(found.key, record, etag=found.etag).value

    def document_key(self, key: object) -> DocumentKey:
        """Return where the record of *key* is among `bus.documents`."""
        return self._document_key(self._text(key))

    # -- how -----------------------------------------------------------------------------------------------------

    def handler(self, is_async: bool) -> Callable[..., Any]:
        """Return the consumer; it is called as the action is, for ids of what it sends follow from that."""

        def handle(m: Any, context: Context) -> None:
            attempt = self._begin(m, context)
            if attempt is not None:
                held = _HeldContext(context)
                self._act(m, attempt, held)
                if self._finish(attempt, held):
                    held.release()

        async def handle_async(m: Any, context: Context) -> None:
            # In threads, so that a store that is slow to answer holds nobody up but this handler.
            attempt = await asyncio.to_thread(self._begin, m, context)
            if attempt is not None:
                held = _HeldContext(context)
                await self._act(m, attempt, held)
                if await asyncio.to_thread(self._finish, attempt, held):
                    held.release()

        chosen: Any = handle_async if is_async else handle
        chosen.__module__, chosen.__qualname__ = self._action.__module__, self._action.__qualname__
        chosen.__name__, chosen.once = self._action.__name__, self
        return chosen  # type: ignore[no-any-return]  # it carries what it belongs to

    def _begin(self, m: Any, context: Context) -> Document[OnceRecord] | None:
        """Record that the action begins, and return the record; None where it is not for this message to do."""
        text = self._text(self._key_of(m))
        key, first_key = self._document_key(text), self._idempotency_key(text, 1)
        while True:  # round again only where somebody else's write came between
            found = context.documents.load(key, OnceRecord)
            record = begun(_recorded(found), first_key, context.message_id, context.now, self.takeover_after)
            if record is None:
                return None
            try:
                return context.documents.put(key, record, etag=found.etag)
            except ConcurrencyError:
                continue

    def _act(self, m: Any, attempt: Document[OnceRecord], context: Context) -> Any:
        action: Callable[..., Any] = self._action
        key = attempt.value.idempotency_key
        return action(m, key, context) if self._wants_context else action(m, key)

    def _finish(self, attempt: Document[OnceRecord], held: _HeldContext) -> bool:
        """Record that the action is done; return whether what it said is to leave: only one message speaks for a key.

        A copy of that message may: what it says has the same ids, and the worker with the other copy may be dead.
        """
        if attempt.value.status is OnceStatus.DONE:
            return True  # it was done before, and only had to be said again
        documents, mine = held.documents, evolve(attempt.value, status=OnceStatus.DONE, has_said=held.has_said)
        found, record = attempt, finished(attempt.value, mine)
        while record is not None:
            try:
                documents.put(attempt.key, record, etag=found.etag)
                return True
            except ConcurrencyError:
                found = documents.load(attempt.key, OnceRecord)
                record = finished(_recorded(found), mine)
        return found.value.message_id == mine.message_id and found.value.status is OnceStatus.DONE

    def _idempotency_key(self, text: str, count: int) -> str:
        """Return the idempotency key of one round: 32 hexadecimal digits."""
        return hashlib.sha256(json.dumps([self.name, text, count]).encode()).hexdigest()[:32]

    def _document_key(self, text: str) -> DocumentKey:
        full = f"once/{self.name}/{text}"
        if len(full) >= _KEPT_LENGTH:
            digest = hashlib.sha256(full.encode()).hexdigest()
            full = f"{full[: _KEPT_LENGTH - len(digest) - 1]}~{digest}"
        return DocumentKey(full)

    def _text(self, key: object) -> str:
        """Return *key* as text.

        Raises:
            DefinitionError: it could be another text for the same key next time.
        """
        if not isinstance(key, str | int | UUID) or isinstance(key, bool) or key == "":
            raise DefinitionError(
                f"once({self.name!r})", f"{key!r} is no key", "Give a text that is not empty, a whole number or a UUID"
            )
        return str(key)


def once(
    endpoint: Endpoint,
    *messages: type,
    key: str | Callable[[Any], object],
    name: str,
    takeover_after: timedelta | None = TAKEOVER_AFTER,
) -> Callable[[Callable[P, R]], Once[P, R]]:
    """Make a function a consumer that acts once for a key, for ever: `def` or `async def`.

    It is called with the message, the idempotency key and, if it takes a third argument, the `Context`; what it says
    to that leaves when it is done. Whatever it calls should count by the idempotency key: the action begins once among
    any number of notifications, and is repeated only after a crash, a failure or a time-out, or where its own message
    was delivered twice at once; then with the same idempotency key. Other notifications are acknowledged at once.

    Args:
        endpoint: where notifications come to.
        messages: their classes; read from the annotation of the first argument where none is given.
        key: the field of the message that is its key, or a function of the message that returns it: a text, a whole
            number or a UUID.
        name: what keys are kept under. With another name everything is done again.
        takeover_after: how old an attempt must be for a later notification to take it over, by the store's clock: for
            keys whose own message ended as a dead letter. Longer than the action and all its retries take. None: never.

    Raises:
        DefinitionError: with the function and the mend.
    """
    _check(endpoint, key, name, takeover_after)
    names = visible_names(sys._getframe(1))

    def decorate(action: Callable[P, R]) -> Once[P, R]:
        subject = subject_of_function(action)
        count = arguments_of_action(action, subject)
        kinds = messages or messages_of(action, subject, names)
        if isinstance(key, str):
            for kind in kinds:
                check_field(kind, key, subject)
        if any(getattr(getattr(c.function, "once", None), "name", None) == name for c in endpoint.consumers):
            raise DefinitionError(
                subject,
                f"another action on endpoint {endpoint.name!r} is called {name!r}, and each would keep the other from "
                f"its keys",
                "Give it another name=",
            )
        key_of = (lambda m: getattr(m, key)) if isinstance(key, str) else key
        made = Once(action, name, key_of, takeover_after, wants_context=count == 3)
        endpoint.consumer(*kinds)(made.handler(inspect.iscoroutinefunction(action)))
        return made

    return decorate


def _recorded(found: Document[OnceRecord]) -> OnceRecord | None:
    return found.value if found.exists else None


# -- what is wrong with a definition -----------------------------------------------------------------------------


def _check(endpoint: Any, key: Any, name: Any, takeover_after: Any) -> None:
    """Refuse arguments that cannot work."""
    subject = f"once({name!r})"
    if not isinstance(endpoint, Endpoint):
        raise DefinitionError(
            subject,
            f"its first argument is {endpoint!r}, which is no endpoint",
            "Write @once(bus.endpoint('imports'), key=..., name=...)",
        )
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or "/" in name:
        raise DefinitionError(
            subject, "that is no name to keep keys under", f"Give a text of 1 to {_MAX_NAME} characters without /"
        )
    if not (callable(key) or (isinstance(key, str) and key)):
        raise DefinitionError(
            subject,
            f"key={key!r} is neither a field nor a function",
            "Write key='path', or key=lambda m: m.path.lower()",
        )
    is_time = isinstance(takeover_after, timedelta) and takeover_after > timedelta(0)
    if takeover_after is not None and not is_time:
        raise DefinitionError(
            subject,
            f"takeover_after={takeover_after!r} is no time to wait",
            "Write a timedelta over zero, or None for never",
        )
