"""Envelopes of the credit check, and what becomes of them in hostile hands. All of it follows from one seed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

from attrs import frozen

ENDPOINTS: Final = ("credit", "equifax", "experian", "transunion", "ledger")
_KEPT: Final = 200
"""How many earlier envelopes are remembered, to be sent once more or spliced into others."""

ODD_TEXT: Final = (
    "", " ", "\x00", "a\nb", "\x1b[2J\x1b]0;x\x07", "{x}", "}:r", "../../etc", "x" * 200, "x" * 201, "x" * 5000,
    "\u202e", "\ufffe", "é" * 150, "\U0001f600", "null", "NaN", "0", "%00%2F", "CreditCheck/", "/", "//", "CreditCheck",
    "sagabus.MergeSagaState", "__reduce__", "os.system", "examples.credit_check.saga:CreditCheck", "*", "redis://user:secret@host",
)  # fmt: skip
ODD_NUMBERS: Final = (
    0, -1, 1, 2, 3, 5, 6, 2**31, 2**53, 2**53 + 1, 2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**40, 0.5, 1e308, -0.0
)  # fmt: skip
TYPES: Final = (
    "credit.check", "credit.request-score", "credit.score-reported", "credit.decided", "sagabus.MergeSagaState",
    "nobody.knows",
)  # fmt: skip
ATTRIBUTES: Final = (
    "specversion", "id", "source", "type", "time", "data", "dataversion", "correlationid", "causationid", "replyto",
    "replysaga", "replylife", "saga", "sagalife", "timer", "attempt", "traceparent", "datacontenttype", "data_base64",
    "signature", "signaturekey", "tenant", "__class__",
)  # fmt: skip


@frozen
class Shot:
    """Bytes, and whose queue they are put into."""

    endpoint: str
    body: bytes


class Mutator:
    """Makes envelopes: some as they should be, some structurally odd, some with damaged bytes.

    Args:
        random: where all choices come from.
        customers: how many customers there are in a round; a few make collisions, forks and late messages likely.
    """

    def __init__(self, random: Random, customers: int = 100) -> None:
        self._random, self._customers = random, customers
        self._kept: list[Shot] = []
        self._number = 0
        self._round = 0

    def shots(self, count: int) -> Iterator[Shot]:
        """Yield *count* envelopes of a new round, which has customers of its own."""
        self._round += 1
        for _ in range(count):
            yield self._shot()

    def _shot(self) -> Shot:
        chance = self._random.random()
        if self._kept and chance < 0.08:
            return self._random.choice(self._kept)
        endpoint, fields = self._valid()
        if chance >= 0.3:
            for _ in range(self._random.choice((1, 1, 1, 2, 3))):
                fields = self._random.choice(_CHANGES)(self._random, fields)
        body = json.dumps(fields, ensure_ascii=self._random.random() < 0.5).encode(errors="surrogatepass")
        if chance >= 0.7:
            body = self._damaged(body)
        if self._random.random() < 0.02:
            endpoint = self._random.choice(ENDPOINTS)
        shot = Shot(endpoint, body)
        if len(self._kept) < _KEPT:
            self._kept.append(shot)
        else:
            self._kept[self._random.randrange(_KEPT)] = shot
        return shot

    def _valid(self) -> tuple[str, dict[str, Any]]:
        """Return an envelope that the credit check could have sent, and where to."""
        random = self._random
        self._number += 1
        customer = f"{self._round}-{random.randrange(self._customers)}"
        fields: dict[str, Any] = {"specversion": "1.0", "id": f"m{self._number}", "source": "/client"}
        fields["time"] = "2026-01-02T03:04:05.678Z"
        kind = random.randrange(8)
        if kind < 3:
            return "credit", fields | {"type": "credit.check", "data": {"customer": customer}}
        bureau = random.choice(ENDPOINTS[1:4])
        if kind < 6:
            fields |= {"type": "credit.score-reported", "source": f"/{bureau}", "replyto": bureau}
            fields |= {"saga": f"CreditCheck/{customer}", "sagalife": 1, "correlationid": "c", "causationid": "d"}
            return "credit", fields | {"data": {"bureau": bureau, "score": random.randrange(500, 901)}}
        if kind < 7:
            fields |= {"type": "credit.request-score", "replyto": "credit", "replysaga": f"CreditCheck/{customer}"}
            return bureau, fields | {"replylife": 1, "data": {"customer": customer}}
        data = {"customer": customer, "accepted": True, "average": 710.5, "scores": {"equifax": 710, "experian": 711}}
        return "ledger", fields | {"type": "credit.decided", "data": data}

    def _damaged(self, body: bytes) -> bytes:
        random = self._random
        data = bytearray(body)
        for _ in range(random.choice((1, 1, 2, 5))):
            at = random.randrange(len(data) + 1)
            match random.randrange(7):
                case 0 if data:
                    data[at % len(data)] ^= 1 << random.randrange(8)
                case 1:
                    data[at:at] = random.randbytes(random.randrange(1, 9))
                case 2:
                    del data[at : at + random.randrange(1, 20)]
                case 3:
                    del data[at:]
                case 4:
                    data[at:at] = random.choice(_TOKENS)
                case 5 if self._kept:
                    other = random.choice(self._kept).body
                    data[at:] = other[random.randrange(len(other) + 1) :]
                case _:
                    data[at:at] = data[at : at + 30]
        return bytes(data)


_TOKENS: Final = (
    b'"', b"\\", b"{", b"}", b"[" * 70, b"[" * 3000, b":", b",", b"\\ud800", b"\\u0000", b"NaN", b"-Infinity", b"1e999",
    b"\xff\xfe", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r\n", b"9" * 400, b"//", b"null", b"\x00" * 8,
    b'"id":"x",', b'"type":"credit.check",', b'"attempt":9007199254740992,',
)  # fmt: skip

Change = Callable[[Random, dict[str, Any]], dict[str, Any]]


def _odd_value(random: Random, depth: int = 0) -> Any:
    kind = random.randrange(8 if depth < 3 else 5)
    if kind < 2:
        return random.choice(ODD_TEXT)
    if kind < 4:
        return random.choice(ODD_NUMBERS)
    if kind == 4:
        return random.choice((None, True, False))
    if kind == 5:
        return [_odd_value(random, depth + 1) for _ in range(random.randrange(3))]
    if kind == 6:
        return {random.choice(ODD_TEXT)[:50]: _odd_value(random, depth + 1) for _ in range(random.randrange(3))}
    return _nested(random.choice((10, 60, 63, 64, 65, 66, 200)))


def _nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"n": value}
    return value


def _odd_attribute(random: Random, fields: dict[str, Any]) -> dict[str, Any]:
    return fields | {random.choice(ATTRIBUTES): _odd_value(random)}


def _without(random: Random, fields: dict[str, Any]) -> dict[str, Any]:
    gone = random.choice(ATTRIBUTES)
    return {name: value for name, value in fields.items() if name != gone}


def _another_type(random: Random, fields: dict[str, Any]) -> dict[str, Any]:
    return fields | {"type": random.choice(TYPES)}


def _odd_body(random: Random, fields: dict[str, Any]) -> dict[str, Any]:
    data = fields.get("data")
    if not isinstance(data, dict) or random.random() < 0.2:
        return fields | {"data": _odd_value(random)}
    name = random.choice([*data, "extra"])
    return fields | {"data": data | {name: _odd_value(random)}}


def _smaller_body(random: Random, fields: dict[str, Any]) -> dict[str, Any]:
    data = fields.get("data")
    if not isinstance(data, dict) or not data:
        return fields
    gone = random.choice(list(data))
    return fields | {"data": {name: value for name, value in data.items() if name != gone}}


def _forged(random: Random, fields: dict[str, Any]) -> dict[str, Any]:
    """Pretend to know what only the runtime says: another saga or life, a timer, an attempt, a merge."""
    saga = random.choice(
        (fields.get("saga") or "CreditCheck/1-1", "CreditCheck/1-2", "Other/1", "CreditCheck/" + "y" * 201)
    )
    forged = {
        "saga": saga, "sagalife": random.choice((0, 1, 2, 7, 2**53)), "timer": random.choice(("t", "remind")),
        "attempt": random.choice((1, 2, 4, 5, 6, 2**53)), "replyto": random.choice((*ENDPOINTS, "nowhere", "é" * 200)),
        "replysaga": saga, "type": "sagabus.MergeSagaState", "dataversion": random.choice((0, 1, 2, 99)),
    }  # fmt: skip
    return fields | {name: forged[name] for name in random.sample(sorted(forged), random.randrange(1, 4))}


_CHANGES: Final[tuple[Change, ...]] = (
    _odd_attribute, _odd_attribute, _without, _another_type, _odd_body, _odd_body, _smaller_body, _forged, _forged
)  # fmt: skip
