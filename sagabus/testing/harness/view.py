"""What a test sees of one saga: what is stored of it, what left it, and how it got there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Generic, TypeVar

from sagabus.commit import Lifecycle, Snapshot
from sagabus.envelope import SagaKey
from sagabus.observe.graph import draw
from sagabus.saga import utc
from sagabus.testing.harness.desk import Desk, HarnessError
from sagabus.testing.harness.released import Release, Releases

S = TypeVar("S")


class SagaLooks(Releases, Generic[S]):
    """What can be asked of a saga, whichever it is."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def _which(self) -> SagaKey:
        """Return which saga is meant."""
        raise NotImplementedError

    @property
    def key(self) -> str:
        """Return what identifies the saga: its `key`, or the id of the message that started it."""
        return self._which().id

    @property
    def state(self) -> S:
        """Return its state; of a completed saga the last one. A copy: changing it changes nothing.

        Raises:
            HarnessError: it has not started, or it has siblings.
        """
        states = self.states
        if not states:
            raise HarnessError(self._which(), "has not started", f"give {self._desk.starters()} first")
        if len(states) > 1:
            raise HarnessError(
                self._which(), f"has {len(states)} siblings and so no one state", "look at .states, or merge() first"
            )
        return states[0]

    @property
    def states(self) -> list[S]:
        """Return the state of every version in dot order: two or more are siblings, none is a saga not started."""
        return [self._desk.definition.codec.decode(version.state) for version in self._snapshot().versions]

    @property
    def settled(self) -> bool:
        """Return whether it has exactly one version."""
        return len(self._snapshot().versions) == 1

    @property
    def completed(self) -> bool:
        """Return whether it has ended."""
        return self._snapshot().lifecycle is Lifecycle.COMPLETED

    @property
    def timers(self) -> dict[str, datetime]:
        """Return the timers that will be delivered: name -> when, UTC; one without a name goes by its message id."""
        set_so_far = self._desk.timers
        return {name: utc(set_so_far[id_].due_ms) for name, id_ in self._snapshot().timers.items()}

    def graph(self) -> str:
        """Return the version graph as text: what was stored, what forked, what was merged; empty before the start."""
        return draw(self._desk.store.history(self._which()))

    def _snapshot(self) -> Snapshot:
        return self._desk.load(self._which())


class SagaView(SagaLooks[S]):
    """One saga of a harness, by its key."""

    def __init__(self, desk: Desk, key: SagaKey) -> None:
        super().__init__(desk)
        self._saga_key = key

    def _which(self) -> SagaKey:
        return self._saga_key

    def _released(self) -> Sequence[Release]:
        return [release for release in self._desk.released if release.saga == self._saga_key]

    def __repr__(self) -> str:
        versions = len(self._snapshot().versions)
        stands = self._snapshot().lifecycle.value
        return f"<{self._saga_key}: {stands}, {versions} version{'' if versions == 1 else 's'}>"
