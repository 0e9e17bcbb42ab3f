"""What invariants and outcomes look at: the sagas of one moment, and what has left them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from attrs import evolve, field, frozen

from sagabus.commit import Lifecycle
from sagabus.definition import definition_of
from sagabus.documents.document import Document
from sagabus.documents.documents import Documents, Key
from sagabus.documents.key import DocumentKey
from sagabus.documents.write import DocumentStore
from sagabus.envelope import SagaKey
from sagabus.errors import HandlerMisuseError
from sagabus.messages import type_of
from sagabus.testing.simulator.shelves import ShelfStore
from sagabus.testing.simulator.wording import say
from sagabus.testing.simulator.world import World
from sagabus.testing.simulator.worlds import Worlds

T = TypeVar("T")


class Messages(tuple[Any, ...]):
    """Some messages, in no particular order. Equal to any sequence of equal ones, and hashable whatever they hold."""

    __slots__ = ()

    def _says(self) -> list[tuple[str, bytes]]:
        return sorted((type_of(m).name, type_of(m).codec.encode(m)) for m in self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, tuple | list):
            return NotImplemented
        return self._says() == Messages(other)._says()

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(tuple(self._says()))

    def __repr__(self) -> str:
        return ", ".join(map(say, self)) or "no decision"


@frozen
class Moment:
    """The sagas of an exploration at one moment.

    What it says without `saga(...)` is about the saga that the first start message began.

    Attributes:
        key: the saga that it is about.
        states: the live states, in dot order; two or more are siblings. Of a completed saga its last; none of one that
            has not started.
        completed: whether it has completed.
        decisions: what all decisions so far have released, of all sagas.
        sent: what the facts so far have released to where nobody in the exploration listens.
        released: all that left so far, wherever it went: with facts, with decisions, and from consumers to outside.
        dead: at the end: the messages that would be dead-lettered, each with the reason.
        documents: the documents, where the exploration has some; `load` and `document_keys` look at them.
    """

    key: SagaKey | None
    states: tuple[Any, ...]
    completed: bool
    decisions: Messages
    sent: Messages
    released: Messages
    dead: tuple[tuple[Any, str], ...] = ()
    documents: DocumentStore | None = field(default=None, repr=False, eq=False)
    _others: Mapping[SagaKey, tuple[tuple[Any, ...], bool]] = field(factory=dict, repr=False, eq=False)

    @property
    def started(self) -> bool:
        """Return whether the saga has started."""
        return bool(self.states)

    @property
    def state(self) -> Any:
        """Return the one live state, or the last of a completed saga.

        Raises:
            HandlerMisuseError: it has siblings, or has not started.
        """
        if len(self.states) != 1:
            raise HandlerMisuseError(
                f"{self.key} has {len(self.states)} live states at this moment; look at moment.states, "
                f"or check moment.completed first"
            )
        return self.states[0]

    @property
    def keys(self) -> tuple[SagaKey, ...]:
        """Return all sagas that a message was sent to so far."""
        return tuple(self._others)

    @property
    def document_keys(self) -> tuple[DocumentKey, ...]:
        """Return the keys of all documents that there are, sorted."""
        return tuple(self._documents().keys())

    def load(self, key: Key, kind: type[T]) -> Document[T]:
        """Return a document as it is at this moment; *key* is a name, or the key of one in a group.

        Raises:
            HandlerMisuseError: the exploration has no documents.
            CorruptDocumentError: it cannot be read as a *kind*.
        """
        store = self._documents()
        return Documents(lambda: store).load(key, kind)

    def _documents(self) -> DocumentStore:
        if self.documents is None:
            raise HandlerMisuseError("this exploration has no documents; give explore(..., documents={...})")
        return self.documents

    def saga(self, which: str | type | SagaKey, id: str | None = None) -> Moment:
        """Return this moment as seen by another saga: its key, `NAME/ID`, or its class or name and perhaps its id.

        Raises:
            HandlerMisuseError: there is none, or there are several.
        """
        found = list(self._matching(which, id))
        if len(found) != 1:
            known = ", ".join(map(str, self._others)) or "none"
            raise HandlerMisuseError(f"{len(found)} sagas match {which!r}; there are {known}; write NAME/ID")
        states, completed = self._others[found[0]]
        return evolve(self, key=found[0], states=states, completed=completed)

    def _matching(self, which: str | type | SagaKey, id: str | None) -> Iterator[SagaKey]:
        name = definition_of(which).name if isinstance(which, type) else str(which)
        for key in self._others:
            if (str(key) == name and id is None) or (key.name == name and id in (None, key.id)):
                yield key


def moment_of(worlds: Worlds, world: World, first: SagaKey | None, dead: tuple[tuple[Any, str], ...] = ()) -> Moment:
    """Return what users see of a world."""
    others: dict[SagaKey, tuple[tuple[Any, ...], bool]] = {}
    for cell, table in zip(worlds.cells_of(world), worlds.tables, strict=False):
        states = tuple(table.definition.codec.decode(state) for state in table.records.states(cell.record))
        others[table.key] = states, table.records.lifecycle(cell.record) is Lifecycle.COMPLETED
    facts, decisions, inside = worlds.departures[world.left]
    sketches = worlds.mail.sketches
    states, completed = others.get(first, ((), False)) if first is not None else ((), False)
    return Moment(
        first,
        states,
        completed,
        Messages(sketches[number].message for number in decisions),
        Messages(sketches[number].message for number in facts),
        Messages(sketches[number].message for number in (*facts, *decisions, *inside)),
        dead,
        None if worlds.mail.errands is None else ShelfStore(worlds.errands.shelves, world.shelf),
        others,
    )
