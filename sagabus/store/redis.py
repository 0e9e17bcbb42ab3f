"""The versioned store on Redis >= 7.0, Valkey >= 7.2, or a cluster of either.

Loads and commits of a batch are one script call on one server; on a cluster one call a slot, sent to all nodes at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

from attrs import evolve
from msgspec.structs import replace
from redis.crc import key_slot

from sagabus.commit import Commit, HistoryEntry, Lifecycle, Result, Snapshot, Want
from sagabus.envelope import SagaKey
from sagabus.errors import CodecError, CorruptRecordError, StoreRefusedError
from sagabus.link import EPOCH, Command, Link, Script, ServerIdentity
from sagabus.link.fitness import check_fit, parse_info, replicas_of
from sagabus.observe.log import get_logger
from sagabus.store.chunks import chunks
from sagabus.store.layout import IndexKeys, Keys, Straight, commit_args, history_entry, load_keys, result, snapshot
from sagabus.store.protocol import Bookkeeping, DeadLetter, SagaRow, Scheduled
from sagabus.store.redis_documents import RedisDocuments
from sagabus.store.redis_index import RedisIndex
from sagabus.store.redis_leases import RedisLeases, granted
from sagabus.store.redis_letters import RedisLetters
from sagabus.store.redis_presence import RedisPresence
from sagabus.store.redis_timers import RedisTimers
from sagabus.store.redis_waiting import RedisWaiting
from sagabus.store.rights import check_rights
from sagabus.terms import Terms
from sagabus.transport import Outlet

_LOAD: Final = Script.beside("sagabus.store", "load.lua")
_COMMIT: Final = Script.beside("sagabus.store", "commit.lua")


class RedisStore:
    """Keeps sagas in Redis or Valkey. See `Store`.

    Args:
        url: as `Link` takes it.
        namespace: what all keys begin with; two buses with different namespaces share nothing.
        link: the connections to use, where not new ones to *url*.

    Attributes:
        sends: that `commit` takes an `Outlet`, and puts messages into queues on the same server by itself.
    """

    sends: Final = True

    def __init__(self, url: str, *, namespace: str = "sagabus", link: Link | None = None) -> None:
        self.link = link or Link(url)
        self._keys = Keys(namespace)
        self.documents = RedisDocuments(self.link, self._keys)
        self.leases = RedisLeases(self.link, self._keys)
        self.letters = RedisLetters(self.link, self._keys)
        self._timers = RedisTimers(self.link, self._keys)
        self.waiting = RedisWaiting(self.link, self._keys, self._timers)
        self.presence = RedisPresence(self.link, self._keys)
        self.index = RedisIndex(self.link, self._keys)
        self._opened = False

    def agree(self, terms: Terms) -> None:
        """Keep the terms of a bus; see `Linked`."""
        self.link.agree(terms)

    @property
    def url(self) -> str:
        return self.link.shown_url

    @property
    def server(self) -> ServerIdentity | None:
        return self.link.server()

    def open(self) -> None:
        if self._opened:
            return
        for node in self.link.node_keys():
            info = parse_info(self.link.on_node(node, "INFO"))
            check_fit(self.url, info)
            if (found := replicas_of(info)) < self.link.terms.replicas:
                # Opened all the same, so that people can look; whoever writes waits until there are enough.
                get_logger().warning(
                    "replicas-missing", server=node or self.url, replicas=found, wanted=self.link.terms.replicas
                )
        check_rights(self.link, self._keys.namespace)
        self._opened = True

    def close(self) -> None:
        self.link.close()

    # -- sagas ---------------------------------------------------------------------------------------------------

    def load(self, wants: Sequence[Want], noting: Bookkeeping | None = None) -> list[Snapshot]:
        commands = self._noting(noting)
        asked = {i: want.lease for i, want in enumerate(wants) if want.lease is not None}
        first = len(commands)
        commands += [self.leases.granting(wants[i].key, request.holder, request.ttl_ms) for i, request in asked.items()]
        offset = len(commands)
        groups = self._by_slot([want.key for want in wants])
        for indices in groups:
            keys: list[str] = []
            args: list[Any] = []
            for i in indices:
                keys += load_keys(self._keys.saga(wants[i].key))
                args += (len(wants[i].ids), *wants[i].ids)
            commands.append(_LOAD.call(keys, args))
        # A lease is granted before its saga is read: they share a slot, and one server runs commands in order. (While a
        # slot moves from node to node that may not hold; then the commit rules see to it, as in any serial saga.)
        replies = self.link.round(commands)
        grants = {i: granted(reply) for i, reply in zip(asked, replies[first:offset], strict=True)}
        replies = replies[offset:]
        snapshots: list[Any] = [None] * len(wants)
        for indices, reply in zip(groups, replies, strict=True):
            for position, i in enumerate(indices):
                fields, seen = reply[1 + 2 * position : 3 + 2 * position]
                if fields is None:
                    raise CorruptRecordError(str(wants[i].key), seen.decode(errors="replace"))
                try:
                    found = snapshot(wants[i], reply[0], fields, seen, noting=self.link.is_cluster)
                except CodecError as error:
                    raise CorruptRecordError(str(wants[i].key), error) from error
                snapshots[i] = replace(found, grant=grants[i]) if i in grants else found
        # What another worker has stored, and waited in vain for replicas to have, is about to be sent on or acked.
        self.link.cover(self._keys.saga(found.key) + "r" for found in snapshots if found.consumed)
        return snapshots

    def commit(self, commits: Sequence[Commit], *, by: str, outlet: Outlet | None = None) -> list[Result]:
        releases = [
            self.leases.releasing(commit.key, commit.grant)
            for commit in commits
            if commit.gives_back and commit.grant is not None
        ]
        results = self._committed(commits, by, outlet, releases)
        if results is None:
            # The queues are others than those that were known, or one is full: by way of the outbox.
            results = self._committed(commits, by, None)
            assert results is not None
        return results

    def _committed(
        self, commits: Sequence[Commit], by: str, outlet: Outlet | None, then: Sequence[Command] = ()
    ) -> list[Result] | None:
        """Commit, and run *then*, behind which no commit may be made again.

        None, and nothing was stored, where messages cannot go straight into queues; never with *then*.
        """
        groups = self._by_slot([commit.key for commit in commits])
        commands = []
        free: list[frozenset[str]] = [frozenset()] * len(commits)
        for indices in groups:
            straight = Straight(None if self.link.is_cluster else outlet, or_kept=bool(then))
            index = IndexKeys(None if self.link.is_cluster else self._keys)
            keys: list[str] = []
            args: list[Any] = []
            for i in indices:
                prefix = self._keys.saga(commits[i].key)
                keys += (*load_keys(prefix), f"{prefix}h")
                more, free[i] = commit_args(commits[i], by, straight, index)
                args += more
            stream_keys, stream_args = straight.head()
            index_keys, index_args = index.head()
            keys, args = [*stream_keys, *index_keys, *keys], [EPOCH, *stream_args, *index_args, *args]
            # What follows must not run before it: a script that the server does not know is sent again.
            gives_back = any(commits[i].gives_back for i in indices)
            commands.append(_COMMIT.brought(keys, args) if gives_back else _COMMIT.call(keys, args))
        results: list[Any] = [None] * len(commits)
        for indices, (actor, done, *replies) in zip(groups, self.link.round([*commands, *then]), strict=False):
            if done == 0:
                return None
            for i, reply in zip(indices, replies, strict=True):
                if reply[0] == b"error":
                    raise CorruptRecordError(str(commits[i].key), reply[1].decode(errors="replace"))
                if reply[0] == b"refused":
                    raise StoreRefusedError(_not_ours(reply[1].decode(errors="replace")))
                results[i] = result(commits[i], reply, actor.decode(), free[i] if done == 1 else frozenset())
        return results

    def _by_slot(self, keys: Sequence[SagaKey]) -> list[list[int]]:
        """Return the indices of *keys*, grouped into those that one script call may take."""
        if not self.link.is_cluster:
            return [list(range(len(keys)))] if keys else []
        groups: dict[int, list[int]] = {}
        for i, key in enumerate(keys):
            groups.setdefault(key_slot(self._keys.saga(key).encode()), []).append(i)
        return list(groups.values())

    def history(self, key: SagaKey) -> list[HistoryEntry]:
        name = f"{self._keys.saga(key)}h"
        (entries,) = self.link.round([Command(("LRANGE", name, 0, -1), name)])
        try:
            return [history_entry(entry) for entry in entries]
        except CodecError as error:
            raise CorruptRecordError(str(key), error) from error

    def sagas(
        self, name: str | None = None, *, unreadable: list[CorruptRecordError] | None = None
    ) -> Iterator[SagaRow]:
        pattern = self._keys.record_pattern(name)
        raised = unreadable is None
        unreadable = [] if unreadable is None else unreadable
        for page in self.link.scan(pattern):
            keys = [self._keys.saga_of(found) for found in page]
            for loaded in self._load_page(keys, unreadable):
                if loaded.lifecycle is not Lifecycle.ABSENT:
                    total = sum(loaded.clock.values())
                    yield SagaRow(loaded.key, loaded.lifecycle, len(loaded.versions), loaded.life, total)
        if raised and unreadable:
            raise unreadable[0]

    def _load_page(self, keys: Sequence[SagaKey], unreadable: list[CorruptRecordError]) -> list[Snapshot]:
        """Return the snapshots of *keys* without those that cannot be read, which are added to *unreadable*."""
        left = list(dict.fromkeys(keys))
        while left:
            try:
                return self.load([Want(key) for key in left])
            except CorruptRecordError as error:
                unreadable.append(error)
                left = [key for key in left if str(key) != error.key]
        return []

    # -- timers and dead letters ---------------------------------------------------------------------------------

    def note(self, bookkeeping: Bookkeeping) -> None:
        commands = self._noting(bookkeeping)
        if commands:
            self.link.round(commands)

    def _noting(self, bookkeeping: Bookkeeping | None) -> list[Command]:
        """Return the commands of *bookkeeping* that may go with the next round; what keeps something goes before.

        An outbox must not be cleared before what was in it is scheduled, nor a message forgotten before it is a dead
        letter: nodes do not wait for each other, and a full server refuses what keeps and does what forgets.
        """
        if not bookkeeping:
            return []
        forgetting = evolve(bookkeeping, scheduled=(), buried=())
        if not forgetting or not (bookkeeping.scheduled or bookkeeping.buried):
            return self.note_commands(bookkeeping)
        self.link.round(self.note_commands(evolve(bookkeeping, unscheduled=(), dispatched={}, indexed={})))
        return self.note_commands(forgetting)

    def note_commands(self, bookkeeping: Bookkeeping) -> list[Command]:
        commands: list[Command] = []
        commands += self._timers.scheduling(bookkeeping.scheduled)
        commands += self._timers.unscheduling(bookkeeping.unscheduled)
        commands += self.letters.burying(bookkeeping.buried)
        commands += self.index.noting(bookkeeping.indexed)
        for key, dispatched in bookkeeping.dispatched.items():
            outbox = f"{self._keys.saga(key)}o"
            commands += [Command(("HDEL", outbox, *ids), outbox) for ids in chunks(dispatched)]
        return commands

    def due(self, limit: int, lease_s: float) -> list[Scheduled]:
        return self._timers.due(limit, lease_s)

    def next_due_ms(self) -> tuple[int, int | None]:
        return self._timers.next_due_ms()

    def scheduled(self, limit: int = 1000) -> list[Scheduled]:
        return self._timers.scheduled(limit)

    def dead(self, limit: int = 1000) -> list[DeadLetter]:
        return list(islice(self.letters.find(), limit))


def _not_ours(key: str) -> str:
    return (
        f"the key {key} is no part of an index of sagas, and nothing was written: look whose it is, delete it, "
        f"and run `sagabus reindex APP`"
    )
