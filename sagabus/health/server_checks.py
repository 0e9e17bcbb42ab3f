"""Checks of the servers under a bus: pure functions over what they say of themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from sagabus.errors import StoreRefusedError
from sagabus.health.facts import Facts, ServerFacts
from sagabus.health.finding import Finding, fail, ok, warn
from sagabus.link.fitness import check_fit, replicas_of

_FULL: Final = 0.9
_FILLING: Final = 0.75
_FRAGMENTED: Final = 2.0
_FRAGMENTED_BYTES: Final = 64 * 1024**2
"""A small server is always fragmented, and never matters."""
_SKEW_MS: Final = 1000.0
_NODE_SKEW_MS: Final = 500.0


def reachable(facts: Facts) -> Iterator[Finding]:
    """Check that store and broker answer, and may be worked with."""
    for what in ("store", "broker"):
        if what in facts.unreachable:
            yield fail(
                f"{what} reachable", facts.unreachable[what], f"start the {what}, or mend its URL or the network"
            )
        elif what in facts.refused:
            yield fail(f"{what} reachable", facts.refused[what], "see the text; workers refuse to work until then")
        else:
            yield ok(f"{what} reachable", "it answers")


def servers(facts: Facts) -> Iterator[Finding]:
    """Check each server by itself, and their clocks against each other."""
    for server in facts.servers:
        for check in _EACH:
            yield check(server, facts)
    clocks = [server.clock_ahead_ms for server in facts.servers]
    if len(clocks) > 1:
        apart_ms = max(clocks) - min(clocks)
        name = "clocks of servers"
        if apart_ms > _NODE_SKEW_MS + max(server.asked_in_ms for server in facts.servers):
            yield warn(name, f"{apart_ms:.0f} ms apart", "run NTP on all of them: each decides when its timers are due")
        else:
            yield ok(name, f"{apart_ms:.0f} ms apart")


def _fit(server: ServerFacts, _facts: Facts) -> Finding:
    info = server.info
    product = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info.get('redis_version')}"
    try:
        check_fit(server.name, info)
    except StoreRefusedError as error:
        found, _, mend = str(error).partition("; ")
        return fail(f"fit: {server.name}", found, mend)
    return ok(f"fit: {server.name}", f"{product}, maxmemory-policy {info.get('maxmemory_policy', 'unknown')}")


def _persistent(server: ServerFacts, _facts: Facts) -> Finding:
    name, info = f"persistence: {server.name}", server.info
    if info.get("aof_enabled") != "1":
        saves = "only its RDB snapshots are left" if info.get("rdb_last_save_time", "0") != "0" else "nothing is left"
        return fail(
            name,
            f"no append-only file: after a crash {saves}",
            "run CONFIG SET appendonly yes, and set it in its configuration file",
        )
    for field, what in (("aof_last_write_status", "write"), ("aof_last_bgrewrite_status", "rewrite")):
        if info.get(field, "ok") != "ok":
            return fail(name, f"the last {what} of its append-only file failed", "look at its log and at its disk")
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        return warn(name, "the last RDB snapshot failed", "look at its log and at its disk; some servers refuse writes")
    if server.appendfsync == "no":
        return warn(
            name,
            "append-only file that is synced when the system likes (appendfsync no)",
            "run CONFIG SET appendfsync everysec, or always",
        )
    return ok(name, f"append-only file, appendfsync {server.appendfsync or 'unknown: its user may not run CONFIG GET'}")


def _replicated(server: ServerFacts, facts: Facts) -> Finding:
    name, found = f"replicas: {server.name}", replicas_of(server.info)
    if found < facts.replicas:
        return fail(
            name,
            f"{found} in step, and the bus waits for {facts.replicas}: nothing is dispatched or acked",
            "start the replicas, or write another durability= and replicas=",
        )
    wanted = f"; the bus waits for {facts.replicas}" if facts.replicas else "; the bus waits for none"
    return ok(name, f"{found} in step{wanted}")


def _roomy(server: ServerFacts, _facts: Facts) -> Finding:
    name, info = f"memory: {server.name}", server.info
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    shown = f"{_size(used)} used"
    if most:
        shown += f" of {_size(most)}"
        mend = "raise maxmemory, or let less be kept: dedupe_window, retention, dead letters"
        if used >= _FULL * most:
            return fail(name, f"{shown}: writes are about to be refused", mend)
        if used >= _FILLING * most:
            return warn(name, shown, mend)
    ratio = float(info.get("mem_fragmentation_ratio", 1.0))
    if ratio > _FRAGMENTED and int(info.get("used_memory_rss", 0)) - used > _FRAGMENTED_BYTES:
        return warn(
            name,
            f"{shown}, {ratio:.1f} times as much taken",
            "run CONFIG SET activedefrag yes, or restart it at leisure",
        )
    return ok(name, shown if most else f"{shown}, no limit")


def _punctual(server: ServerFacts, _facts: Facts) -> Finding:
    name, ahead_ms = f"clock: {server.name}", server.clock_ahead_ms
    found = f"{abs(ahead_ms):.0f} ms {'ahead of' if ahead_ms > 0 else 'behind'} this machine's"
    if abs(ahead_ms) > _SKEW_MS + server.asked_in_ms / 2:
        return warn(
            name, found, "run NTP on both: times in logs and `at=` of a send are this machine's, timers its own"
        )
    return ok(name, found)


_EACH: Final[tuple[Callable[[ServerFacts, Facts], Finding], ...]] = (_fit, _persistent, _replicated, _roomy, _punctual)


def _size(count: int) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count} {unit}"
        count //= 1024
    return f"{count} GiB"
