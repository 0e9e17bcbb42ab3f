"""An action that is done once for a key: how a consumer begins, acts, marks it done, and only then speaks."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, Generic, ParamSpec, TypeVar
from uuid import UUID

from attrs import evolve

from sagabus import ConcurrencyError, Context, Document, DocumentKey, Documents
from sagabus.errors import DefinitionError, DocumentNotFoundError
from sagas.once.record import OnceRecord, OnceStatus, begun, finished, forgotten

P = ParamSpec("P")
R = TypeVar("R")

_KEPT_LENGTH: Final = 500
"""How long the name of a document may be. Longer ones end in a digest, and are the only ones of just this length."""


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


def _recorded(found: Document[OnceRecord]) -> OnceRecord | None:
    return found.value if found.exists else None
