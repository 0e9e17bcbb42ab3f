"""Secrets on a real server: what is declared Encrypted is nowhere to be read, and what is forged is not handled."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec
import pytest
import redis

from sagabus import Bus, Encrypted, Keyring, RetryPolicy, Signing, effects, message
from sagabus.codec import plain_state
from sagabus.commit import Want
from sagabus.envelope import SagaKey, decode, encode
from sagabus.store.protocol import Bookkeeping, Scheduled
from sagabus.transport import Parcel, ParcelKind
from tests.integration.processes import Place
from tests.servers import until

APP = "tests.integration.secretapp:bus"
CARD, BAD_CARD = "4111-canary-card", "0000-canary-card"
KEYS = {"2026-11": bytes(range(32)), "2026-05": bytes(range(32, 64))}
TEXT = ",".join(f"{id_}:{base64.b64encode(key).decode()}" for id_, key in KEYS.items())


def everything(url: str, namespace: str) -> bytes:
    """Return all that a server keeps of a namespace, as it would send it to anybody."""
    found: list[Any] = []
    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter(match=f"*{namespace}*", count=1000):
            kind = client.type(key)
            found.append(key)
            match kind:
                case b"string":
                    found.append(client.get(key))
                case b"hash":
                    found.append(client.hgetall(key))
                case b"list":
                    found.append(client.lrange(key, 0, -1))
                case b"set":
                    found.append(list(client.smembers(key)))
                case b"zset":
                    found.append(client.zrange(key, 0, -1))
                case b"stream":
                    found.append(client.xrange(key))
                case _:
                    raise AssertionError(f"{key!r} is a {kind!r}")
    return b"\n".join(_bytes(found))


def _bytes(value: Any) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict):
        for pair in value.items():
            yield from _bytes(pair)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _bytes(item)


@pytest.fixture
def keyed(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Return a place whose commands have the keys."""
    monkeypatch.setenv("SAGABUS_KEYS", TEXT)
    return place


def test_secret_is_nowhere_to_be_read_but_in_handlers(keyed: Place) -> None:
    """Not in queues, states, history, timers, documents, dead letters or logs, nor in what any command shows."""
    place = keyed
    bodies = [{"number": "1", "card": CARD}, {"number": "2", "card": BAD_CARD}]
    lines = "\n".join(json.dumps(body) for body in bodies)
    place.sagabus("send", APP, "secretapp.order", "-", "--to", "pay", input=lines)
    seen = [everything(place.url, place.namespace)]  # while it waits
    with place.running("worker", APP, "--log-level", "debug", "--log-format", "json") as process:
        with place.bus() as bus:
            until(lambda: len(bus.store.dead(10)) == 2, "the dead letters")
            (live,) = [row for row in bus.store.sagas("PaySaga") if row.key.id == "1"]
            until(lambda: _codes(bus) == 2, "both answers")
            assert live.siblings >= 1
        seen.append(everything(place.url, place.namespace))
        process.terminate()
        logs = "".join(process.communicate(timeout=60))
    shown = [
        place.sagabus(*command).stdout
        for command in (
            ("inspect", APP, "PaySaga/1", "--json"),
            ("inspect", APP, "PaySaga/1"),
            ("record", APP, "PaySaga"),
            ("list", APP, "--dead", "--timers", "--json"),
            ("list", APP, "--dead", "--timers"),
        )
    ]
    (first, *_), text = seen, "\n".join((logs, *shown))
    assert b"secretapp.order" in first
    assert "ValueError" in logs
    for part in (b"canary", base64.b64encode(CARD.encode())[:16], CARD.encode().hex().encode()):
        assert not any(part in whole for whole in seen)
        assert part.decode() not in text
    for whole in (*seen, *(part.encode() for part in shown[:-1])):
        assert b"encrypted:1:2026-11:" in whole
    assert TEXT.partition(",")[0].partition(":")[2] not in text


def _codes(bus: Bus) -> int:
    (snapshot,) = bus.store.load([Want(SagaKey("PaySaga", "1"))])
    return max((len(plain_state(version.state)["codes"]) for version in snapshot.versions), default=0)


