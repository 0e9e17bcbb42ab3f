"""What travels beside the messages of an approval: the request."""

from __future__ import annotations

from sagabus import message


@message("purchase.request")
class RequestPurchase:
    """Ask for leave to buy something. Safe to deliver twice."""

    purchase: str
    what: str
    cents: int
