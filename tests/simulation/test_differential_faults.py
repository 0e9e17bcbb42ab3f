"""The differential test is one that can fail: stores and workers with one fault each differ from the simulator."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from sagabus.commit import Outcome
from sagabus.link import Script
from sagabus.outgoing import Outgoing, OutgoingKind
from sagabus.runtime import saga_runner
from sagabus.runtime.outbound import Outbound
from sagabus.store import layout, redis
from tests.changes import evolve
from tests.simulation.differential.playing import Server, assert_stores_agree, assert_workers_agree

SEEDS = range(48)
SEEDS_FOR_WORKERS = range(20)


@pytest.fixture
def server(valkey_url: str, namespace: str) -> Iterator[Server]:
    """Yield a part of a private Valkey."""
    with Server.at(valkey_url, namespace) as server:
        yield server


LUA_FAULTS = {
    "decision-kept-on-a-fork": ("credit-check", "decided = settles and has.D", "decided = has.D"),
    "superseded-version-kept": ("credit-check", "(context[version[1]] or 0) >= version[2] then", "false then"),
    "merge-of-superseded-siblings-taken": ("credit-check", "if #parents > 2 then", "if false then"),
    "merge-pending-for-ever": ("merge-handler", "if ids[j] == pending then pending = '' end", ""),
    "forks-of-a-serial-saga": ("serial", "if has.S then return", "if false then return"),
    "consumed-ids-forgotten": ("duplicates", "in_parts('ZADD', I, consumed)", ""),
    "batch-half-consumed-taken": ("batches", "if hits == count then return", "if hits > 0 then return"),
    "timers-of-a-decision-lost": ("timers", "for half = 2, decided and 4 or 2, 2 do", "for half = 2, 2, 2 do"),
    "fired-timer-kept": ("timers", "== timers[1][i + 1] then", "== 0 then"),
    "outbox-without-decisions": (
        "late",
        "kept = kept .. text(asked[13])",
        "",
    ),
    "starter-forgotten": ("late", "set[#set + 1] = 's'", "set[#set + 1] = 'x'"),
    "second-life-without-its-number": ("restarted", "pack({1, life,", "pack({1, 1,"),
    "ancestor-lost": ("ancestor", "if has.P then", "if false then"),
    "same-bytes-written-again": (
        "duplicates",
        "write = parent_state ~= state",
        "write = true",
    ),
}


@pytest.mark.parametrize("fault", LUA_FAULTS)
def test_store_that_breaks_a_rule_is_found(fault: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit script with one fault differs from the simulator on some schedule."""
    name, right, wrong = LUA_FAULTS[fault]
    script = redis._COMMIT
    assert right in script.source
    source = script.source.replace(right, wrong)
    broken = Script(script.name, source, hashlib.sha1(source.encode()).hexdigest())
    monkeypatch.setattr(redis, "_COMMIT", broken)
    with pytest.raises(AssertionError):
        assert_stores_agree(name, SEEDS, server)


def test_store_that_reads_wrong_is_found(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store whose snapshots lack the timers differs from the simulator on some schedule."""
    monkeypatch.setattr(redis, "snapshot", lambda *args, **more: evolve(layout.snapshot(*args, **more), timers={}))
    with pytest.raises(AssertionError):
        assert_stores_agree("timers", SEEDS, server)


def never_marks(patch: pytest.MonkeyPatch) -> None:
    """Have workers leave outboxes as they are."""
    patch.setattr(Outbound, "mark", lambda *args: None)


def loses_events(patch: pytest.MonkeyPatch) -> None:
    """Have workers send commands and timers alone."""
    add = Outbound.add

    def some(outbound: Outbound, messages: Iterable[Outgoing]) -> None:
        add(outbound, [m for m in messages if m.kind is not OutgoingKind.EVENT])

    patch.setattr(Outbound, "add", some)


def decides_though_forked(patch: pytest.MonkeyPatch) -> None:
    """Have workers send decisions that the store has dropped."""
    committed = saga_runner._Batch._committed

    def and_decides(batch: Any, work: Any, snapshot: Any, commit: Any, result: Any) -> None:
        committed(batch, work, snapshot, commit, result)
        if result.outcome is Outcome.FORKED and commit.decision is not None:
            batch._release(snapshot, commit.decision, set())

    patch.setattr(saga_runner._Batch, "_committed", and_decides)


def gives_up_when_refused(patch: pytest.MonkeyPatch) -> None:
    """Have workers ack what was refused."""
    committed = saga_runner._Batch._committed

    def and_gives_up(batch: Any, work: Any, snapshot: Any, commit: Any, result: Any) -> None:
        committed(batch, work, snapshot, commit, result)
        batch.give_up(work, None)

    patch.setattr(saga_runner._Batch, "_committed", and_gives_up)


@pytest.mark.parametrize(
    ("break_it", "name"),
    [
        (never_marks, "credit-check"),
        (loses_events, "credit-check"),
        (decides_though_forked, "credit-check"),
        (gives_up_when_refused, "serial"),
    ],
)
def test_worker_that_breaks_a_rule_is_found(
    break_it: Callable[[pytest.MonkeyPatch], None], name: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker with one fault differs from the simulator on some schedule."""
    break_it(monkeypatch)
    with pytest.raises(AssertionError):
        assert_workers_agree(name, SEEDS_FOR_WORKERS, server)
