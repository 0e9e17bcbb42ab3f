"""Row 26: whatever can be written into a queue by somebody who is no sagabus."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from sagabus.link import Command
from tests.chaos.arena import Arena
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict

_HUGE_BYTES: Final = 1_500_000
_DEEP: Final = 100_000


def _envelope(chance: random.Random, **changed: Any) -> bytes:
    fields = {
        "specversion": "1.0",
        "id": f"bad-{chance.getrandbits(64):x}",
        "source": "/client",
        "type": "credit.check",
        "data": {"customer": "nobody"},
    }
    return json.dumps({k: v for k, v in (fields | changed).items() if v is not None}).encode()


BAD: Final[dict[str, tuple[Callable[[random.Random], bytes], frozenset[str]]]] = {
    # what it is -> (makes one, the reasons that its dead letter may have)
    "random bytes": (lambda c: c.randbytes(c.randint(1, 400)), frozenset({"undecodable"})),
    "nothing but an id": (lambda c: json.dumps({"id": f"{c.getrandbits(64):x}"}).encode(), frozenset({"undecodable"})),
    "a huge body": (lambda c: _envelope(c, data={"customer": "x" * _HUGE_BYTES}), frozenset({"too-large"})),
    "wrong types": (lambda c: _envelope(c, data={"customer": [c.getrandbits(32)]}), frozenset({"undecodable"})),
    "an id that is a number": (lambda c: _envelope(c, id=c.getrandbits(64)), frozenset({"undecodable"})),
    "no type": (lambda c: _envelope(c, type=None), frozenset({"undecodable"})),
    "an unknown type": (lambda c: _envelope(c, type=f"no.such-{c.getrandbits(32):x}"), frozenset({"unknown-type"})),
    "an unknown version": (lambda c: _envelope(c, dataversion=99), frozenset({"unknown-version"})),
    "a version below all": (lambda c: _envelope(c, dataversion=-1), frozenset({"undecodable"})),
    "deep nesting": (
        lambda c: _envelope(c, data="@").replace(b'"@"', b"[" * _DEEP + b"]" * _DEEP),
        frozenset({"undecodable", "too-deep"}),
    ),
    "no UTF-8": (lambda c: _envelope(c).replace(b"nobody", b"\xff\xfe" + c.randbytes(4)), frozenset({"undecodable"})),
    "half an envelope": (lambda c: _envelope(c)[: -c.randint(1, 40)], frozenset({"undecodable"})),
    "a type that another endpoint handles": (
        lambda c: _envelope(c, type="chaos.make-piece", data={"number": "1", "part": 0}),
        frozenset({"no-handler"}),
    ),
}


def run(arena: Arena) -> Verdict:
    """Write all of it straight into a queue, among good messages; count the dead letters by reason."""
    chance = random.Random(arena.seed)
    server = arena.server()
    load = arena.load(server.url)
    load.send(at_least=arena.size)
    store: Any = load.bus.store
    (stream,) = [name for page in store.link.scan(f"{load.settings.namespace}:q:{{credit:*") for name in page]
    names = list(BAD)
    sent: Counter[str] = Counter()
    for number in range(arena.faults):
        name = names[number % len(names)]
        body = BAD[name][0](chance)
        store.link.round([Command(("XADD", stream, "*", "b", body), stream)])
        sent[name] += 1
        if number % len(names) == 0:
            load.await_done(load.finished() + 1)
    load.until(lambda: sum(load.bus.dead_letters.count().reasons.values()) >= sent.total(), "a dead letter for each")
    reasons = Counter(load.bus.dead_letters.count().reasons)
    objections = []
    if reasons.total() != sent.total():
        objections.append(f"{sent.total()} were sent, and {reasons.total()} dead letters are there")
    allowed = {reason for _, some in BAD.values() for reason in some}
    objections += [f"{count} dead letters for {reason}" for reason, count in reasons.items() if reason not in allowed]
    for reason in allowed:
        least = sum(sent[name] for name in names if BAD[name][1] == {reason})
        if reasons[reason] < least:
            objections.append(f"{reasons[reason]} dead letters for {reason}, at least {least} were due")
    load.bus.dead_letters.drop(load.bus.dead_letters.find())
    verdict = load.finish()
    codes = load.crew.codes()
    told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    died = f"workers ended with {dict(codes)}" if codes else ""
    return verdict.with_faults(sent.total(), f"dead letters: {told}").objecting(*objections, died)


ROW = Row(
    26,
    fault="bad input on the wire",
    holds="dead-lettered with the reason; the worker lives",
    run=run,
    errands=300,
    faults=1300,
    quick_errands=10,
    quick_faults=2 * len(BAD),
)
