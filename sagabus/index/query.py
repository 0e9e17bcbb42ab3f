"""What sagas are looked for by, and what is found."""

from __future__ import annotations

from attrs import frozen

from sagabus.commit import Lifecycle
from sagabus.envelope import SagaKey
from sagabus.errors import CorruptRecordError


@frozen
class SagaQuery:
    """Which sagas are meant: those to which all that is said here applies.

    Attributes:
        name: of their class, or of several; None for any.
        lifecycle: live or completed; None for either.
        forked: only those that have siblings now.
        started_before_ms: their life began before then, ms since 1970, store's clock; None for any.
        id_prefix: what their id begins with; empty for any.
        id: exactly that; None for any. A look-up, however many sagas there are.
    """

    name: str | tuple[str, ...] | None = None
    lifecycle: Lifecycle | None = None
    forked: bool = False
    started_before_ms: int | None = None
    id_prefix: str = ""
    id: str | None = None

    @property
    def names(self) -> tuple[str, ...] | None:
        """Return the classes that are meant, each once and in order; None for all."""
        if self.name is None:
            return None
        return (self.name,) if isinstance(self.name, str) else tuple(sorted(set(self.name)))


@frozen
class SagaSummary:
    """One saga in a page.

    Attributes:
        key: which.
        lifecycle: live or completed.
        siblings: how many versions are live.
        life: how often it was begun.
        versions: how many versions were ever written.
        started_ms: when this life began, ms since 1970, store's clock; of what an older sagabus has stored, the oldest
            commit that its history still tells.
        forked_since_ms: since when it has had siblings; None where it has none.
        completed_ms: when it completed; None while it lives.
    """

    key: SagaKey
    lifecycle: Lifecycle
    siblings: int
    life: int
    versions: int
    started_ms: int
    forked_since_ms: int | None = None
    completed_ms: int | None = None


@frozen
class SagaPage:
    """Some of the sagas that were looked for.

    Attributes:
        rows: in the order of the query; a page of what is rare may be short, or empty, and be followed by others.
        cursor: where the next page begins; empty where all were looked at.
        unreadable: of sagas that would have been in this page, and whose records cannot be read.
    """

    rows: tuple[SagaSummary, ...] = ()
    cursor: str = ""
    unreadable: tuple[CorruptRecordError, ...] = ()


@frozen
class SagaCount:
    """How many sagas of one class are stored.

    Attributes:
        name: of the class.
        live: that have not completed.
        completed: that have, and are still remembered.
    """

    name: str
    live: int
    completed: int


@frozen
class Forked:
    """How many sagas have siblings.

    Attributes:
        count: how many.
        oldest_ms: since when the first of them has had siblings, ms since 1970; None where none has.
    """

    count: int = 0
    oldest_ms: int | None = None


@frozen
class Rebuilt:
    """What a rebuild of the index came to.

    Attributes:
        sagas: how many are stored and can be read.
        added: that were not in the index, or not as what they are.
        removed: that were in the index, and are stored no more.
        unreadable: whose records cannot be read.
    """

    sagas: int = 0
    added: int = 0
    removed: int = 0
    unreadable: tuple[CorruptRecordError, ...] = ()
