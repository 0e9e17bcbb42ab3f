"""What the part of a store that keeps waiting messages must do for people: the `WaitingStore` protocol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from sagabus.envelope import SagaKey
from sagabus.waiting.message import Waiting


class WaitingStore(Protocol):
    """Shows and changes what `Store.note` scheduled. Thread-safe; raises what `Store` raises."""

    def find(self, since_ms: int | None = None, until_ms: int | None = None) -> Iterator[Waiting]:
        """Yield the messages that are handed out at or after *since_ms* and before *until_ms*, soonest first.

        Page by page, while others come and go; one that is put off meanwhile may come twice.
        """
        ...

    def get(self, name: str) -> Waiting | None:
        """Return what is scheduled under *name*; None for nothing."""
        ...

    def take(self, waiting: Waiting) -> bool:
        """Forget *waiting*, provided that it lies there as scheduled and is not due yet; return whether that was so.

        Then nobody has sent it, and nobody will.
        """
        ...

    def hurry(self, waiting: Waiting) -> bool:
        """Have *waiting* be due now, provided that nobody has begun to send it; return whether that was so."""
        ...

    def forget_timer(self, saga: SagaKey, timer: str, message_id: str) -> bool:
        """Have the record of *saga* forget its *timer*, provided that it is *message_id*; return whether it was.

        From then on that message is stale: should it still come, the saga passes it over.
        """
        ...
