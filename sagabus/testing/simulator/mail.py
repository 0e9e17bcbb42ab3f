"""The messages of an exploration, each known by a small number.

A message id is only a name: no handler of a saga sees one. So where nothing is ever delivered twice, ids are chosen by
content, and two schedules that differ only in which message caused which reach the same state. Where the same id may
come again (duplicates, rollbacks), messages keep the ids that the functional core derives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Sequence
from typing import Any, Final

import msgspec
from attrs import frozen

from sagabus.consumer import Consumer
from sagabus.envelope import Envelope, Incoming, SagaKey
from sagabus.errors import ConfigurationError
from sagabus.messages import MERGE
from sagabus.outgoing import Outgoing
from sagabus.testing.simulator.errands import Ends, Errands, Raises, run
from sagabus.testing.simulator.scene import START_MS, Input, Scene, envelope_of

MERGE_ID: Final = "MergeSagaState"
_DEEPEST: Final = 200


@frozen(eq=False)
class Sketch:
    """What a message says, whatever it is called.

    Attributes:
        number: tells it from other sketches of one exploration.
        says: the number of the first sketch that says the same; another one where ids are exact.
        label: its wire name and a digest of what it says: the same in every exploration.
        outgoing: one message that says it.
        envelope: its envelope.
        delay_ms: of a timer: how long after the clock's start, or after it was set, it is due.
    """

    number: int
    says: int
    label: str
    outgoing: Outgoing | None
    envelope: Envelope
    delay_ms: int = 0

    @property
    def is_timer(self) -> bool:
        """Return whether it is a timer that a saga set."""
        return bool(self.envelope.timer)

    @property
    def is_merge(self) -> bool:
        """Return whether it is a MergeSagaState."""
        return self.envelope.type == MERGE

    @property
    def message(self) -> Any:
        """Return the message itself."""
        return Incoming(self.envelope).message


@frozen(eq=False)
class Item:
    """One message for one saga, by its name.

    Attributes:
        number: tells it from other items of one exploration.
        key: the saga that it is for.
        incoming: as it is handled; its id is its name.
        sketch: what it says.
        nth: which of those that say the same.
        given: whether the exploration began with it, or with one that says the same.
    """

    number: int
    key: SagaKey
    incoming: Incoming
    sketch: Sketch
    nth: int
    given: bool

    @property
    def name(self) -> str:
        """Return its message id."""
        return self.incoming.id

    @property
    def is_merge(self) -> bool:
        """Return whether it is a MergeSagaState."""
        return self.sketch.is_merge


@frozen
class Sent:
    """What became of one outgoing message.

    Attributes:
        items: saga and sketch of each message that a saga of the scene gets.
        left: the sketches that nobody in the scene takes.
        errands: those of consumers that ask for documents before they answer.
    """

    items: tuple[tuple[SagaKey, Sketch], ...] = ()
    left: tuple[Sketch, ...] = ()
    errands: tuple[int, ...] = ()


class Mail:
    """All messages that an exploration has met.

    Args:
        scene: who takes part.
        exact: whether messages keep their derived ids.
        clocked: whether it matters when a timer is due, and not only how long after it was set.
        errands: the consumers at work on documents; None where there are no documents.
    """

    def __init__(self, scene: Scene, *, exact: bool, clocked: bool, errands: Errands | None = None) -> None:
        self.scene, self.exact, self.clocked, self.errands = scene, exact, clocked, errands
        self.has_timers = False
        self.sketches: list[Sketch] = []
        self.items: list[Item] = []
        self._sketch_of: dict[tuple[Any, ...], Sketch] = {}
        self._says: dict[tuple[Any, ...], int] = {}
        self._item_of: dict[tuple[SagaKey, int, int], int] = {}
        self._named: dict[tuple[SagaKey, str], int] = {}
        self._heard: dict[tuple[int, int], list[SagaKey]] = {}
        self._sent: dict[int, Sent] = {}

    # -- sketches ------------------------------------------------------------------------------------------------

    def sketch(self, outgoing: Outgoing, now_ms: int) -> Sketch:
        """Return what *outgoing*, made at *now_ms*, says."""
        envelope = envelope_of(outgoing)
        timer = "" if envelope.timer == outgoing.id else envelope.timer
        due = outgoing.due_ms - (START_MS if self.clocked else now_ms) if outgoing.due_ms else 0
        says = (outgoing.kind, outgoing.to, *_says(envelope), timer, bool(envelope.timer), due)
        known = (*says, outgoing.id) if self.exact else says
        found = self._sketch_of.get(known)
        if found is None:
            number = len(self.sketches)
            same = self._says.setdefault(says, number)
            found = Sketch(number, same, f"{envelope.type}~{_digest(says)}", outgoing, envelope, due)
            self.sketches.append(found)
            self._sketch_of[known] = found
            self.has_timers = self.has_timers or found.is_timer
        return found

    # -- items ---------------------------------------------------------------------------------------------------

    def give(self, given: Input) -> list[int]:
        """Return the items that an exploration begins with for one message."""
        number = len(self.sketches)
        sketch = Sketch(number, number, given.envelope.id, None, given.envelope)
        self.sketches.append(sketch)
        return [self.item(key, sketch, 0) for key in given.keys]

    def item(self, key: SagaKey, sketch: Sketch, nth: int) -> int:
        """Return the number of the *nth* message that says *sketch* to a saga."""
        known = key, sketch.number, nth
        number = self._item_of.get(known)
        if number is None:
            number = self._item_of[known] = len(self.items)
            self._heard.setdefault((sketch.number, nth), []).append(key)
            given = sketch.outgoing is None
            item = Item(number, key, Incoming(self._envelope(sketch, nth)), sketch, nth, given)
            self.items.append(item)
            self._named[key, item.name] = number
        return number

    def fresh(self, key: SagaKey, sketch: Sketch, taken: Sequence[Container[int]]) -> int:
        """Return the first item that says *sketch* and is in none of *taken*; with exact ids there is but one."""
        nth = 0
        while True:
            number = self.item(key, sketch, nth)
            if self.exact or not any(number in numbers for numbers in taken):
                return number
            nth += 1

    def copies(self, number: int, nth: int) -> list[tuple[int, bool]]:
        """Return what a message becomes where its sender sends it again, as the *nth* that says the same.

        Each saga that gets it gets the new one too; a saga that is named after the message that starts it is another
        one then, for which the flag stands.
        """
        item = self.items[number]
        found = []
        for key in self._heard[item.sketch.number, item.nth]:
            handler = self.scene.definitions[key.name].handlers[item.sketch.envelope.type]
            nameless = handler.starts and handler.key is None and not item.sketch.envelope.saga
            to = SagaKey(key.name, self._envelope(item.sketch, nth).id) if nameless else key
            found.append((self.item(to, item.sketch, nth), nameless))
        return found

    def named(self, key: SagaKey, name: str) -> int | None:
        """Return the item called *name*, or None where there was none yet."""
        return self._named.get((key, name))

    def _envelope(self, sketch: Sketch, nth: int) -> Envelope:
        envelope = sketch.envelope
        if sketch.outgoing is None or self.exact:
            name = envelope.id if nth == 0 else f"{envelope.id}.{nth}"
        elif envelope.type == MERGE:
            name = f"{MERGE_ID}.{envelope.sagalife}" + (f".{nth}" if nth else "")
        else:
            name = f"{sketch.label}.{nth}"
        timer = name if sketch.is_timer and envelope.timer == envelope.id else envelope.timer
        return msgspec.structs.replace(envelope, id=name, timer=timer)

    # -- deliveries ----------------------------------------------------------------------------------------------

    def send(self, sketch: Sketch) -> Sent:
        """Return who gets what *sketch* says.

        Consumers that ask for no documents answer at once: it is their answers that may take their time.

        Raises:
            Exception: whatever a consumer raises.
        """
        found = self._sent.get(sketch.number)
        if found is None:
            found = self._sent[sketch.number] = self._send(sketch, 0)
        return found

    def consume(self, envelope: Envelope) -> Sent:
        """Return what the consumers of a type send for one of the messages that an exploration begins with."""
        sent = Sent()
        for endpoint, consumer in self.scene.consumers:
            if consumer.kind.name == envelope.type:
                sent = _both(sent, self._consumed(endpoint, consumer, envelope, 0))
        return sent

    def sent(self, outgoing: Sequence[Outgoing]) -> tuple[Sketch, ...]:
        """Return what the messages of a consumer say."""
        return tuple(self.sketch(message, START_MS) for message in outgoing)

    def _send(self, sketch: Sketch, depth: int) -> Sent:
        if depth > _DEEPEST:
            raise RecursionError(f"consumers keep sending {sketch.envelope.type} to each other")
        assert sketch.outgoing is not None
        keys, consumers = self.scene.recipients(sketch.outgoing, sketch.envelope)
        if not keys and not consumers:
            return Sent(left=(sketch,))
        sent = Sent(tuple((key, sketch) for key in keys))
        for endpoint, consumer in consumers:
            sent = _both(sent, self._consumed(endpoint, consumer, sketch.envelope, depth + 1))
        return sent

    def _consumed(self, endpoint: str, consumer: Consumer, envelope: Envelope, depth: int) -> Sent:
        """Return who gets what a consumer sends at once, or its errand where it asks for documents first."""
        turn = run(self.scene, endpoint, consumer, envelope)
        if isinstance(turn, Raises):
            raise turn.error
        if not isinstance(turn, Ends):
            if self.errands is None:
                raise ConfigurationError(
                    f"consumer {consumer.name} uses documents; say which there are at the beginning, "
                    f"documents={{KEY: VALUE}}, or documents={{}} for none"
                )
            return Sent(errands=(self.errands.begin(endpoint, consumer, envelope),))
        sent = Sent()
        for sketch in self.sent(turn.outgoing):
            sent = _both(sent, self._send(sketch, depth))
        return sent


def _both(a: Sent, b: Sent) -> Sent:
    return Sent(a.items + b.items, a.left + b.left, a.errands + b.errands)


def _says(envelope: Envelope) -> tuple[Any, ...]:
    return (
        envelope.type,
        bytes(envelope.data),
        envelope.dataversion,
        envelope.replyto,
        envelope.replysaga,
        envelope.replylife,
        envelope.saga,
        envelope.sagalife,
    )


def _digest(says: tuple[Any, ...]) -> str:
    return hashlib.blake2b(repr(says).encode(), digest_size=3).hexdigest()
