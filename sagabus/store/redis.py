"""The versioned store on Redis >= 7.0, Valkey >= 7.2, or a cluster of either.

Loads and commits of a batch are one script call on one server; on a cluster one call a slot, sent to all nodes at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeVar

import msgspec
from attrs import evolve
from redis.crc import key_slot

from sagabus.commit import Commit, HistoryEntry, Lifecycle, Result, Snapshot, Want
from sagabus.envelope import SagaKey
from sagabus.errors import CodecError, CorruptRecordError, StoreRefusedError
from sagabus.link import EPOCH, Command, Link, Script, ServerIdentity
from sagabus.node import parse_info
from sagabus.store.layout import Keys, commit_args, history_entry, load_keys, result, snapshot
from sagabus.store.protocol import Bookkeeping, DeadLetter, SagaRow, Scheduled
from sagabus.store.redis_documents import RedisDocuments
from sagabus.store.redis_leases import RedisLeases, granted

_LOAD: Final = Script.beside("sagabus.store", "load.lua")
_COMMIT: Final = Script.beside("sagabus.store", "commit.lua")
_DUE: Final = Script.beside("sagabus.store", "due.lua")
_MIN_REDIS: Final = (7, 0)
_MIN_VALKEY: Final = (7, 2)
_ITEMS_A_COMMAND: Final = 1000

T = TypeVar("T")


class _ScheduledRow(msgspec.Struct, array_like=True, frozen=True):
    id: str
    endpoint: str
    body: bytes
    due_ms: int
    partition_key: str


_letter_encoder: Final = msgspec.msgpack.Encoder()
_letter_decoder: Final = msgspec.msgpack.Decoder(DeadLetter)
_row_decoder: Final = msgspec.msgpack.Decoder(_ScheduledRow)


class RedisStore:
    """Keeps sagas in Redis or Valkey. See `Store`.

    Args:
        url: as `Link` takes it.
        namespace: what all keys begin with; two buses with different namespaces share nothing.
        link: the connections to use, where not new ones to *url*.
    """

    def __init__(self, url: str, *, namespace: str = "sagabus", link: Link | None = None) -> None:
        self.link = link or Link(url)
        self._keys = Keys(namespace)
        self.documents = RedisDocuments(self.link, self._keys)
        self.leases = RedisLeases(self.link, self._keys)
        self._opened = False

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
            _check_server(self.url, info)
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
                    found = snapshot(wants[i], reply[0], fields, seen)
                except CodecError as error:
                    raise CorruptRecordError(str(wants[i].key), error) from error
                snapshots[i] = evolve(found, grant=grants[i]) if i in grants else found
        return snapshots

    def commit(self, commits: Sequence[Commit], *, by: str) -> list[Result]:
        groups = self._by_slot([commit.key for commit in commits])
        commands = []
        for indices in groups:
            keys: list[str] = []
            args: list[Any] = [EPOCH]
            for i in indices:
                prefix = self._keys.saga(commits[i].key)
                keys += (*load_keys(prefix), f"{prefix}h")
                args += commit_args(commits[i], by)
            # A lease must not be given back before the commit that it is given back with.
            gives_back = any(commits[i].gives_back for i in indices)
            commands.append(_COMMIT.brought(keys, args) if gives_back else _COMMIT.call(keys, args))
        commands += [
            self.leases.releasing(commit.key, commit.grant)
            for commit in commits
            if commit.gives_back and commit.grant is not None
        ]
        results: list[Any] = [None] * len(commits)
        for indices, (actor, *replies) in zip(groups, self.link.round(commands), strict=False):
            for i, reply in zip(indices, replies, strict=True):
                if reply[0] == b"error":
                    raise CorruptRecordError(str(commits[i].key), reply[1].decode(errors="replace"))
                results[i] = result(commits[i], reply, actor.decode())
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

    def sagas(self, name: str | None = None) -> Iterator[SagaRow]:
        pattern = self._keys.record_pattern(name)
        unreadable: list[CorruptRecordError] = []
        for page in self.link.scan(pattern):
            keys = [self._keys.saga_of(found) for found in page]
            for loaded in self._load_page(keys, unreadable):
                if loaded.lifecycle is not Lifecycle.ABSENT:
                    total = sum(loaded.clock.values())
                    yield SagaRow(loaded.key, loaded.lifecycle, len(loaded.versions), loaded.life, total)
        if unreadable:
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
        """Return the commands of *bookkeeping* that may go with the next round; on a cluster the others go first.

        One server runs commands in order; nodes do not wait for each other, and an outbox must not be cleared before
        what was in it is scheduled.
        """
        if not bookkeeping:
            return []
        commands = self.note_commands(bookkeeping)
        if self.link.is_cluster and (bookkeeping.scheduled or bookkeeping.buried):
            first = self.note_commands(evolve(bookkeeping, dispatched={}))
            self.link.round(first)
            return commands[len(first) :]
        return commands

    def note_commands(self, bookkeeping: Bookkeeping) -> list[Command]:
        keys, commands = self._keys, []
        for items in _chunks(bookkeeping.scheduled):
            bodies: list[Any] = []
            whens: list[Any] = []
            for item in items:
                row = _ScheduledRow(item.id, item.endpoint, item.body, item.due_ms, item.partition_key)
                bodies += (item.id, msgspec.msgpack.encode(row))
                whens += (item.due_ms, item.id)
            commands.append(Command(("HSET", keys.timer_bodies, *bodies), keys.timer_bodies))
            commands.append(Command(("ZADD", keys.timers, *whens), keys.timers))
        for ids in _chunks(bookkeeping.unscheduled):
            commands.append(Command(("ZREM", keys.timers, *ids), keys.timers))
            commands.append(Command(("HDEL", keys.timer_bodies, *ids), keys.timer_bodies))
        for letters in _chunks(bookkeeping.buried):
            bodies, whens = [], []
            for letter in letters:
                name = f"{letter.endpoint}/{letter.id}"
                bodies += (name, _letter_encoder.encode(letter))
                whens += (letter.at_ms, name)
            commands.append(Command(("HSET", keys.dead_bodies, *bodies), keys.dead_bodies))
            commands.append(Command(("ZADD", keys.dead, *whens), keys.dead))
        for key, dispatched in bookkeeping.dispatched.items():
            outbox = f"{self._keys.saga(key)}o"
            commands += [Command(("HDEL", outbox, *ids), outbox) for ids in _chunks(dispatched)]
        return commands

    def due(self, limit: int, lease_s: float) -> list[Scheduled]:
        call = _DUE.call((self._keys.timers, self._keys.timer_bodies), (limit, round(lease_s * 1000)))
        return [_scheduled(data) for data in self.link.round([call])[0]]

    def next_due_ms(self) -> tuple[int, int | None]:
        name = self._keys.timers
        now, first = self.link.round(
            [Command(("TIME",), name), Command(("ZRANGE", name, 0, 0, "WITHSCORES"), name)],
        )
        return int(now[0]) * 1000 + int(now[1]) // 1000, int(float(first[1])) if first else None

    def scheduled(self, limit: int = 1000) -> list[Scheduled]:
        name = self._keys.timers
        (ids,) = self.link.round([Command(("ZRANGE", name, 0, limit - 1), name)])
        return [_scheduled(data) for data in self._bodies(self._keys.timer_bodies, ids)]

    def dead(self, limit: int = 1000) -> list[DeadLetter]:
        name = self._keys.dead
        (ids,) = self.link.round([Command(("ZRANGE", name, 0, limit - 1, "REV"), name)])
        return [_letter_decoder.decode(data) for data in self._bodies(self._keys.dead_bodies, ids)]

    def _bodies(self, name: str, ids: Sequence[bytes]) -> list[bytes]:
        if not ids:
            return []
        (bodies,) = self.link.round([Command(("HMGET", name, *ids), name)])
        return [body for body in bodies if body is not None]


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield *items* in parts that one command may take, also where a transport runs it inside a script."""
    for start in range(0, len(items), _ITEMS_A_COMMAND):
        yield items[start : start + _ITEMS_A_COMMAND]


def _scheduled(data: bytes) -> Scheduled:
    row = _row_decoder.decode(data)
    return Scheduled(row.id, row.endpoint, row.body, row.due_ms, row.partition_key)


def _check_server(url: str, info: dict[str, str]) -> None:
    """Refuse a server that is too old, or that would evict keys.

    Raises:
        StoreRefusedError: with the mend.
    """
    name, minimum = ("Valkey", _MIN_VALKEY) if "valkey_version" in info else ("Redis", _MIN_REDIS)
    text = info.get("valkey_version") or info["redis_version"]
    if tuple(int(part) for part in text.split(".")[:2]) < minimum:
        wanted = ".".join(map(str, minimum))
        raise StoreRefusedError(
            f"{name} {text} at {url} is too old; sagabus needs {name} {wanted} or newer. Upgrade the server"
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise StoreRefusedError(
            f"the server at {url} has maxmemory-policy {policy}, which would silently delete sagas; "
            f"run CONFIG SET maxmemory-policy noeviction, and set it in its configuration file"
        )