def test_worker_without_the_keys_ends_with_a_clear_error(place: Place) -> None:
    """Exit code 2 and one line: what needs a key, and how to make one."""
    done = place.sagabus("list", APP, "--queues", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "signing needs keys" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# -- in one process ------------------------------------------------------------------------------------------------


NEW = Keyring({"2026-11": KEYS["2026-11"]})
OLD = Keyring({"2026-05": KEYS["2026-05"]})


@message("secrecy.card")
class Card:
    card: Encrypted[str]


class Seen:
    """A bus with one consumer, which notes what it is given, or fails."""

    def __init__(
        self, url: str, namespace: str, keyring: Keyring, signing: Signing | None = None, *, fails: bool = False
    ) -> None:
        self.cards: list[str] = []
        self._fails = fails
        self.bus = Bus(url, url, namespace=namespace, keyring=keyring, signing=signing)
        self.bus.endpoint("e", retry=RetryPolicy(2, first_delay_s=0.001)).consumer(Card)(self._handle)

    def _handle(self, m: Card) -> None:
        if self._fails:
            raise ValueError("no")
        self.cards.append(m.card.reveal())

    def __enter__(self) -> Seen:
        return self

    def __exit__(self, *_: object) -> None:
        self.bus.close()

    def send(self, card: str, **options: Any) -> str:
        return self.bus.send(Card(Encrypted(card)), to="e", **options)

    def work(self) -> list[str]:
        self.bus.worker().run_until_idle()
        return self.cards

    def reasons(self) -> list[str]:
        return [letter.reason for letter in self.bus.store.dead(10)]


def test_key_is_rotated_while_messages_are_under_way(valkey_url: str, namespace: str) -> None:
    """Known everywhere first, then used, then dropped; in between every message is read."""
    for sender, receiver in ((OLD, OLD.joined(NEW)), (NEW.joined(OLD), OLD.joined(NEW)), (NEW.joined(OLD), NEW)):
        with Seen(valkey_url, namespace, sender, Signing()) as here:
            here.send("card")
        with Seen(valkey_url, namespace, receiver, Signing()) as there:
            assert there.work() == ["card"]
            assert there.reasons() == []


def test_message_whose_key_is_missing_is_kept_and_read_when_the_key_is_there(valkey_url: str, namespace: str) -> None:
    """A dead letter as `missing-key`, at once; sent again after the key has come, it is handled."""
    with Seen(valkey_url, namespace, NEW) as here:
        message_id = here.send("card")
    with Seen(valkey_url, namespace, OLD) as there:
        assert there.work() == []
        (letter,) = there.bus.store.dead(10)
        assert (letter.reason, letter.id) == ("missing-key", message_id)
        assert "key '2026-11' is not here; give it to this process" in letter.error
    with Seen(valkey_url, namespace, OLD.joined(NEW)) as there:
        parcel = Parcel(ParcelKind.COMMAND, "e", letter.body, message_id, message_id)
        assert there.bus.transport.send([parcel]) == {}
        assert there.work() == ["card"]


@pytest.mark.parametrize("change", ["unsigned", "body", "queue", "wrong-key", "timer"])
def test_forged_message_is_given_up_as_untrusted(valkey_url: str, namespace: str, change: str) -> None:
    """Unsigned, changed, taken from another queue, signed by a stranger, or put among the timers."""
    with Seen(valkey_url, namespace, NEW, Signing()) as here:
        signing = here.bus.signing
        assert signing is not None
        here.send("good")
        outgoing = here.bus._outgoing(effects.Send(Card(Encrypted("forged")), "e"), "m")
        envelope = decode(outgoing.body)
        match change:
            case "unsigned" | "timer":
                envelope = msgspec.structs.replace(envelope, signature="", signaturekey="")
            case "body":
                envelope = msgspec.structs.replace(
                    envelope, data=msgspec.Raw(bytes(envelope.data).replace(b"}", b',"x":1}'))
                )
            case "queue":
                envelope = signing.signed(envelope, "elsewhere")
            case "wrong-key":
                envelope = Signing(keyring=Keyring({"2026-11": bytes(32)})).signed(envelope, "e")
        if change == "timer":
            here.bus.store.note(Bookkeeping(scheduled=(Scheduled("m", "e", encode(envelope), 1),)))
        else:
            here.bus.transport.send([Parcel(ParcelKind.COMMAND, "e", encode(envelope), "m", "m")])
        assert here.work() == ["good"]
        (letter,) = here.bus.store.dead(10)
        assert (letter.reason, letter.id, letter.attempts) == ("untrusted", "m", 1)


def test_signatures_are_rolled_out_without_losing_a_message(valkey_url: str, namespace: str) -> None:
    """Unsigned first, then signed and not demanded, then demanded: what is under way at each step is handled."""
    steps = [None, Signing(demand=False), Signing(demand=False), Signing(), Signing()]
    for sender, receiver in pairwise(steps):
        with Seen(valkey_url, namespace, NEW, sender) as here:
            here.send("card")
            here.send("later", after=0.0)
        with Seen(valkey_url, namespace, NEW, receiver) as there:
            until(lambda there=there: len(there.work()) == 2, "both messages")  # type: ignore[misc]
            assert there.reasons() == []


def test_dead_letter_that_is_sent_again_is_trusted_still(valkey_url: str, namespace: str) -> None:
    """As it was, its attempts begun anew: it has the signature of who sent it."""
    with Seen(valkey_url, namespace, NEW, Signing(), fails=True) as here:
        message_id = here.send("card")
        until(lambda: here.work() or here.reasons(), "the dead letter")
        assert here.reasons() == ["failed"]
    with Seen(valkey_url, namespace, NEW, Signing()) as there:
        (letter,) = there.bus.store.dead(10)
        assert letter.id == message_id
        (retried,) = there.bus.dead_letters.retry(letter)
        assert retried.error is None
        assert there.work() == ["card"]
        assert there.reasons() == []
