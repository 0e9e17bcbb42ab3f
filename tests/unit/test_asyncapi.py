"""AsyncAPI documents: valid by the official schema, true of what is really sent, and without a secret."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import jsonschema
import msgspec
import pytest
import yaml
from attrs import define, field, validators
from click.testing import CliRunner

from mergers import fieldwise, union
from sagabus import Bus, Context, Encrypted, Saga, handles, message, starts
from sagabus.app import load_app
from sagabus.asyncapi.document import asyncapi
from sagabus.asyncapi.said import said_by
from sagabus.asyncapi.sample import sample_body
from sagabus.asyncapi.server import server_of
from sagabus.cli.group import main
from sagabus.envelope import admit, encode, wrap
from sagabus.errors import ConfigurationError
from sagabus.messages import registry, type_of

SCHEMA = json.loads((Path(__file__).parents[1] / "fixtures" / "asyncapi" / "3.0.0.json").read_text())
SIZES = ("small", "large")


@define
class Line:
    """One line of an order."""

    article: str
    count: Annotated[int, msgspec.Meta(ge=1, le=99)]
    size: tuple[int, str] = (1, "cm")


@message("asyncapi.place order/now", version=3)
class PlaceOrder:
    """Place an order.

    It may be long.
    """

    order: str
    first: Line
    more: list[Line] = field(factory=list)
    note: str | None = None
    tags: set[str] = field(factory=set)

    @staticmethod
    def upcast(body: dict[str, Any], version: int) -> dict[str, Any]:
        return body


@message("asyncapi.pack")
class Pack:
    order: str


@message("asyncapi.packed")
class Packed:
    size: str = "small"
    weight: float = field(default=1.0, validator=validators.gt(0))


@message("asyncapi.pay")
class Pay:
    """Pay with a card that nobody else may read."""

    order: str
    card: Encrypted[str]
    spare: dict[str, Encrypted[bytes]] = field(factory=dict)


@message("asyncapi.hurry")
class Hurry: ...


@message("asyncapi.shipped")
class Shipped:
    order: str


@message("asyncapi.taken")
class Taken:
    order: str


@define
class OrderState:
    done: Annotated[set[str], union] = field(factory=set)


class Ordering(Saga[OrderState], key="order", merger=fieldwise(OrderState)):
    @starts
    def placed(self, m: PlaceOrder) -> None:
        """Ask for all of it."""
        where = "pack" + "ers"
        self.send(Pack(m.order), to="packers")
        self.send(Pack(m.order), where)
        self.send(Pay(m.order, Encrypted("4111")))
        self.defer(Hurry(), after=60)
        self.reply(Taken(m.order))

    @handles
    def packed(self, m: Packed) -> None:
        self.state.done.add(m.size)

    @handles
    def late(self, m: Hurry) -> None: ...

    def decide(self) -> None:
        if len(self.state.done) == len(SIZES):
            shipped = Shipped(self.key)
            self.publish(shipped)
            self.reply_to_starter(Shipped(self.key))
            self.complete()


def pack(m: Pack, context: Context) -> None:
    """Pack it."""
    context.reply(Packed(size="small"))


def charge(m: Pay) -> None: ...


@pytest.fixture
def bus() -> Iterator[Bus]:
    with Bus("memory:", "amqp://user:secret@broker.example:5671/prod", namespace="shop") as bus:
        bus.endpoint("orders", Ordering, partitions=4)
        bus.endpoint("packers").consumer(pack)
        bus.endpoint("payments").consumer(charge)
        bus.route(Pay, to="payments")
        yield bus


@cache
def validator() -> Any:
    kind = jsonschema.validators.validator_for(SCHEMA)
    kind.check_schema(SCHEMA)
    return kind(SCHEMA)


def check(document: dict[str, Any]) -> None:
    """Fail where *document* is no AsyncAPI 3.0 document, or refers to what is not in it."""
    problems = [f"{list(e.absolute_path)}: {e.message[:300]}" for e in validator().iter_errors(document)]
    assert problems == []
    for reference in references(document):
        assert resolved(document, reference) is not None, reference
    for operation in document["operations"].values():
        channel = operation["channel"]["$ref"]
        assert all(m["$ref"].startswith(f"{channel}/messages/") for m in operation["messages"])
        reply = operation.get("reply")
        assert reply is None or all(
            m["$ref"].startswith(f"{reply['channel']['$ref']}/messages/") for m in reply["messages"]
        )


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for part in value.values():
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def resolved(document: Any, reference: str) -> Any:
    found = document
    for part in reference.removeprefix("#/").split("/"):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def payload_validator(document: dict[str, Any], name: str) -> Any:
    """Return what checks whole envelopes of one message."""
    payload = document["components"]["messages"][name]["payload"]
    return jsonschema.Draft7Validator(payload | {"components": document["components"]})


# -- the whole document ------------------------------------------------------------------------------------------


def test_schema_refuses_what_is_wrong(bus: Bus) -> None:
    """The check can fail: the official schema finds a channel that is none, and an operation that does nothing."""
    document = asyncapi(bus, title="Shop", version="1")
    document["operations"]["broken"] = {"action": "ponder"}
    assert list(validator().iter_errors(document))


def test_document_of_a_bus_is_valid_and_says_who_hears_and_says_what(bus: Bus) -> None:
    """Endpoints are channels, handlers are operations, and so is what they say as far as the source tells."""
    document = asyncapi(bus, title="Shop", version="1.2.3")
    check(document)
    assert (document["asyncapi"], document["info"]["title"], document["info"]["version"]) == ("3.0.0", "Shop", "1.2.3")
    assert {name: channel["address"] for name, channel in document["channels"].items()} == {
        "orders": "orders",
        "packers": "packers",
        "payments": "payments",
        "event.asyncapi.shipped": "asyncapi.shipped",
        "replies.to.senders": None,
    }
    assert document["channels"]["orders"]["x-sagabus-partitions"] == 4
    assert {name: operation["action"] for name, operation in document["operations"].items()} == {
        "orders.receives.asyncapi.place-order-now.Ordering": "receive",
        "orders.receives.asyncapi.packed.Ordering": "receive",
        "orders.receives.asyncapi.hurry.Ordering": "receive",
        "packers.receives.asyncapi.pack.pack": "receive",
        "payments.receives.asyncapi.pay.charge": "receive",
        "Ordering.sends.asyncapi.pack.to.packers": "send",
        "Ordering.defers.asyncapi.hurry": "send",
        "Ordering.publishes.asyncapi.shipped": "send",
        "route.asyncapi.pay": "send",
    }
    placed = document["operations"]["orders.receives.asyncapi.place-order-now.Ordering"]
    assert placed["summary"] == "Starts the saga Ordering, one for each order. Ask for all of it."
    answers = "#/channels/replies.to.senders/messages"
    assert placed["reply"]["messages"] == [
        {"$ref": f"{answers}/asyncapi.taken"},
        {"$ref": f"{answers}/asyncapi.shipped"},
    ]
    packed = document["operations"]["packers.receives.asyncapi.pack.pack"]["reply"]
    assert packed["messages"] == [{"$ref": f"{answers}/asyncapi.packed"}]


def test_document_is_the_same_every_time(bus: Bus) -> None:
    """It can be kept in a repository, and a change of it be seen."""
    assert json.dumps(asyncapi(bus, title="t", version="1")) == json.dumps(asyncapi(bus, title="t", version="1"))


@pytest.mark.parametrize("app", ["credit_check.app", "quorum.app", "approval.app", "transfer.app", "import_once.app"])
def test_documents_of_the_examples_are_valid(app: str) -> None:
    """Also of ready-made sagas, whose handlers are inherited."""
    with load_app(f"examples.{app}:bus") as bus:
        check(asyncapi(bus, title=app, version="1"))


# -- messages ----------------------------------------------------------------------------------------------------

REAL = [
    PlaceOrder("17", Line("pen", 3)),
    PlaceOrder("17", Line("pen", 3), [Line("ink", 1, (2, "m"))], "now", {"a", "b"}),
    Pack("17"),
    Packed(),
    Hurry(),
]


@pytest.mark.parametrize("real", REAL, ids=lambda real: type(real).__name__)
def test_what_is_really_sent_fits_its_schema(bus: Bus, real: Any) -> None:
    """An envelope as it goes over the wire is what the document says; another type, or a wrong body, is not."""
    document = asyncapi(bus, title="Shop", version="1")
    name = type_of(real).name.replace(" ", "-").replace("/", "-")
    fits = payload_validator(document, name)
    wire = json.loads(encode(wrap(real, id="1", source="/client", now_ms=0, replyto="desk", correlationid="0")))
    fits.validate(wire)
    for wrong in ({"type": "asyncapi.other"}, {"id": ""}, {"attempt": 0}, {"data": "text"}):
        assert not fits.is_valid(wire | wrong), wrong


def test_body_that_is_no_order_does_not_fit(bus: Bus) -> None:
    """Fields, their types, their limits and the items of tuples are in the schema."""
    document = asyncapi(bus, title="Shop", version="1")
    fits = payload_validator(document, "asyncapi.place-order-now")
    wire = json.loads(encode(wrap(REAL[0], id="1", source="/client", now_ms=0)))
    line = {"article": "pen", "count": 1}
    for body in (
        {"first": line},
        {"order": 17, "first": line},
        {"order": "17", "first": line | {"count": 100}},
        {"order": "17", "first": line | {"size": ["cm", 1]}},
        {"order": "17", "first": line | {"size": [1, "cm", 2]}},
        {"order": "17", "first": line, "tags": ["a", "a"]},
    ):
        assert not fits.is_valid(wire | {"data": body}), body


def test_examples_are_messages_that_endpoints_admit(bus: Bus) -> None:
    """Each sample is a whole envelope: it fits its own schema, and its body is read by the class."""
    document = asyncapi(bus, title="Shop", version="1")
    shown = {
        m["name"]: m["examples"][0]["payload"] for m in document["components"]["messages"].values() if "examples" in m
    }
    for name in ("asyncapi.place order/now", "asyncapi.pack", "asyncapi.packed", "asyncapi.hurry"):
        envelope = admit(json.dumps(shown[name]).encode())
        kind = registry.named(name)
        assert isinstance(kind.codec.decode(envelope.data, envelope.dataversion), kind.cls)
        payload_validator(document, name.replace(" ", "-").replace("/", "-")).validate(shown[name])


def test_descriptions_come_from_docstrings(bus: Bus) -> None:
    """What a class says of itself is what readers see; what attrs writes for a class without one is not."""
    messages = asyncapi(bus, title="Shop", version="1")["components"]["messages"]
    assert messages["asyncapi.place-order-now"]["summary"] == "Place an order."
    assert messages["asyncapi.place-order-now"]["description"] == "Place an order.\n\nIt may be long."
    assert "summary" not in messages["asyncapi.pack"]


def test_encrypted_fields_are_marked(bus: Bus) -> None:
    """Readers see which values they cannot read, at any depth; no sample shows a secret in the clear."""
    document = asyncapi(bus, title="Shop", version="1")
    pay = document["components"]["messages"]["asyncapi.pay"]
    assert pay["x-sagabus-encrypted"] is True
    assert "examples" not in pay
    fields = document["components"]["schemas"]["Pay"]["properties"]
    assert (fields["card"]["type"], fields["card"]["x-sagabus-encrypted"]) == ("string", True)
    assert fields["spare"]["additionalProperties"]["x-sagabus-encrypted"] is True
    assert "x-sagabus-encrypted" not in fields["order"]


BOUNDED = Annotated[int, msgspec.Meta(ge=10)] | None


@message("asyncapi.bounded")
class Bounded:
    low: Annotated[int, msgspec.Meta(ge=10)]
    high: Annotated[int, msgspec.Meta(lt=0)]
    long: Annotated[str, msgspec.Meta(min_length=5)]
    some: Annotated[list[int], msgspec.Meta(min_length=2)]
    either: BOUNDED
    raw: bytes
    pair: tuple[int, bool]


def test_sample_body_keeps_to_limits() -> None:
    """The smallest message that the class takes, without what has a default."""
    kind = type_of(Bounded)
    assert kind.codec.decode(json.dumps(sample_body(Bounded)).encode(), 1) == Bounded(
        low=10, high=-1, long="42000", some=[1, 1], either=10, raw=b"\0", pair=(1, True)
    )


# -- servers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("redis://user:secret@store:6379/2", {"host": "store:6379", "protocol": "redis", "pathname": "/2"}),
        ("valkeys://:secret@store", {"host": "store", "protocol": "rediss"}),
        ("redis+cluster://:secret@a:1", {"host": "a:1", "protocol": "redis", "description": "A node of a cluster."}),
        ("amqps://user:secret@rabbit/prod?heartbeat=5", {"host": "rabbit", "protocol": "amqps", "pathname": "/prod"}),
        ("unix:///run/s.sock", {"host": "localhost", "protocol": "redis", "description": "On the socket /run/s.sock."}),
        ("sqs://key:secret@", {"host": "localhost", "protocol": "sqs"}),
        ("memory:", None),
    ],
)
def test_server_is_named_without_credentials(url: str, server: dict[str, Any] | None) -> None:
    """Who reads the document learns where the broker is, and no more."""
    assert server_of(url) == server


def test_server_whose_credentials_cannot_be_told_is_refused() -> None:
    """Rather no document than one with half a password in it."""
    with pytest.raises(ConfigurationError, match="has an @ behind its host"):
        server_of("redis://user:sec/ret@store:6379")


# -- what the source tells ---------------------------------------------------------------------------------------


def test_said_is_nothing_where_there_is_no_source() -> None:
    """Functions made at run time say nothing that could be read, nor do those that take no context."""
    made: dict[str, Any] = {}
    exec("def handler(m, context):\n    context.reply(1)\n", made)
    assert said_by(made["handler"], 1) == ()
    assert said_by(charge, 1) == ()


def test_said_knows_variables_that_are_assigned_once() -> None:
    """A variable that is one message is as good as the message; one that may be two is not told."""

    def handler(m: Any, context: Any) -> None:
        once = Packed()
        typed: Hurry = Hurry()
        twice: Any = Pack("1")
        if m:
            twice = Taken("1")
        context.reply(once)
        context.publish(twice)
        context.publish(typed)
        context.publish(walrus := Shipped("1"))
        context.publish(walrus)
        context.publish(m)

    assert {(said.word, said.kind.cls) for said in said_by(handler, 1)} == {
        ("reply", Packed),
        ("publish", Hurry),
        ("publish", Shipped),
    }


def test_said_runs_nothing() -> None:
    """Names are looked up in modules and classes alone; what would run code is not known."""

    class Trap:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError("looked at")

    trap = Trap()

    def handler(m: Any, context: Any) -> None:
        context.send(trap.message(1), to=trap.place)
        context.publish(sys.modules)
        context.send(Pack("1"), to=trap.place)

    (said,) = said_by(handler, 1)
    assert (said.kind.cls, said.to, said.routed) == (Pack, "", False)


# -- the command -------------------------------------------------------------------------------------------------


def test_command_prints_the_document_as_json_and_as_yaml() -> None:
    """Both are the same document; the version is that of the app's distribution, or what was said."""
    app = "examples.credit_check.app:bus"
    plain = CliRunner().invoke(main, ["docs", "asyncapi", app, "--title", "Bank", "--app-version", "7"])
    document = json.loads(plain.stdout)
    check(document)
    assert (document["info"]["title"], document["info"]["version"]) == ("Bank", "7")
    as_yaml = CliRunner().invoke(main, ["docs", "asyncapi", app, "--title", "Bank", "--app-version", "7", "--yaml"])
    assert yaml.safe_load(as_yaml.stdout) == document
    assert document["operations"]["CreditCheck.publishes.credit.decided"]["channel"] == {
        "$ref": "#/channels/event.credit.decided"
    }


def test_command_without_pyyaml_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain install prints JSON, and says how to have YAML."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    done = CliRunner().invoke(main, ["docs", "asyncapi", "examples.credit_check.app:bus", "--yaml"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "pip install 'sagabus[dev]'" in done.stderr
