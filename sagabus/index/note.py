"""What a store that cannot index a saga in the write that changes it is to note of it afterwards."""

from __future__ import annotations

from attrs import frozen


@frozen
class IndexNote:
    """What changed of one saga, as its record says. Noting it twice does no harm.

    Attributes:
        score: it began, ms since 1970; or, below zero, it completed, and this is when it expires; None for no change.
        forked_ms: since then it has siblings; or, below zero, at that time it had none; None for no change.
    """

    score: int | None = None
    forked_ms: int | None = None

    def then(self, later: IndexNote) -> IndexNote:
        """Return both in one."""
        return IndexNote(
            self.score if later.score is None else later.score,
            self.forked_ms if later.forked_ms is None else later.forked_ms,
        )
