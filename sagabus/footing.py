"""What a bus stands on: its store, its transport, and the servers embedded for them. Connected when first used."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sagabus.connect import check_store_url, choose_urls, embedded_folder, open_store, open_transport, scheme_of
from sagabus.durability import Durability, agree, terms_of
from sagabus.endpoint import Endpoint
from sagabus.store.protocol import Store
from sagabus.transport import Transport

if TYPE_CHECKING:
    from sagabus.store.embedded import EmbeddedServer


class Footing:
    """The store and the transport of one bus. Thread-safe.

    Args:
        store, transport, durability, replicas: as `Bus` has them.
        namespace: that of the bus.
        claim_s: that of the bus.
        endpoints: those of the bus, as they become more; the transport always has all of them declared.

    Attributes:
        store_url, transport_url: where they are.

    Raises:
        ConfigurationError: the options contradict each other, or the URLs; or there are no stores of that kind.
    """

    def __init__(
        self,
        store: str | Store | None,
        transport: str | Transport | None,
        *,
        namespace: str,
        claim_s: float,
        durability: Durability,
        replicas: int,
        endpoints: Mapping[str, Endpoint],
    ) -> None:
        self.store_url, self.transport_url = choose_urls(
            store if store is None or isinstance(store, str) else store.url,
            transport if transport is None or isinstance(transport, str) else transport.url,
        )
        if store is None or isinstance(store, str):
            check_store_url(self.store_url)
        self._terms = terms_of(
            durability,
            replicas,
            claim_s=claim_s,
            namespace=namespace,
            store_url=self.store_url,
            transport_url=self.transport_url,
        )
        self._namespace, self._endpoints = namespace, endpoints
        self._store = None if isinstance(store, str) else store
        self._transport = None if isinstance(transport, str) else transport
        self._store_is_fit = self._transport_agreed = False
        self._declared: tuple[Any, ...] = ()
        self._embedded: dict[str, EmbeddedServer] = {}
        self._lock = threading.RLock()

    @property
    def store(self) -> Store:
        """Return the store, connected and found fit."""
        with self._lock:
            if self._store is None:
                url = self._resolved(self.store_url)
                embedded = self._embedded.get(self.store_url)
                self._store = open_store(url, self._namespace, revive=embedded.ensure if embedded else None)
            if not self._store_is_fit:
                agree(self._store, self._terms)
                self._store.open()
                self._store_is_fit = True
            return self._store

    @property
    def transport(self) -> Transport:
        """Return the transport, with every endpoint declared on it."""
        with self._lock:
            if self._transport is None:
                self._transport = open_transport(self._resolved(self.transport_url), self._namespace)
            if not self._transport_agreed:
                agree(self._transport, self._terms)
                self._transport_agreed = True
            self._declare(self._transport)
            return self._transport

    def _declare(self, transport: Transport) -> None:
        wanted = tuple((e.name, e.handled_types(), e.options) for e in self._endpoints.values())
        if wanted == self._declared:
            return
        known = (
            {queue.endpoint for queue in transport.queues()} if not all(topics for _, topics, _ in wanted) else set()
        )
        for name, topics, options in wanted:
            if not topics and name in known:
                continue  # this process only sends to it; who handles its messages has said what it subscribes to
            transport.declare(name, subscriptions=topics, partitions=options.partitions, max_length=options.max_length)
        self._declared = wanted

    def _resolved(self, url: str) -> str:
        """Return *url*, or where the embedded server that it names is, started if need be."""
        if scheme_of(url) != "embedded":
            return url
        server = self._embedded.get(url)
        if server is None:
            from sagabus.store.embedded import EmbeddedServer

            server = self._embedded[url] = EmbeddedServer.open(embedded_folder(url))
        return server.url

    def close(self) -> None:
        """Close connections, and let the embedded servers go."""
        with self._lock:
            for part in (self._transport, self._store):
                if part is not None:
                    part.close()
            for server in self._embedded.values():
                server.close()
            self._embedded.clear()
