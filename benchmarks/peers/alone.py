"""What sagabus costs by itself: a second process, many sagas that are stored, nothing to do, and the first message.

Linux only, as `load` is.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any, Final

from benchmarks.peers import cluster, course
from benchmarks.peers.course import Pace
from benchmarks.peers.load import Mark
from benchmarks.peers.ours import APP, Ours
from benchmarks.peers.peer import processes
from benchmarks.peers.task import UndoneError
from examples.credit_check.messages import CheckCredit
from examples.credit_check.saga import CreditCheck
from sagabus import Bus
from sagabus.advance import advance
from sagabus.commit import Want
from sagabus.envelope import Incoming, SagaKey, wrap
from sagabus.store.layout import Keys

MESSAGES_A_CHECK: Final = 7
FEW, MANY = 1_000, 1_000_000
"""How many live sagas are stored."""
PROCESSES: Final = (1, 2, 4)
WIDTHS: Final = (10, 100, 1_000, 10_000)
STARTS: Final = 5
_WORKER: Final = (sys.executable, "-m", "sagabus", "worker", APP, "--log-level", "ERROR")
_COPIED: Final = 2_000
_WIDE_TURNS: Final = 3
_IDLE_S: Final = 10.0
_SETTLES_S: Final = 3.0
_GIVE_UP_S: Final = 60.0

_COPY: Final = """
for number = ARGV[3], ARGV[4] do
  for _, part in ipairs({'r', 'i', 'h'}) do
    redis.call('COPY', ARGV[1] .. part, ARGV[2] .. string.format('%09d', number) .. '}:' .. part)
  end
