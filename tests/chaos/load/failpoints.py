"""Named places in a worker at which it kills itself, as a crash would: nothing behind the place is run."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from attrs import define, field

from sagabus.commit import Commit, Outcome, Result
from tests.chaos.ledger import AT_WORK, FAULT, Ledger
from tests.chaos.load.settings import Settings

_STORE: Final = ("load", "commit", "note")
_STANDS_S: Final = 0.2


@define
class Failpoints:
    """The places of one process.

    Every strike is announced in the ledger first, with the ids that were in hand: proof that it happened, and what to
    look for.
    """

    settings: Settings
    ledger: Ledger
    _hits: Counter[str] = field(factory=Counter, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _nth: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        done = sum(1 for n in range(self.settings.strikes) if self._claim(n).exists())
        low, high = self.settings.nth
        self._nth = random.Random(f"{self.settings.seed}/{done}").randint(low, high)

    def reach(self, point: str, ids: Sequence[str], sagas: Sequence[str]) -> None:
        """Kill this process where it is *point*'s turn."""
        if point != self.settings.failpoint:
            return
        with self._lock:
            self._hits[point] += 1
            if self._hits[point] >= self._nth and self._strikes():
                self.ledger.note(FAULT, point=point, ids=list(ids), sagas=list(sagas))
                os.kill(os.getpid(), self.settings.strike)
                # A thread may get on for a moment before its whole process stands; not beyond this place.
                time.sleep(_STANDS_S)

    def _strikes(self) -> bool:
        """Take one of the strikes that all processes share; return whether there was one left."""
        for n in range(self.settings.strikes):
            try:
                os.close(os.open(self._claim(n), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            except FileExistsError:
                if self.settings.paced and not Path(f"{self._claim(n)}.over").exists():
                    return False
                continue
            return True
        return False

    def _claim(self, n: int) -> Path:
        return Path(f"{self.settings.ledger}.strike-{n}")

    def store(self, inner: Any) -> Any:
        """Return *inner* with its places."""
        return _Watched(inner, self, _STORE)

    def transport(self, inner: Any) -> Any:
        """Return *inner* with its places, and those of its receivers."""
        return _WatchedTransport(inner, self, ("send",))


@define
class _Watched:
    _inner: Any
    _points: Failpoints
    _methods: Sequence[str]

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self._methods:
            return found

        def call(*args: Any, **options: Any) -> Any:
            if name == "exchange" and not any(args[:3]):
                return found(*args, **options)  # only a look for messages: nothing could be half done
            ids, sagas = _in_hand(name, args)
            self._points.reach(f"before-{name}", ids, sagas)
            answer = found(*args, **options)
            if name == "commit":
                ids, sagas = _stored(args[0], answer)
            if ids or name != "commit":
                self._points.reach(f"after-{name}", ids, sagas)
            return answer

        return call


class _WatchedTransport(_Watched):
    def receiver(self, endpoints: Sequence[str], **options: Any) -> Any:
        receiver = self._inner.receiver(endpoints, **options)
        # Received once, it has a place in the group and has looked for what an earlier life left behind.
        return _Announced(receiver, self._points, ("exchange",), list(endpoints))


class _Announced(_Watched):
    def __init__(self, inner: Any, points: Failpoints, methods: Sequence[str], endpoints: list[str]) -> None:
        super().__init__(inner, points, methods)
        self._endpoints: list[str] = endpoints

    def __getattr__(self, name: str) -> Any:
        if name in ("exchange", "receive") and self._endpoints:
            endpoints, self._endpoints = self._endpoints, []
            for endpoint in endpoints:
                self._points.ledger.note(AT_WORK, endpoint=endpoint)
        return super().__getattr__(name)


def _stored(commits: Sequence[Commit], results: Sequence[Result]) -> tuple[list[str], list[str]]:
    """Return the message ids and the sagas of the commits that stored something: no race was lost."""
    through = [c for c, r in zip(commits, results, strict=True) if r.outcome not in (Outcome.AGAIN, Outcome.DUPLICATE)]
    return [id_ for commit in through for id_ in commit.ids], [str(commit.key) for commit in through]


def _in_hand(name: str, args: Sequence[Any]) -> tuple[list[str], list[str]]:
    """Return the message ids and the sagas that a call is about."""
    if name == "commit":
        return [id_ for commit in args[0] for id_ in commit.ids], [str(commit.key) for commit in args[0]]
    if name in ("send", "exchange"):
        return [parcel.id for parcel in args[0]], []
    if name == "load":
        return [id_ for want in args[0] for id_ in want.ids], [str(want.key) for want in args[0]]
    dispatched = args[0].dispatched
    return [id_ for ids in dispatched.values() for id_ in ids], [str(key) for key in dispatched]
