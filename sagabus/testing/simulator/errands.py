"""Errands: consumers at work on one message each, seen between their operations on documents.

A consumer is a plain function, so where it stands between two operations cannot be kept. What it was answered so far
can: it is run again from the beginning with these answers, up to the next operation. That asks of it what the runtime
asks of it too: that it does the same when it is run again and meets the same.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import msgspec
from attrs import field, frozen

from sagabus.consumer import Consumer, Context
from sagabus.documents.documents import Documents
from sagabus.documents.key import DocumentKey
from sagabus.documents.write import StoredDocument, Write, Written
from sagabus.envelope import Envelope, Incoming, encode
from sagabus.errors import ConcurrencyError
from sagabus.outgoing import Outgoing
from sagabus.testing.simulator.scene import START_MS, Scene
from sagabus.testing.simulator.shelves import Answer, Listing, Operation, Reading, Shelves, Writing


class _AskedError(BaseException):
    """Ends a run at an operation that has not been answered yet; no handler's `except Exception` may catch it."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation


class _OtherwiseError(BaseException):
    """A consumer that is run again asks for something else than before."""

    def __init__(self, before: Operation, now: Operation) -> None:
        self.before, self.now = before, now


@frozen(eq=False)
class _Script:
    """A document store that gives the answers that were given before, in order."""

    past: tuple[tuple[Operation, Answer], ...]
    _place: Iterator[int] = field(factory=itertools.count, init=False)

    def read(self, keys: Sequence[DocumentKey]) -> list[StoredDocument]:
        # Only the documents of one group are read as they are at one moment.
        found: dict[DocumentKey, StoredDocument] = {}
        for _, group in itertools.groupby(sorted(set(keys), key=DocumentKey.tag), DocumentKey.tag):
            read = self._answer(Reading(tuple(sorted(group))))
            found |= {document.key: document for document in cast("Sequence[StoredDocument]", read)}
        return [found[key] for key in keys]

    def write(self, write: Write) -> Written:
        return cast("Written", self._answer(Writing(write)))

    def keys(self, group: str | None = None) -> Iterator[DocumentKey]:
        yield from cast("Sequence[DocumentKey]", self._answer(Listing(group)))

    def _answer(self, operation: Operation) -> Answer:
        place = next(self._place)
        if place >= len(self.past):
            raise _AskedError(operation)
        before, answer = self.past[place]
        if before != operation:
            raise _OtherwiseError(before, operation)
        return answer


@frozen
class Asks:
    """The consumer waits for the answer to an operation."""

    operation: Operation


@frozen
class Ends:
    """The consumer has returned."""

    outgoing: tuple[Outgoing, ...]


@frozen
class Raises:
    """The consumer has raised."""

    error: Exception


@frozen
class Strays:
    """The consumer, run again, asks for something else than before."""

    before: Operation
    now: Operation


Turn = Asks | Ends | Raises | Strays


def run(
    scene: Scene, endpoint: str, consumer: Consumer, envelope: Envelope, past: tuple[tuple[Operation, Answer], ...] = ()
) -> Turn:
    """Run a consumer from the beginning, up to the first operation that *past* has no answer to."""
    names = map(f"{envelope.id}/{{}}".format, itertools.count())
    script = _Script(past)
    context = Context(endpoint, envelope, START_MS, Documents(lambda: script, new_id=lambda: next(names)))
    try:
        answer = consumer.call(Incoming(envelope), context)
        if consumer.is_async:
            asyncio.run(answer)
        return Ends(context.outgoing(consumer.name, scene.routes, START_MS, scene.max_bytes))
    except _AskedError as asked:
        return Asks(asked.operation)
    except _OtherwiseError as strays:
        return Strays(strays.before, strays.now)
    except Exception as error:
        return Raises(error)


