"""Gathering facts about a bus: the one part of the doctor that asks servers. It changes nothing that workers see."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final, Protocol, runtime_checkable

import redis
from attrs import define, evolve, field

from sagabus.advance import advance
from sagabus.bus import Bus
from sagabus.commit import HistoryEntry, Lifecycle, Snapshot, Want
from sagabus.connect import check_package, scheme_of
from sagabus.envelope import Incoming, SagaKey, decode
from sagabus.errors import CorruptRecordError, SagabusError, ShadowedPackageError, StoreRefusedError, UnavailableError
from sagabus.health.checks import said_of
from sagabus.health.facts import Facts, QueueFacts, SagaFacts, ServerFacts
from sagabus.index.part import SagaIndex
from sagabus.link import Link
from sagabus.link.fitness import parse_info
from sagabus.outgoing import posted_merge
from sagabus.printable import said
from sagabus.telemetry.card import Pause, Roster
from sagabus.telemetry.standing import SEEN_WITHIN_MS

_OURS: Final = ("sagas", "mergers", "transports")
_PAGE: Final = 200


@runtime_checkable
class _Staffed(Protocol):
    """A transport that can tell who works on its queues."""

    def staff(self, claim_s: float) -> Mapping[str, tuple[int | None, int | None]]: ...


def gather(bus: Bus, limit: int) -> Facts:
    """Return what there is to know about *bus*; what does not answer is part of it.

    Args:
        limit: how many sagas, and how many messages that wait, are looked at.
    """
    gathering = _Gathering(bus, limit)
    with gathering.asking("store"):
        gathering.store()
    with gathering.asking("broker"):
        gathering.broker()
    gathering.servers()
    with gathering.asking("store"):
        gathering.index()
    gathering.packages()
    return gathering.facts


@define
class _Gathering:
    bus: Bus
    limit: int
    facts: Facts = field(init=False)
    _now_ms: int = field(default=0, init=False)
    _looked_at: list[SagaKey] = field(factory=list, init=False)
    _paused: Mapping[str, Pause] = field(factory=dict, init=False)
    _shown: Counter[str] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.facts = Facts(self.bus.claim_s)

    @contextmanager
    def asking(self, what: str) -> Iterator[None]:
        """Note what keeps the store or the broker from answering."""
        try:
            yield
        except UnavailableError as error:
            self.facts = evolve(self.facts, unreachable={**self.facts.unreachable, what: str(error)})
        except StoreRefusedError as error:
            self.facts = evolve(self.facts, refused={**self.facts.refused, what: str(error)})

    # -- what the store says ---------------------------------------------------------------------------------------

    def store(self) -> None:
        store = self.bus.store
        self._now_ms, _ = store.next_due_ms()
        self._paused = store.presence.paused()
        self._shown = _at_work(store.presence.cards())
        waiting = [item for item in store.scheduled(self.limit) if item.due_ms < self._now_ms]
        first_ms = min((item.due_ms for item in waiting), default=self._now_ms)
        self.facts = evolve(
            self.facts,
            letters=store.letters.count().reasons,
            overdue=len(waiting),
            overdue_s=(self._now_ms - first_ms) / 1000,
        )
        self._sagas()

    def _sagas(self) -> None:
        unreadable: list[CorruptRecordError] = []
        rows = {row.key: row for row in islice(self.bus.store.sagas(unreadable=unreadable), self.limit + 1)}
        keys = self._looked_at = sorted(rows)[: self.limit]
        unwell: list[SagaFacts] = []
        for start in range(0, len(keys), _PAGE):
            unwell += self._page(keys[start : start + _PAGE], unreadable)
        self.facts = evolve(
            self.facts,
            sagas=tuple(unwell),
            sagas_seen=len(keys),
            sagas_left=len(rows) > self.limit,
            unreadable={error.key: str(error) for error in unreadable},
        )

    def _page(self, keys: list[SagaKey], unreadable: list[CorruptRecordError]) -> list[SagaFacts]:
        histories: dict[SagaKey, list[HistoryEntry]] = {}
        for key in keys:
            try:
                histories[key] = self.bus.store.history(key)
            except CorruptRecordError as error:
                unreadable.append(error)
        wants = [
            Want(key, tuple(m.id for entry in history for m in entry.messages)) for key, history in histories.items()
        ]
        found: list[SagaFacts] = []
        while wants:
            try:
                snapshots = self.bus.store.load(wants)
            except CorruptRecordError as error:
                unreadable.append(error)
                wants = [want for want in wants if str(want.key) != error.key]
            else:
                found = [self._saga(snapshot, histories[snapshot.key]) for snapshot in snapshots]
                break
        return [saga for saga in found if saga.siblings > 1 or saga.undispatched or saga.unknown]

    def _saga(self, snapshot: Snapshot, history: list[HistoryEntry]) -> SagaFacts:
        handled_ms = {message.id: entry.at_ms for entry in history for message in entry.messages}
        left = [handled_ms[id_] for id_, lines in snapshot.consumed.items() if lines and id_ in handled_ms]
        live = snapshot.lifecycle is Lifecycle.LIVE
        return SagaFacts(
            key=str(snapshot.key),
            live=live,
            siblings=len(snapshot.versions),
            pending_merge=bool(snapshot.pending_merge),
            quiet_s=(self._now_ms - history[-1].at_ms) / 1000 if history else None,
            undispatched=sum(1 for lines in snapshot.consumed.values() if lines),
            undispatched_s=(self._now_ms - min(left)) / 1000 if left else None,
            unmergeable=self._unmergeable(snapshot) if live and len(snapshot.versions) > 1 else "",
            unknown=live and self.bus.saga(snapshot.key.name) is None,
        )

    def _unmergeable(self, snapshot: Snapshot) -> str:
        """Return why the siblings cannot be folded, having tried with what would be the next MergeSagaState."""
        definition = self.bus.saga(snapshot.key.name)
        if definition is None:
            return ""
        if definition.merger is None:
            return "its class has no merger any more"
        posted = posted_merge(snapshot.key, snapshot.life, "doctor", definition.endpoint, snapshot.now_ms)
        commit = advance(definition, snapshot, [Incoming(decode(posted.body, len(posted.body)))])
        error = commit.unmergeable or next((failure.error for failure in commit.failures), None)
        return said(error) if error is not None else ""

    def index(self) -> None:
        """Look whether the index knows those sagas that were looked at and are still there."""
        index: SagaIndex | None = getattr(self.bus.store, "index", None)
        if index is None or "store" in self.facts.unreachable or "store" in self.facts.refused:
            return
        missing = index.missing(self._looked_at)
        there = (
            {row.key for row in self.bus.store.load([Want(key) for key in missing]) if row.life} if missing else set()
        )
        # Once more: on a cluster it is told a moment after the record was written.
        self.facts = evolve(self.facts, unindexed=len(there.intersection(index.missing(missing))) if there else 0)

    # -- what the broker says --------------------------------------------------------------------------------------

    def broker(self) -> None:
        transport = self.bus.transport
        staff = transport.staff(self.bus.claim_s) if isinstance(transport, _Staffed) else {}
        queues = []
        for queue in transport.queues():
            endpoint = self.bus.endpoints.get(queue.endpoint)
            consumers, came_ms = staff.get(queue.endpoint, (None, None))
            if consumers is not None and self._shown is not None:
                # A server that was started again takes everybody who ever looked for somebody who just did.
                consumers = min(consumers, self._shown[queue.endpoint])
            queues.append(
                QueueFacts(
                    queue.endpoint,
                    queue.depth,
                    endpoint.options.max_length if endpoint else None,
                    consumers,
                    (self._now_ms - came_ms) / 1000 if came_ms and self._now_ms else None,
                    paused=said_of(self._paused[queue.endpoint]) if queue.endpoint in self._paused else "",
                )
            )
        self.facts = evolve(self.facts, queues=tuple(queues))

    # -- what the servers say of themselves ------------------------------------------------------------------------

    def servers(self) -> None:
        """Ask each server once, also those that are not fit."""
        links: dict[str, tuple[Link, list[str]]] = {}
        for role, link in (("store", self._link("store")), ("queues", self._link("queues"))):
            if link is not None:
                links.setdefault(link.shown_url, (link, []))[1].append(role)
        servers: list[ServerFacts] = []
        for link, roles in links.values():
            try:
                servers += [_server(link, node, " and ".join(roles)) for node in link.node_keys()]
            except SagabusError as error:
                # Why it does not answer is known already, or the same for store and broker.
                what = "store" if "store" in roles else "broker"
                if what not in self.facts.refused:
                    unreachable = {what: str(error), **self.facts.unreachable}
                    self.facts = evolve(self.facts, unreachable=unreachable)
            if "store" in roles:
                self.facts = evolve(self.facts, replicas=link.terms.replicas)
        self.facts = evolve(self.facts, servers=tuple(servers))

    def _link(self, role: str) -> Link | None:
        what, url = ("store", self.bus.store_url) if role == "store" else ("broker", self.bus.transport_url)
        if what in self.facts.unreachable:
            return None
        if what in self.facts.refused:
            return Link(url) if scheme_of(url) not in ("embedded", "memory") else None
        part: Any = self.bus.store if role == "store" else self.bus.transport
        link = getattr(part, "link", None)
        return link if isinstance(link, Link) else None

    def packages(self) -> None:
        shadowed = []
        for package in _OURS:
            try:
                check_package(package)
            except ShadowedPackageError as error:
                shadowed.append(str(error))
        self.facts = evolve(self.facts, shadowed=tuple(shadowed))


def _server(link: Link, node: str, role: str) -> ServerFacts:
    before_ms = time.time() * 1000
    (now,) = link.describe(node, ("TIME",))
    after_ms = time.time() * 1000
    described, synced = link.describe(node, ("INFO",), ("CONFIG", "GET", "appendfsync"))
    if isinstance(now, redis.ResponseError) or isinstance(described, redis.ResponseError):
        raise StoreRefusedError(f"the server at {node or link.shown_url} refused INFO or TIME; allow them to its user")
    server_ms = int(now[0]) * 1000 + int(now[1]) / 1000
    return ServerFacts(
        role,
        node or link.shown_url,
        parse_info(described),
        synced[1].decode() if not isinstance(synced, redis.ResponseError) and synced else None,
        server_ms - (before_ms + after_ms) / 2,
        after_ms - before_ms,
    )


def _at_work(roster: Roster) -> Counter[str]:
    """Return how many workers that showed themselves lately work through each endpoint."""
    lately = (card for card in roster.cards if roster.now_ms - card.seen_ms <= SEEN_WITHIN_MS)
    return Counter(endpoint for card in lately for endpoint in card.endpoints)
