"""What the part of a store that indexes sagas must do: the `SagaIndex` protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from sagabus.envelope import SagaKey
from sagabus.errors import ConfigurationError
from sagabus.index.query import Forked, Rebuilt, SagaCount, SagaPage, SagaQuery

if TYPE_CHECKING:
    from sagabus.store.protocol import Store

Progress = Callable[[int, int], None]
"""Told of how much is done, and of how much there is to do, about; in no unit that matters."""


class SagaIndex(Protocol):
    """Finds sagas without reading every record. Thread-safe; raises what `Store` raises.

    It is kept by `Store.commit`. What a page says of a saga is read from the saga's record; where the index says
    otherwise it is mended, and the saga left out. So a page never tells what is not true. What the index lacks
    altogether no page has; `rebuild` brings it in.
    """

    def find(self, query: SagaQuery, limit: int = 50, cursor: str = "") -> SagaPage:
        """Return up to *limit* sagas of *query* that come at or behind *cursor*.

        Those with siblings: who has had them for longest first. Others: live ones, oldest first; then completed ones,
        whose record is kept for longest first, which is the newest first within a class. By id: in no order, and a saga
        may come twice. Nothing that is there all the time is left out, whoever writes meanwhile.

        Args:
            cursor: of the page before, of the same query; empty for the first page.

        Raises:
            ConfigurationError: *cursor* is none.
        """
        ...

    def counts(self) -> list[SagaCount]:
        """Return how many sagas of each class are stored, by name; classes of which there are none are left out."""
        ...

    def forked(self) -> Forked:
        """Return how many sagas have siblings, and since when the first of them has."""
        ...

    def missing(self, keys: Sequence[SagaKey]) -> list[SagaKey]:
        """Return which of *keys* the index does not know, whether they are stored or not."""
        ...

    def rebuild(self, progress: Progress | None = None) -> Rebuilt:
        """Look at every record, put into the index what it lacks, and remove what is stored no more.

        While others write; may be called again, and by several at once.
        """
        ...

    def trim(self, limit: int = 1000) -> int:
        """Forget up to about *limit* completed sagas of each class that have expired; return how many it were."""
        ...


def index_of(store: Store) -> SagaIndex:
    """Return the index of *store*.

    Raises:
        ConfigurationError: it has none, being made by somebody else for an older sagabus; workers need none.
    """
    index: SagaIndex | None = getattr(store, "index", None)
    if index is None:
        raise ConfigurationError(
            f"{type(store).__name__} has no index of its sagas, and so cannot list them; "
            f"give it the part `index`, see sagabus.index.part.SagaIndex. Workers run without"
        )
    return index
