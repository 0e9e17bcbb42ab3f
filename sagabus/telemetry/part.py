"""What the part of a store that knows the workers must do: the `PresenceStore` protocol."""

from __future__ import annotations

from typing import Protocol

from sagabus.telemetry.card import Orders, Pause, Roster, WorkerCard


class PresenceStore(Protocol):
    """Keeps the cards of workers for a minute, and which endpoints are paused until they are resumed. Thread-safe.

    Raises what `Store` raises; a card is shown even where the server has no memory left for sagas.
    """

    def show(self, card: WorkerCard) -> Orders:
        """Renew the card of a worker, remove those that were not renewed for a minute, and return what it is to do.

        One round trip, and one try: who shows comes again a second later.
        """
        ...

    def leave(self, worker: str) -> None:
        """Remove the card of a worker that ends in good order. One try; what is left is removed by others later."""
        ...

    def cards(self) -> Roster:
        """Return the cards that were renewed within the last minute, by name, and the store's time."""
        ...

    def pause(self, endpoint: str, by: str, why: str = "") -> Pause:
        """Have all workers receive nothing from *endpoint* until it is resumed; return who has it paused, and why.

        Where it is paused already, that stays as it is.
        """
        ...

    def resume(self, endpoint: str) -> Pause | None:
        """Have workers receive from *endpoint* again; return what is over, None where it was not paused."""
        ...

    def paused(self) -> dict[str, Pause]:
        """Return the endpoints that are paused, by name."""
        ...
