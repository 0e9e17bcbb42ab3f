"""Stored bytes that were damaged: reported by their key, and nobody's business but their saga's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import redis
from structlog.testing import capture_logs

from sagabus import Bus
from sagabus.envelope import SagaKey, encode, wrap
from sagabus.errors import CorruptDocumentError, CorruptRecordError, StoreRefusedError
from sagabus.index.query import SagaQuery
from tests.fuzz.damage import WAYS, Damage, Note, Shop, damages, fill, inflict, open_stage
from tests.integration.apps import put

SWEEP = WAYS if os.environ.get("SAGABUS_FUZZ") == "whole" else ("garbage",)
LETTERS = ("dead}:when", "dead}:body", "dead}:head")
INDEX = ("index}:names", "index:Shops}:age", "index:Shops}:forked")
SHARED = (":topology", "timers}:due", "timers}:body", *LETTERS, *INDEX)
# What nobody can tell from what was never there, or looks at only when it is shown.
UNSEEN = ("}:h", "}:i", "documents:", ":writes:", "}:topology", "dead}", ":topology", "timers}:due")


class Scene:
    """A filled store that can be put back to how it was."""

    def __init__(self, url: str, namespace: str) -> None:
        self.url, self.namespace = url, namespace
        self.client = redis.Redis.from_url(url)
        stage = open_stage(url, namespace)
        fill(stage)
        stage.bus.close()
        self._kept = {key: self.client.dump(key) for key in self.client.scan_iter(f"{namespace}:*")}

    def restore(self) -> None:
        gone = list(self.client.scan_iter(f"{self.namespace}:*"))
        if gone:
            self.client.delete(*gone)
        for key, dumped in self._kept.items():
            assert dumped is not None
            self.client.restore(key, 0, dumped)  # type: ignore[arg-type]


@pytest.fixture
def scene(valkey_url: str, namespace: str) -> Iterator[Scene]:
    scene = Scene(valkey_url, namespace)
    yield scene
    scene.client.close()


@contextmanager
def opened(scene: Scene) -> Iterator[tuple[Bus, set[tuple[str, int]]]]:
    stage = open_stage(scene.url, scene.namespace)
    yield stage.bus, stage.told
    stage.bus.close()


def test_damaged_record_is_reported_and_harms_no_other_saga(scene: Scene) -> None:
    """Whatever field of a saga's record, timers or outbox is damaged, the worker lives and other sagas go on."""
    cases = [d for d in damages(scene.client, scene.namespace, SWEEP) if not d.key.endswith(SHARED) or d.part]
    assert len(cases) > 20
    for damage in (case for case in cases if "Shops/other" not in case.key):
        scene.restore()
        inflict(scene.client, damage)
        check_worker(scene, damage)


def check_worker(scene: Scene, damage: Damage) -> None:
    """Run a worker over what is damaged."""
    with opened(scene) as (bus, told), capture_logs() as logs:
        for shop in ("victim", "other"):
            for number in (1, 2):  # delivered again: their outbox was never dispatched
                put(bus, "shops", encode(wrap(Note(shop, number), id=f"note-{number}-{shop}", source="/t", now_ms=1)))
            bus.send(Note(shop, 5), to="shops")
        bus.worker().run_until_idle()
        assert {number for shop, number in told if shop == "other"} == {1, 2, 5}, damage
        whole = {("victim", number) for number in (1, 2, 5, 9)} <= told
        letters = [letter for letter in bus.store.dead() if letter.saga == "Shops/victim" or letter.reason == "corrupt"]
        alarms = [line for line in logs if line.get("saga") == "Shops/victim" and line["log_level"] == "error"]
        unseen = damage.how in ("empty", "missing") or any(word in damage.key for word in UNSEEN)
        assert whole or letters or alarms or unseen, damage
        look_at_all(bus)


def look_at_all(bus: Bus) -> None:
    """Read everything, as commands do: a value or the documented error comes back."""
    with suppress(CorruptRecordError, StoreRefusedError):
        bus.store.history(SagaKey("Shops", "victim"))
    with suppress(CorruptRecordError):
        list(bus.store.sagas())
    with suppress(CorruptDocumentError):
        bus.documents.load("victim", Shop)
    list(bus.documents.keys())
    bus.store.scheduled()
    bus.store.letters.count()
    for query in (SagaQuery(), SagaQuery(forked=True), SagaQuery(id_prefix="v")):
        bus.store.index.find(query)
    bus.store.index.counts()
    bus.store.index.forked()
    unreadable = {error.key for error in bus.store.index.rebuild().unreadable}
    assert unreadable <= {"Shops/victim"}
    assert "other" in {row.key.id for row in bus.store.index.find(SagaQuery()).rows}


def test_shared_key_of_another_type_is_refused_by_its_name(scene: Scene) -> None:
    """What all sagas share is not silently gone without: the error says which key is in the way."""
    shared = [d for d in damages(scene.client, scene.namespace, ()) if d.key.endswith(SHARED)]
    assert len(shared) == len(SHARED)
    for damage in shared:
        scene.restore()
        inflict(scene.client, damage)
        with opened(scene) as (bus, _), pytest.raises(StoreRefusedError, match=re.escape(damage.key)):
            use_what_is_shared(bus)


def use_what_is_shared(bus: Bus) -> None:
    """Touch what belongs to no saga."""
    bus.store.due(5, 1.0)
    list(bus.store.letters.find())
    bus.store.index.counts()
    bus.store.index.forked()
    bus.send(Note("victim", 1), to="shops")


@pytest.mark.parametrize(
    "damage",
    [{"ends": "x"}, {"token": "\x00"}, {"holder": b"\xff"}, {"holder": None}, {"ends": "nan", "token": "nan"}, None],
)
def test_damaged_lease_is_granted_anew(
    valkey_url: str, namespace: str, damage: dict[str, str | bytes | None] | None
) -> None:
    """A lease that cannot be read binds nobody; the next token is greater than any that was."""
    bus = Bus(store=valkey_url, transport=valkey_url, namespace=namespace)
    before = bus.store.leases.grant("l", "first", 60_000)
    with redis.Redis.from_url(valkey_url) as client:
        (key,) = client.scan_iter(f"{namespace}:*")
        if damage is None:
            client.delete(key)
            client.lpush(key, "x")
        for name, value in (damage or {}).items():
            if value is None:
                client.hdel(key, name)
            else:
                client.hset(key, name, value)
    if damage is not None:
        bus.store.leases.read(["l"])
    assert bus.store.leases.renew({"l": before}, 60_000)["l"] is None
    if not isinstance((damage or {}).get("holder"), bytes):
        after = bus.store.leases.grant("l", "second", 60_000)
        assert (after.holder, after.token > before.token) == ("second", True)
    bus.close()
