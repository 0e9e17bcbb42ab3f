"""Dead letters in this process, over a dict."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from sagabus.dead_letters.audit import KEPT, AuditLine, decode_line, encode_line
from sagabus.dead_letters.groups import LetterHead
from sagabus.dead_letters.letter import DeadLetter
from sagabus.dead_letters.part import Count, Page, Place, Removal, every_letter
from sagabus.dead_letters.sought import Sought

_ANY: Final = Sought()


class MemoryLetters:
    """Keeps dead letters in a dict. See `LetterStore`.

    Args:
        now_ms: its clock, ms since 1970.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._letters: dict[str, DeadLetter] = {}
        self._marks: dict[str, str] = {}
        self._trail: dict[str, AuditLine] = {}
        self._lock = threading.RLock()

    def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Put *letters* on record; what was marked under their names is so no more."""
        with self._lock:
            for letter in letters:
                self._letters[letter.name] = letter
                self._marks.pop(letter.name, None)

    def get(self, endpoint: str, id: str) -> DeadLetter | None:
        with self._lock:
            return self._letters.get(f"{endpoint}/{id}")

    def given_up(self, endpoint: str, id: str) -> bool:
        with self._lock:
            name = f"{endpoint}/{id}"
            return name in self._letters and name not in self._marks

    def page(self, sought: Sought, *, after: Place | None = None, limit: int = 100) -> Page:
        with self._lock:
            places = sorted((Place(letter.at_ms, name) for name, letter in self._letters.items()), reverse=True)
            found: list[DeadLetter] = []
            for place in places:
                letter = self._letters[place.name]
                if (after is None or place < after) and sought.matches(letter):
                    found.append(letter)
                    if len(found) == limit:
                        return Page(tuple(found), place)
            return Page(tuple(found))

    def find(self, sought: Sought = _ANY) -> Iterator[DeadLetter]:
        return every_letter(lambda place: self.page(sought, after=place))

    def count(self, sought: Sought = _ANY) -> Count:
        with self._lock:
            return Count(dict(Counter(letter.reason for letter in self._letters.values() if sought.matches(letter))))

    def total(self) -> int:
        with self._lock:
            return len(self._letters)

    def heads(self, limit: int = 10_000) -> list[LetterHead]:
        with self._lock:
            letters = sorted(self._letters.values(), key=lambda letter: (letter.at_ms, letter.name), reverse=True)
            return [LetterHead.of(letter) for letter in letters[:limit]]

    def mark_resent(self, letters: Sequence[DeadLetter], token: str) -> list[bool]:
        with self._lock:
            there = [self._is_there(letter) for letter in letters]
            for letter, is_there in zip(letters, there, strict=True):
                if is_there and token:
                    self._marks[letter.name] = token
                elif is_there:
                    self._marks.pop(letter.name, None)
            return there

    def resent(self, letters: Sequence[DeadLetter]) -> list[str]:
        with self._lock:
            return [self._marks.get(letter.name, "") for letter in letters]

    def _is_there(self, letter: DeadLetter) -> bool:
        known = self._letters.get(letter.name)
        return known is not None and known.at_ms == letter.at_ms

    def remove(self, removals: Sequence[Removal]) -> list[bool]:
        with self._lock:
            now = self._now_ms()
            went = []
            for removal in removals:
                letter, mark = removal.letter, removal.resent
                goes = self._is_there(letter) and mark in ("", self._marks.get(letter.name))
                if goes:
                    self._forget(letter.name)
                if goes or mark:
                    self._note(removal.line, now)
                went.append(goes)
            return went

    def _note(self, line: AuditLine, now: int) -> None:
        # As a server would give it back: what is too long has lost its details.
        self._trail.setdefault(line.key, decode_line(encode_line(line), now))
        while len(self._trail) > KEPT:
            del self._trail[next(iter(self._trail))]

    def _forget(self, name: str) -> None:
        del self._letters[name]
        self._marks.pop(name, None)

    def note(self, line: AuditLine) -> None:
        with self._lock:
            self._note(line, self._now_ms())

    def audit(self, id: str = "", limit: int = 1000) -> list[AuditLine]:
        with self._lock:
            lines = [line for line in reversed(self._trail.values()) if line.id.startswith(id)]
            return lines[:limit]

    def expire(self, retention_ms: int, limit: int = 1000) -> int:
        with self._lock:
            horizon = self._now_ms() - retention_ms
            old = sorted((letter.at_ms, name) for name, letter in self._letters.items() if letter.at_ms <= horizon)
            for _, name in old[:limit]:
                self._forget(name)
            for key in [key for key, line in self._trail.items() if line.at_ms <= horizon][:limit]:
                del self._trail[key]
            return len(old[:limit])
