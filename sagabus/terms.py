"""What a bus asks of the links it makes: how long they wait, and how many replicas must have what was written."""

from __future__ import annotations

from typing import Final, Protocol, runtime_checkable

from attrs import evolve, frozen

_TIMEOUT_S: Final = 5.0
_SHORTEST_TIMEOUT_S: Final = 0.5
_PATIENCE_S: Final = 10.0


@frozen
class Terms:
    """The terms of a link.

    Attributes:
        timeout_s: how long one reply may take, beyond any blocking that the command asks for.
        patience_s: how long a round is tried again before `StoreUnavailableError` or `NotReplicatedError`.
        replicas: how many replicas must have what a round wrote before it returns; 0 asks none.
        marker: the name of the key that a link writes so that `WAIT` covers what was written before, by whomever. On a
            cluster a tag is appended.
    """

    timeout_s: float = _TIMEOUT_S
    patience_s: float = _PATIENCE_S
    replicas: int = 0
    marker: str = "sagabus:marker"

    @classmethod
    def within(cls, claim_s: float, *, replicas: int = 0, marker: str = "sagabus:marker") -> Terms:
        """Return terms under which a silent server is given up well before a claim of *claim_s* seconds runs out.

        A sign of life is due every third of a claim, so a time-out is a sixth of it, at least half a second; the
        patience is a third of it, at least four time-outs. Neither is more than the defaults.
        """
        timeout_s = min(_TIMEOUT_S, max(_SHORTEST_TIMEOUT_S, claim_s / 6))
        patience_s = min(_PATIENCE_S, max(claim_s / 3, 4 * timeout_s))
        return cls(timeout_s, patience_s, replicas, marker)

    @property
    def wait_ms(self) -> int:
        """Return how long one `WAIT` may take: short of the time-out, so that the link outlives it."""
        return max(1, round(min(self.timeout_s / 2, 1.0) * 1000))

    def stricter(self, other: Terms) -> Terms:
        """Return the terms of *other*, with the shorter times and the higher number of replicas of both."""
        return evolve(
            other,
            timeout_s=min(self.timeout_s, other.timeout_s),
            patience_s=min(self.patience_s, other.patience_s),
            replicas=max(self.replicas, other.replicas),
        )


@runtime_checkable
class Linked(Protocol):
    """A store or transport that stands on links, and so can keep a bus's terms."""

    def agree(self, terms: Terms) -> None:
        """Keep *terms* from now on; called before the first round."""
        ...
