"""Sagas of one class on a memory store, worked by hand: load and run, commit and release, each when it is told to.

The thinking is `sagabus.advance`, the rules are the memory store's; what is here stands for the worker around them.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Final

from attrs import frozen

from sagabus import advance as core
from sagabus import merging
from sagabus.commit import Commit, Half, Outcome, Result, Snapshot, Want
from sagabus.definition import SagaDefinition
from sagabus.envelope import Incoming, SagaKey, decode
from sagabus.errors import SagabusError
from sagabus.outgoing import Outgoing, OutgoingKind, posted_merge
from sagabus.store.memory import MemoryStore
from sagabus.store.protocol import Bookkeeping
from sagabus.testing.harness.released import Release, read

_OF_THE_RUNTIME: Final = (core.__name__, merging.__name__)
"""The modules in which the runtime calls what users wrote."""


class HarnessError(SagabusError):
    """A test asks of a saga what cannot be; the text says what to do instead.

    Attributes:
        saga: which one, as `name/id`, or the name of its class.
    """

    def __init__(self, saga: object, problem: str, mend: str) -> None:
        super().__init__(f"{saga} {problem}; {mend}")
        self.saga = str(saga)


@frozen
class Run:
    """What one message asks for, not yet committed."""

    snapshot: Snapshot
    commit: Commit


class Desk:
    """Where sagas of one class are worked. Its clock stands still until somebody moves it.

    Attributes:
        now_ms: the store's time, ms since 1970.
        released: all that has left.
        timers: id -> timer, for those that were set and are not yet replaced, cancelled or delivered.
        merges: every MergeSagaState that was posted and is not yet handled, oldest first.
    """

    def __init__(self, definition: SagaDefinition, now_ms: int) -> None:
        self.definition = definition
        self.now_ms = now_ms
        self.store = MemoryStore(now_ms=lambda: self.now_ms)
        self.released: list[Release] = []
        self.timers: dict[str, Outgoing] = {}
        self.merges: list[Incoming] = []

    def starters(self) -> str:
        """Return which messages start a saga, for people."""
        return " or ".join(h.kind.cls.__qualname__ for h in self.definition.handlers.values() if h.starts)

    def load(self, key: SagaKey, *ids: str) -> Snapshot:
        """Return what is stored of one saga, and which of *ids* it has consumed."""
        (snapshot,) = self.store.load([Want(key, ids)])
        return snapshot

    def handle(self, key: SagaKey, incoming: Incoming, by: str) -> None:
        """Load, run, commit and release."""
        __tracebackhide__ = True
        through = self.commit(self.run(key, incoming), by)
        assert through, "each `again` follows somebody else's success, and nobody else is at work"

    def run(self, key: SagaKey, incoming: Incoming) -> Run | None:
        """Load a saga and return what *incoming* asks for; None for a duplicate and for a timer that was cancelled.

        Raises:
            HarnessError: the saga has not started.
            Exception: what the handler, `decide` or the merger raised, as it was raised; nothing is stored.
        """
        __tracebackhide__ = True  # pytest is to show the user's own frames
        snapshot = self.load(key, incoming.id)
        commit = core.advance(self.definition, snapshot, [incoming])
        errors = [failure.error for failure in commit.failures]
        if commit.unmergeable is not None:
            errors.append(commit.unmergeable)
        for error in errors:
            raise error.with_traceback(_of_the_user(error.__traceback__))
        if commit.early:
            raise HarnessError(
                key,
                f"has not started, so {type(incoming.message).__qualname__} is early",
                f"give {self.starters()} first",
            )
        return Run(snapshot, commit) if commit.ids else None

    def commit(self, run: Run | None, by: str) -> bool:
        """Commit a run and release what leaves; return False where it must be run again. None is through already."""
        if run is None:
            return True
        (result,) = self.store.commit([run.commit], by=by)
        if result.outcome is Outcome.AGAIN:
            return False
        self._release(run, result)
        return True

    # -- what leaves ---------------------------------------------------------------------------------------------

    def _release(self, run: Run, result: Result) -> None:
        commit, stored = run.commit, result.outcome is Outcome.STORED
        self._release_half(run, commit.facts, decided=False)
        if stored and commit.decision is not None:
            self._release_half(run, commit.decision, decided=True)
        if stored and commit.completes:
            self._forget(run.snapshot, run.snapshot.timers)
        if result.posted_merge:
            posted = posted_merge(commit.key, commit.life, commit.ids[-1], self.definition.endpoint, self.now_ms)
            self.merges.append(Incoming(decode(posted.body)))
        # All that left has arrived, so that a second copy of the message brings none of it again.
        self.store.note(Bookkeeping(dispatched={commit.key: commit.ids}))

    def _release_half(self, run: Run, half: Half, *, decided: bool) -> None:
        self._forget(run.snapshot, (*half.cancelled, *half.timers))
        for messages in half.outgoing.values():
            for outgoing in messages:
                self.released.append(Release(run.commit.key, read(outgoing), decided))
                if outgoing.kind is OutgoingKind.TIMER:
                    self.timers[outgoing.id] = outgoing

    def _forget(self, snapshot: Snapshot, names: Iterable[str]) -> None:
        for name in names:
            if name in snapshot.timers:
                self.timers.pop(snapshot.timers[name], None)


def _of_the_user(trace: TracebackType | None) -> TracebackType | None:
    """Return *trace* without the frames in which the runtime calls a handler."""
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_globals["__name__"] in _OF_THE_RUNTIME:
        trace = trace.tb_next
    return trace
