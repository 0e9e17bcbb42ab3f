"""The bus: what may be declared on it, and the way in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from attrs import define

from sagabus import Bus, RetryPolicy, Saga, message, starts
from sagabus.errors import (
    CodecError,
    ConfigurationError,
    DefinitionError,
    HandlerMisuseError,
    StoreRefusedError,
    UnknownEndpointError,
)
from sagabus.store.memory import MemoryStore
from sagabus.store.redis import RedisStore
from sagabus.testing import StoreContract, TransportContract
from tests import servers
from transports.memory import MemoryTransport


@message("bus.go")
class Go:
    key: str = ""


@define
class State:
    pass


class Gone(Saga[State], key="key"):
    @starts
    def go(self, m: Go) -> None: ...


class Also(Saga[State], key="key", name="Gone"):
    @starts
    def go(self, m: Go) -> None: ...


def memory_bus(**options: Any) -> Bus:
    return Bus(store="memory:", transport="memory:", **options)


# -- options -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"retention": timedelta(hours=1)}, "must be at least dedupe_window"),
        ({"dedupe_window": timedelta(0)}, "must be positive"),
        ({"dedupe_window": timedelta(seconds=-1)}, "must be positive"),
        ({"namespace": ""}, "choose another"),
        ({"namespace": "a{b"}, "choose another"),
        ({"namespace": "a*"}, "choose another"),
        ({"namespace": "a[b]"}, "choose another"),
        ({"claim_s": 0.0}, "claim_s"),
        ({"max_message_bytes": 0}, "max_message_bytes"),
    ],
)
def test_bus_with_options_that_contradict_each_other_is_refused(options: dict[str, Any], problem: str) -> None:
    """Before anything is connected."""
    with pytest.raises(ConfigurationError, match=problem):
        memory_bus(**options)


def test_windows_of_the_bus_reach_its_sagas() -> None:
    """Retention is the window unless it is said."""
    bus = memory_bus(dedupe_window=timedelta(hours=2))
    (definition,) = bus.endpoint("e", Gone).sagas
    assert (definition.limits.dedupe_window_s, definition.limits.retention_s) == (7200.0, 7200.0)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a/b", "{a}", "a*", "a\n"])
def test_endpoint_of_a_name_that_no_key_could_have_is_refused(name: str) -> None:
    """Names become keys, patterns and header values."""
    with pytest.raises(ConfigurationError, match="choose another"):
        memory_bus().endpoint(name)


@pytest.mark.parametrize("option", ["batch", "concurrency", "partitions", "max_length", "max_attempts"])
def test_endpoint_with_a_bound_below_one_is_refused(option: str) -> None:
    """It could never do anything."""
    with pytest.raises(ConfigurationError, match="at least 1"):
        memory_bus().endpoint("e", **{option: 0})  # type: ignore[arg-type]


def test_endpoint_with_a_batch_beyond_what_one_commit_takes_is_refused() -> None:
    """A script has a limit; far below it, a batch is long enough."""
    with pytest.raises(ConfigurationError, match="lower it"):
        memory_bus().endpoint("e", batch=1001)
    memory_bus().endpoint("e", batch=1000)


def test_endpoint_twice_is_refused() -> None:
    """The second one is probably a mistake."""
    bus = memory_bus()
    bus.endpoint("e")
    with pytest.raises(ConfigurationError, match="declared already"):
        bus.endpoint("e")


def test_saga_on_two_endpoints_is_refused_and_leaves_no_trace() -> None:
    """Its messages could not be told where to go; the same for two classes of one name."""
    bus = memory_bus()
    bus.endpoint("e", Gone)
    for saga in (Gone, Also):
        with pytest.raises(ConfigurationError, match="is on endpoint 'e' already"):
            bus.endpoint("f", saga)
    with pytest.raises(ConfigurationError, match="Gone"):
        memory_bus().endpoint("g", Gone, Also)
    assert list(bus.endpoints) == ["e"]


def test_class_that_is_no_saga_is_refused() -> None:
    """With the mend."""
    with pytest.raises(DefinitionError):
        memory_bus().endpoint("e", State)  # type: ignore[arg-type]


def test_policies_of_an_endpoint_are_what_was_said() -> None:
    """`retry` outranks `max_attempts`; early messages have one of their own."""
    bus = memory_bus()
    plain = bus.endpoint("a", max_attempts=7)
    said = bus.endpoint("b", max_attempts=7, retry=RetryPolicy(2), early=RetryPolicy(3))
    assert (plain.options.retry.max_attempts, plain.options.early.max_attempts) == (7, 8)
    assert (said.options.retry.max_attempts, said.options.early.max_attempts) == (2, 3)
    assert repr(said) == "Endpoint('b')"


# -- the way in --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id_", ["", "x" * 201])
def test_id_that_is_no_id_is_refused(id_: str) -> None:
    """It is a key in the store."""
    bus = memory_bus()
    bus.endpoint("e", Gone)
    with pytest.raises(ConfigurationError, match="1 to 200 characters"):
        bus.send(Go("1"), to="e", id=id_)
    bus.send(Go("1"), to="e", id="x" * 200)


def test_send_says_what_it_cannot_do() -> None:
    """No message, no time that makes sense, too large: nothing is sent."""
    bus = memory_bus(max_message_bytes=300)
    bus.endpoint("e", Gone)
    with pytest.raises(DefinitionError, match="is not a message"):
        bus.send(State(), to="e")
    with pytest.raises(HandlerMisuseError, match="either"):
        bus.send(Go("1"), to="e", after=1.0, at=datetime.now(UTC))
    with pytest.raises(HandlerMisuseError, match="negative"):
        bus.send(Go("1"), to="e", after=-1.0)
    with pytest.raises(HandlerMisuseError, match="time zone"):
        bus.send(Go("1"), to="e", at=datetime(2030, 1, 1))  # noqa: DTZ001 - the point of it
    with pytest.raises(CodecError, match="over the limit"):
        bus.send_many([Go("1"), Go("x" * 400)], to="e")
    assert bus.transport.queues()[0].depth == 0
    assert bus.store.scheduled() == []


def test_send_many_returns_an_id_a_message() -> None:
    """In order, all different; none for none."""
    bus = memory_bus()
    bus.endpoint("e", Gone)
    ids = bus.send_many((Go(str(n)) for n in range(1200)), to="e")
    assert len(set(ids)) == 1200
    assert bus.transport.queues()[0].depth == 1200
    assert bus.send_many([], to="e") == []


def test_send_many_to_an_unknown_endpoint_names_it() -> None:
    """What was sent before an error stays sent."""
    bus = memory_bus()
    bus.endpoint("e", Gone)
    with pytest.raises(UnknownEndpointError):
        bus.send_many([Go("1")], to="nowhere")


def test_endpoint_declared_after_the_first_send_is_known_to_the_next() -> None:
    """Declarations reach the transport with whatever is done next."""
    bus = memory_bus()
    bus.endpoint("e", Gone)
    bus.send(Go("1"), to="e")
    late = bus.endpoint("late")
    late.consumer(Go)(lambda m: None)
    bus.send(Go("1"), to="late")
    bus.publish(Go("1"))
    assert {q.endpoint: q.depth for q in bus.transport.queues()} == {"e": 2, "late": 2}


def test_process_that_only_sends_to_an_endpoint_leaves_its_subscriptions_alone() -> None:
    """A client that names an endpoint without handlers must not take the events of those who have some."""
    broker = MemoryTransport()

    def client() -> Bus:
        bus = Bus(store="memory:", transport=broker)
        bus.endpoint("e")
        bus.endpoint("new")
        return bus

    client().publish(Go("0"))
    worker = Bus(store="memory:", transport=broker)
    worker.endpoint("e", Gone)
    worker.publish(Go("1"))
    client().publish(Go("2"))
    assert {q.endpoint: (q.depth, q.subscriptions) for q in broker.queues()} == {"e": (2, ("bus.go",)), "new": (0, ())}


# -- what it stands on -------------------------------------------------------------------------------------------


def test_bus_over_parts_that_were_made_elsewhere_uses_them() -> None:
    """And a store without a transport brings the kind of transport that lies beside it."""
    store, transport = MemoryStore(), MemoryTransport()
    bus = Bus(store=store, transport=transport)
    assert (bus.store, bus.transport) == (store, transport)
    assert (bus.store_url, bus.transport_url) == ("memory:", "memory:")
    assert Bus(store=store).transport_url == "memory:"


def test_store_that_is_not_fit_is_refused_however_it_was_given() -> None:
    """A server that evicts would lose sagas in silence; a store made elsewhere is looked at too."""
    with servers.valkey(maxmemory="50mb", maxmemory_policy="allkeys-lru") as url:
        for bus in (Bus(store=url), Bus(store=RedisStore(url), transport="memory:")):
            with pytest.raises(StoreRefusedError, match="noeviction"):
                bus.store  # noqa: B018 - connecting is the point
            bus.close()


def test_worker_for_endpoints_that_are_not_there_is_refused() -> None:
    """So is one for an endpoint that handles nothing, or for none at all."""
    bus = memory_bus()
    with pytest.raises(ConfigurationError, match="no endpoint that handles anything"):
        bus.worker()
    bus.endpoint("quiet")
    with pytest.raises(ConfigurationError, match="no endpoint"):
        bus.worker()
    bus.endpoint("e", Gone)
    with pytest.raises(ConfigurationError, match="no endpoint f"):
        bus.worker(["e", "f"])
    with pytest.raises(ConfigurationError, match="handles nothing"):
        bus.worker(["quiet"])
    assert bus.worker(name="me").name == "me"
    assert bus.worker().name != bus.worker().name


def test_bus_that_never_rests_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two handlers that keep sending to each other would keep a test for ever."""
    monkeypatch.setattr("sagabus.worker._MAX_TURNS", 50)
    bus = memory_bus()
    endpoint = bus.endpoint("e")

    @endpoint.consumer
    def go(m: Go, context: Any) -> None:
        context.send(m, to="e")

    bus.send(Go(), to="e")
    with pytest.raises(RuntimeError, match="keep sending to each other"):
        bus.worker().run_until_idle()


def test_closed_bus_lets_its_embedded_server_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Bus()` needs nothing but a folder; sagas are still there when it is opened again."""
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        with Bus() as bus:
            bus.endpoint("e", Gone)
            bus.send(Go("1"), to="e")
            bus.worker().run_until_idle()
            assert [row.key.id for row in bus.store.sagas()] == ["1"]
            assert bus.store.server == bus.transport.server, "one server, so one write"
    assert (tmp_path / ".sagabus").is_dir()


def test_protocols_that_a_bus_stands_on_are_public() -> None:
    """Who writes a store or a transport imports them from where the errors and the documents say."""
    from sagabus import store, transport

    assert get_type_hints(Bus.store.fget)["return"] is store.Store
    assert get_type_hints(Bus.transport.fget)["return"] is transport.Transport
    assert all(hasattr(store, name) for name in store.__all__)


def test_contracts_are_public() -> None:
    """A new store or transport inherits them."""
    assert all(contract.__module__.startswith("sagabus.testing") for contract in (StoreContract, TransportContract))
