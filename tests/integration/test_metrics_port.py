"""`sagabus worker --metrics-port`: one target for all processes of a command, whose counters never fall."""

from __future__ import annotations

import os
import signal
import socket
import urllib.request
from collections import defaultdict

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import servers
from tests.integration.processes import APP, Place
from tests.servers import until


def scraped(port: int) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the values of all series, by name and by their labels in order; nothing where nobody serves yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    found: dict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name][tuple(sample.labels[name] for name in sorted(sample.labels))] = sample.value
    return found


@pytest.mark.parametrize("processes", ["1", "2"])
def test_work_of_all_processes_is_served(place: Place, processes: str) -> None:
    """Added up; with how store and queues stand."""
    (port,) = servers.free_ports(1)
    options = ("--processes", processes, "--metrics-port", str(port))
    with place.running("worker", APP, "--endpoints", "quick", *options) as workers:
        place.send_quick_jobs(20, stop_at=-1, whom="")
        until(lambda: scraped(port).get("sagabus_messages_handled_total") == {("quick", "quick.job"): 20.0}, "the jobs")
        found = scraped(port)
        assert found["sagabus_message_latency_seconds_count"] == {("quick",): 20.0}
        assert found["sagabus_handler_seconds_count"] == {("quick",): 20.0}
        assert list(found["sagabus_worker_up"].values()) == [1.0] * int(processes)
        assert found["sagabus_up"] == {("store",): 1.0, ("broker",): 1.0}
        assert found["sagabus_queue_age_seconds"][("quick",)] >= 0.0
        workers.send_signal(signal.SIGTERM)
        assert workers.wait(timeout=60) == 0
        assert scraped(port) == {}


def test_counters_go_on_where_a_killed_worker_is_replaced(place: Place) -> None:
    """No scrape ever sees fewer than the one before; who is gone is down until another is there."""
    (port,) = servers.free_ports(1)
    options = ("--processes", "2", "--metrics-port", str(port))
    seen = [0.0]

    def handled() -> float:
        series = scraped(port).get("sagabus_messages_handled_total", {})
        seen.append(max(series.get(("quick", "quick.job"), 0.0), 0.0))
        return seen[-1]

    with place.bus() as bus, place.running("worker", APP, "--endpoints", "quick", *options) as workers:
        place.send_quick_jobs(10, stop_at=-1, whom="")
        until(lambda: handled() == 10.0, "the first jobs")
        for card in bus.store.presence.cards().cards:
            os.kill(card.pid, signal.SIGKILL)
        until(lambda: scraped(port)["sagabus_worker_restarts_total"] == {(): 2.0}, "two successors")
        for _ in range(5):
            handled()
        place.send_quick_jobs(10, stop_at=-1, whom="")
        until(lambda: handled() == 20.0, "the other jobs")
        until(lambda: list(scraped(port)["sagabus_worker_up"].values()) == [1.0, 1.0], "both to be up")
        workers.send_signal(signal.SIGTERM)
        assert workers.wait(timeout=60) == 0
    assert seen == sorted(seen)


def test_metrics_of_an_address_that_is_taken_end_the_command(place: Place) -> None:
    """With exit code 2, a line that says what to do, and no worker left behind."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for processes in ("1", "2"):
            done = place.sagabus(
                "worker", APP, "--processes", processes, "--metrics-port", str(port), check=False, anew=True
            )
            assert done.returncode == 2
            assert f"metrics cannot be served at {port}" in done.stderr
