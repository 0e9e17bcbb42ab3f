"""Encrypted fields: shown to nobody but `reveal()`, bound to where they stand, and written alike every time."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, cast

import pytest
from attrs import define, field, frozen
from hypothesis import given
from hypothesis import strategies as st

from mergers import all_equal, by_key, fieldwise, first_of
from sagabus import Bus, Encrypted, Keyring, Saga, handles, message, starts
from sagabus.advance import advance
from sagabus.codec import BodyCodec, StateCodec, plain_state
from sagabus.commit import Lifecycle, Snapshot, StoredVersion
from sagabus.definition import definition_of
from sagabus.envelope import Incoming, SagaKey, wrap
from sagabus.errors import CodecError, ConfigurationError, DefinitionError, HandlerMisuseError, MissingKeyError
from sagabus.messages import type_of
from sagabus.secrecy.process_keys import process_keys
from sagabus.testing import SagaHarness, check_merger, explore
from sagabus.testing.keys import TEST_KEYS
from sagabus.versions import Dot
from tests.changes import evolve

OLD, NEW = Keyring({"old": bytes(range(32))}), Keyring({"new": bytes(range(32, 64))})
NUMBER = "4111 1111 1111 1111"


@frozen
class Holder:
    name: str = ""
    birth: Encrypted[str] | None = None


@frozen
class Address:
    street: str
    at: datetime = datetime(2026, 1, 2, tzinfo=UTC)


@message("secret.everything", version=2)
class Everything:
    card: Encrypted[str]
    other: Encrypted[str] | None = None
    holder: Holder = field(factory=Holder)
    many: list[Holder] = field(factory=list)
    by_bank: dict[str, Encrypted[int]] = field(factory=dict)
    pair: tuple[int, Encrypted[float]] | None = None
    rows: tuple[Encrypted[bytes], ...] = ()
    whole: Encrypted[Address] | None = None
    plain: dict[str, Any] = field(factory=dict)
    raw: bytes = b""
    at: datetime | None = None

    @staticmethod
    def upcast(body: dict[str, Any], version: int) -> dict[str, Any]:
        return body


@message("secret.other")
class Other:
    card: Encrypted[str]


CODEC: BodyCodec[Everything] = type_of(Everything).codec
FULL = Everything(
    card=Encrypted(NUMBER),
    other=Encrypted(NUMBER),
    holder=Holder("Ann", Encrypted("1970")),
    many=[Holder("Bob"), Holder("Cy", Encrypted("1980"))],
    by_bank={"b": Encrypted(3), "a": Encrypted(2**60)},
    pair=(1, Encrypted(0.5)),
    rows=(Encrypted(b"\x00\xff"), Encrypted(b"")),
    whole=Encrypted(Address("Elm St")),
    plain={"x": [1, None]},
    raw=b"\x01\x02",
    at=datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
)


@pytest.fixture(autouse=True)
def keys() -> Iterator[None]:
    with OLD.installed():
        yield


def body(value: Everything = FULL) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(CODEC.encode(value)))


def read(plain: dict[str, Any]) -> Everything:
    return CODEC.decode(json.dumps(plain).encode(), 2)


# -- the value ---------------------------------------------------------------------------------------------------


def test_secret_is_shown_by_nothing_but_reveal() -> None:
    """Neither repr, str, formatting nor pickling, of it or of what holds it, has the value."""
    secret = Encrypted(NUMBER)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r}", repr(FULL), repr({"k": [secret]})]
    assert not any("4111" in text for text in shown)
    with pytest.raises(TypeError, match="in the clear"):
        pickle.dumps(secret)
    assert secret.reveal() == NUMBER


def test_secrets_are_values() -> None:
    """Equal and hashable as what they hide is, unlike anything else, unchangeable, and copied as values are."""
    assert Encrypted("a") == Encrypted("a") != Encrypted("b")
    assert Encrypted("a") != "a"
    assert len({Encrypted("a"), Encrypted("a"), "a"}) == 2
    with pytest.raises(TypeError):
        hash(Encrypted([1]))
    with pytest.raises(AttributeError, match="does not change"):
        Encrypted("a")._value = "b"  # type: ignore[misc]
    listed = Encrypted([1])
    copied = copy.deepcopy(listed)
    assert copied == listed
    assert copied.reveal() is not listed.reveal()
    assert copy.copy(listed) is listed
    with pytest.raises(HandlerMisuseError, match="holds another one"):
        Encrypted(Encrypted("a"))


# -- there and back ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", [CODEC, StateCodec(Everything, 1)])
def test_secrets_come_back_wherever_they_stand(codec: Any) -> None:
    """In fields, lists, tuples and mappings, of any type that a field may have; nothing readable is written."""
    written = codec.encode(FULL)
    assert (codec.decode(written, 2) if codec is CODEC else codec.decode(written)) == FULL
    for secret in (b"4111", b"1970", b"1980", b"Elm", b"2026-01-02"):
        assert secret not in written
    assert b"Ann" in written


@given(st.text(st.characters(exclude_categories=["Cs"])), st.binary())
def test_any_value_comes_back(text: str, data: bytes) -> None:
    """Whatever it is, also what looks like something written before."""
    with OLD.installed():
        value = Everything(Encrypted(text), rows=(Encrypted(data),), plain={"card": text, "b": "encrypted:1:old:"})
        assert CODEC.decode(CODEC.encode(value), 2) == value


def test_equal_values_are_equal_bytes() -> None:
    """Rule 8 and digests compare bytes: the nonce follows from place and value, here and in every other process."""
    assert CODEC.encode(FULL) == CODEC.encode(copy.deepcopy(FULL))
    # Written in 2026, and to be read and written alike ever after.
    assert body(Everything(Encrypted("a")))["card"] == "encrypted:1:old:aK0t4fCC7vuY62xb3_10RcxHmMtzTeuUAieDotnY"


def test_one_value_in_two_places_is_written_in_two_ways() -> None:
    """What is equal can be seen within one field of one type only."""
    sealed = body()
    seen = [sealed["card"], sealed["other"], json.loads(type_of(Other).codec.encode(Other(FULL.card)))["card"]]
    states = [plain_state(StateCodec(Everything, 1, root).encode(FULL))["card"] for root in ("saga A", "saga B")]
    assert len({*seen, *states}) == 5
    assert body(evolve(FULL, at=None))["card"] == sealed["card"]


# -- bound to its place --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "moved",
    [
        lambda b: {"card": b["other"]},
        lambda b: {"other": b["card"]},
        lambda b: {"holder": {"birth": b["card"]}},
        lambda b: {"holder": b["many"][1]},
        lambda b: {"many": list(reversed(b["many"]))},
        lambda b: {"by_bank": {"a": b["by_bank"]["b"]}},
        lambda b: {"rows": list(reversed(b["rows"]))},
    ],
)
def test_secret_that_was_copied_to_another_place_is_refused(moved: Any) -> None:
    """A field, an item of a list, a key of a mapping: each takes only what was written there."""
    sealed = body()
    with pytest.raises(CodecError, match="was not written there with key 'old'") as raised:
        read(sealed | moved(sealed))
    assert raised.value.reason == "undecryptable"


def test_secret_of_another_type_saga_or_document_is_refused() -> None:
    """Though its field is called the same, and its class is the same one."""
    other = type_of(Other).codec.encode(Other(Encrypted(NUMBER)))
    with pytest.raises(CodecError, match="copied from another field or type"):
        CODEC.decode(other, 2)
    state = StateCodec(Holder, 1, "saga A").encode(FULL.holder)
    for root in ("saga B", "document Holder", ""):
        with pytest.raises(CodecError, match="copied from another field or type"):
            StateCodec(Holder, 1, root).decode(state)


@given(st.integers(0, 10_000), st.characters(exclude_categories=["Cs"]))
def test_secret_with_any_character_changed_is_refused(position: int, character: str) -> None:
    """Every character counts: marker, key id, nonce, ciphertext, tag, and the last bits of base64."""
    with OLD.installed():
        sealed = body(Everything(Encrypted("a")))
        text = sealed["card"]
        position %= len(text)
        changed = text[:position] + character + text[position + 1 :]
        if changed == text:
            return
        with pytest.raises(CodecError) as raised:
            read(sealed | {"card": changed})
        assert raised.value.reason in ("undecryptable", "missing-key")


@given(st.data())
def test_secret_with_any_bit_changed_is_refused(data: Any) -> None:
    """Also where base64 would give the same bytes for it."""
    with OLD.installed():
        text = body(Everything(Encrypted("a")))["card"]
        head, _, tail = text.rpartition(":")
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        position = data.draw(st.integers(0, len(tail) - 1))
        character = data.draw(st.sampled_from(alphabet.replace(tail[position], "")))
        with pytest.raises(CodecError, match="was not written there"):
            read({"card": f"{head}:{tail[:position]}{character}{tail[position + 1 :]}"})


@pytest.mark.parametrize("plain", [NUMBER, 7, True, [NUMBER], {"a": NUMBER}, "encrypted:1:old:", "encrypted:2:old:AA"])
def test_plain_value_where_a_secret_should_be_is_refused_without_showing_it(plain: Any) -> None:
    """A sender that encrypts nothing is found out; a body in the clear is no way round."""
    with pytest.raises(CodecError, match=r"expected an encrypted value.*\$\.card") as raised:
        read({"card": plain})
    assert raised.value.reason == "undecryptable"
    assert "4111" not in str(raised.value)


def test_null_where_a_secret_must_be_is_refused() -> None:
    """Nothing is no secret, unless the field says so."""
    with pytest.raises(CodecError, match=r"\$\.card"):
        read({"card": None})
    assert read(body() | {"other": None}).other is None


def test_secret_that_does_not_fit_its_type_is_refused_without_showing_it() -> None:
    """Its type may have changed; what msgspec says of it, and of an enum, would show it."""

    @frozen
    class Before:
        birth: Encrypted[str]

    @frozen
    class After:
        birth: Encrypted[int]

    written = StateCodec(Before, 1, "saga A").encode(Before(Encrypted("1970")))
    with pytest.raises(CodecError, match=r"`\$\.birth` is no int; what it is instead is not shown") as raised:
        StateCodec(After, 1, "saga A").decode(written)
    assert "1970" not in repr(raised.value.__cause__) + repr(raised.value)


# -- misuse --------------------------------------------------------------------------------------------------------


def test_value_given_as_it_is_is_never_written() -> None:
    """A sender that forgets Encrypted(...) gets an error, and nothing leaves."""
    for wrong in (Everything(NUMBER), evolve(FULL, by_bank={"a": 0})):  # type: ignore[arg-type]
        with pytest.raises(HandlerMisuseError, match=r"write Encrypted\(\.\.\.\) around") as raised:
            CODEC.encode(wrong)
        assert "4111" not in str(raised.value)


def test_secret_where_none_is_declared_is_never_written() -> None:
    """Nobody could read it there."""
    with pytest.raises(HandlerMisuseError, match="not declared Encrypted"):
        CODEC.encode(evolve(FULL, plain={"x": Encrypted(NUMBER)}))


@pytest.mark.parametrize(
    ("hint", "problem"),
    [
        (Encrypted, "does not say what it hides"),
        (set[Encrypted[str]], "has an Encrypted in a set"),
        (dict[str, set[Encrypted[str]]], "has an Encrypted in a set"),
        (Encrypted[Holder], "has an Encrypted in an Encrypted"),
        (list[Encrypted[str]] | dict[str, int], "in a union with more than None"),
        (Encrypted[Keyring], "it holds a Keyring"),
    ],
)
def test_secret_where_none_can_be_is_refused_at_definition(hint: Any, problem: str) -> None:
    """With the field and the mend."""
    with pytest.raises(DefinitionError, match=problem):
        message("secret.wrong")(type("Wrong", (), {"__annotations__": {"a": hint}}))


def test_secret_as_the_key_of_a_saga_is_refused_at_definition() -> None:
    """It would be readable in every key, log line and table."""
    with pytest.raises(DefinitionError, match=r"'card' of secret.other is Encrypted, and keys of sagas can be read"):

        class Keyed(Saga[Holder], key="card"):
            @starts
            def begun(self, m: Other) -> None: ...


# -- keys ----------------------------------------------------------------------------------------------------------


def test_rotation_reads_the_old_key_and_writes_the_new_one() -> None:
    """First all can read the new key, then it is the first; what is written again is encrypted with it."""
    before = CODEC.encode(FULL)
    with OLD.joined(NEW).installed():
        assert CODEC.encode(FULL) == before
    with NEW.joined(OLD).installed():
        assert CODEC.decode(before, 2) == FULL
        after = CODEC.encode(CODEC.decode(before, 2))
    assert b"encrypted:1:new:" in after
    assert b":old:" not in after
    with NEW.installed():
        assert CODEC.decode(after, 2) == FULL
        with pytest.raises(
            MissingKeyError, match=r"`\$\..*`: key 'old' is not here; give it to this process"
        ) as raised:
            CODEC.decode(before, 2)
    assert (raised.value.reason, raised.value.key_id) == ("missing-key", "old")


def test_another_key_of_the_same_id_reads_nothing() -> None:
    """An id is only a name."""
    with Keyring({"old": bytes(32)}).installed(), pytest.raises(CodecError, match="was not written there"):
        CODEC.decode(CODEC_BYTES, 2)


def test_without_keys_nothing_is_written_in_the_clear() -> None:
    """The error says where, and how to give a key."""
    with process_keys.only(None):
        with pytest.raises(MissingKeyError, match=r"no key here to encrypt with; give it .* SAGABUS_KEYS") as raised:
            CODEC.encode(FULL)
        assert raised.value.key_id == ""
        with pytest.raises(MissingKeyError, match="key 'old' is not here"):
            CODEC.decode(CODEC_BYTES, 2)


def test_worker_without_keys_does_not_begin() -> None:
    """It would dead-letter every message that it could neither read nor answer."""
    with process_keys.only(None):
        bus = Bus(store="memory:", transport="memory:")
        bus.endpoint("shop").consumer(Other)(lambda m: None)
        with pytest.raises(
            ConfigurationError, match=r"secret.other on endpoint shop has encrypted fields.*SAGABUS_KEYS"
        ):
            bus.worker()


# -- older versions, and what is written by hand -------------------------------------------------------------------


@define
class Card:
    number: Encrypted[str] | None = None
    code: Encrypted[int] | None = None


@define
class Migrated:
    card: Card = field(factory=Card)
    note: str = ""

    @staticmethod
    def upcast(body: dict[str, Any], version: int) -> dict[str, Any]:
        secret = body["number"]
        assert secret == Encrypted(NUMBER)
        return {"card": {"number": secret, "code": Encrypted(body["code"])}, "note": body["note"]}


@define
class Unmigrated:
    number: Encrypted[str] | None = None
    code: int = 0
    note: str = ""


def test_upcast_sees_secrets_and_may_move_or_make_them() -> None:
    """What an older version encrypted comes opened, where it did not encrypt yet the upcast does it."""

    # A note that looks like a secret, and is none that was written there, is a note.
    note = body()["card"]
    written = StateCodec(Unmigrated, 1, "saga A").encode(Unmigrated(Encrypted(NUMBER), 123, note))
    now = StateCodec(Migrated, 2, "saga A")
    assert now.decode(written) == Migrated(Card(Encrypted(NUMBER), Encrypted(123)), note)
    with NEW.installed(), pytest.raises(MissingKeyError, match="'old'"):
        now.decode(written)


def test_upcast_that_leaves_a_secret_plain_is_refused() -> None:
    """The new field says that it is encrypted, so what stands there must be."""
    with pytest.raises(CodecError, match="expected an encrypted value") as raised:
        CODEC.decode(json.dumps({"card": NUMBER}).encode(), 1)
    assert "4111" not in str(raised.value)


def test_body_written_by_hand_has_its_secrets_in_the_clear_or_copied() -> None:
    """As `sagabus send` takes it; what was copied must have been written there."""
    sealed = body()
    by_hand = {"card": NUMBER, "whole": {"street": "Elm St"}, "by_bank": {"a": 2}, "rows": ["AP8="], "other": None}
    found = CODEC.given(json.dumps(by_hand).encode())
    assert (found.card.reveal(), found.by_bank["a"].reveal(), found.rows[0].reveal()) == (NUMBER, 2, b"\x00\xff")
    assert found.whole == Encrypted(Address("Elm St"))
    assert CODEC.given(json.dumps(sealed).encode()) == FULL
    with pytest.raises(CodecError, match="was not written there"):
        CODEC.given(json.dumps({"card": sealed["other"]}).encode())
    with pytest.raises(CodecError, match="is no int; what it is instead is not shown") as raised:
        CODEC.given(json.dumps({"card": "a", "by_bank": {"a": NUMBER}}).encode())
    assert "4111" not in str(raised.value)


# -- sagas ---------------------------------------------------------------------------------------------------------


@message("secret.order")
class Order:
    number: str
    card: Encrypted[str]


@message("secret.named")
class Named:
    number: str
    by: str
    name: Encrypted[str]


@message("secret.charge")
class Charge:
    card: Encrypted[str]
    names: dict[str, Encrypted[str]]


@define
class Ordered:
    card: Annotated[Encrypted[str] | None, first_of] = None
    names: Annotated[dict[str, Encrypted[str]], by_key(all_equal)] = field(factory=dict)


class Shop(Saga[Ordered], key="number", merger=fieldwise(Ordered)):
    @starts
    def ordered(self, m: Order) -> None:
        self.state.card = m.card

    @handles
    def named(self, m: Named) -> None:
        self.state.names[m.by] = m.name

    def decide(self) -> None:
        if self.state.card and len(self.state.names) == 2:
            self.send(Charge(self.state.card, self.state.names), to="bank")
            self.complete()


ORDER = Order("1", Encrypted(NUMBER))
NAMES = [Named("1", "a", Encrypted("Ann")), Named("1", "b", Encrypted("Bob"))]


def test_saga_with_secrets_forks_merges_and_decides_like_any() -> None:
    """Siblings see values, and equal ones are equal; a message passes them on."""
    shop = SagaHarness(Shop)
    shop.give(ORDER)
    shop.together(*NAMES)
    assert shop.decisions == [Charge(Encrypted(NUMBER), {"a": Encrypted("Ann"), "b": Encrypted("Bob")})]


def test_secret_state_written_again_is_no_new_version() -> None:
    """Rule 8: handling the same once more gives the same bytes, encrypted or not."""
    shop = SagaHarness(Shop)
    shop.give(ORDER)
    shop.give(ORDER)
    (row,) = shop._desk.store.sagas()
    assert row.versions == 1


def test_exploration_of_a_saga_with_secrets_needs_no_keys() -> None:
    """Every order is tried and each run made twice, with keys that are for tests."""
    with process_keys.only(Keyring(TEST_KEYS)):
        result = explore(Shop, start=[ORDER], messages=NAMES)
    result.assert_ok()


def test_merger_over_secrets_keeps_the_laws() -> None:
    """Ties are broken alike whichever sibling comes first, in other processes too; values are generated."""
    with process_keys.only(Keyring(TEST_KEYS)):
        checked = check_merger(Shop, max_examples=30, seed=1)
    assert not checked.skipped


def test_state_whose_key_is_missing_parks_the_saga() -> None:
    """It can be read again when the key is back: nothing is handled, and nothing is lost."""
    definition = definition_of(Shop)
    stored = definition.codec.encode(Ordered(Encrypted(NUMBER)))
    version = StoredVersion(Dot("a", 1), {"a": 1}, stored)
    incoming = Incoming(wrap(NAMES[0], id="m", source="/t", now_ms=0))
    snapshot = Snapshot(
        SagaKey("Shop", "1"), now_ms=1, lifecycle=Lifecycle.LIVE, life=1, clock={"a": 1}, versions=(version,)
    )
    with NEW.installed():
        commit = advance(definition, snapshot, [incoming])
    assert (commit.ids, commit.leftover) == ((), (incoming,))
    assert isinstance(commit.unmergeable, MissingKeyError)
    assert "key 'old' is not here" in str(commit.unmergeable)


# -- documents -----------------------------------------------------------------------------------------------------


@define
class Customer:
    document_name: ClassVar[str] = "Client"
    iban: Encrypted[str]


def test_document_keeps_its_secrets_under_the_name_of_its_class() -> None:
    """A class that is renamed says what it was called, and reads what it wrote."""

    @define
    class Client:
        iban: Encrypted[str]

    Client.__qualname__ = "Client"
    with Bus(store="memory:", transport="memory:") as bus:
        bus.documents.create("c", Client(Encrypted("DE02")))
        assert bus.documents.load("c", Customer).value == Customer(Encrypted("DE02"))
        (stored,) = bus.store.documents.read([bus.documents.key("c")])
        assert b"DE02" not in b"".join(stored.values.values())


def test_document_name_that_is_none_is_refused() -> None:
    """With the mend."""

    @define
    class Nameless:
        document_name: ClassVar[int] = 3
        iban: str = ""

    with Bus(store="memory:", transport="memory:") as bus, pytest.raises(DefinitionError, match="document_name is 3"):
        bus.documents.create("c", Nameless())


with OLD.installed():
    CODEC_BYTES = CODEC.encode(FULL)
