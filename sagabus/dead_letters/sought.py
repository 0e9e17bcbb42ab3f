"""What dead letters are looked for by."""

from __future__ import annotations

from attrs import frozen

from sagabus.dead_letters.letter import DeadLetter


@frozen
class Sought:
    """Which dead letters are meant: those to which all that is said here applies.

    Attributes:
        endpoint, type, reason, saga: exactly that; empty for any.
        id: what the message id begins with; empty for any.
        since_ms: given up then or later, ms since 1970; None for any.
        until_ms: given up before then.
        text: what stands somewhere in the error, ASCII letters of either case.
    """

    endpoint: str = ""
    type: str = ""
    reason: str = ""
    saga: str = ""
    id: str = ""
    since_ms: int | None = None
    until_ms: int | None = None
    text: str = ""

    def matches(self, letter: DeadLetter) -> bool:
        """Return whether *letter* is meant."""
        return (
            self.endpoint in ("", letter.endpoint)
            and self.type in ("", letter.type)
            and self.reason in ("", letter.reason)
            and self.saga in ("", letter.saga)
            and letter.id.startswith(self.id)
            and (self.since_ms is None or letter.at_ms >= self.since_ms)
            and (self.until_ms is None or letter.at_ms < self.until_ms)
            and _folded(self.text) in _folded(letter.error)
        )

    def __bool__(self) -> bool:
        return self != Sought()


def _folded(text: str) -> bytes:
    # ASCII alone, as a server folds: what it sorts out is never what would match here.
    return text.encode("utf-8", "surrogatepass").lower()
