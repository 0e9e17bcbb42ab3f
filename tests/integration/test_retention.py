"""What is left on the server when all is done: nothing but what ends by itself, and one key for each thing declared."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from attrs import define

from sagabus import Bus, Context, Saga, handles, message, starts
from sagabus.link import Command
from tests.integration.apps import settle


@message("retention.begin")
class Begin:
    key: str


@message("retention.ask")
class Ask:
    pass


@message("retention.answer")
class Answer:
    pass


@message("retention.remind")
class Remind:
    pass


@define
class Notes:
    text: str = ""


class Ending(Saga[Notes], key="key"):
    @starts
    def begun(self, m: Begin) -> None:
        self.defer(Remind(), after=3600.0)
        self.defer(Remind(), after=3600.0, name="named")
        self.send(Ask(), to="desk")
        self.send(Ask(), to="desk")

    @handles
    def answered(self, m: Answer) -> None:
        self.complete()

    @handles
    def reminded(self, m: Remind) -> None: ...


class EndingAlone(Ending, key="key", exclusive=True): ...


@pytest.fixture
def bus(valkey_url: str, namespace: str) -> Iterator[Bus]:
    """Yield a bus whose sagas end, one of them under a lease."""
    day = timedelta(days=1)
    with Bus(valkey_url, valkey_url, namespace=namespace, dedupe_window=day, retention=2 * day) as bus:
        bus.endpoint("ending", Ending)
        bus.endpoint("alone", EndingAlone)

        def answer(m: Ask, context: Context) -> None:
            context.reply(Answer())

        bus.endpoint("desk").consumer(answer)
        yield bus


def ends_ms(bus: Bus) -> dict[str, int]:
    """Return the keys that are there, and in how many ms each ends; below zero for never."""
    link: Any = bus.store.link  # type: ignore[attr-defined]
    names = sorted({name for page in link.scan(f"{bus.namespace}:*") for name in page})
    return dict(zip(names, link.round([Command(("PTTL", name), name) for name in names]), strict=True))


def test_everything_that_ended_sagas_leave_ends_after_their_retention(bus: Bus) -> None:
    """Records, ids, histories; late answers lengthen nothing, and timers are gone at once. Queues, topology and
    the names of the classes stay."""
    for number in range(3):
        bus.send(Begin(str(number)), to="ending")
        bus.send(Begin(str(number)), to="alone")
    settle(bus)
    left = ends_ms(bus)
    for_good = {name for name, ms in left.items() if ms < 0}
    names = f"{bus.namespace}:{{{bus.namespace}:index}}:names"
    assert for_good == {f"{bus.namespace}:topology", names, *(n for n in left if n.startswith(f"{bus.namespace}:q:"))}
    assert bus.store.scheduled() == []
    sagas = [ms for name, ms in left.items() if name.endswith(("}:r", "}:i", "}:h", "}:o"))]
    retention_ms = bus.retention.total_seconds() * 1000
    assert (len(sagas), max(sagas) <= retention_ms, min(sagas) > retention_ms - 600_000) == (18, True, True)


def test_everything_that_leases_and_writes_of_documents_leave_ends(bus: Bus) -> None:
    """A document stays until it is deleted or ends; what is remembered of its writes, and leases, go by themselves."""
    with bus.lease("once") as lease:
        bus.documents.put("kept", Notes("x"), fence=lease)
    gone = bus.documents.put("gone", Notes("x"))
    bus.documents.delete("gone", etag=gone.etag)
    bus.documents.put("short", Notes("x"), expires_after=3600.0)
    for_good = [name for name, ms in ends_ms(bus).items() if ms < 0]
    assert [name.rpartition(":")[2] for name in for_good] == ["kept"]
