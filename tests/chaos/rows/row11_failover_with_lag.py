"""Row 11: the primary is killed while its replica lags behind, and the replica takes over."""

from __future__ import annotations

import random
import time
from typing import Any, Final

from attrs import define, evolve, field

from sagabus.envelope import SagaKey
from tests.chaos.arena import Arena
from tests.chaos.lab.proxy import Proxy, Way
from tests.chaos.lab.server import HOST, Server
from tests.chaos.load.driver import QUIET_AFTER_FAILOVER_S, Load
from tests.chaos.load.errand import Mix
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict
from tests.chaos.whole import Written, completed, halves, written

_BETWEEN: Final = 10
_MIX: Final = Mix(gather_every=20, watch_every=6, parts=30)


@define
class _Pair:
    """A primary and a replica behind a front that clients use; the link between the two can be held.

    Attributes:
        front: leads to the primary, whichever that is.
        link: between replica and primary.
        lagged: bytes that a replica had not received when it was promoted.
    """

    arena: Arena
    primary: Server = field(init=False)
    replica: Server = field(init=False)
    front: Proxy = field(init=False)
    link: Proxy = field(init=False)
    lagged: int = 0
    failovers: int = 0

    def __attrs_post_init__(self) -> None:
        self.primary, self.replica = self.arena.server(), self.arena.server()
        self.front = self.arena.proxy(self.primary)
        self._tie()

    def _tie(self) -> None:
        self.link = self.arena.proxy(self.primary)
        self.replica.follow(HOST, self.link.port)

    def kill_primary(self) -> None:
        """Kill it, as it is ahead of its replica."""
        self.lagged += _offset(self.primary) - _offset(self.replica)
        self.primary.kill()
        self.link.cut()

    def fail_over(self) -> None:
        """Promote the replica, lead clients there, and have the old primary follow, without what it alone had."""
        self.replica.promote()
        self.front.target = self.replica.port
        self.front.cut()
        self.failovers += 1

    def heal(self) -> None:
        """Start the old primary as the replica of the new one."""
        self.primary, self.replica = self.replica, self.primary
        self.replica.start()
        self._tie()


def run(arena: Arena) -> Verdict:
    """Fail over with lag: local durability loses a tail and nothing but that; replicated durability loses nothing."""
    local, replicated = _local(arena), _replicated(arena)
    both = evolve(
        local,
        **{
            name: getattr(local, name) + getattr(replicated, name)
            for name in ("messages", "faults", "lost", "twice", "contradictory", "left_over", "unaccounted", "repeats")
        },
        seconds=local.seconds + replicated.seconds,
        notes=(*local.notes, *replicated.notes),
    )
    return both.objecting(*replicated.texts)


def _local(arena: Arena) -> Verdict:
    """Nothing is done while the replica takes over, so that every book can be read; then clients send all again."""
    chance = random.Random(arena.seed)
    pair = _Pair(arena)
    load = arena.load(pair.front.url, mix=_MIX)
    load.send(at_least=arena.size)
    forgotten: set[SagaKey] = set()
    before: Written = {}
    objections: list[str] = []
    for _ in range(arena.faults):
        load.await_done(load.finished() + _BETWEEN)
        pair.link.hold(Way.REPLIES)
        load.await_done(load.finished() + chance.randint(1, _BETWEEN))
        load.down_tools()
        done = {errand.saga for errand in list(load.accepted) if errand.last in load.done}
        before |= written(load.bus)
        pair.kill_primary()
        pair.fail_over()
        objections += halves(load.bus)
        forgotten |= done - completed(load.bus)
        pair.heal()
        load.take_up()
        load.send_again()
        load.await_done(load.finished() + 1)
        objections += _used_twice(before, load)
    verdict = load.finish(forgotten=forgotten)
    objections += _used_twice(before, load)
    note = f"local: {pair.lagged} bytes of lag; {len(forgotten)} completed sagas were forgotten, and completed again"
    return verdict.with_faults(pair.failovers if pair.lagged else 0, note).objecting(*objections)


def _replicated(arena: Arena) -> Verdict:
    """Nobody sends anything again but what was not accepted: what was is still there."""
    chance = random.Random(arena.seed)
    pair = _Pair(arena)
    load = arena.load(
        pair.front.url,
        mix=_MIX,
        bus={"durability": "replicated"},
        # Not the ledger of the other run.
        name="replicated",
    )
    load.send(at_least=arena.size)
    for _ in range(arena.faults):
        load.await_done(load.finished() + _BETWEEN)
        pair.link.hold(Way.REPLIES)
        time.sleep(chance.uniform(0.05, 0.5))
        pair.kill_primary()
        pair.fail_over()
        pair.heal()
    verdict = load.finish(quiet_s=QUIET_AFTER_FAILOVER_S)
    note = f"replicated: {pair.lagged} bytes of lag, which nobody had acted on"
    return verdict.with_faults(pair.failovers if pair.lagged else 0, note)


def _used_twice(before: Written, load: Load) -> list[str]:
    """Return the dots that stand for two versions; those of a life that is over are compared too."""
    now = written(load.bus)
    both: Any = before.keys() & now.keys()
    return [f"dot {dot} stands for {before[dot]} and for {now[dot]}" for dot in both if before[dot] != now[dot]]


def _offset(server: Server) -> int:
    info = server.info("replication")
    return int(info["master_repl_offset" if info["role"] == "master" else "slave_repl_offset"])


ROW = Row(
    11,
    fault="failover with lag",
    holds="a consistent prefix; no dot used twice; replicated: nothing acked is lost",
    run=run,
    errands=300,
    faults=5,
    quick_errands=20,
    quick_faults=1,
)
