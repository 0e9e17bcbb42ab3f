"""What the part of a store that keeps dead letters must do: the `LetterStore` protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from attrs import field, frozen

from sagabus.dead_letters.audit import AuditLine
from sagabus.dead_letters.groups import LetterHead
from sagabus.dead_letters.letter import DeadLetter
from sagabus.dead_letters.sought import Sought


class Place(NamedTuple):
    """Where a letter stands among all: newest first, and of one moment the greatest name first."""

    at_ms: int
    name: str


@frozen
class Page:
    """Some of the letters that were looked for.

    Attributes:
        letters: newest first; empty pages may be followed by others.
        next: where the next page begins; None where all were looked at.
    """

    letters: tuple[DeadLetter, ...] = ()
    next: Place | None = None


@frozen
class Removal:
    """One letter that is to go, provided that it is the one which was looked at.

    Attributes:
        letter: which; where another was put on record under its name meanwhile, that stays.
        line: what the audit trail is to say.
        resent: the token that the letter was marked with before it was sent again; it goes only if it still bears it,
            and the line is noted in any case, for the message has left. Empty: it goes as it is, noted if it was there.
    """

    letter: DeadLetter
    line: AuditLine
    resent: str = ""


@frozen
class Count:
    """How many letters there are.

    Attributes:
        reasons: reason -> how many.
    """

    reasons: dict[str, int] = field(factory=dict)

    @property
    def total(self) -> int:
        """Return how many in all."""
        return sum(self.reasons.values())


def every_letter(page: Callable[[Place | None], Page]) -> Iterator[DeadLetter]:
    """Yield the letters of all pages; *page* returns the one that begins at a place, the first at None."""
    place: Place | None = None
    while True:
        found = page(place)
        yield from found.letters
        if found.next is None:
            return
        place = found.next


class LetterStore(Protocol):
    """Keeps dead letters, put there by `Store.note`. Thread-safe; raises what `Store` raises.

    However many there are, no call has the server look at more than a bounded number of them.
    """

    def get(self, endpoint: str, id: str) -> DeadLetter | None:
        """Return the letter of a message to *endpoint*; None for none.

        One that was sent again, and has not come back as another, may still be there for a moment: see `resent`.
        """
        ...

    def given_up(self, endpoint: str, id: str) -> bool:
        """Return whether a message was given up and not sent again since: it may be acked if it is redelivered."""
        ...

    def page(self, sought: Sought, *, after: Place | None = None, limit: int = 100) -> Page:
        """Return up to *limit* letters behind *after* that match, newest first."""
        ...

    def find(self, sought: Sought = ...) -> Iterator[DeadLetter]:
        """Yield the letters that match, newest first, page by page, while others may come and go."""
        ...

    def count(self, sought: Sought = ...) -> Count:
        """Return how many letters match, by reason."""
        ...

    def total(self) -> int:
        """Return how many letters there are; as fast for a million as for one."""
        ...

    def heads(self, limit: int = 10_000) -> list[LetterHead]:
        """Return what is known of the newest *limit* letters without looking into them, newest first."""
        ...

    def mark_resent(self, letters: Sequence[DeadLetter], token: str) -> list[bool]:
        """Mark *letters* with *token*, before they are sent again; return which are there still.

        An empty *token* takes the mark away. A message that is given up once more is put on record without a mark.
        """
        ...

    def resent(self, letters: Sequence[DeadLetter]) -> list[str]:
        """Return the token that each of *letters* is marked with; empty for none."""
        ...

    def remove(self, removals: Sequence[Removal]) -> list[bool]:
        """Do what *removals* say and write their audit lines, one atomic write for each 500; return which went."""
        ...

    def note(self, line: AuditLine) -> None:
        """Write *line* to the audit trail by itself: for what was done to messages that are no dead letters."""
        ...

    def audit(self, id: str = "", limit: int = 1000) -> list[AuditLine]:
        """Return the newest *limit* lines of the audit trail, newest first, of messages whose id begins with *id*."""
        ...

    def expire(self, retention_ms: int, limit: int = 1000) -> int:
        """Remove up to *limit* letters older than *retention_ms* by the store's clock, and such audit lines.

        One atomic write; returns how many letters went.
        """
        ...