@frozen(eq=False)
class Errand:
    """One consumer at work on one message.

    Attributes:
        number: tells it from other errands; one that stands where another stands is the same.
        fresh: the number of the same errand before its first operation.
        endpoint, consumer: who runs it.
        envelope: the message.
        past: its operations so far, each with what was answered.
        order: orders errands alike in every exploration.
    """

    number: int
    fresh: int
    endpoint: str
    consumer: Consumer
    envelope: Envelope
    past: tuple[tuple[Operation, Answer], ...]
    order: tuple[Any, ...]

    @property
    def title(self) -> str:
        """Return what the consumer is called, without its module."""
        return self.consumer.function.__name__


_NOTHING_YET: Final = ()


@frozen(eq=False)
class Step:
    """What comes of one operation.

    Attributes:
        shelf: the number of what the documents are then.
        errand: the number of the errand then.
        turn: what the consumer does next, or did last.
    """

    shelf: int
    errand: int
    turn: Turn


@frozen(eq=False)
class Errands:
    """All errands that an exploration has met.

    Attributes:
        scene: who takes part.
        shelves: the documents.
    """

    scene: Scene
    shelves: Shelves = field(factory=Shelves)
    _errands: list[Errand] = field(factory=list, init=False)
    _number_of: dict[Any, int] = field(factory=dict, init=False)
    _turns: dict[int, Turn] = field(factory=dict, init=False)
    _steps: dict[tuple[int, int], Step] = field(factory=dict, init=False)

    def __getitem__(self, number: int) -> Errand:
        return self._errands[number]

    def begin(self, endpoint: str, consumer: Consumer, envelope: Envelope) -> int:
        """Return the errand of a consumer that has just got a message.

        One id may stand for different bodies: it derives from what caused the message, and not from what that found.
        """
        said = encode(msgspec.structs.replace(envelope, time=""), sys.maxsize)
        order = (endpoint, consumer.name, consumer.kind.name, envelope.id, said)
        return self._number(order, None, endpoint, consumer, envelope, _NOTHING_YET)

    def step(self, number: int, shelf: int) -> Step:
        """Return what comes of the next operation of an errand."""
        known = number, shelf
        found = self._steps.get(known)
        if found is None:
            found = self._steps[known] = self._step(number, shelf)
        return found

    def _step(self, number: int, shelf: int) -> Step:
        errand, turn = self[number], self.turn(number)
        assert isinstance(turn, Asks), "only an errand that asks has a next operation"
        shelf, answer = self.shelves.perform(shelf, turn.operation)
        order = (*errand.order, repr(answer))
        past = (*errand.past, (turn.operation, answer))
        after = self._number(order, errand.fresh, errand.endpoint, errand.consumer, errand.envelope, past)
        then = self.turn(after)
        if isinstance(then, Raises) and isinstance(then.error, ConcurrencyError):
            return Step(shelf, errand.fresh, then)  # the runtime has its message handled again, from the beginning
        return Step(shelf, after, then)

    def resent(self, number: int, nth: int) -> int:
        """Return the errand of the message that says the same as another's, sent again as the *nth* of them."""
        errand = self[number]
        envelope = msgspec.structs.replace(errand.envelope, id=f"{errand.envelope.id}.{nth}")
        return self.begin(errand.endpoint, errand.consumer, envelope)

    def turn(self, number: int) -> Turn:
        """Return what an errand does next."""
        found = self._turns.get(number)
        if found is None:
            errand = self[number]
            found = run(self.scene, errand.endpoint, errand.consumer, errand.envelope, errand.past)
            self._turns[number] = found
        return found

    def _number(
        self,
        order: tuple[Any, ...],
        fresh: int | None,
        endpoint: str,
        consumer: Consumer,
        envelope: Envelope,
        past: tuple[tuple[Operation, Answer], ...],
    ) -> int:
        number = self._number_of.get(order)
        if number is None:
            number = self._number_of[order] = len(self._errands)
            first = number if fresh is None else fresh
            self._errands.append(Errand(number, first, endpoint, consumer, envelope, past, order))
        return number
