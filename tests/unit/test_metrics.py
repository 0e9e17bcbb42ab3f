"""What Prometheus is told: every name that the page lists, and no other; quickly, whatever servers do."""

from __future__ import annotations

import re
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from sagabus import Bus, Context, message
from sagabus.dead_letters.letter import DeadLetter
from sagabus.errors import ConfigurationError, StoreUnavailableError
from sagabus.store.protocol import Bookkeeping, Scheduled
from sagabus.telemetry.counters import Counts, EndpointCounts
from sagabus.telemetry.counts_file import CountsFile, LivesCounts
from sagabus.telemetry.exposition import StandingCollector, WorkCollector
from sagabus.telemetry.families import FAMILIES, OF_STORE, Family
from sagabus.telemetry.lookup import Lookup
from sagabus.telemetry.metrics_server import metrics_served
from sagabus.telemetry.standing import queue_standing, store_standing
from sagabus.telemetry.work import Work
from sagabus.testing.presence_contract import worker_card
from tests.integration.apps import START_MS, Clock, memory_parts

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
LOG = structlog.get_logger()


@message("metrics.job")
class Job:
    pass


@pytest.fixture
def bus() -> Bus:
    store, transport = memory_parts(Clock())
    bus = Bus(store=store, transport=transport)

    @bus.endpoint("jobs").consumer
    def work(m: Job, context: Context) -> None: ...

    return bus


def scrape(*collectors: Any) -> dict[str, Metric]:
    """Return what is exposed, as the client of Prometheus reads it, by name."""
    registry = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        registry.register(collector)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {f"{family.name}{'_total' if family.type == 'counter' else ''}": family for family in families}


def standing(bus: Bus, **options: float) -> StandingCollector:
    return StandingCollector(
        Lookup(lambda: store_standing(bus), name="store", log=LOG, **options),
        Lookup(lambda: queue_standing(bus), name="broker", log=LOG, **options),
        frozenset(bus.endpoints),
    )


def values(family: Metric) -> dict[tuple[str, ...], float]:
    """Return the values of a family by its labels, in the order of their names."""
    return {tuple(sample.labels[name] for name in sorted(sample.labels)): sample.value for sample in family.samples}


def full_work() -> Work:
    counts = worker_card().counts
    return Work(counts, {"w-0": True, "w-1": False}, restarts=3)


