"""Workers and paused endpoints in Redis or Valkey: `show.lua`, `pause.lua`, on the server's clock; all on one slot."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import redis

from sagabus.link import Command, Link, Script, as_error
from sagabus.store.layout import Keys
from sagabus.telemetry.card import KEPT_MS, Orders, Pause, Roster, WorkerCard, decode_card, encode_card

# What it writes is shown anew a second later.
_SHOW: Final = Script.beside("sagabus.store", "show.lua", lasting=False)
_PAUSE: Final = Script.beside("sagabus.store", "pause.lua")
_decoder: Final = msgspec.msgpack.Decoder(tuple[str, str, int])


class RedisPresence:
    """Keeps cards in a hash. See `PresenceStore`."""

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link, self._keys = link, keys

    def show(self, card: WorkerCard) -> Orders:
        return Orders(frozenset(_text(name) for name in self._show(card.worker, encode_card(card))))

    def leave(self, worker: str) -> None:
        self._show(worker, b"")

    def _show(self, worker: str, card: bytes) -> Any:
        keys = self._keys
        command = _SHOW.call((keys.worker_cards, keys.workers_seen, keys.paused), (worker, card, KEPT_MS))
        (reply,) = self._link.try_round([command], patience_s=0.0)
        if isinstance(reply, redis.ResponseError):
            raise as_error(command, reply, self._link.shown_url)
        return reply

    def cards(self) -> Roster:
        keys = self._keys
        time, fields, seen = self._link.round(
            [
                Command(("TIME",), keys.worker_cards),
                Command(("HGETALL", keys.worker_cards), keys.worker_cards),
                Command(("ZRANGE", keys.workers_seen, 0, -1, "WITHSCORES"), keys.workers_seen),
            ]
        )
        now_ms = int(time[0]) * 1000 + int(time[1]) // 1000
        data = dict(zip(fields[::2], fields[1::2], strict=True))
        seen_ms = {name: int(float(score)) for name, score in zip(seen[::2], seen[1::2], strict=True)}
        return Roster(
            now_ms,
            tuple(
                decode_card(_text(name), data[name], seen_ms[name])
                for name in sorted(data)
                if seen_ms.get(name, 0) > now_ms - KEPT_MS
            ),
        )

    def pause(self, endpoint: str, by: str, why: str = "") -> Pause:
        (reply,) = self._link.round([_PAUSE.call([self._keys.paused], ("pause", endpoint, by, why))])
        return _pause(endpoint, reply)

    def resume(self, endpoint: str) -> Pause | None:
        (reply,) = self._link.round([_PAUSE.call([self._keys.paused], ("resume", endpoint))])
        return None if reply is None else _pause(endpoint, reply)

    def paused(self) -> dict[str, Pause]:
        (fields,) = self._link.round([Command(("HGETALL", self._keys.paused), self._keys.paused)])
        pauses = [_pause(_text(name), data) for name, data in zip(fields[::2], fields[1::2], strict=True)]
        return {pause.endpoint: pause for pause in sorted(pauses, key=lambda pause: pause.endpoint)}


def _pause(endpoint: str, data: bytes) -> Pause:
    """Return what is stored; that it is there pauses the endpoint, also where it cannot be read."""
    try:
        return Pause(endpoint, *_decoder.decode(data))
    except (msgspec.MsgspecError, ValueError):
        return Pause(endpoint, why="what the store has of this pause cannot be read")


def _text(name: bytes) -> str:
    return name.decode(errors="replace")
