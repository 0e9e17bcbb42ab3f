"""What the doctor says of facts: no server needed."""

from __future__ import annotations

from typing import Any

import pytest

from sagabus.health.checks import check_all
from sagabus.health.facts import Facts, QueueFacts, SagaFacts, ServerFacts
from sagabus.health.finding import Finding, Verdict
from tests.changes import evolve

INFO = {
    "redis_version": "7.2.4",
    "valkey_version": "8.1.0",
    "maxmemory_policy": "noeviction",
    "aof_enabled": "1",
    "aof_last_write_status": "ok",
    "aof_last_bgrewrite_status": "ok",
    "rdb_last_bgsave_status": "ok",
    "used_memory": "1000000",
    "used_memory_rss": "2000000",
    "maxmemory": "0",
    "mem_fragmentation_ratio": "2.0",
    "role": "master",
    "connected_slaves": "0",
}
SERVER = ServerFacts("store and queues", "here", INFO, "everysec")
WELL = Facts(30.0, servers=(SERVER,), queues=(QueueFacts("a", 3, 1000, 2, 1.0),), sagas_seen=10)


def not_ok(facts: Facts) -> list[Finding]:
    found = check_all(facts)
    assert all(finding.mend for finding in found if finding.verdict is not Verdict.OK), "what is not ok has its mend"
    return [finding for finding in found if finding.verdict is not Verdict.OK]


def server(**info: str) -> Facts:
    return evolve(WELL, servers=(evolve(SERVER, info=INFO | info),))


def test_bus_that_is_well_is_ok_throughout() -> None:
    """Every check says so, and says what it looked at."""
    found = check_all(WELL)
    assert {finding.verdict for finding in found} == {Verdict.OK}
    assert all(finding.found and not finding.mend for finding in found)
    names = {finding.check.partition(":")[0] for finding in found}
    assert {"store reachable", "broker reachable", "fit", "persistence", "replicas", "memory", "clock"} <= names
    assert {"queue", "records", "mergers", "stuck sagas", "dead letters", "timers", "packages"} <= names


@pytest.mark.parametrize(
    ("facts", "check", "verdict", "text"),
    [
        (server(maxmemory_policy="allkeys-lru"), "fit: here", "fail", "allkeys-lru"),
        (server(valkey_version="7.0.0"), "fit: here", "fail", "too old"),
        (server(aof_enabled="0"), "persistence: here", "fail", "no append-only file"),
        (server(aof_last_write_status="err"), "persistence: here", "fail", "the last write"),
        (server(aof_last_bgrewrite_status="err"), "persistence: here", "fail", "the last rewrite"),
        (server(rdb_last_bgsave_status="err"), "persistence: here", "warn", "RDB"),
        (evolve(WELL, servers=(evolve(SERVER, appendfsync="no"),)), "persistence: here", "warn", "appendfsync no"),
        (evolve(WELL, replicas=1), "replicas: here", "fail", "the bus waits for 1"),
        (server(maxmemory="1050000"), "memory: here", "fail", "about to be refused"),
        (server(maxmemory="1250000"), "memory: here", "warn", "976 KiB used of 1 MiB"),
        (
            server(mem_fragmentation_ratio="3.0", used_memory="100000000", used_memory_rss="300000000"),
            "memory: here",
            "warn",
            "3.0 times",
        ),
        (evolve(WELL, servers=(evolve(SERVER, clock_ahead_ms=-5000.0),)), "clock: here", "warn", "5000 ms behind"),
        (
            evolve(WELL, servers=(SERVER, evolve(SERVER, name="there", clock_ahead_ms=900.0))),
            "clocks of servers",
            "warn",
            "900 ms apart",
        ),
        (evolve(WELL, unreachable={"broker": "no answer"}), "broker reachable", "fail", "no answer"),
        (evolve(WELL, refused={"store": "no right"}), "store reachable", "fail", "no right"),
        (evolve(WELL, unindexed=3), "index", "warn", "3 of 10 sagas looked at are not in it"),
        (evolve(WELL, queues=(QueueFacts("a", 950, 1000, 1),)), "queue: a", "fail", "senders are held up"),
        (evolve(WELL, queues=(QueueFacts("a", 600, 1000, 1),)), "queue: a", "warn", "600 messages"),
        (evolve(WELL, queues=(QueueFacts("a", 1, 1000, 0, 120.0),)), "queue: a", "fail", "the oldest for 2 minutes"),
        (evolve(WELL, unreadable={"S/1": "the record of saga S/1"}), "records", "fail", "the record of saga S/1"),
        (evolve(WELL, letters={"failed": 2, "no-saga": 1}), "dead letters", "warn", "2 failed, 1 no-saga"),
        (evolve(WELL, overdue=3, overdue_s=60.0), "timers", "fail", "3 overdue, the first for 60 s"),
        (evolve(WELL, shadowed=("package 'sagas' was",)), "packages", "fail", "package 'sagas' was"),
    ],
)
def test_doctor_names_what_is_wrong(facts: Facts, check: str, verdict: str, text: str) -> None:
    """One finding, of the right weight, about the right thing, with its mend."""
    (finding,) = not_ok(facts)
    assert (finding.check, finding.verdict.value) == (check, verdict)
    assert text in finding.found


def saga(**fields: Any) -> SagaFacts:
    return SagaFacts("S/1", **fields)


@pytest.mark.parametrize(
    ("facts", "check", "text"),
    [
        (saga(undispatched=2, undispatched_s=31.0), "stuck sagas", "what 2 of its messages caused has not left"),
        (saga(undispatched=1), "stuck sagas", "a time that its history does not tell"),
        (saga(siblings=2, quiet_s=31.0), "stuck sagas", "no MergeSagaState under way"),
        (saga(siblings=2, quiet_s=31.0, pending_merge=True), "stuck sagas", "under way for 31 s"),
        (saga(siblings=2, quiet_s=31.0, pending_merge=True, unmergeable="no"), "mergers", "cannot be folded: no"),
        (saga(unknown=True), "classes", "no saga S"),
    ],
)
def test_doctor_finds_sagas_that_stand_still(facts: SagaFacts, check: str, text: str) -> None:
    """Each is named, with what it waits for."""
    (finding,) = not_ok(evolve(WELL, sagas=(facts,)))
    assert finding.check == check
    assert text in finding.found


@pytest.mark.parametrize(
    "facts",
    [
        saga(undispatched=2, undispatched_s=29.0),
        saga(siblings=2, quiet_s=29.0),
        saga(siblings=2, quiet_s=29.0, pending_merge=True),
    ],
)
def test_doctor_leaves_sagas_alone_that_somebody_may_be_at_work_on(facts: SagaFacts) -> None:
    """Within the claim time a worker may hold their messages."""
    assert not_ok(evolve(WELL, sagas=(facts,))) == []


def test_doctor_names_only_some_of_many() -> None:
    """And says how many more there are."""
    facts = evolve(WELL, sagas=tuple(SagaFacts(f"S/{n}", undispatched=1) for n in range(20)))
    found = not_ok(facts)
    assert len(found) == 6
    assert found[-1].found == "and 15 more"


def test_queue_of_unknown_length_is_left_alone() -> None:
    """Some brokers cannot tell."""
    assert not_ok(evolve(WELL, queues=(QueueFacts("a", -1),))) == []
