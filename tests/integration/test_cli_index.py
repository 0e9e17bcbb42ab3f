"""Listing sagas by what the index knows: filters, pages, and a store that has no index yet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sagabus import Bus
from sagabus.cli.group import main
from sagabus.cli.saga_rows import span
from sagabus.commit import Want
from sagabus.envelope import SagaKey
from sagabus.testing.index_contract import begun, ended, split


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, valkey_url: str, namespace: str) -> str:
    """Return an app without endpoints, with a name of its own: modules stay imported."""
    name = f"listed_{namespace.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        f"from sagabus import Bus\nbus = Bus({valkey_url!r}, {valkey_url!r}, namespace={namespace!r})\n"
    )
    monkeypatch.chdir(tmp_path)
    return name


@pytest.fixture
def bus(valkey_url: str, namespace: str) -> Iterator[Bus]:
    """Yield the same bus with seven sagas: a and b are completed, c and d have siblings."""
    with Bus(valkey_url, valkey_url, namespace=namespace) as bus:
        keys = begun(bus.store, *"abcdef")
        begun(bus.store, "c2", name="Parcel")
        ended(bus.store, *keys[:2])
        for key in keys[2:4]:
            split(bus.store, key)
        yield bus


def sagabus(*args: str) -> Result:
    return CliRunner().invoke(main, list(args), prog_name="sagabus")


def ids(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [row["saga"] for row in map(json.loads, result.stdout.splitlines()) if row["kind"] == "sagas"]


def test_list_filters_sagas_by_what_the_index_knows(app: str, bus: Bus) -> None:
    """Class, lifecycle, siblings, age, and what the id begins with; and several of these."""

    def listed(*args: str) -> list[str]:
        return ids(sagabus("list", app, "--json", *args))

    live = ["Order/c", "Order/d", "Order/e", "Order/f"]
    assert listed("--saga", "Order")[:4] == live
    assert listed("--saga", "Order", "--lifecycle", "live") == live
    assert sorted(listed("--lifecycle", "completed")) == ["Order/a", "Order/b"]
    assert listed("--siblings") == ["Order/c", "Order/d"]
    assert sorted(listed("--id", "c")) == ["Order/c", "Parcel/c2"]
    assert listed("--id", "c", "--siblings") == ["Order/c"]
    assert listed("--older-than", "1h") == []
    assert len(listed("--older-than", "0s")) == 7
    assert sagabus("list", app, "--older-than", "soon").exit_code == 2


def test_list_that_is_cut_says_where_it_goes_on(app: str, bus: Bus) -> None:
    """People get the option to type, programs an object; the pages together are the list."""
    whole = ids(sagabus("list", app, "--json"))
    found: list[str] = []
    cursor = ""
    while True:
        done = sagabus("list", app, "--json", "--limit", "3", "--cursor", cursor)
        found += ids(done)
        last: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        if last["kind"] != "cursor":
            break
        cursor = last["cursor"]
        assert f"--cursor {cursor}" in done.stderr
    assert (found, done.stderr) == (whole, "")
    assert sagabus("list", app, "--cursor", "nonsense").exit_code == 2


def test_reindex_brings_in_what_was_stored_before_there_was_an_index(app: str, bus: Bus, namespace: str) -> None:
    """And says what it has done."""
    link: Any = bus.store.link  # type: ignore[attr-defined]
    whole = ids(sagabus("list", app, "--json"))
    for page in link.scan(f"{namespace}:{{{namespace}:index*"):
        for key in page:
            link.on_node("", "DEL", key)
    assert ids(sagabus("list", app, "--json")) == []
    done = sagabus("reindex", app)
    assert (done.exit_code, done.stdout) == (0, "7 sagas: 9 entries added or mended, 0 removed\n")
    assert ids(sagabus("list", app, "--json")) == whole
    told = json.loads(sagabus("reindex", app, "--json").stdout)
    assert told == {"kind": "reindexed", "sagas": 7, "added": 0, "removed": 0, "unreadable": []}


def test_list_shows_the_others_beside_a_record_that_cannot_be_read(app: str, bus: Bus, namespace: str) -> None:
    """Which one it is comes last, and makes it a failure."""
    link: Any = bus.store.link  # type: ignore[attr-defined]
    link.on_node("", "HSET", f"{namespace}:{{{namespace}:Order/c}}:r", "m", b"\xc1")
    done = sagabus("list", app, "--lifecycle", "live")
    assert done.exit_code == 1
    assert "Order/d" in done.stdout
    assert "the record of saga Order/c cannot be read" in done.stderr
    assert bus.store.load([Want(SagaKey("Order", "d"))])[0].versions


def test_store_without_an_index_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch, app: str, bus: Bus) -> None:
    """One that somebody made for an older sagabus: workers run on it, lists need the part."""
    monkeypatch.setattr("sagabus.store.redis.RedisIndex", lambda link, keys: None)
    done = sagabus("list", app)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "RedisStore has no index of its sagas" in done.stderr


def test_tail_of_many_sagas_tells_those_with_siblings(monkeypatch: pytest.MonkeyPatch, bus: Bus) -> None:
    """Others are counted: nobody reads a million records a second."""
    from sagabus.cli import tail

    monkeypatch.setattr(tail, "_FEW", 3)
    looks = tail._BusLooks(bus)
    first = [event for event in looks.look() if event["kind"] == "sagas"]
    assert first == [{"kind": "sagas", "live": 5, "completed": 2, "with_siblings": 2}]
    assert [event for event in looks.look() if event["kind"] != "queue"] == []
    (key,) = begun(bus.store, "new")
    split(bus.store, key)
    ended(bus.store, SagaKey("Order", "c"), SagaKey("Order", "e"))
    told = [event for event in looks.look() if event["kind"] != "queue"]
    assert told[0] == {"kind": "sagas", "live": 4, "completed": 4, "with_siblings": 2}
    assert [(event["saga"], event["lifecycle"], event["siblings"]) for event in told[1:]] == [
        ("Order/c", "completed", 1),
        ("Order/new", "live", 2),
    ]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, ""), (0.04, "0.0s"), (9.96, "10.0s"), (59, "59s"), (3600, "1h"), (93_784, "1d2h"), (700_000, "1w1d")],
)
def test_span_is_said_in_two_units(seconds: float | None, said: str) -> None:
    """What matters at a glance."""
    assert span(seconds) == said
