"""The ledger: what was asked for and what came of it, kept outside the system under test.

Memory and disk stay bounded however long it runs: a case that is closed is remembered until a second outcome of it can
no longer be an honest copy; one that comes later still is counted as twice. Every line is on disk first, in segments;
a segment goes when nothing in it is open or remembered any more.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

from attrs import define, field, frozen

_SEGMENT_S: Final = 60.0
_FINDINGS: Final = 20


@frozen
class Totals:
    """What became of all cases so far.

    Attributes:
        accepted: cases whose message was sent without an error.
        closed: cases that have their outcome.
        open: accepted, and without an outcome yet.
        twice: second outcomes with another message id.
        contradictory: outcomes that cannot be right.
        repeats: second copies of one outcome, with the same message id: at-least-once delivery to a consumer.
    """

    accepted: int
    closed: int
    open: int
    twice: int
    contradictory: int
    repeats: int


@define
class _Kind:
    """The cases of one kind: number -> when asked; number -> (when closed, id of the outcome), oldest first."""

    asked: dict[int, float] = field(factory=dict)
    accepted: set[int] = field(factory=set)
    closed: OrderedDict[int, tuple[float, int]] = field(factory=OrderedDict)


class Ledger:
    """Counts lost, twice and contradictory. Thread-safe; times are seconds on any clock that does not go back.

    Args:
        folder: for the segments.
        window_s: how long a closed case is remembered.
    """

    def __init__(self, folder: Path, *, window_s: float) -> None:
        self._folder, self._window_s = folder, window_s
        self._lock = threading.Lock()
        self._kinds: dict[str, _Kind] = {}
        self._counts = {"accepted": 0, "closed": 0, "twice": 0, "contradictory": 0, "repeats": 0}
        self._segments: list[tuple[float, Path]] = []
        self._file: TextIO | None = None
        self.findings: list[str] = []

    def ask(self, kind: str, numbers: Iterable[int], now_s: float) -> None:
        """Enter cases before they are sent: an outcome may come before the send returns."""
        with self._lock:
            listed = list(numbers)
            self._write(now_s, ["ask", kind, listed])
            self._kinds.setdefault(kind, _Kind()).asked.update(dict.fromkeys(listed, now_s))

    def accept(self, kind: str, numbers: Iterable[int], now_s: float) -> None:
        """Note that cases were sent: from now on each must have an outcome."""
        with self._lock:
            listed = list(numbers)
            self._write(now_s, ["accept", kind, listed])
            cases = self._kinds[kind]
            self._counts["accepted"] += len(listed)
            cases.accepted.update(number for number in listed if number in cases.asked)

    def outcome(self, kind: str, number: int, message_id: str, problem: str, now_s: float) -> None:
        """Enter an outcome, with what is wrong with it (empty for nothing)."""
        with self._lock:
            self._write(now_s, ["outcome", kind, number, message_id, problem])
            cases = self._kinds.setdefault(kind, _Kind())
            mark = hash(message_id)
            if number in cases.asked:
                del cases.asked[number]
                cases.accepted.discard(number)
                cases.closed[number] = (now_s, mark)
                self._counts["closed"] += 1
            elif number in cases.closed and cases.closed[number][1] == mark:
                self._counts["repeats"] += 1
                return
            else:
                when = f"{now_s - cases.closed[number][0]:.1f} s later" if number in cases.closed else "long after"
                self._find("twice", f"{kind} {number} had a second outcome {when}, message {message_id}")
            if problem:
                self._find("contradictory", f"{kind} {number}: {problem}")

    def open_cases(self, kind: str) -> int:
        """Return how many cases of one kind were asked for and have no outcome."""
        with self._lock:
            return len(self._kinds[kind].asked) if kind in self._kinds else 0

    def totals(self) -> Totals:
        """Return the counts."""
        with self._lock:
            waiting = sum(len(cases.accepted) for cases in self._kinds.values())
            return Totals(open=waiting, **self._counts)

    def oldest_s(self, now_s: float) -> float:
        """Return for how long the oldest open case has been waiting, seconds; 0 for none."""
        with self._lock:
            return max((now_s - next(iter(k.asked.values())) for k in self._kinds.values() if k.asked), default=0.0)

    def lost(self) -> list[str]:
        """Return the accepted cases that have no outcome: to be asked when nothing is under way any more."""
        with self._lock:
            return [f"{kind} {number}" for kind, cases in self._kinds.items() for number in sorted(cases.accepted)]

    def compact(self, now_s: float) -> None:
        """Forget what nobody can ask for again, in memory and on disk."""
        with self._lock:
            horizon = now_s - self._window_s
            oldest = now_s
            for cases in self._kinds.values():
                while cases.closed and next(iter(cases.closed.values()))[0] < horizon:
                    cases.closed.popitem(last=False)
                oldest = min([oldest, *(asked for asked in list(cases.asked.values())[:1])])
            keep_from = min(oldest, horizon)
            # A segment ends when the next begins. After a finding all of them stay: they are the evidence.
            while not self.findings and len(self._segments) > 1 and self._segments[1][0] < keep_from:
                self._segments.pop(0)[1].unlink()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _find(self, what: str, text: str) -> None:
        self._counts[what] += 1
        if len(self.findings) < _FINDINGS:
            self.findings.append(text)

    def _write(self, now_s: float, entry: Sequence[Any]) -> None:
        if self._file is None or now_s - self._segments[-1][0] >= _SEGMENT_S:
            if self._file is not None:
                self._file.close()
            path = self._folder / f"ledger-{round(now_s * 1000):015}.jsonl"
            self._segments.append((now_s, path))
            self._file = path.open("a", encoding="utf-8", buffering=1)
        self._file.write(json.dumps([round(now_s, 3), *entry]) + "\n")
