"""The desks of the stage: consumers at work on its documents, played beside a world's errands and put into words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from attrs import define, evolve, field, frozen

from sagabus.codec import plain_state
from sagabus.documents.write import Change, DocumentStore, StoredDocument, Write, Written
from sagabus.envelope import Incoming
from sagabus.errors import ConcurrencyError
from sagabus.outgoing import Outgoing
from sagabus.testing.simulator.errands import Asks, Ends, Errand, Errands, Raises, Turn, run
from sagabus.testing.simulator.scene import Scene
from sagabus.testing.simulator.shelves import Answer, Listing, Operation, Reading, Writing
from sagabus.testing.simulator.wording import say


@frozen
class Played:
    """What came of one step of a consumer on the stage.

    Attributes:
        line: in words.
        ended: what it sends, where it has returned.
    """

    line: str
    ended: tuple[Outgoing, ...] | None = None


@frozen
class _Desk:
    """One consumer at work on the stage.

    Attributes:
        errand: where it stands in the world.
        past: its operations so far, each with what the real store answered.
    """

    errand: int
    past: tuple[tuple[Operation, Answer], ...] = ()


class DeskError(Exception):
    """The stage's documents answer otherwise than the world's.

    Attributes:
        found, played: what came of the step in the world, and on the stage.
    """

    def __init__(self, found: str, played: str) -> None:
        super().__init__(f"{found} in the search, {played} on the store")
        self.found, self.played = found, played


@define
class Desks:
    """Plays the consumers of one schedule.

    Attributes:
        scene: who takes part.
        errands: those of the world.
        store: real documents.
    """

    scene: Scene
    errands: Errands
    store: DocumentStore
    _at_work: list[_Desk] = field(factory=list)
    _performed: int = 0

    def operate(self, number: int, shelf: int, *, ends_at_once: bool) -> Played:
        """Have a consumer perform its next operation, or end.

        Args:
            number: where it stands in the world.
            shelf: what the world's documents are before.
            ends_at_once: whether it ends in the same step where it asks for nothing more.

        Raises:
            DeskError: it does otherwise than in the world.
        """
        desk, errand = self._take(number), self.errands[number]
        who = f"{errand.title} on {say(Incoming(errand.envelope).message)}"
        turn = self._run(errand, desk)
        if isinstance(turn, Ends):
            return Played(f"{who}: ends", turn.outgoing)
        assert isinstance(turn, Asks)
        answer = self._perform(turn.operation)
        after = evolve(desk, past=(*desk.past, (turn.operation, answer)))
        then = self._run(errand, after)
        line = f"{who}: {_said(turn.operation, answer)}"
        expected = self.errands.step(number, shelf)
        if type(then) is not type(expected.turn):
            raise DeskError(type(expected.turn).__name__, type(then).__name__)
        if isinstance(then, Raises):
            again = "; it is handled again" if isinstance(then.error, ConcurrencyError) else ""
            if again:
                self._at_work.append(_Desk(errand.fresh))
            return Played(f"{line}; it raises {type(then.error).__name__}{again}")
        if isinstance(then, Ends) and ends_at_once:
            return Played(f"{line}; ends", then.outgoing)
        self._at_work.append(evolve(after, errand=expected.errand))
        return Played(line)

    def crash(self, number: int) -> str:
        """Have the worker of a consumer die; return it in words."""
        self._take(number)
        errand = self.errands[number]
        self._at_work.append(_Desk(errand.fresh))
        return f"the worker of {errand.title} on {say(Incoming(errand.envelope).message)} dies; it is delivered again"

    def _take(self, number: int) -> _Desk:
        """Return who stands there in the world; a consumer that has done nothing yet has no desk before."""
        for desk in self._at_work:
            if desk.errand == number:
                self._at_work.remove(desk)
                return desk
        return _Desk(number)

    def _run(self, errand: Errand, desk: _Desk) -> Turn:
        return run(self.scene, errand.endpoint, errand.consumer, errand.envelope, desk.past)

    def _perform(self, operation: Operation) -> Answer:
        match operation:
            case Reading(keys):
                return self.store.read(keys)
            case Writing(write):
                # A consumer that begins again writes under another id; the store would take one that it knows for a
                # copy of the first write, and answer as it did then.
                self._performed += 1
                return self.store.write(evolve(write, id=f"{write.id}/{self._performed}"))
            case Listing(group):
                return sorted(self.store.keys(group))


# -- words -----------------------------------------------------------------------------------------------------------


def _said(operation: Operation, answer: Any) -> str:
    match operation:
        case Reading():
            return "reads " + ", ".join(_document(found) for found in answer)
        case Writing(write):
            return _written(write, answer)
        case Listing(group):
            return f"lists {group or 'what stands alone'}: {', '.join(map(str, answer)) or 'nothing'}"


def _document(found: StoredDocument) -> str:
    values = " and ".join(_plain(value) for value in found.values.values())
    return f"{found.key}: {values or 'none'}"


def _written(write: Write, written: Written) -> str:
    if written.conflicts:
        changed = ", ".join(str(write.changes[index].key) for index in sorted(written.conflicts))
        return f"is refused, because others have changed {changed}: {', '.join(_changes(write.changes))}"
    if written.full:
        return f"is refused, because there are too many siblings: {', '.join(_changes(write.changes))}"
    return ", ".join(_changes(write.changes))


def _changes(changes: Sequence[Change]) -> Iterator[str]:
    for change in changes:
        yield f"deletes {change.key}" if change.value is None else f"writes {change.key} = {_plain(change.value)}"


def _plain(data: bytes) -> str:
    try:
        return say(plain_state(data))
    except msgspec.MsgspecError:
        return repr(data)
