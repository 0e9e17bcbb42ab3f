"""What must have a write before anything follows from it: the server alone, or its replicas too."""

from __future__ import annotations

from typing import Final, Literal, get_args

from sagabus.connect import scheme_of
from sagabus.errors import ConfigurationError
from sagabus.store.protocol import Store
from sagabus.terms import Linked, Terms
from sagabus.transport import Transport

Durability = Literal["local", "replicated"]

_ALONE: Final = ("embedded", "memory")
"""Schemes of what has no replicas, and never will."""


def terms_of(
    durability: Durability, replicas: int, *, claim_s: float, namespace: str, store_url: str, transport_url: str
) -> Terms:
    """Return the terms that a bus with these options asks of its links.

    Raises:
        ConfigurationError: the options contradict each other, or the URLs.
    """
    if durability not in get_args(Durability):
        raise ConfigurationError(f"durability={durability!r} is none; write 'local' or 'replicated'")
    if replicas < 1:
        raise ConfigurationError(
            f"replicas ({replicas}) must be at least 1; write durability='local' where there is no replica"
        )
    if durability == "local":
        replicas = 0
    for url in (store_url, transport_url) if replicas else ():
        if scheme_of(url) in _ALONE:
            raise ConfigurationError(
                f"durability='replicated' needs a server with replicas, and {scheme_of(url)}: has none; "
                f"name one by its URL, or write durability='local'"
            )
    return Terms.within(claim_s, replicas=replicas, marker=f"{namespace}:marker")


def agree(part: Store | Transport, terms: Terms) -> None:
    """Have a store or a transport keep *terms*. A transport that stands on no link has confirms of its own.

    Raises:
        ConfigurationError: a store cannot wait for its replicas.
    """
    if isinstance(part, Linked):
        part.agree(terms)
    elif terms.replicas and hasattr(part, "commit"):
        raise ConfigurationError(
            f"the store at {part.url} cannot say what its replicas have; write durability='local', "
            f"or name a Redis or Valkey by its URL"
        )
