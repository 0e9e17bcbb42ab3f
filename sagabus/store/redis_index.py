"""The index of sagas in Redis or Valkey: two sorted sets a class, written by `commit.lua`; on a cluster by notes.

On one server an index is true, for it is written with the records. On a cluster it lies in other slots and is told
afterwards, before the messages are acked: between the two, and where notes overtake each other, it says what was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import redis
from attrs import evolve

from sagabus.envelope import SagaKey
from sagabus.errors import CodecError, CorruptRecordError
from sagabus.index.finder import find
from sagabus.index.note import IndexNote
from sagabus.index.part import Progress
from sagabus.index.query import Forked, Rebuilt, SagaCount, SagaPage, SagaQuery
from sagabus.index.rebuild import rebuild
from sagabus.index.shelf import Entry, Mend, Range, Scanned
from sagabus.index.standing import Standing
from sagabus.link import Command, Link, Script
from sagabus.link.link import is_text
from sagabus.store.chunks import chunks
from sagabus.store.layout import Keys, history_entry, standing

_PAGE: Final = Script.beside("sagabus.store", "index_page.lua")
_NOTE: Final = Script.beside("sagabus.store", "index_note.lua")
# What is lost of it in a failover is as wrong as it was, and mended again.
_MEND: Final = Script.beside("sagabus.store", "index_mend.lua", lasting=False)
_SCANNED: Final = 2000
"""Members that one step of a scan looks at: under a millisecond of the server's time."""
_GRACE_MS: Final = 60_000
_NEVER_MS: Final = 9_000_000_000_000
"""When a tombstone expires that has lost its expiry, as one that was restored from a copy may have."""
_SPECIAL: Final = re.compile(r"([\\*?\[\]])")


class RedisIndex:
    """Finds sagas by sorted sets. See `SagaIndex`."""

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link, self._keys = link, keys
        self._shelf = RedisShelf(link, keys)

    def noting(self, notes: Mapping[SagaKey, IndexNote]) -> list[Command]:
        """Return the commands that tell the index what commits have changed, where it lies in other slots."""
        commands = []
        classes: dict[str, list[Any]] = {}
        for key, note in notes.items():
            classes.setdefault(key.name, []).append((key.id, _said(note.score), _said(note.forked_ms)))
        if classes:
            commands.append(Command(("SADD", self._keys.index_names, *classes), self._keys.index_names))
        for name, of_sagas in classes.items():
            for part in chunks(of_sagas):
                commands.append(_NOTE.call(self._keys.index(name), [arg for args in part for arg in args]))
        return commands

    def find(self, query: SagaQuery, limit: int = 50, cursor: str = "") -> SagaPage:
        return find(self._shelf, query, limit, cursor)

    def counts(self) -> list[SagaCount]:
        now_ms, names = self._shelf.begin(None)
        commands = []
        for name in names:
            ages = self._keys.index(name).ages
            commands.append(Command(("ZCOUNT", ages, 0, "+inf"), ages))
            commands.append(Command(("ZCOUNT", ages, "-inf", f"({-now_ms}"), ages))
        replies = self._link.round(commands)
        counts = [SagaCount(name, replies[2 * i], replies[2 * i + 1]) for i, name in enumerate(names)]
        return [count for count in counts if count.live or count.completed]

    def forked(self) -> Forked:
        _, names = self._shelf.begin(None)
        commands = []
        for name in names:
            forks = self._keys.index(name).forks
            commands += [Command(("ZCARD", forks), forks), Command(("ZRANGE", forks, 0, 0, "WITHSCORES"), forks)]
        replies = self._link.round(commands)
        firsts = [int(float(first[1])) for first in replies[1::2] if first and b"n" not in first[1]]
        return Forked(sum(replies[::2]), min(firsts, default=None))

    def missing(self, keys: Sequence[SagaKey]) -> list[SagaKey]:
        scores = self._shelf.scores(keys, forked=False)
        return [key for key, score in zip(keys, scores, strict=True) if score is None]

    def rebuild(self, progress: Progress | None = None) -> Rebuilt:
        size = sum(int(self._link.on_node(node, "DBSIZE")) for node in self._link.node_keys())
        return rebuild(self._shelf, self._stored(), keys=size, progress=progress)

    def _stored(self) -> Iterator[list[SagaKey]]:
        for page in self._link.scan(self._keys.record_pattern(None)):
            keys = [self._keys.saga_of(found) for found in page]
            names = sorted({key.name for key in keys})
            if names:
                self._link.round([Command(("SADD", self._keys.index_names, *names), self._keys.index_names)])
            yield keys

    def trim(self, limit: int = 1000) -> int:
        now_ms, names = self._shelf.begin(None)
        places = [self._keys.index(name).ages for name in names]
        # By score alone, so that a saga which is begun anew meanwhile stays.
        command = ("LIMIT", limit - 1, 1, "WITHSCORES")
        lasts = self._link.round([Command(("ZRANGEBYSCORE", at, -now_ms, "(0", *command), at) for at in places])
        gone = [
            Command(("ZREMRANGEBYSCORE", at, -now_ms, last[1] if last else "(0"), at)
            for at, last in zip(places, lasts, strict=True)
        ]
        return sum(self._link.round(gone))