def documented() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return the names on the page, each with its kind and labels."""
    found = {}
    for name, kind, labels in re.findall(r"^\| `(sagabus_\w+)` \| (\w+) \| ([^|]*)\|", PAGE.read_text(), re.MULTILINE):
        found[name] = kind, tuple(re.findall(r"`(\w+)`", labels))
    return found


# -- names ---------------------------------------------------------------------------------------------------------


def test_page_lists_what_is_exposed_and_no_other(bus: Bus) -> None:
    """Both ways: by names, kinds and labels."""
    bus.store.note(Bookkeeping(scheduled=(Scheduled("x", "jobs", b"{}", START_MS),)))
    exposed = scrape(WorkCollector(full_work), standing(bus))
    found = {}
    for name, family in exposed.items():
        names = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = family.type, names
    listed = {name: (kind, set(labels)) for name, (kind, labels) in documented().items()}
    # Of what is not there just now the labels are not shown.
    assert {name: kind for name, (kind, _) in found.items()} == {name: kind for name, (kind, _) in listed.items()}
    assert {name: labels for name, (_, labels) in found.items() if exposed[name].samples} == {
        name: labels for name, (_, labels) in listed.items() if exposed[name].samples
    }
    assert {f.name: (f.kind, f.labels) for f in FAMILIES} == documented()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_name_follows_the_conventions(family: Family) -> None:
    """What only grows ends with `_total`, a time is in seconds, and nothing else says what it is made of."""
    assert re.fullmatch(r"sagabus_[a-z]+(_[a-z]+)*", family.name)
    assert family.name.endswith("_total") == (family.kind == "counter")
    assert not re.search(r"_(ms|minutes|count|sum|bucket)\b", family.name)
    assert family.says.endswith(".")


# -- what workers have done ----------------------------------------------------------------------------------------


def test_counts_are_exposed_as_they_were_counted() -> None:
    """Each number under its labels, and histograms as Prometheus has them."""
    exposed = scrape(WorkCollector(full_work))
    assert values(exposed["sagabus_messages_handled_total"]) == {("credit", "credit.check"): 5.0}
    assert values(exposed["sagabus_messages_dead_total"]) == {("credit", "credit.check"): 3.0}
    commits = {labels: value for labels, value in values(exposed["sagabus_commits_total"]).items() if value}
    assert commits == {
        ("credit", "stored", ""): 4.0,
        ("credit", "forked", ""): 3.0,
        ("credit", "late", ""): 2.0,
        ("credit", "duplicate", ""): 1.0,
        ("credit", "again", "fence"): 7.0,
    }
    assert values(exposed["sagabus_worker_up"]) == {("w-0",): 1.0, ("w-1",): 0.0}
    assert values(exposed["sagabus_worker_restarts_total"]) == {(): 3.0}
    buckets = {
        sample.labels["le"]: sample.value
        for sample in exposed["sagabus_message_latency_seconds"].samples
        if sample.name.endswith("_bucket") and sample.labels["endpoint"] == "credit"
    }
    assert (buckets["0.002"], buckets["0.005"], buckets["+Inf"]) == (0.0, 4.0, 4.0)


def test_worker_that_is_replaced_takes_nothing_back(tmp_path: Path) -> None:
    """Counters go on from where the one before ended, however often, and also before the next has said anything."""
    lives = LivesCounts(CountsFile(tmp_path / "0"))
    seen = [0]

    def handled() -> int:
        seen.append(sum(counts.handled for counts in lives.counts().values()))
        return seen[-1]

    def counted(number: int) -> Counts:
        counts = EndpointCounts()
        counts.type("t").handled = number
        return {"e": counts}

    for life in (3, 4, 5):
        lives.begin_life()
        handled()
        lives.file.write(counted(life - 1))
        handled()
        lives.file.write(counted(life))
        handled()
    lives.begin_life()
    assert handled() == 12
    lives.file.path.write_bytes(b"\xc1")
    assert handled() == 12
    assert seen == sorted(seen)


def test_counts_are_written_while_a_worker_works_and_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of them, too; a disk that is full harms nobody."""
    monkeypatch.setattr("sagabus.telemetry.counts_file.WRITE_EVERY_S", 0.01)
    file, counts = CountsFile(tmp_path / "0"), {"e": EndpointCounts(stored=1)}
    with file.written(lambda: counts, LOG):
        until = time.monotonic() + 5
        while not file.read() and time.monotonic() < until:
            time.sleep(0.01)
        assert file.read()["e"].stored == 1
        counts["e"].stored = 2
    assert file.read()["e"].stored == 2
    nowhere = CountsFile(tmp_path / "no" / "such")
    with structlog.testing.capture_logs() as lines, nowhere.written(lambda: counts, structlog.get_logger()):
        pass
    assert [line["event"] for line in lines] == ["counts-not-written"]


# -- how a bus stands ----------------------------------------------------------------------------------------------


def test_gauges_say_how_store_and_queues_stand(bus: Bus) -> None:
    """Of all that people are paged for."""
    bus.send(Job(), to="jobs")
    bus.store.presence.pause("jobs", "ann@box")
    bus.store.presence.show(worker_card("w", state="draining"))
    letter = DeadLetter("x", "jobs", "failed", "error", "", 1, START_MS, b"{}")
    due = Scheduled("y", "jobs", b"{}", START_MS - 3000)
    bus.store.note(Bookkeeping(scheduled=(due,), buried=(letter,)))
    exposed = scrape(standing(bus))
    assert values(exposed["sagabus_up"]) == {("store",): 1.0, ("broker",): 1.0}
    assert values(exposed["sagabus_queue_depth"]) == {("jobs",): 1.0}
    assert values(exposed["sagabus_endpoint_paused"]) == {("jobs",): 1.0}
    workers = values(exposed["sagabus_workers"])
    assert (workers[("draining",)], workers[("working",)]) == (1.0, 0.0)
    assert values(exposed["sagabus_dead_letters"]) == {(): 1.0}
    assert values(exposed["sagabus_timers_overdue_seconds"]) == {(): 3.0}
    assert values(exposed["sagabus_forked_sagas"]) == {(): 0.0}
    assert values(exposed["sagabus_oldest_fork_seconds"]) == {(): 0.0}
    bus.store.presence.resume("jobs")
    assert values(scrape(standing(bus))["sagabus_endpoint_paused"]) == {("jobs",): 0.0}


