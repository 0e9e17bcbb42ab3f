"""Waiting messages in Redis or Valkey, for people: `take_timer.lua` changes one, where nobody has begun to send it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from heapq import merge
from typing import Final

from sagabus.envelope import SagaKey
from sagabus.link import Command, Link, Script
from sagabus.store.layout import Keys, TimerPlace
from sagabus.store.redis_timers import RedisTimers, read_row
from sagabus.waiting.message import Waiting

_TAKE: Final = Script.beside("sagabus.store", "take_timer.lua")
_BEHIND: Final = Script.beside("sagabus.store", "waiting_page.lua")
_FORGET: Final = Script.beside("sagabus.store", "forget_timer.lua")
_PAGE: Final = 500


class RedisWaiting:
    """Shows and changes waiting messages. See `WaitingStore`."""

    def __init__(self, link: Link, keys: Keys, timers: RedisTimers) -> None:
        self._link, self._keys, self._timers = link, keys, timers

    def find(self, since_ms: int | None = None, until_ms: int | None = None) -> Iterator[Waiting]:
        walks = [self._walk(place, since_ms, until_ms) for place in self._timers.places]
        return merge(*walks, key=lambda waiting: (waiting.at_ms, waiting.item.id))

    def _walk(self, place: TimerPlace, since_ms: int | None, until_ms: int | None) -> Iterator[Waiting]:
        """Yield what one place holds. Ranks shift when others send, so each page begins behind the last one seen."""
        lowest: str | int = "-inf" if since_ms is None else since_ms
        last: tuple[int, bytes] | None = None
        skip = 0
        while True:
            id_ = b"" if last is None else last[1]
            (found,) = self._link.round([_BEHIND.call((place.whens,), (lowest, id_, skip, _PAGE))])
            entries = [(int(float(found[i + 1])), found[i]) for i in range(0, len(found), 2)]
            fresh = [entry for entry in entries if last is None or entry > last]
            wanted = [entry for entry in fresh if until_ms is None or entry[0] < until_ms]
            if wanted:
                yield from self._read(place, wanted)
            if len(entries) < _PAGE or len(wanted) < len(fresh):
                return
            if fresh:
                last = fresh[-1]
                lowest, skip = last[0], 0
            else:
                skip += _PAGE

    def _read(self, place: TimerPlace, entries: list[tuple[int, bytes]]) -> Iterator[Waiting]:
        command = Command(("HMGET", place.bodies, *(id_ for _, id_ in entries)), place.bodies)
        (bodies,) = self._link.round([command])
        for (at_ms, id_), body in zip(entries, bodies, strict=True):
            if body is not None:
                yield Waiting(read_row(id_, body), at_ms)

    def get(self, name: str) -> Waiting | None:
        for place in self._timers.places_of(name):
            at_ms, body = self._link.round(
                [
                    Command(("ZSCORE", place.whens, name), place.whens),
                    Command(("HGET", place.bodies, name), place.bodies),
                ]
            )
            if at_ms is not None and body is not None:
                return Waiting(read_row(name.encode(), body), int(float(at_ms)))
        return None

    def take(self, waiting: Waiting) -> bool:
        token = uuid.uuid4().hex
        taken = self._change(waiting, "take", token)
        if taken:
            self._change(waiting, "taken", token)
        return taken

    def hurry(self, waiting: Waiting) -> bool:
        return self._change(waiting, "hurry")

    def _change(self, waiting: Waiting, what: str, token: str = "") -> bool:
        args = (waiting.item.id, waiting.item.due_ms, what, token)
        places = self._timers.places_of(waiting.item.id)
        return any(self._link.round([_TAKE.call((place.whens, place.bodies), args) for place in places]))

    def forget_timer(self, saga: SagaKey, timer: str, message_id: str) -> bool:
        (known,) = self._link.round([_FORGET.call((f"{self._keys.saga(saga)}r",), (timer, message_id))])
        return bool(known)
