"""Bodies, states and envelopes: what is written is read again, equal states are equal bytes, limits hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
import pytest
from attrs import define, field, frozen, validators
from hypothesis import given
from hypothesis import strategies as st

from sagabus.codec import StateCodec, plain_state, resolve_hints
from sagabus.envelope import (
    MAX_BYTES,
    MAX_ID_LENGTH,
    Envelope,
    Incoming,
    SagaKey,
    decode,
    derive_id,
    encode,
    rfc3339,
    wrap,
)
from sagabus.errors import CodecError, ConfigurationError
from sagabus.messages import message
from sagabus.outgoing import Outgoing, OutgoingKind, from_lines, posted_merge, to_lines
from sagabus.transport import ParcelKind

# -- states ------------------------------------------------------------------------------------------------------


class Colour(Enum):
    RED = "red"


@frozen
class Item:
    price: Decimal = Decimal("1.10")
    when: datetime | None = None


@define
class Everything:
    """One field of each kind that states are made of."""

    n: int = 0
    big: int = 2**63 - 1
    text: str = ""
    raw: bytes = b""
    ratio: float = 0.0
    flag: bool = False
    day: date | None = None
    uid: UUID | None = None
    colour: Colour = Colour.RED
    names: set[str] = field(factory=set)
    items: dict[str, Item] = field(factory=dict)
    pairs: list[tuple[str, int]] = field(factory=list)
    empty: list[str] = field(factory=list)


CODEC = StateCodec(Everything, 1)
items = st.builds(Item, st.decimals(allow_nan=False, allow_infinity=False, places=2), st.none())
everything = st.builds(
    Everything,
    n=st.integers(-(2**63), 2**63 - 1),
    text=st.text(st.characters(exclude_categories=["Cs"])),
    raw=st.binary(),
    ratio=st.floats(allow_nan=False),
    uid=st.uuids(),
    names=st.sets(st.text(st.characters(exclude_categories=["Cs"]))),
    items=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), items),
    pairs=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9))),
)


@given(everything)
def test_state_comes_back_as_it_went(state: Everything) -> None:
    """Whatever the fields hold: what is written is read."""
    assert CODEC.decode(CODEC.encode(state)) == state


@given(st.permutations(["a", "b", "c", "d", "é"]))
def test_equal_states_give_equal_bytes(order: list[str]) -> None:
    """Neither the order in which a mapping was filled, nor that of a set, shows in the bytes."""
    state = Everything(names=set(order), items={name: Item() for name in order})
    expected = Everything(names=set(order), items={name: Item() for name in sorted(order)})
    assert CODEC.encode(state) == CODEC.encode(expected)


def test_state_bytes_are_the_same_in_every_version() -> None:
    """Rule 8 compares bytes that other processes wrote: they may not change between releases."""
    state = Everything(n=1, names={"b", "a"}, items={"y": Item(), "x": Item()}, day=date(2026, 1, 2))
    assert CODEC.encode(state)[:2] == b"\x92\x01"
    body = plain_state(CODEC.encode(state))
    assert list(body) == sorted(body)
    assert (list(body["items"]), body["names"], body["day"]) == (["x", "y"], ["a", "b"], "2026-01-02")


def test_state_of_another_version_goes_through_upcast() -> None:
    """Old states are brought up to date when they are read; newer ones are refused."""

    @define
    class State:
        total: int = 0

        @staticmethod
        def upcast(body: dict[str, Any], version: int) -> dict[str, Any]:
            return {"total": sum(body["parts"]) if version == 1 else body["sum"]}

    codec = StateCodec(State, 3)
    assert codec.decode(msgspec.msgpack.encode((1, {"parts": [1, 2]}))) == State(3)
    assert codec.decode(msgspec.msgpack.encode((2, {"sum": 4}))) == State(4)
    assert codec.decode(codec.encode(State(5))) == State(5)
    with pytest.raises(CodecError, match="has version 4, this code knows versions up to 3") as caught:
        codec.decode(msgspec.msgpack.encode((4, {})))
    assert caught.value.reason == "unknown-version"


def test_state_of_a_large_version_is_read() -> None:
    """A version that takes more than one byte is a version too."""
    codec = StateCodec(Everything, 300)
    assert codec.decode(codec.encode(Everything(n=1))) == Everything(n=1)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", r"at `\$`"),
        (b"\xc1", r"at `\$`"),
        (msgspec.msgpack.encode((1, {"n": "x"})), r"`\$\[1\]\.n`"),
        (msgspec.msgpack.encode((1, {"items": {"a": {"price": "x"}}})), r"`\$\[1\]\.items\[\.\.\.\]\.price`"),
        (msgspec.msgpack.encode((0, {})), "upcast"),
        (msgspec.msgpack.encode(7), "array"),
    ],
)
def test_state_that_does_not_fit_says_where(data: bytes, text: str) -> None:
    """Stored bytes that do not fit name the class and the path."""
    with pytest.raises(CodecError, match=f"Everything.*{text}"):
        CODEC.decode(data)


def test_state_is_validated_when_it_is_read() -> None:
    """attrs validators hold for what is stored too."""

    @define
    class State:
        n: int = field(default=1, validator=validators.gt(0))

    codec = StateCodec(State, 1)
    with pytest.raises(CodecError, match="must be > 0"):
        codec.decode(msgspec.msgpack.encode((1, {"n": 0})))


def test_hint_that_cannot_be_resolved_stays_text() -> None:
    """The codec complains of it, with the class; resolving does not."""

    class Odd:
        __annotations__ = {"a": "Nowhere", "b": "int"}

    assert resolve_hints(Odd) == {"a": "Nowhere", "b": int}


# -- envelopes ---------------------------------------------------------------------------------------------------


@message("codec.hello")
class Hello:
    text: str = ""
    counts: Mapping[str, int] = field(factory=dict)


def test_envelope_is_a_cloudevent() -> None:
    """What travels is a CloudEvents 1.0 JSON object; attributes that are not set do not travel."""
    envelope = wrap(Hello("é"), id="1", source="/client", now_ms=1_700_000_000_123, replyto="me")
    assert json.loads(encode(envelope)) == {
        "specversion": "1.0",
        "id": "1",
        "source": "/client",
        "type": "codec.hello",
        "time": "2023-11-14T22:13:20.123Z",
        "data": {"text": "é", "counts": {}},
        "replyto": "me",
    }
    assert decode(encode(envelope)).replyto == "me"


def test_envelope_keeps_its_body_to_the_byte() -> None:
    """The body is not touched on the way: numbers past 2**53 and empty lists stay what they are."""
    raw = b'{ "n": 9007199254740993, "e": [], "x": 1.50 }'
    data = b'{"specversion":"1.0","id":"1","source":"/c","type":"t","data":%s}' % raw
    assert bytes(decode(encode(decode(data))).data) == raw


def test_envelope_for_another_try_differs_in_its_attempt() -> None:
    """A retry is the same message."""
    envelope = wrap(Hello(), id="1", source="/c", now_ms=0)
    again = envelope.with_attempt(2)
    assert (again.attempt, again.id, envelope.attempt) == (2, "1", 1)
    assert json.loads(encode(again))["attempt"] == 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"specversion":"0.3","id":"1","source":"/c","type":"t"}',
        b'{"specversion":"1.0","source":"/c","type":"t"}',
        b'{"specversion":"1.0","id":"","source":"/c","type":"t"}',
        b'{"specversion":"1.0","id":"1","source":"/c","type":""}',
        b'{"specversion":"1.0","id":"1","source":"/c","type":"t","attempt":"x"}',
        b'{"specversion":"1.0","id":"%s","source":"/c","type":"t"}' % (b"x" * (MAX_ID_LENGTH + 1)),
    ],
)
def test_bytes_that_are_no_envelope_are_refused(data: bytes) -> None:
    """Whatever comes off the wire is read or refused as undecodable."""
    with pytest.raises(CodecError) as caught:
        decode(data)
    assert caught.value.reason == "undecodable"


def test_envelope_over_the_limit_is_neither_written_nor_read() -> None:
    """The limit is of the whole envelope, in bytes; exactly the limit is fine."""
    envelope = wrap(Hello("é" * 100), id="1", source="/c", now_ms=0)
    size = len(encode(envelope))
    assert decode(encode(envelope, size), size).id == "1"
    for refuse in (lambda: encode(envelope, size - 1), lambda: decode(encode(envelope), size - 1)):
        with pytest.raises(CodecError, match=rf"{size} bytes.*over the limit of {size - 1}") as caught:
            refuse()
        assert caught.value.reason == "too-large"
    assert MAX_BYTES == 1_048_576


def test_incoming_decodes_its_message_once() -> None:
    """The body is decoded when first asked for, and the message is kept."""
    incoming = Incoming(wrap(Hello("x"), id="1", source="/c", now_ms=0))
    assert incoming.message == Hello("x")
    assert incoming.message is incoming.message
    assert (incoming.id, incoming.kind.cls, repr(incoming)) == ("1", Hello, "Incoming(codec.hello 1)")
    unknown = Incoming(Envelope(specversion="1.0", id="1", source="/c", type="codec.unknown"))
    with pytest.raises(CodecError, match=r"codec\.unknown"):
        _ = unknown.message


def test_derived_ids_are_the_same_for_ever() -> None:
    """Every process and every release derives the same id from the same parts."""
    assert derive_id("CreditCheck/42", 1, "m", "", 0) == "5afbe8edd16fae7a5971071f298eb158"
    assert derive_id("a", "bc") != derive_id("ab", "c")
    assert derive_id(SagaKey("A", "b"), 1) == derive_id("A/b", "1")


def test_times_are_utc_with_milliseconds() -> None:
    """Also where there are none."""
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert datetime.fromisoformat(rfc3339(1_700_000_000_001)) == datetime(2023, 11, 14, 22, 13, 20, 1000, UTC)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_saga_keys_survive_text_and_tag(id_: str) -> None:
    """Any id comes back; its tag has nothing that a hash tag or a pattern could trip over."""
    key = SagaKey("CreditCheck", id_)
    assert SagaKey.parse(str(key)) == key
    assert SagaKey.from_tag(key.tag()) == key
    assert not set(key.tag()) & set("{}*?[]\\\n ")


def test_text_that_is_no_saga_is_refused() -> None:
    """A saga is written NAME/ID."""
    with pytest.raises(ConfigurationError, match="'42' is no saga; write NAME/ID"):
        SagaKey.parse("42")


# -- outgoing messages -------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.builds(
            Outgoing,
            st.sampled_from(OutgoingKind),
            st.text(st.characters(exclude_categories=["Cs"])),
            st.text(st.characters(exclude_categories=["Cs"])),
            st.text(st.characters(exclude_categories=["Cs"])),
            st.text(st.characters(exclude_categories=["Cs"])).map(msgspec.json.encode),
            st.integers(0, 2**53),
        )
    )
)
def test_outbox_lines_come_back_as_they_went(messages: list[Outgoing]) -> None:
    """Whatever is in a message, its line ends where the next begins."""
    lines = to_lines(messages)
    assert from_lines(lines) == (messages, False)
    assert from_lines(lines + b"M\n") == (messages, True)


def test_outgoing_messages_are_parcels_of_their_kind() -> None:
    """A command goes to one queue, an event to every subscriber."""
    command = Outgoing(OutgoingKind.COMMAND, "equifax", "1", "42", b"{}")
    event = Outgoing(OutgoingKind.EVENT, "credit.decided", "2", "42", b"{}")
    assert (command.parcel().kind, event.parcel().kind) == (ParcelKind.COMMAND, ParcelKind.EVENT)
    assert (command.parcel().to, event.parcel().id) == ("equifax", "2")


def test_posted_merge_is_for_one_life_of_one_saga() -> None:
    """MergeSagaState names its saga and life, and its id follows from the message that made the siblings."""
    posted = posted_merge(SagaKey("CreditCheck", "4/2"), 2, "m", "credit", 0)
    envelope = decode(posted.body)
    assert (envelope.saga, envelope.sagalife, envelope.causationid) == ("CreditCheck/4/2", 2, "m")
    assert (posted.to, posted.id, posted.partition_key) == ("credit", envelope.id, "4/2")
    assert posted.id == derive_id("merge", "CreditCheck/4/2", 2, "m")


def test_large_mapping_is_written_in_order_whatever_was_added_last() -> None:
    """Equal states give equal bytes, however many entries there are and in whatever order they came."""

    @define
    class Large:
        entries: dict[str, int] = field(factory=dict)

    codec = StateCodec(Large, 1)
    stored = codec.decode(codec.encode(Large({f"n{number:04}": number for number in range(1000)})))
    for number in (5, 1500, 700):
        stored.entries[f"n{number:04}x"] = number
    other = Large(dict(reversed(stored.entries.items())))
    assert codec.encode(stored) == codec.encode(other)
    assert codec.decode(codec.encode(stored)) == stored
    assert list(codec.decode(codec.encode(other)).entries) == sorted(stored.entries)