def test_store_that_is_down_is_said_to_be_and_says_nothing_else(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it said before is not said again; the broker is asked as ever."""
    collector = standing(bus, every_s=0.0)
    assert len(scrape(collector)) == len(OF_STORE)

    def down() -> Any:
        raise StoreUnavailableError("redis://nowhere", "down")

    monkeypatch.setattr(bus.store, "next_due_ms", down)
    exposed = scrape(collector)
    assert values(exposed["sagabus_up"]) == {("store",): 0.0, ("broker",): 1.0}
    assert set(exposed) == {"sagabus_up", "sagabus_queue_depth", "sagabus_queue_age_seconds"}


@pytest.fixture
def stalled() -> Iterator[threading.Event]:
    """Yield what servers wait for; it comes at the end at the latest."""
    event = threading.Event()
    yield event
    event.set()


def test_scrape_does_not_wait_for_a_server_that_hangs(stalled: threading.Event) -> None:
    """It is asked once, not by every scrape; when it answers at last all is well again."""
    asked = []

    def ask() -> int:
        asked.append(1)
        stalled.wait(60)
        return 42

    lookup = Lookup(ask, name="store", log=LOG, every_s=0.0, timeout_s=0.05)
    began_at = time.monotonic()
    assert [lookup.answer() for _ in range(3)] == [None, None, None]
    assert time.monotonic() - began_at < 10
    assert len(asked) == 1
    stalled.set()
    until = time.monotonic() + 5
    while (answer := lookup.answer()) is None and time.monotonic() < until:
        pass
    assert answer == 42


def test_server_is_asked_at_most_once_in_a_while() -> None:
    """However often is scraped, and by how many."""
    asked = []
    lookup = Lookup(lambda: asked.append(1) or len(asked), name="store", log=LOG, every_s=60.0)
    assert [lookup.answer() for _ in range(5)] == [1] * 5


def test_failed_lookup_is_told_of_once() -> None:
    """And a mistake of ours with its traceback; the scrape goes on."""
    failures: list[Exception] = [StoreUnavailableError("redis://nowhere", "down")] * 2 + [ZeroDivisionError()]

    def ask() -> None:
        raise failures.pop(0)

    with structlog.testing.capture_logs() as lines:
        lookup = Lookup(ask, name="store", log=structlog.get_logger(), every_s=0.0)
        assert [lookup.answer() for _ in range(3)] == [None] * 3
    assert [line["log_level"] for line in lines] == ["warning", "error"]


# -- the server ----------------------------------------------------------------------------------------------------


def test_metrics_are_served_over_http(bus: Bus) -> None:
    """As Prometheus asks for them."""
    with metrics_served("127.0.0.1:0", bus, full_work, LOG) as port:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            kind, text = answer.headers["Content-Type"], answer.read().decode()
        assert kind.startswith("text/plain")
        assert 'sagabus_messages_handled_total{endpoint="credit",type="credit.check"} 5.0' in text
        assert 'sagabus_up{server="store"} 1.0' in text
        with (
            pytest.raises(ConfigurationError, match="choose a free address"),
            metrics_served(f"127.0.0.1:{port}", bus, full_work, LOG),
        ):
            pass


@pytest.mark.parametrize("address", ["", "nowhere", "1:2:x", "70000"])
def test_address_that_is_none_is_refused(bus: Bus, address: str) -> None:
    """With what to write instead."""
    with (
        pytest.raises(ConfigurationError, match=r"no address for metrics; write HOST:PORT"),
        metrics_served(address, bus, full_work, LOG),
    ):
        pass


def test_metrics_without_their_library_say_what_to_install(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no part of what sagabus needs otherwise."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with (
        pytest.raises(ConfigurationError, match=r"pip install 'sagabus\[metrics\]'"),
        metrics_served("127.0.0.1:0", bus, full_work, LOG),
    ):
        pass
