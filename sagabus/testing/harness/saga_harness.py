"""The harness: plain unit tests of one saga class. No bus, no threads; every race is an order that the test says.

    harness = SagaHarness(CreditCheck)
    harness.give(CheckCredit(customer="42"))
    harness.together(ScoreReported("equifax", 710), ScoreReported("experian", 705))   # forks, and merges
    assert harness.decisions == [CreditDecided("42", accepted=True)]

What a worker does around `advance` is done in `desk.py`; what left is as `released.py` has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final, TypeVar

from sagabus.definition import DAY_S, definition_of
from sagabus.envelope import MAX_BYTES, Incoming, SagaKey, decode, wrap
from sagabus.messages import MERGE, type_of
from sagabus.saga import Saga, utc
from sagabus.testing.harness.desk import Desk, HarnessError
from sagabus.testing.harness.released import Release, Released
from sagabus.testing.harness.view import SagaLooks, SagaView
from sagabus.testing.keys import fall_back_on_test_keys

S = TypeVar("S")

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""What time it is where a harness begins, unless the test says otherwise."""
CLIENT: Final = "client"
"""The endpoint that waits for answers to what a test gives, unless it says otherwise."""
_ENDPOINT: Final = "harness"
_WORKER: Final = "worker {}"
_MAX_AT_ONCE: Final = 1_000


