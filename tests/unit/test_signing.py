"""Signatures: what they cover, whom they convince, and what becomes of a message without one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from attrs import define, field

from sagabus import Bus, Context, Keyring, MergeSagaState, RetryPolicy, Saga, Signing, handles, message, starts
from sagabus.endpoint import EndpointOptions
from sagabus.envelope import Envelope, SagaKey, decode, encode, wrap
from sagabus.errors import ConfigurationError, UntrustedError
from sagabus.observe.log import get_logger
from sagabus.outgoing import posted_merge
from sagabus.runtime.intake import Sorted, sort_batch
from sagabus.runtime.outbound import Outbound
from sagabus.runtime.recovery import Recovery
from sagabus.transport import Delivery
from tests.servers import until

OLD, NEW = Keyring({"old": bytes(range(32))}), Keyring({"new": bytes(range(32, 64))})
SIGNING = Signing(keyring=OLD)
LIMIT = 10_000


@message("signed.begin")
class Begin:
    key: str


@message("signed.told")
class Told:
    key: str


@define
class State:
    told: list[str] = field(factory=list)


class Keyed(Saga[State], key="key", merger=lambda siblings: siblings[0]):
    @starts
    def begun(self, m: Begin) -> None: ...
    @handles
    def told(self, m: Told) -> None: ...


def whole() -> Envelope:
    """Return an envelope that says something in every attribute."""
    return wrap(
        Begin("k"),
        id="m",
        source="/shop",
        now_ms=1000,
        correlationid="c",
        causationid="b",
        replyto="shop",
        replysaga="Order/1",
        replylife=2,
        saga="Keyed/k",
        sagalife=3,
        timer="t",
        traceparent="00-1-2-01",
    )


def refused(envelope: Envelope, endpoint: str = "bank", signing: Signing = SIGNING) -> str:
    with pytest.raises(UntrustedError) as raised:
        signing.check(envelope, endpoint)
    assert raised.value.reason == "untrusted"
    return str(raised.value)


def endpoint(signing: Signing | None = SIGNING) -> Any:
    return Bus(store="memory:", transport="memory:", signing=signing).endpoint("bank", Keyed)


def sort(*envelopes: Envelope, signing: Signing | None = SIGNING) -> Sorted:
    deliveries = [Delivery("bank", encode(envelope), 1, n) for n, envelope in enumerate(envelopes)]
    where = endpoint()
    return sort_batch(lambda _: where, deliveries, LIMIT, signing)


# -- what a signature covers ---------------------------------------------------------------------------------------


def test_signed_message_convinces_where_it_was_sent_and_nobody_else() -> None:
    """Also after it has travelled; in another queue, or under another source, the same signature is worth nothing."""
    signed = decode(encode(SIGNING.signed(whole(), "bank")))
    SIGNING.check(signed, "bank")
    assert "did not make for post" in refused(signed, "post")
    assert "did not make for bank" in refused(msgspec.structs.replace(signed, source="/client"))


def test_published_message_convinces_every_subscriber_of_its_topic() -> None:
    """It is signed for its topic; a command signed for an endpoint that is called like a topic is no event."""
    published = SIGNING.signed(whole(), "signed.begin", topic=True)
    SIGNING.check(published, "bank")
    SIGNING.check(published, "post")
    refused(SIGNING.signed(whole(), "signed.begin"))
    refused(SIGNING.signed(whole(), "signed.other", topic=True))


def test_retry_keeps_its_signature() -> None:
    """The count of its attempts is the one thing that changes on the way."""
    SIGNING.check(SIGNING.signed(whole(), "bank").with_attempt(7), "bank")


@pytest.mark.parametrize("name", sorted(set(Envelope.__struct_fields__) - {"specversion", "data_base64", "attempt"}))
def test_message_with_any_attribute_changed_is_refused(name: str) -> None:
    """Every attribute but the attempt: changed, dropped, or added where there was none."""
    signed = SIGNING.signed(whole(), "bank")
    default = dict(zip(reversed(Envelope.__struct_fields__), reversed(Envelope.__struct_defaults__), strict=False))
    value = getattr(signed, name)
    others: list[Any] = [value + 1] if isinstance(value, int) else [f"{value}x", f"{value}\x00"]
    if name == "data":
        others = [msgspec.Raw(b'{"key":"l"}'), msgspec.Raw(b'{"key": "k"}')]
    if name in default and default[name] != value and default[name] is not msgspec.NODEFAULT:
        others.append(default[name])
    for other in others:
        refused(msgspec.structs.replace(signed, **{name: other}))


def test_message_with_any_character_of_its_signature_changed_is_refused() -> None:
    """Also in the last bits of base64; the text is compared, and not what it may stand for."""
    signed = SIGNING.signed(whole(), "bank")
    for position, character in enumerate(signed.signature):
        for other in {"A", "B", "_", "é"} - {character}:
            changed = signed.signature[:position] + other + signed.signature[position + 1 :]
            refused(msgspec.structs.replace(signed, signature=changed))
    refused(msgspec.structs.replace(signed, signature=signed.signature + "="))


def test_same_message_is_signed_alike_every_time() -> None:
    """A run is made twice, and sends the same bytes; and again by the next version of the code."""
    signed = SIGNING.signed(whole(), "bank")
    assert SIGNING.signed(signed, "bank") == signed
    assert (signed.signaturekey, signed.signature) == ("old", "80F51-BBIOhTvNaaSeQkp9L34FUSWkzwh0scA_mHGCI")


# -- keys ----------------------------------------------------------------------------------------------------------


def test_rotation_takes_both_keys_while_both_are_there() -> None:
    """The first signs, all verify; a key that is not here is named, with what to do."""
    both = Signing(keyring=NEW.joined(OLD))
    old = SIGNING.signed(whole(), "bank")
    both.check(old, "bank")
    new = both.signed(whole(), "bank")
    assert new.signaturekey == "new"
    Signing(keyring=OLD.joined(NEW)).check(new, "bank")
    assert "key 'new', which is not here; add it to the keyring, and retry" in refused(new)
    assert "is not signed; give its sender" in refused(whole())
    refused(msgspec.structs.replace(old, signaturekey="new"), signing=both)
    refused(SIGNING.signed(whole(), "bank"), signing=Signing(keyring=Keyring({"old": bytes(32)})))


def test_signing_takes_the_keys_of_its_bus_and_needs_some() -> None:
    """Its own, or those of encrypted fields; from which it derives others."""
    with Bus(store="memory:", transport="memory:", keyring=NEW, signing=Signing()) as bus:
        assert bus.signing == Signing(keyring=NEW)
    with Bus(store="memory:", transport="memory:", keyring=NEW, signing=SIGNING) as bus:
        assert bus.signing == SIGNING
    with pytest.raises(ConfigurationError, match="signing needs keys"):
        Bus(store="memory:", transport="memory:", signing=Signing())


# -- what becomes of messages --------------------------------------------------------------------------------------


def test_untrusted_message_is_given_up_before_its_body_is_looked_at() -> None:
    """Not even its type is looked up: whoever could not sign has no say in what is decoded."""
    forged = msgspec.structs.replace(whole(), type="nobody.knows", data=msgspec.Raw(b"[1,2]"))
    batch = sort(forged, SIGNING.signed(whole(), "bank"))
    (ticket,) = batch.finished
    assert [t.reason for t in ticket.troubles] == ["untrusted"]
    assert [str(key) for key in batch.sagas] == ["Keyed/k"]


def test_bus_that_does_not_demand_takes_all_and_says_what_is_wrong() -> None:
    """So that keys can be rolled out while messages without signatures are under way."""
    unsigned, other = whole(), msgspec.structs.replace(SIGNING.signed(whole(), "post"), id="n")
    good = msgspec.structs.replace(whole(), id="g")
    batch = sort(unsigned, other, SIGNING.signed(good, "bank"), signing=Signing(demand=False, keyring=OLD))
    assert not batch.finished
    assert [m.id for m in batch.sagas[SagaKey("Keyed", "k")].incoming] == ["m", "n", "g"]
    assert [error.reason for error in batch.doubtful] == ["untrusted", "untrusted"]


def test_bus_without_signing_takes_signed_messages() -> None:
    """The first step of rolling it out: others sign already."""
    assert not sort(SIGNING.signed(whole(), "bank"), signing=None).finished


def test_forged_merge_is_given_up_and_does_not_come_again() -> None:
    """A MergeSagaState is put off for ever where it cannot be handled, so nobody may forge one."""
    forged = wrap(MergeSagaState(), id="m", source="/bank", now_ms=0, saga="Keyed/k", sagalife=1)
    (ticket,) = sort(forged).finished
    outbound = Outbound()
    Recovery(EndpointOptions(), lambda: 0.5, get_logger()).conclude(ticket, outbound, 1000)
    assert [letter.reason for letter in outbound.buried] == ["untrusted"]
    assert not outbound.scheduled


def test_merge_that_the_store_posts_is_signed() -> None:
    """By the endpoint of the saga, for itself."""
    posted = posted_merge(SagaKey("Keyed", "k"), 1, "m", "bank", 0, SIGNING)
    assert not sort(decode(posted.body)).finished


def test_everything_that_a_bus_sends_to_itself_is_trusted() -> None:
    """Client, event, reply, timer, delayed send, retry: in memory, to the end, with nothing given up."""
    seen: list[str] = []
    with Bus(store="memory:", transport="memory:", keyring=OLD, signing=Signing()) as bus:
        shop = bus.endpoint("shop", retry=RetryPolicy(first_delay_s=0.001))
        bus.endpoint("bank", Keyed)

        @shop.consumer
        def begun(m: Begin, context: Context) -> None:
            seen.append(f"begun {context.attempt}")
            if context.attempt == 1:
                raise ValueError("once more")
            context.reply(Told(m.key))

        @shop.consumer
        def told(m: Told) -> None:
            seen.append("told")

        bus.send(Begin("k"), to="bank")
        bus.send(Begin("k"), to="shop", reply_to="bank")
        bus.publish(Told("k"))
        bus.send(Told("k"), to="shop", after=0.0)
        worker = bus.worker()

        def all_there() -> bool:
            worker.run_until_idle()
            return len(seen) >= 4

        until(all_there, "the retry")
        assert sorted(seen) == ["begun 1", "begun 2", "told", "told"]
        assert bus.store.dead(10) == []