end
"""
"""Store sagas like one that is there. ARGV: what its keys begin with, and theirs without the number; from, to."""

Tell = Callable[[str], None]


def figures(make_server: Callable[[], Any], pace: Pace, many: int, tell: Tell) -> dict[str, Any]:
    """Return what was measured, by name, each part on a private server of its own.

    Args:
        make_server: opens a server: its URL, a folder, and a client.
        many: how many sagas there are where there are many.
        tell: is told what goes on.
    """
    found: dict[str, Any] = {}
    found["by_processes"] = _by_processes(make_server, pace, tell)
    found["by_stored"] = _by_stored(make_server, pace, many, tell)
    tell("a cluster of three nodes")
    found["on_a_cluster"] = cluster.figures(pace, MESSAGES_A_CHECK)
    tell("hot sagas, wide ones too")
    found["by_width"] = _by_width(make_server)
    tell("starts, and nothing to do")
    found |= _starts_and_rest(make_server)
    found["import_ms"] = _import_ms()
    return found


# -- more processes ----------------------------------------------------------------------------------------------


def _by_processes(make_server: Callable[[], Any], pace: Pace, tell: Tell) -> list[dict[str, Any]]:
    """Measure with more and more processes, in turns; medians."""
    turns = [[_with_processes(make_server, pace, number, tell) for number in PROCESSES] for _ in range(pace.runs)]
    return [{name: median(run[name] for run in runs) for name in runs[0]} for runs in zip(*turns, strict=True)]


def _with_processes(make_server: Callable[[], Any], pace: Pace, processes: int, tell: Tell) -> dict[str, Any]:
    tell(f"{processes} worker processes")
    with make_server() as (url, folder, client), Ours(processes).running(url, folder) as running:
        names = course.new_names()
        course.latency(running, names, 5)
        rate = course.quiet(lambda: course.throughput(running, client, names, pace))
    usage = rate.usage
    return {
        "processes": processes,
        "checks_per_s": rate.checks_per_s,
        "worker_us_a_message": usage.workers / rate.checks_per_s / MESSAGES_A_CHECK * 1e6,
        "server_us_a_message": usage.server / rate.checks_per_s / MESSAGES_A_CHECK * 1e6,
        "bytes_a_message": usage.bytes / usage.seconds / rate.checks_per_s / MESSAGES_A_CHECK,
    }


# -- many sagas --------------------------------------------------------------------------------------------------


def _by_stored(make_server: Callable[[], Any], pace: Pace, many: int, tell: Tell) -> list[dict[str, Any]]:
    """Measure with few sagas stored and with many, in turns: few, many, few again on a server that never had more."""
    with (
        make_server() as (url_few, folder_few, client_few),
        make_server() as (url_many, folder_many, client_many),
        Ours().running(url_few, folder_few) as few,
        Ours().running(url_many, folder_many) as lots,
    ):
        sides = ((FEW, url_few, client_few, few), (many, url_many, client_many, lots))
        for stored, url, client, running in sides:
            tell(f"{stored:,} live sagas")
            store_live(url, client, running.namespace, stored)
        names = course.new_names()
        runs: dict[int, list[dict[str, float]]] = {stored: [] for stored, *_ in sides}
        for _ in range(pace.runs):
            for stored, _url, client, running in sides:
                rate = course.throughput(running, client, names, pace)
                cost = (rate.usage.workers + rate.usage.server) / rate.checks_per_s / MESSAGES_A_CHECK * 1e6
                runs[stored].append({"checks_per_s": rate.checks_per_s, "us_a_message": cost})
    return [
        {
            "stored": stored,
            "checks_per_s": median(run["checks_per_s"] for run in found),
            "us_a_message": median(run["us_a_message"] for run in found),
        }
        for stored, found in runs.items()
    ]


def store_live(url: str, client: Any, namespace: str, number: int) -> None:
    """Store so many live checks, which have asked and heard of nobody yet."""
    client.config_set("auto-aof-rewrite-percentage", 0)
    keys = Keys(namespace)
    with Bus(url, url, namespace=namespace) as bus:
        bus.endpoint("credit", CreditCheck)
        definition, key = bus.saga("CreditCheck"), SagaKey("CreditCheck", "template")
        begin = wrap(CheckCredit(customer=key.id), id="template", source="/client", now_ms=0)
        (snapshot,) = bus.store.load([Want(key)])
        bus.store.commit([advance(definition, snapshot, [Incoming(begin)])], by="benchmark")
    source = keys.saga(key)
    target = keys.saga(SagaKey(key.name, "stored"))[: -len("}:")]
    for start in range(1, number, _COPIED):
        client.eval(_COPY, 0, source, target, start, min(start + _COPIED, number) - 1)


# -- wide ones ---------------------------------------------------------------------------------------------------


def _by_width(make_server: Callable[[], Any]) -> list[dict[str, Any]]:
    """Measure one width after the other, in turns; medians."""
    times: dict[int, list[float]] = {width: [] for width in WIDTHS}
    with make_server() as (url, folder, _client), Ours().running(url, folder) as running:
        names = course.new_names()
        course.latency(running, names, 5)
        for _ in range(_WIDE_TURNS):
            for width, found in times.items():
                found += course.hot_often(running, names, width, Pace(hot_s=0.5))
    return [{"width": width, "us_a_reply": median(found)} for width, found in times.items()]


# -- one worker --------------------------------------------------------------------------------------------------


def _starts_and_rest(make_server: Callable[[], Any]) -> dict[str, Any]:
    """Start a worker again and again, each time with a message that waits for it; then leave it alone."""
    with make_server() as (url, folder, client), Bus(url, url, namespace="alone") as bus:
        bus.endpoint("credit", CreditCheck)
        bus.transport.declare("credit", subscriptions=())
        bus.transport.declare("equifax", subscriptions=())
        requests = "alone:q:{equifax:0}"
        environment = {"SAGABUS_STORE": url, "SAGABUS_TRANSPORT": url, "PEERS_NAMESPACE": "alone"}
        took_s: list[float] = []
        idle = 0.0
        for number in range(STARTS + 1):
            bus.send(CheckCredit(customer=f"c{number}"), to="credit")
            before = _added(client, requests)
            began_at = time.perf_counter()
            with processes([_WORKER], folder, environment) as pids:
                while _added(client, requests) == before:
                    if time.perf_counter() - began_at > _GIVE_UP_S:
                        raise UndoneError("a worker that was started handled nothing")
                    time.sleep(0.001)
                took_s.append(time.perf_counter() - began_at)
                if number == STARTS:
                    time.sleep(_SETTLES_S)
                    mark = Mark.now(pids, client)
                    time.sleep(_IDLE_S)
                    idle = mark.until(Mark.now(pids, client)).workers
    # The first one writes the compiled files of what was never run before.
    return {"start_s": median(took_s[1:]), "idle_cores": idle}


def _added(client: Any, stream: str) -> int:
    return int(client.xinfo_stream(stream)["entries-added"])


def _import_ms() -> float:
    """Return how much longer an interpreter takes that imports sagabus, milliseconds."""
    return (median(_runs("import sagabus")) - median(_runs("pass"))) * 1000


def _runs(code: str) -> Iterator[float]:
    for _ in range(2 * STARTS):
        began_at = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        yield time.perf_counter() - began_at