class SagaHarness(SagaLooks[S]):
    """Sagas of one class on a memory store of their own, handled by the runtime's own core. Deterministic.

    Messages are called `m1`, `m2`, ... in the order given. A message without a key goes to the one saga that was
    started; `state` and its kin are about that one too. Where a test starts several, `saga(KEY)` is about one of them.

    Args:
        saga: the saga class.
        routes: message class -> endpoint, as `bus.route` has it. What is sent with neither `to=` nor a route goes to an
            endpoint called as its message.
        now: what time it is at the beginning, with a time zone.
    """

    def __init__(self, saga: type[Saga[S]], *, routes: Mapping[type, str] | None = None, now: datetime = START) -> None:
        named = _Routes({type_of(kind).name: to for kind, to in (routes or {}).items()})
        definition = definition_of(saga).bound(
            _ENDPOINT, named, dedupe_window_s=7 * DAY_S, retention_s=7 * DAY_S, max_bytes=MAX_BYTES
        )
        if now.tzinfo is None:
            raise HarnessError(definition.name, "cannot begin at a time without a zone", "write now=...(tzinfo=UTC)")
        fall_back_on_test_keys()
        super().__init__(Desk(definition, round(now.timestamp() * 1000)))
        self._given: dict[str, tuple[SagaKey, Incoming]] = {}

    # -- what happens --------------------------------------------------------------------------------------------

    def give(
        self, message: Any, *, id: str | None = None, saga: object = None, reply_to: str = CLIENT
    ) -> list[Released]:
        """Have the saga handle *message*: load, run, commit. Return what left.

        Siblings are merged first, as always. A message for a completed saga is late: `on_late` gets it.

        Args:
            id: what it is called; an id that was given before makes it a duplicate.
            saga: the key of the saga that it is for, where the message does not say; as a reply has it.
            reply_to: the endpoint that waits for answers; empty for none.

        Raises:
            HarnessError: the saga has not started, or does not handle such a message.
            Exception: what a handler or the merger raised, as it was raised; nothing is stored then.
        """
        __tracebackhide__ = True
        key, incoming = self._addressed(message, id, saga, reply_to)
        return self._handle(key, incoming)

    def together(
        self, *messages: Any, merge: bool = True, saga: object = None, reply_to: str = CLIENT
    ) -> list[Released]:
        """Have several workers handle a message each at the same time. Return what left, merges included.

        All load before any commits, and they commit in the order given: the first is stored, the others fork. Who may
        not fork (a serial saga, a completion in a handler, too many siblings) runs again when all have committed.

        Args:
            merge: whether the `MergeSagaState` that the runtime posts is handled too; else `merge()` does it.
            saga, reply_to: as of `give`.

        Raises:
            As `give`. Where a first run raises, nothing of any is stored.
        """
        __tracebackhide__ = True
        if len(messages) < 2:
            raise HarnessError(self._name, "forks with two messages or more", "give a single one with give()")
        before = len(self._desk.released)
        given = [self._addressed(message, None, saga, reply_to) for message in messages]
        runs = [self._desk.run(key, incoming) for key, incoming in given]
        workers = [_WORKER.format(number) for number in range(1, len(runs) + 1)]
        committed = [self._desk.commit(run, by) for run, by in zip(runs, workers, strict=True)]
        for (key, incoming), by, through in zip(given, workers, committed, strict=True):
            if not through:
                self._desk.handle(key, incoming, by)
        while merge and self._desk.merges:
            self._merge_one()
        return self.effects[before:]

    def merge(self) -> list[Released]:
        """Have the saga handle the `MergeSagaState` that `together(..., merge=False)` left; return what left.

        Raises:
            HarnessError: none is under way.
            Exception: what the merger raised, as it was raised; the siblings are as they were.
        """
        __tracebackhide__ = True
        if not self._desk.merges:
            raise HarnessError(self._name, "has no merge under way", "fork it first: together(..., merge=False)")
        before = len(self._desk.released)
        self._merge_one()
        return self.effects[before:]

    def redeliver(self, id: str | None = None) -> list[Released]:
        """Deliver the message called *id* once more, or the last one given, as a broker does after a crash.

        Return what left: nothing where the message was handled: a saga handles an id once.

        Raises:
            HarnessError: no message of that id was given.
        """
        __tracebackhide__ = True
        id = next(reversed(self._given), "") if id is None else id
        if id not in self._given:
            raise HarnessError(
                self._name, f"was given no message {id!r}", f"there are: {', '.join(self._given) or 'none'}"
            )
        return self._handle(*self._given[id])

    def advance(self, time: timedelta | float) -> list[Released]:
        """Move the clock by a timedelta or by seconds, deliver the timers that fall due, and return what left.

        They come in the order of their times, each at its own; what it sets comes too where that falls due meanwhile.
        """
        __tracebackhide__ = True
        seconds = time.total_seconds() if isinstance(time, timedelta) else float(time)
        if seconds < 0:
            raise HarnessError(self._name, f"cannot go back by {-seconds:g} s", "move the clock forwards")
        desk, before = self._desk, len(self._desk.released)
        end_ms = desk.now_ms + round(seconds * 1000)
        at_once = 0
        while due := [timer for timer in desk.timers.values() if timer.due_ms <= end_ms]:
            timer = min(due, key=lambda timer: timer.due_ms)
            at_once = at_once + 1 if timer.due_ms <= desk.now_ms else 0
            if at_once > _MAX_AT_ONCE:
                raise HarnessError(
                    self._name, f"had {at_once} timers at one moment", "have a timer that sets itself wait longer"
                )
            desk.now_ms = max(desk.now_ms, timer.due_ms)
            incoming = Incoming(decode(timer.body))
            desk.handle(SagaKey.parse(incoming.envelope.saga), incoming, _WORKER.format(1))
            desk.timers.pop(timer.id, None)
        desk.now_ms = end_ms
        return self.effects[before:]

    # -- what there is -------------------------------------------------------------------------------------------

    def saga(self, key: object) -> SagaView[S]:
        """Return one saga, started or not."""
        return SagaView(self._desk, SagaKey(self._name, str(key)))

    @property
    def keys(self) -> list[str]:
        """Return what identifies the sagas that were started, in order."""
        return [row.key.id for row in self._desk.store.sagas()]

    @property
    def now(self) -> datetime:
        """Return what time it is, UTC."""
        return utc(self._desk.now_ms)

    def __repr__(self) -> str:
        return f"<SagaHarness of {self._name}: {', '.join(map(repr, map(self.saga, self.keys))) or 'nothing started'}>"

    # -- how -----------------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return self._desk.definition.name

    def _released(self) -> Sequence[Release]:
        return self._desk.released

    def _which(self) -> SagaKey:
        keys = self.keys
        if not keys:
            raise HarnessError(self._name, "has not started", f"give {self._desk.starters()} first")
        if len(keys) > 1:
            raise HarnessError(
                self._name, f"was started {len(keys)} times ({', '.join(keys)})", f"say which: saga({keys[0]!r})"
            )
        return SagaKey(self._name, keys[0])

    def _addressed(self, message: Any, id: str | None, saga: object, reply_to: str) -> tuple[SagaKey, Incoming]:
        """Return *message* as it arrives, and which saga it is for."""
        kind, definition = type_of(message), self._desk.definition
        if kind.name == MERGE:
            raise HarnessError(self._name, "gets MergeSagaState from the runtime", "fork it with together()")
        if kind.name not in definition.handlers:
            known = ", ".join(h.kind.cls.__qualname__ for name, h in definition.handlers.items() if name != MERGE)
            raise HarnessError(self._name, f"does not handle {kind.cls.__qualname__}", f"it handles {known}")
        id = self._next_id() if id is None else id
        header: dict[str, Any] = {"replyto": reply_to, "replysaga": f"{CLIENT}/{id}"} if reply_to else {}
        if saga is not None:
            header["saga"] = f"{self._name}/{saga}"
        incoming = Incoming(wrap(message, id=id, source=f"/{CLIENT}", now_ms=self._desk.now_ms, **header))
        found = definition.locate(incoming)
        if found is None and len(self.keys) > 1:
            raise HarnessError(
                self._name,
                f"was started {len(self.keys)} times, and {kind.cls.__qualname__} names none of them",
                "say which: give(..., saga=KEY)",
            )
        key = self._which() if found is None else SagaKey(self._name, found)
        self._given.setdefault(id, (key, incoming))
        return key, incoming

    def _next_id(self) -> str:
        return next(id for id in map("m{}".format, count(len(self._given) + 1)) if id not in self._given)

    def _handle(self, key: SagaKey, incoming: Incoming) -> list[Released]:
        __tracebackhide__ = True
        before = len(self._desk.released)
        self._desk.handle(key, incoming, _WORKER.format(1))
        return self.effects[before:]

    def _merge_one(self) -> None:
        __tracebackhide__ = True
        incoming = self._desk.merges[0]
        self._desk.handle(SagaKey.parse(incoming.envelope.saga), incoming, _WORKER.format(1))
        del self._desk.merges[0]


class _Routes(dict[str, str]):
    """Routes by wire name; what has none goes to an endpoint of its own name."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name, name)
