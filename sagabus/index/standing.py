"""Where a saga stands, as its record says it: what an index must say, too."""

from __future__ import annotations

from attrs import frozen

from sagabus.commit import Lifecycle
from sagabus.envelope import SagaKey
from sagabus.index.query import SagaSummary


@frozen
class Standing:
    """Where one saga stands.

    Attributes:
        completed: whether it is a tombstone.
        siblings, life, versions: as of a summary.
        started_ms: when its life began, ms since 1970.
        forked_ms: since when it has siblings; 0 for none.
        completed_ms: when it completed; 0 while it lives.
        expires_ms: when its tombstone goes; 0 while it lives.
    """

    completed: bool
    siblings: int
    life: int
    versions: int
    started_ms: int
    forked_ms: int = 0
    completed_ms: int = 0
    expires_ms: int = 0

    @property
    def score(self) -> int:
        """Return what stands for lifecycle and age in an index."""
        return -self.expires_ms if self.completed else self.started_ms

    def summary(self, key: SagaKey) -> SagaSummary:
        """Return the row of a page."""
        return SagaSummary(
            key,
            Lifecycle.COMPLETED if self.completed else Lifecycle.LIVE,
            self.siblings,
            self.life,
            self.versions,
            self.started_ms,
            self.forked_ms or None,
            self.completed_ms if self.completed else None,
        )