def _said(number: int | None) -> int | str:
    return "" if number is None else number


class RedisShelf:
    """The entries of the index, and the records beside them. See `Shelf`."""

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link, self._keys = link, keys

    def begin(self, names: tuple[str, ...] | None) -> tuple[int, list[str]]:
        known = self._keys.index_names
        commands = [Command(("TIME",), known)]
        if names is None:
            commands.append(Command(("SMEMBERS", known), known))
        time, *found = self._link.round(commands)
        now_ms = int(time[0]) * 1000 + int(time[1]) // 1000
        return now_ms, list(names) if names is not None else sorted(map(bytes.decode, filter(is_text, found[0])))

    def ranges(self, wanted: Sequence[Range]) -> list[list[Entry]]:
        replies = self._pages(wanted)
        foreign = [
            Command(("ZREM", key, *members), key)
            for key, reply in zip(self._keys_of(wanted), replies, strict=True)
            if (members := _foreign(reply))
        ]
        if foreign:
            # No id of ours is such, so that they would never be mended, and a page could be full of them.
            self._link.round(foreign)
            replies = self._pages(wanted)
        return [_entries(each.name, reply) for each, reply in zip(wanted, replies, strict=True)]

    def _pages(self, wanted: Sequence[Range]) -> list[Any]:
        return self._link.round(
            [
                _PAGE.call((key,), (_lowest(each.lowest), each.behind, each.count))
                for key, each in zip(self._keys_of(wanted), wanted, strict=True)
            ]
        )

    def _keys_of(self, wanted: Sequence[Range]) -> list[str]:
        return [self._key(each.name, each.forked) for each in wanted]

    def scan(self, name: str, at: int, prefix: str) -> Scanned:
        key = self._key(name, False)
        pattern = _SPECIAL.sub(r"\\\1", prefix) + "*"
        ((next_, members),) = self._link.round([Command(("ZSCAN", key, at, "MATCH", pattern, "COUNT", _SCANNED), key)])
        return Scanned(int(next_), _SCANNED, _entries(name, members))

    def scores(self, keys: Sequence[SagaKey], *, forked: bool) -> list[int | None]:
        classes: dict[str, list[int]] = {}
        for i, key in enumerate(keys):
            classes.setdefault(key.name, []).append(i)
        commands = []
        for name, indices in classes.items():
            place = self._key(name, forked)
            commands.append(Command(("ZMSCORE", place, *(keys[i].id for i in indices)), place))
        scores: list[int | None] = [None] * len(keys)
        for indices, reply in zip(classes.values(), self._link.round(commands), strict=True):
            for i, score in zip(indices, reply, strict=True):
                scores[i] = None if score is None or b"n" in score else int(float(score))
        return scores

    def stand(self, keys: Sequence[SagaKey], now_ms: int) -> list[Standing | CorruptRecordError | None]:
        names = [f"{self._keys.saga(key)}r" for key in keys]
        metas = self._link.try_round([Command(("HGET", name, "m"), name) for name in names])
        found = [_read(key, meta) for key, meta in zip(keys, metas, strict=True)]
        old = {key: each for key, each in zip(keys, found, strict=True) if _is_old(each)}
        known = dict(zip(old, self._known_of(list(old)), strict=True)) if old else {}
        return [_lasting(_dated(each, known.get(key)), now_ms) for key, each in zip(keys, found, strict=True)]

    def _known_of(self, keys: Sequence[SagaKey]) -> list[dict[str, int]]:
        """Return what is known of the times of sagas that an older sagabus has stored."""
        commands = []
        for key in keys:
            prefix = self._keys.saga(key)
            commands += [Command(("LINDEX", f"{prefix}h", nth), f"{prefix}h") for nth in (0, -1)]
            commands.append(Command(("PTTL", f"{prefix}r"), f"{prefix}r"))
        now_ms, _ = self.begin(())
        replies = self._link.try_round(commands)
        found = []
        for first, last, left_ms in zip(replies[::3], replies[1::3], replies[2::3], strict=True):
            ages = [_at_ms(entry, now_ms) for entry in (first, last)]
            times = {"started_ms": ages[0], "forked_ms": ages[1], "completed_ms": ages[1]}
            found.append(times | ({"expires_ms": now_ms + left_ms} if left_ms > 0 else {}))
        return found

    def mend(self, mends: Sequence[Mend]) -> int:
        places: dict[str, list[Any]] = {}
        for mend in mends:
            args = places.setdefault(self._key(mend.key.name, mend.forked), [])
            args += (mend.key.id, _said(mend.seen), _said(mend.score))
        commands = [_MEND.call((place,), args) for place, args in places.items()]
        return sum(self._link.round(commands))

    def _key(self, name: str, forked: bool) -> str:
        place = self._keys.index(name)
        return place.forks if forked else place.ages


