"""Dead letters of a bus that signs its messages: what is sent again is trusted, and nothing is signed unseen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sagabus import Bus, message
from sagabus.envelope import decode, encode
from sagabus.errors import UnreadableDeadLetterError
from sagabus.secrecy.keyring import Keyring
from sagabus.secrecy.signing import Signing
from sagabus.transport import Parcel, ParcelKind


@message("signed.job")
class Job:
    number: int


@pytest.fixture
def bus() -> Iterator[Bus]:
    keys = Keyring({"k1": b"1" * 32})
    with Bus("memory:", "memory:", keyring=keys, signing=Signing()) as made:
        yield made


@pytest.fixture
def done(bus: Bus) -> list[tuple[str, int]]:
    """Return what was handled: at `failing` only numbers from 10 on, at `spare` all."""
    handled: list[tuple[str, int]] = []

    @bus.endpoint("failing", max_attempts=1).consumer
    def work(m: Job) -> None:
        if m.number < 10:
            raise OSError("cold")
        handled.append(("failing", m.number))

    @bus.endpoint("spare").consumer
    def take(m: Job) -> None:
        handled.append(("spare", m.number))

    bus.send(Job(1), to="failing", id="m")
    bus.worker().run_until_idle()
    return handled


def test_message_that_goes_elsewhere_or_was_edited_is_signed_anew(bus: Bus, done: list[tuple[str, int]]) -> None:
    """Its old signature was made for another endpoint, or another body."""
    (moved,) = bus.dead_letters.retry(bus.dead_letters.get("m"), to="spare")
    assert moved.error is None
    bus.worker().run_until_idle()
    bus.send(Job(2), to="failing", id="n")
    bus.worker().run_until_idle()
    bus.dead_letters.edit(bus.dead_letters.get("n"), Job(20))
    bus.worker().run_until_idle()
    assert done == [("spare", 1), ("failing", 20)]
    assert list(bus.dead_letters.find()) == []


@pytest.mark.parametrize("to", [None, "spare"])
def test_untrusted_letter_is_not_sent_again(bus: Bus, done: list[tuple[str, int]], to: str | None) -> None:
    """Neither where it came from, nor with a signature of ours elsewhere: nobody knows who made it."""
    envelope = decode(bus.dead_letters.get("m").body)
    forged = encode(type(envelope)(specversion="1.0", id="forged", source="/client", type="signed.job"))
    bus.transport.send([Parcel(ParcelKind.COMMAND, "failing", forged, "k", "forged")])
    bus.worker().run_until_idle()
    letter = bus.dead_letters.get("forged")
    assert letter.reason == "untrusted"
    (retried,) = bus.dead_letters.retry(letter, to=to)
    assert isinstance(retried.error, UnreadableDeadLetterError)
    assert bus.dead_letters.get("forged") == letter
    assert done == []
