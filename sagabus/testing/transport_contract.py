"""What every transport must do, as tests that a new one inherits.

class TestMyTransport(TransportContract):
    @pytest.fixture
    def make_transport(self) -> Iterator[Callable[[], Transport]]:
        with my_private_broker() as url:
            yield lambda: MyTransport(url, namespace="test")
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import pytest

from sagabus.errors import ConfigurationError
from sagabus.replies.address import new_address
from sagabus.transport import (
    Delivery,
    Parcel,
    ParcelKind,
    Receiver,
    Refusal,
    ReplyQueue,
    Transport,
    reply_queue_of,
)

ANSWER_S = 10.0
"""How long a message may take that must come; nothing waits so long that need not."""


def command(to: str, body: bytes, *, key: str = "", id: str = "") -> Parcel:
    """Return a command to the endpoint *to*."""
    return Parcel(ParcelKind.COMMAND, to, body, key or "k", id or f"id-{body[:40]!r}")


def event(topic: str, body: bytes, *, key: str = "") -> Parcel:
    """Return an event of *topic*."""
    return Parcel(ParcelKind.EVENT, topic, body, key or "k", f"id-{body[:40]!r}")


def take(receiver: Receiver, count: int, *, limit: int = 64, ack: bool = False) -> list[Delivery]:
    """Receive until *count* deliveries came; fewer where they do not come in time."""
    taken: list[Delivery] = []
    give_up_at = time.monotonic() + ANSWER_S
    while len(taken) < count and time.monotonic() < give_up_at:
        batch = receiver.receive(limit, 0.1)
        taken += batch
        if ack:
            receiver.exchange((), batch, (), 0, 0.0)
    return taken


def bodies(deliveries: Sequence[Delivery]) -> list[bytes]:
    """Return what *deliveries* carry."""
    return [delivery.body for delivery in deliveries]


class TransportContract:
    """The laws of `sagabus.transport`. Inherit it, give it `make_transport`, and let pytest collect the class.

    Attributes:
        claim_s: the claim time that is tested with; long enough that a test's own steps do not run into it.
        cannot: laws that the broker itself cannot keep, each to be documented by the transport:
            `atomic-refusal`: where a parcel is refused as FULL others may have been sent.
            `claims`: only a closed connection gives back what was not acked.
            `crashes`: what a killed consumer had received is lost.
            `counts`: it does not say how often it delivered a message, nor gives it back alone.
            `endpoints`: an unknown endpoint is not noticed.
            `events`: it has none.
            `limits`: no queue is ever full.
            `order`: messages overtake each other.
            `partitions`: their number means nothing to it.
            `replies`: it has no reply queues.
            `prompt-withdrawal`: a sender may make one more send with the subscriptions that it knew.
            `sharing`: several consumers of one queue get into each other's way.
            `whole-messages`: a message that is received while it is being sent comes in part, and is lost.
            `withdrawal`: a subscription stays once it is made.
    """

    claim_s: ClassVar[float] = 0.5
    cannot: ClassVar[frozenset[str]] = frozenset()

    @pytest.fixture
    def make_transport(self) -> Iterator[Callable[[], Transport]]:
        """Yield a function that connects once more, as another process would, to one broker that is empty at first."""
        raise NotImplementedError("override the make_transport fixture")

    @pytest.fixture
    def transport(self, make_transport: Callable[[], Transport]) -> Iterator[Transport]:
        """Yield one connection."""
        transport = make_transport()
        yield transport
        transport.close()

    def kill(self, receiver: Receiver) -> None:
        """End *receiver* as the death of its process would. Here: it is never heard of again."""

    def need(self, law: str) -> None:
        """Skip the running test where the broker cannot keep *law*."""
        if law in self.cannot:
            pytest.skip(f"this broker cannot keep: {law}")

    def depth(self, transport: Transport, endpoint: str) -> int:
        """Return how many messages the queue of *endpoint* holds."""
        return next(queue.depth for queue in transport.queues() if queue.endpoint == endpoint)

    def test_queue_tells_when_its_oldest_message_came_where_the_broker_can(self, transport: Transport) -> None:
        """By the broker's clock; None where it cannot tell, and of an empty queue."""
        transport.declare("a", subscriptions=[])
        assert [queue.oldest_ms for queue in transport.queues()] == [None]
        for name in ("one", "two"):
            transport.send([command("a", name.encode())])
        [first] = [queue.oldest_ms for queue in transport.queues()]
        assert first is None or abs(time.time() * 1000 - first) < 3_600_000
        receiver = transport.receiver(["a"], consumer="c", claim_s=60)
        take(receiver, 2, ack=True)
        assert [queue.oldest_ms for queue in transport.queues()] == [None]

    def test_consumer_that_asks_for_more_at_a_time_gets_each_message_once(self, transport: Transport) -> None:
        """Handlers that prove to be quick are given more; nothing that was under way then comes as delivered before."""
        transport.declare("a", subscriptions=[])
        total = 200
        transport.send([command("a", b"%d" % n) for n in range(total)])
        receiver = transport.receiver(["a"], consumer="c", claim_s=60)
        taken: list[Delivery] = []
        give_up_at = time.monotonic() + ANSWER_S
        limit = 2
        while len(taken) < total and time.monotonic() < give_up_at:
            batch = receiver.receive(limit, 0.1)
            taken += batch
            receiver.exchange((), batch, (), 0, 0.0)
            limit = min(limit + 3, 64)
        assert {delivery.count for delivery in taken} == {1}
        assert sorted(bodies(taken)) == sorted(b"%d" % n for n in range(total))

    # -- from sender to queue ------------------------------------------------------------------------------------

    def test_command_sent_reaches_exactly_one_queue(self, transport: Transport) -> None:
        """A command is delivered once, and for the endpoint that it was sent to."""
        transport.declare("a", subscriptions=[])
        transport.declare("b", subscriptions=[])
        assert transport.send([command("a", b"one")]) == {}
        receiver = transport.receiver(["a", "b"], consumer="c", claim_s=60)
        [delivery] = take(receiver, 1)
        assert (delivery.queue, delivery.body, delivery.count) == ("a", b"one", 1)
        assert receiver.receive(64, 0.0) == []

    def test_messages_sent_come_in_their_order(self, transport: Transport) -> None:
        """One receiver of one partition sees messages in the order in which one sender sent them."""
        self.need("order")
        transport.declare("a", subscriptions=[])
        sent = [b"%d" % n for n in range(40)]
        transport.send([command("a", body) for body in sent[:20]])
        for body in sent[20:]:
            transport.send([command("a", body)])
        receiver = transport.receiver(["a"], consumer="c", claim_s=60)
        assert bodies(take(receiver, 40)) == sent

    @pytest.mark.parametrize(
        "body",
        [b"{}", "Zoë → 王 \N{SNOWMAN}".encode(), bytes(range(256)), b"x" * 1_048_576],
        ids=["a", "b", "c", "1 MB"],
    )
    def test_body_travels_unchanged(self, transport: Transport, body: bytes) -> None:
        """What comes out is, byte for byte, what went in."""
        transport.declare("a", subscriptions=[])
        transport.send([command("a", body, id="m")])
        [delivery] = take(transport.receiver(["a"], consumer="c", claim_s=60), 1)
        assert delivery.body == body

    def test_event_published_reaches_every_subscriber(self, transport: Transport) -> None:
        """An event comes once to each endpoint that subscribed to its topic, and to no other."""
        self.need("events")
        transport.declare("a", subscriptions=["t", "u"])
        transport.declare("b", subscriptions=["t"])
        transport.declare("c", subscriptions=["u"])
        assert transport.send([event("t", b"one")]) == {}
        receiver = transport.receiver(["a", "b", "c"], consumer="c", claim_s=60)
        assert sorted(delivery.queue for delivery in take(receiver, 2)) == ["a", "b"]
        assert receiver.receive(64, 0.0) == []

    def test_event_without_subscribers_is_no_error(self, transport: Transport) -> None:
        """An event that nobody subscribed to is gone, and refused by nobody."""
        transport.declare("a", subscriptions=[])
        assert transport.send([event("t", b"one")]) == {}
        assert transport.receiver(["a"], consumer="c", claim_s=60).receive(64, 0.0) == []

    def test_subscriber_declared_elsewhere_misses_nothing(
        self, transport: Transport, make_transport: Callable[[], Transport]
    ) -> None:
        """A queue gets every event of a topic that is sent after `declare` returned, whoever sends it."""
        self.need("events")
        sender = make_transport()
        transport.declare("a", subscriptions=["both"])
        sender.send([event("new", b"1"), event("both", b"2")])
        make_transport().declare("a", subscriptions=["both", "new"])
        make_transport().declare("b", subscriptions=["new"])
        sender.send([event("new", b"3"), event("both", b"4")])
        came = take(transport.receiver(["a", "b"], consumer="c", claim_s=60), 4)
        assert sorted((d.queue, d.body) for d in came) == [("a", b"2"), ("a", b"3"), ("a", b"4"), ("b", b"3")]

    def test_subscription_withdrawn_gets_no_more_events(
        self, transport: Transport, make_transport: Callable[[], Transport]
    ) -> None:
        """A queue gets no topic that its last declaration leaves out, whoever made it."""
        self.need("events")
        self.need("withdrawal")
        sender = make_transport()
        transport.declare("a", subscriptions=["old", "both"])
        sender.send([event("old", b"1"), event("both", b"2")])
        make_transport().declare("a", subscriptions=["both"])
        if "prompt-withdrawal" in self.cannot:
            sender.send([event("both", b"3")])
        sender.send([event("old", b"4"), event("both", b"5")])
        receiver = transport.receiver(["a"], consumer="c", claim_s=60)
        came = take(receiver, 4 if "prompt-withdrawal" in self.cannot else 3)
        assert sorted(set(bodies(came)) - {b"3"}) == [b"1", b"2", b"5"]
        assert receiver.receive(64, 0.0) == []

    def test_endpoint_declared_again_keeps_its_messages(self, transport: Transport) -> None:
        """To declare is idempotent."""
        transport.declare("a", subscriptions=["t"])
        transport.send([command("a", b"one")])
        transport.declare("a", subscriptions=["t"])
        assert bodies(take(transport.receiver(["a"], consumer="c", claim_s=60), 1)) == [b"one"]

    def test_command_to_an_unknown_endpoint_is_refused_alone(self, transport: Transport) -> None:
        """A command to an endpoint that nobody declared is refused by itself; the others are sent."""
        self.need("endpoints")
        transport.declare("a", subscriptions=[])
        parcels = [command("a", b"1"), command("nowhere", b"2"), command("a", b"3")]
        assert transport.send(parcels) == {1: Refusal.NO_ENDPOINT}
        assert bodies(take(transport.receiver(["a"], consumer="c", claim_s=60), 2)) == [b"1", b"3"]

    def test_command_to_a_name_that_no_queue_can_have_is_refused_alone(self, transport: Transport) -> None:
        """Where an answer goes is said by whoever asked: whatever they said, the sender lives and the others arrive."""
        self.need("endpoints")
        transport.declare("a", subscriptions=["t"])
        names = ["", "x" * 200, "é" * 200, "{a}:0", "a*", "a.#", "a\u202e b", "../a", "%s"]
        parcels = [*(command(name, b"lost") for name in names), event("é" * 200, b"lost")]
        long_id = Parcel(ParcelKind.COMMAND, "a", b"1", "", "é" * 200)
        assert transport.send([*parcels, long_id]) == dict.fromkeys(range(len(names)), Refusal.NO_ENDPOINT)
        assert bodies(take(transport.receiver(["a"], consumer="c", claim_s=60), 1)) == [b"1"]

    def test_endpoint_declared_elsewhere_is_known_at_once(
        self, transport: Transport, make_transport: Callable[[], Transport]
    ) -> None:
        """A sender that was told of no such endpoint finds it as soon as another process has declared it."""
        self.need("endpoints")
        assert transport.send([command("a", b"1")]) == {0: Refusal.NO_ENDPOINT}
        other = make_transport()
        other.declare("a", subscriptions=[])
        assert transport.send([command("a", b"2")]) == {}
        assert bodies(take(other.receiver(["a"], consumer="c", claim_s=60), 1)) == [b"2"]

    def test_send_of_nothing_does_nothing(self, transport: Transport) -> None:
        """An empty send is no error."""
        assert transport.send([]) == {}

    # -- partitions ----------------------------------------------------------------------------------------------

    def test_partitioned_queue_keeps_the_order_of_each_key(self, transport: Transport) -> None:
        """However many partitions there are, one receiver sees the messages of one key in order, and loses none."""
        self.need("order")
        transport.declare("a", subscriptions=[], partitions=3)
        keys = [f"key-{n}" for n in range(8)]
        transport.send([command("a", f"{key}:{n:02}".encode(), key=key) for n in range(12) for key in keys])
        came = take(transport.receiver(["a"], consumer="c", claim_s=60), 96, limit=16, ack=True)
        assert len(came) == 96
        for key in keys:
            mine = [body for body in bodies(came) if body.startswith(f"{key}:".encode())]
            assert mine == [f"{key}:{n:02}".encode() for n in range(12)]

    def test_partitions_changed_while_messages_wait_is_an_error(self, transport: Transport) -> None:
        """A queue that holds messages cannot be split otherwise; an empty one can."""
        self.need("partitions")
        transport.declare("a", subscriptions=[], partitions=1)
        transport.send([command("a", b"1")])
        with pytest.raises(ConfigurationError, match="partitions"):
            transport.declare("a", subscriptions=[], partitions=2)
        receiver = transport.receiver(["a"], consumer="c", claim_s=60)
        take(receiver, 1, ack=True)
        transport.declare("a", subscriptions=[], partitions=2)
        transport.send([command("a", b"%d" % n, key=str(n)) for n in range(16)])
        assert len(take(transport.receiver(["a"], consumer="d", claim_s=60), 16)) == 16

    # -- batches and acks ----------------------------------------------------------------------------------------

    def test_receive_returns_no_more_than_its_limit(self, transport: Transport) -> None:
        """A batch has at most as many deliveries as were asked for, and the rest comes with the next."""
        transport.declare("a", subscriptions=[])
        sent = [b"%d" % n for n in range(10)]
        transport.send([command("a", body) for body in sent])
        receiver = transport.receiver(["a"], consumer="c", claim_s=60)
        came: list[bytes] = []
        while len(came) < 10:
            batch = receiver.receive(4, ANSWER_S)
            assert 1 <= len(batch) <= 4
            came += bodies(batch)
            receiver.exchange((), batch, (), 0, 0.0)
        assert sorted(came) == sorted(sent)

    def test_receive_with_a_larger_limit_keeps_what_was_delivered(self, transport: Transport) -> None:
        """Each call says its own limit; what earlier ones returned stays with its receiver until it is acked."""
        transport.declare("a", subscriptions=[])
        sent = [b"%d" % n for n in range(12)]
        transport.send([command("a", body) for body in sent])
        receiver = transport.receiver(["a"], consumer="c", claim_s=60)
        came = take(receiver, 2, limit=2)
        came += take(receiver, 8, limit=16) if len(came) == 2 else []
        came += take(receiver, 12 - len(came), limit=64)
        assert sorted(bodies(came)) == sorted(sent)
        assert {delivery.count for delivery in came} == {1}
        receiver.exchange((), came, (), 0, 0.0)
        receiver.close()
        assert self.depth(transport, "a") == 0

    def test_receive_from_an_empty_queue_returns_nothing(self, transport: Transport) -> None:
        """Nothing came is an empty list, whether one waits or not."""
        transport.declare("a", subscriptions=[])
        receiver = transport.receiver(["a"], consumer="c", claim_s=60)
        assert receiver.receive(64, 0.0) == []
        assert receiver.receive(64, 0.05) == []

    def test_receiver_that_waits_wakes_for_a_message(self, transport: Transport) -> None:
        """A message that is sent while a receiver waits ends the wait."""
        self.need("whole-messages")
        transport.declare("a", subscriptions=[])
        receiver = transport.receiver(["a"], consumer="c", claim_s=60)
        receiver.receive(64, 0.0)
        came: list[Delivery] = []
        thread = threading.Thread(target=lambda: came.extend(receiver.receive(64, ANSWER_S)))
        started_at = time.monotonic()
        thread.start()
        transport.send([command("a", b"one")])
        thread.join()
        assert bodies(came) == [b"one"]
        assert time.monotonic() - started_at < ANSWER_S / 2

    def test_acked_messages_are_gone(self, transport: Transport) -> None:
        """An acked message never comes again, and its queue is empty."""
        transport.declare("a", subscriptions=[])
        transport.send([command("a", b"%d" % n) for n in range(5)])
        receiver = transport.receiver(["a"], consumer="c", claim_s=60)
        deliveries = take(receiver, 5)
        receiver.exchange((), deliveries, (), 0, 0.0)
        receiver.close()
        assert self.depth(transport, "a") == 0
        assert transport.receiver(["a"], consumer="d", claim_s=60).receive(64, 0.1) == []

    def test_queues_tell_what_was_declared_and_waits(self, transport: Transport) -> None:
        """Every declared queue is listed by name, with how many messages it holds and what it subscribed to."""
        transport.declare("b", subscriptions=["t", "s"])
        transport.declare("a", subscriptions=[])
        transport.send([command("b", b"1"), command("b", b"2")])
        queues = transport.queues()
        assert [(queue.endpoint, queue.subscriptions) for queue in queues] == [("a", ()), ("b", ("s", "t"))]
        assert [queue.depth for queue in queues] == [0, 2]

    def test_exchange_sends_acks_and_receives(self, transport: Transport) -> None:
        """One exchange sends what was asked, acks what is done and returns the next batch."""
        transport.declare("a", subscriptions=[])
        transport.declare("b", subscriptions=[])
        transport.send([command("a", b"first"), command("a", b"second")])
        receiver = transport.receiver(["a"], consumer="c", claim_s=60)
        first = take(receiver, 1, limit=1)
        exchanged = receiver.exchange([command("b", b"sent")], first, (), 1, ANSWER_S)
        assert exchanged.refused == {}
        assert sorted(bodies([*first, *exchanged.deliveries])) == [b"first", b"second"]
        receiver.exchange((), exchanged.deliveries, (), 0, 0.0)
        receiver.close()
        assert self.depth(transport, "a") == 0
        assert bodies(take(transport.receiver(["b"], consumer="d", claim_s=60), 1)) == [b"sent"]

    def test_exchange_with_limit_zero_receives_nothing(self, transport: Transport) -> None:
        """A limit of 0 leaves what waits in its queue."""
        transport.declare("a", subscriptions=[])
        transport.send([command("a", b"one")])
        receiver = transport.receiver(["a"], consumer="c", claim_s=60)
        assert receiver.exchange((), (), (), 0, 1.0).deliveries == []
        assert bodies(take(receiver, 1)) == [b"one"]

    def test_exchange_with_an_unknown_endpoint_sends_the_others_and_acks_nothing(self, transport: Transport) -> None:
        """A parcel without an endpoint holds up no other; the acks wait until it has been put on record."""
        self.need("endpoints")
        transport.declare("a", subscriptions=[])
        transport.send([command("a", b"one")])
        receiver = transport.receiver(["a"], consumer="c", claim_s=60)
        done = take(receiver, 1)
        parcels = [command("nowhere", b"1"), command("a", b"2")]
        exchanged = receiver.exchange(parcels, done, (), 0, 0.0)
        assert exchanged.refused == {0: Refusal.NO_ENDPOINT}
        sent = take(receiver, 1)
        assert bodies(sent) == [b"2"]
        receiver.exchange((), sent, (), 0, 0.0)
        receiver.close()
        again = transport.receiver(["a"], consumer="d", claim_s=60)
        assert bodies(take(again, 1)) == [b"one"]

    # -- length limits -------------------------------------------------------------------------------------------

    def test_full_queue_refuses_the_whole_send(self, transport: Transport) -> None:
        """Where one queue is full nothing is sent to any; the parcels for the full one say so."""
        self.need("limits")
        transport.declare("a", subscriptions=[], max_length=2)
        transport.declare("b", subscriptions=[])
        assert transport.send([command("a", b"1"), command("a", b"2")]) == {}
        assert transport.send([command("b", b"3"), command("a", b"4")]) == {1: Refusal.FULL}
        if "atomic-refusal" not in self.cannot:
            assert self.depth(transport, "b") == 0
        assert self.depth(transport, "a") == 2

    def test_full_subscriber_refuses_an_event(self, transport: Transport) -> None:
        """An event is refused where any of its subscribers is full."""
        self.need("limits")
        self.need("events")
        transport.declare("a", subscriptions=["t"], max_length=1)
        assert transport.send([event("t", b"1")]) == {}
        assert transport.send([event("t", b"2")]) == {0: Refusal.FULL}
        assert bodies(take(transport.receiver(["a"], consumer="c", claim_s=60), 1)) == [b"1"]

    def test_forced_send_passes_a_full_queue(self, transport: Transport) -> None:
        """What must not be held up is sent beyond the limit."""
        self.need("limits")
        transport.declare("a", subscriptions=[], max_length=1)
        transport.send([command("a", b"1")])
        assert transport.send([command("a", b"2")], force=True) == {}
        assert bodies(take(transport.receiver(["a"], consumer="c", claim_s=60), 2)) == [b"1", b"2"]

    def test_exchange_with_a_full_queue_acks_nothing(self, transport: Transport) -> None:
        """A delivery whose results could not be sent is not acked; forced, both happen."""
        self.need("limits")
        transport.declare("a", subscriptions=[])
        transport.declare("b", subscriptions=[], max_length=1)
        transport.send([command("a", b"1"), command("b", b"2")])
        receiver = transport.receiver(["a"], consumer="c", claim_s=60)
        done = take(receiver, 1)
        assert receiver.exchange([command("b", b"3")], done, (), 0, 0.0).refused == {0: Refusal.FULL}
        receiver.close()
        again = transport.receiver(["a"], consumer="d", claim_s=60)
        done = take(again, 1)
        assert bodies(done) == [b"1"]
        assert again.exchange([command("b", b"3")], done, (), 0, 0.0, force=True).refused == {}
        again.close()
        assert self.depth(transport, "a") == 0
        assert self.depth(transport, "b") == 2

    # -- what was not acked --------------------------------------------------------------------------------------

    def test_unacked_messages_of_a_closed_receiver_come_again_alone(self, transport: Transport) -> None:
        """After `close` what was not acked comes once more, one at a time, counted, and before anything new."""
        transport.declare("a", subscriptions=[])
        transport.send([command("a", b"%d" % n) for n in range(3)])
        receiver = transport.receiver(["a"], consumer="c", claim_s=60)
        take(receiver, 3)
        receiver.close()
        transport.send([command("a", b"new")])
        other = transport.receiver(["a"], consumer="d", claim_s=60)
        if "counts" in self.cannot:
            assert sorted(bodies(take(other, 4))) == [b"0", b"1", b"2", b"new"]
            return
        came = self.take_alone(other, 3)
        assert sorted(bodies(came)) == [b"0", b"1", b"2"]
        assert [delivery.count for delivery in came] == [2, 2, 2]
        assert bodies(take(other, 1)) == [b"new"]

    def test_delivery_count_rises_with_every_life(self, transport: Transport) -> None:
        """A message that is never acked is counted up each time, so that a worker-killer is found."""
        self.need("counts")
        transport.declare("a", subscriptions=[])
        transport.send([command("a", b"killer")])
        counts = []
        for life in range(4):
            receiver = transport.receiver(["a"], consumer=f"c{life}", claim_s=60)
            [delivery] = take(receiver, 1)
            counts.append(delivery.count)
            receiver.close()
        assert counts == [1, 2, 3, 4]

    def test_killed_consumer_restarted_gets_its_own_back_at_once(
        self, transport: Transport, make_transport: Callable[[], Transport]
    ) -> None:
        """A process that restarts under the same name need not wait for the claim time."""
        self.need("crashes")
        transport.declare("a", subscriptions=[])
        transport.send([command("a", b"1"), command("a", b"2")])
        killed = make_transport().receiver(["a"], consumer="c", claim_s=60)
        assert len(take(killed, 2)) == 2
        self.kill(killed)
        assert sorted(bodies(self.take_alone(transport.receiver(["a"], consumer="c", claim_s=60), 2))) == [b"1", b"2"]

    def test_killed_consumers_messages_are_claimed_by_others(
        self, transport: Transport, make_transport: Callable[[], Transport]
    ) -> None:
        """After the claim time somebody else gets what a dead consumer held, alone, and with a raised count."""
        self.need("crashes")
        transport.declare("a", subscriptions=[])
        transport.send([command("a", b"1"), command("a", b"2")])
        killed = make_transport().receiver(["a"], consumer="c", claim_s=self.claim_s)
        assert len(take(killed, 2)) == 2
        other = transport.receiver(["a"], consumer="d", claim_s=self.claim_s)
        if "claims" not in self.cannot:
            assert other.receive(64, 0.0) == []
        self.kill(killed)
        came = self.take_alone(other, 2)
        assert sorted(bodies(came)) == [b"1", b"2"]
        if "counts" not in self.cannot:
            assert {delivery.count for delivery in came} == {2}

    def test_held_messages_are_claimed_by_nobody(
        self, transport: Transport, make_transport: Callable[[], Transport]
    ) -> None:
        """Who says that it still works keeps its deliveries, and their counts."""
        self.need("claims")
        transport.declare("a", subscriptions=[])
        transport.send([command("a", b"1")])
        owner = make_transport().receiver(["a"], consumer="c", claim_s=self.claim_s)
        deliveries = take(owner, 1)
        other = transport.receiver(["a"], consumer="d", claim_s=self.claim_s)
        give_up_at = time.monotonic() + 2 * self.claim_s
        while time.monotonic() < give_up_at:
            owner.hold(deliveries)
            assert other.receive(64, self.claim_s / 4) == []
        owner.close()
        [again] = take(other, 1)
        assert again.count == 2

    def test_held_by_another_thread_while_the_receiver_waits(self, transport: Transport) -> None:
        """`hold` may be called by any thread, also while the receiver's own thread waits for messages."""
        self.need("whole-messages")
        transport.declare("a", subscriptions=[])
        transport.send([command("a", b"1")])
        receiver = transport.receiver(["a"], consumer="c", claim_s=60)
        held = take(receiver, 1)
        came: list[Delivery] = []
        thread = threading.Thread(target=lambda: came.extend(receiver.receive(64, ANSWER_S)))
        thread.start()
        for _ in range(20):
            receiver.hold(held)
        transport.send([command("a", b"2")])
        thread.join()
        assert bodies(came) == [b"2"]

    def test_acked_deliveries_of_a_killed_consumer_stay_gone(
        self, transport: Transport, make_transport: Callable[[], Transport]
    ) -> None:
        """Of a batch that was acked in part, only the rest comes again."""
        self.need("crashes")
        transport.declare("a", subscriptions=[])
        transport.send([command("a", b"%d" % n) for n in range(4)])
        killed = make_transport().receiver(["a"], consumer="c", claim_s=60)
        deliveries = take(killed, 4)
        killed.exchange((), [d for d in deliveries if d.body in (b"0", b"2")], (), 0, 0.0)
        self.kill(killed)
        other = transport.receiver(["a"], consumer="c", claim_s=60)
        assert sorted(bodies(self.take_alone(other, 2))) == [b"1", b"3"]
        assert other.receive(64, 0.05) == []

    # -- many at once --------------------------------------------------------------------------------------------

    def test_receivers_share_a_queue_without_doubling(
        self, transport: Transport, make_transport: Callable[[], Transport]
    ) -> None:
        """However many consume one queue, each message is handled by exactly one of them."""
        self.need("sharing")
        transport.declare("a", subscriptions=[], partitions=2)
        sent = [b"%d" % n for n in range(300)]
        came: list[bytes] = []
        lock = threading.Lock()
        all_there = threading.Event()

        def work(consumer: str) -> None:
            receiver = make_transport().receiver(["a"], consumer=consumer, claim_s=60)
            done: list[Delivery] = []
            give_up_at = time.monotonic() + ANSWER_S
            while not all_there.is_set() and time.monotonic() < give_up_at:
                done = receiver.exchange((), done, (), 16, 0.05).deliveries
                with lock:
                    came.extend(bodies(done))
                    if len(came) >= len(sent):
                        all_there.set()
            receiver.exchange((), done, (), 0, 0.0)
            receiver.close()

        threads = [threading.Thread(target=work, args=(f"c{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for start in range(0, 300, 60):
            transport.send([command("a", body, key=body.decode()) for body in sent[start : start + 60]])
        for thread in threads:
            thread.join()
        assert sorted(came) == sorted(sent)
        assert self.depth(transport, "a") == 0

    # -- answers to who is no endpoint ---------------------------------------------------------------------------

    def test_answers_reach_the_reply_queue_they_name(self, make_transport: Callable[[], Transport]) -> None:
        """What another process sends to a reply address comes there, once, and to no other."""
        self.need("replies")
        waiting, answering = make_transport(), make_transport()
        ours, other = new_address(), new_address()
        mine, others = reply_queue_of(waiting, ours), reply_queue_of(waiting, other)
        assert answering.send([command(ours, b"1"), command(other, b"2"), command(ours, b"3")]) == {}
        assert self._answers(mine, 2) == [b"1", b"3"]
        assert self._answers(others, 1) == [b"2"]
        assert mine.receive(0.05) == []
        mine.close()
        others.close()

    def test_answer_is_heard_by_who_waits_already(self, make_transport: Callable[[], Transport]) -> None:
        """A wait ends when the first answer comes, long before its time is over."""
        self.need("replies")
        waiting, answering = make_transport(), make_transport()
        address = new_address()
        queue = reply_queue_of(waiting, address)
        came: list[bytes] = []
        thread = threading.Thread(target=lambda: came.extend(queue.receive(2 * ANSWER_S)))
        thread.start()
        answering.send([command(address, b"here")])
        thread.join(ANSWER_S)
        assert came == [b"here"]
        queue.close()

    def test_answer_to_nobody_is_no_refusal(self, make_transport: Callable[[], Transport]) -> None:
        """A process that is gone needs no answer: it is dropped, and what is sent with it is not held up."""
        self.need("replies")
        waiting, answering = make_transport(), make_transport()
        answering.declare("a", subscriptions=[])
        address = new_address()
        reply_queue_of(waiting, address).close()
        assert answering.send([command(address, b"late"), command("a", b"x"), command(new_address(), b"never")]) == {}
        receiver = answering.receiver(["a"], consumer="c", claim_s=60)
        [delivery] = take(receiver, 1)
        assert delivery.body == b"x"
        assert receiver.exchange([command(address, b"late")], [delivery], (), 0, 0.0).refused == {}
        queue = reply_queue_of(waiting, address)
        assert queue.receive(0.05) == [], "what came before the queue was there is nobody's"
        queue.close()

    def test_reply_queue_is_listed_nowhere(self, make_transport: Callable[[], Transport]) -> None:
        """It is no endpoint: nobody is to look after it."""
        self.need("replies")
        transport = make_transport()
        transport.declare("a", subscriptions=[])
        queue = reply_queue_of(transport, new_address())
        assert [info.endpoint for info in transport.queues()] == ["a"]
        queue.close()

    # -- helpers -------------------------------------------------------------------------------------------------

    def take_alone(self, receiver: Receiver, count: int) -> list[Delivery]:
        """Receive *count* deliveries that were delivered before, and see that each comes alone."""
        taken: list[Delivery] = []
        give_up_at = time.monotonic() + ANSWER_S
        while len(taken) < count and time.monotonic() < give_up_at:
            batch = receiver.receive(64, 0.1)
            if "counts" not in self.cannot:
                assert len(batch) <= 1, "a message that was delivered before came with others"
            taken += batch
            receiver.exchange((), batch, (), 0, 0.0)
        return taken

    def _answers(self, queue: ReplyQueue, count: int) -> list[bytes]:
        """Receive until *count* answers came; fewer where they do not come in time."""
        came: list[bytes] = []
        give_up_at = time.monotonic() + ANSWER_S
        while len(came) < count and time.monotonic() < give_up_at:
            came += queue.receive(0.1)
        return came