def _read(key: SagaKey, meta: Any) -> Standing | CorruptRecordError | None:
    if meta is None:
        return None
    try:
        if isinstance(meta, redis.ResponseError):
            raise CodecError(str(meta))
        return standing(meta)
    except CodecError as error:
        return CorruptRecordError(str(key), error)


def _is_old(found: Standing | CorruptRecordError | None) -> bool:
    return isinstance(found, Standing) and not found.started_ms


def _dated(
    found: Standing | CorruptRecordError | None, times: Mapping[str, Any] | None
) -> Standing | CorruptRecordError | None:
    if times is None or not isinstance(found, Standing):
        return found
    dated = evolve(found, **times)
    return dated if dated.siblings > 1 else evolve(dated, forked_ms=0)


def _lasting(found: Standing | CorruptRecordError | None, now_ms: int) -> Standing | CorruptRecordError | None:
    """Return *found*; of a tombstone that has outlived its expiry, having lost it, as one that stays."""
    if isinstance(found, Standing) and found.completed and found.expires_ms < now_ms - _GRACE_MS:
        return evolve(found, expires_ms=_NEVER_MS)
    return found


def _at_ms(entry: Any, otherwise_ms: int) -> int:
    """Return when a history entry was written."""
    try:
        return otherwise_ms if entry is None or isinstance(entry, redis.ResponseError) else history_entry(entry).at_ms
    except CodecError:
        return otherwise_ms


def _entries(name: str, members: Sequence[Any]) -> list[Entry]:
    return [
        Entry(int(float(score)), name, member.decode()) for member, score in _pairs(members) if _is_ours(member, score)
    ]


def _foreign(members: Sequence[Any]) -> list[bytes]:
    """Return those members that no saga has: damaged ones."""
    return [member for member, score in _pairs(members) if not _is_ours(member, score)]


def _pairs(members: Sequence[Any]) -> Iterator[tuple[bytes, bytes]]:
    return zip(members[::2], members[1::2], strict=True)


def _is_ours(member: bytes, score: bytes) -> bool:
    return b"n" not in score and is_text(member)


def _lowest(score: int | None) -> int | str:
    return "-inf" if score is None else score
