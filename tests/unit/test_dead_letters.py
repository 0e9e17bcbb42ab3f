"""Dead letters through the API of a bus: what they say, how they are sent again, edited, dropped, and expire."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import define, field, validators

from sagabus import Bus, Context, RetryPolicy, Saga, handles, message, starts
from sagabus.commit import Lifecycle, Snapshot, StoredVersion
from sagabus.dead_letters.context import saga_context
from sagabus.dead_letters.letter import DeadLetter
from sagabus.dead_letters.lines import from_lines, to_line
from sagabus.dead_letters.patch import json_patch
from sagabus.dead_letters.sought import Sought
from sagabus.definition import definition_of
from sagabus.envelope import SagaKey, decode, encode, wrap
from sagabus.errors import (
    AmbiguousDeadLetterError,
    CodecError,
    ConfigurationError,
    DeadLetterNotFoundError,
    UnknownEndpointError,
    UnreadableDeadLetterError,
)
from sagabus.observe.log import get_logger
from sagabus.runtime.housekeeping import EVERY_S, LEASE, Housekeeping
from sagabus.store.memory import MemoryStore
from sagabus.store.protocol import Bookkeeping
from sagabus.transport import Parcel, ParcelKind
from sagabus.versions import Dot
from tests.changes import evolve

NOW_MS = 10_000_000_000


@message("letters.open")
class Open:
    key: str


@message("letters.step")
class Step:
    key: str
    by: int = field(default=1, validator=validators.ge(0))


@message("letters.job")
class Job:
    number: int


@define
class Total:
    total: int = 0


class Adds(Saga[Total], key="key"):
    @starts
    def opened(self, m: Open) -> None:
        self.defer(Step(m.key), after=timedelta(days=1), name="later")

    @handles(key="key")
    def stepped(self, m: Step) -> None:
        if m.by == 13:
            raise ValueError("thirteen is refused")
        self.state.total += m.by


@define
class Shop:
    """A bus in memory whose consumer does what the test says."""

    bus: Bus
    done: list[tuple[int, str, int]] = field(factory=list)
    broken: bool = True

    def run(self) -> None:
        self.bus.worker().run_until_idle()

    def letter(self) -> DeadLetter:
        (letter,) = self.bus.dead_letters.find()
        return letter


@pytest.fixture
def shop() -> Shop:
    made = Shop(Bus("memory:", "memory:"))
    made.bus.endpoint("adds", Adds, max_attempts=1)
    jobs = made.bus.endpoint("jobs", max_attempts=1)
    made.bus.endpoint("spare").consumer(Job)(lambda m: made.done.append((m.number, "spare", 1)))

    @jobs.consumer
    def work(m: Job, context: Context) -> None:
        if made.broken:
            raise OSError("the lathe is cold")
        made.done.append((m.number, context.message_id, context.attempt))

    return made


def failing(shop: Shop, number: int = 1, id_: str = "m1") -> DeadLetter:
    shop.bus.send(Job(number), to="jobs", id=id_)
    shop.run()
    return shop.bus.dead_letters.get(id_)


# -- what a letter says ------------------------------------------------------------------------------------------


def test_letter_has_the_saga_its_worker_and_handler(shop: Shop) -> None:
    """Whoever reads it sees the state that the message met, and where."""
    shop.bus.send(Open("7"), to="adds", id="open")
    shop.bus.send(Step("7", 5), to="adds", id="five")
    shop.run()
    shop.bus.send(Step("7", 13), to="adds", id="bad")
    shop.bus.worker(name="worker-x").run_until_idle()
    letter = shop.letter()
    assert (letter.worker, letter.host, letter.saga) == ("worker-x", socket.gethostname(), "Adds/7")
    assert letter.handler == f"{__name__}.Adds.stepped"
    context = json.loads(letter.context)
    assert (context["lifecycle"], context["life"], context["pending_merge"]) == ("live", 1, "")
    assert [version["state"] for version in context["versions"]] == [{"total": 5}]
    assert list(context["timers"]) == ["later"]


def test_letter_of_a_consumer_names_it(shop: Shop) -> None:
    """There is no saga to show."""
    letter = failing(shop)
    assert letter.handler.endswith("shop.<locals>.work")
    assert letter.context == b""


def test_context_is_bounded() -> None:
    """First the states make room, then all versions; how much was left out is said, and what cannot be read is too."""
    state = definition_of(Adds).codec.encode(Total(5))
    versions = tuple(StoredVersion(Dot("a", n), {"a": n}, state) for n in range(1, 40))
    snapshot = Snapshot(SagaKey("Adds", "7"), 1, Lifecycle.LIVE, 2, {"a": 39}, versions)
    whole = json.loads(saga_context(snapshot))
    assert [version["state"] for version in whole["versions"]] == [{"total": 5}] * 39
    size = len(saga_context(snapshot))
    without = saga_context(snapshot, size - 1)
    assert len(without) < size
    assert "state" not in json.loads(without)["versions"][0]
    least = json.loads(saga_context(snapshot, 200))
    assert least == {"saga": "Adds/7", "lifecycle": "live", "life": 2, "omitted_bytes": size}
    damaged = evolve(snapshot, versions=(StoredVersion(Dot("a", 1), {"a": 1}, b"\xff"),))
    assert "unreadable" in json.loads(saga_context(damaged))["versions"][0]["state"]


# -- finding -----------------------------------------------------------------------------------------------------


def test_letter_is_got_by_the_beginning_of_its_id(shop: Shop) -> None:
    """An exact id wins over longer ones; what two begin with is neither's; nothing is found for nothing."""
    for id_ in ("job-1", "job-12", "job-2"):
        failing(shop, id_=id_)
    letters = shop.bus.dead_letters
    assert letters.get("job-1").id == "job-1"
    assert letters.get("job-12").id == "job-12"
    assert letters.get("job-2", endpoint="jobs").id == "job-2"
    with pytest.raises(AmbiguousDeadLetterError, match="jobs/job-2, jobs/job-12, jobs/job-1"):
        letters.get("job-")
    for nothing in ("", "x"):
        with pytest.raises(DeadLetterNotFoundError):
            letters.get(nothing)


def test_letters_are_found_by_class_and_time(shop: Shop) -> None:
    """A class is as good as its wire name; times need a zone."""
    letter = failing(shop)
    at = datetime.fromtimestamp(letter.at_ms / 1000, UTC)
    find = shop.bus.dead_letters.find
    assert list(find(type=Job, since=at, until=at + timedelta(milliseconds=1))) == [letter]
    assert list(find(type=Step)) == []
    assert list(find(until=at)) == []
    with pytest.raises(ConfigurationError, match="time zone"):
        next(find(since=at.replace(tzinfo=None)))


# -- sending again -----------------------------------------------------------------------------------------------


def test_retried_message_keeps_its_id_and_begins_its_attempts_anew(shop: Shop) -> None:
    """It is handled as if it had just come, its letter is gone, and the trail says who wanted that."""
    letter = failing(shop)
    shop.broken = False
    (retried,) = shop.bus.dead_letters.retry(letter, by="ann@desk")
    assert (retried.id, retried.to, retried.error) == ("m1", "jobs", None)
    assert list(shop.bus.dead_letters.find()) == []
    shop.run()
    assert shop.done == [(1, "m1", 1)]
    (line,) = shop.bus.dead_letters.audit()
    assert (line.what, line.by, line.id, line.endpoint) == ("retry", "ann@desk", "m1", "jobs")


def test_retried_message_that_fails_again_is_a_letter_again(shop: Shop) -> None:
    """The new one, and it can be sent again too; the old one can not."""
    letter = failing(shop)
    shop.bus.dead_letters.retry(letter)
    shop.run()
    again = shop.letter()
    assert again.attempts == 1
    (stale,) = shop.bus.dead_letters.retry(evolve(letter, at_ms=1))
    assert isinstance(stale.error, DeadLetterNotFoundError)
    assert shop.bus.dead_letters.drop(evolve(letter, at_ms=1)) == 0
    assert shop.letter() == again


def test_letter_that_is_buried_anew_while_the_copy_is_sent_stays(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker may be faster than whoever retries: its letter is about another failure."""
    letter = failing(shop)
    send = shop.bus.transport.send

    def fast(parcels: Any, **options: Any) -> Any:
        sent = send(parcels, **options)
        shop.bus.store.note(Bookkeeping(buried=(letter,)))
        return sent

    monkeypatch.setattr(shop.bus.transport, "send", fast)
    shop.bus.dead_letters.retry(letter)
    assert shop.letter() == letter
    assert [line.what for line in shop.bus.dead_letters.audit()] == ["retry"]


def test_crash_between_sending_and_dropping_leaves_both(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is under way under its id, and a redelivery of it is not taken for the letter's."""
    letter = failing(shop)

    def crash(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shop.bus.store.letters, "remove", crash)
        with pytest.raises(KeyboardInterrupt):
            shop.bus.dead_letters.retry(letter)
    assert shop.letter() == letter
    assert not shop.bus.store.letters.given_up("jobs", "m1")
    shop.broken = False
    shop.bus.dead_letters.retry(letter)
    shop.run()
    assert shop.done == [(1, "m1", 1)] * 2


def test_letter_of_an_endpoint_that_is_not_there_waits_for_it(shop: Shop) -> None:
    """It says so, stays, and goes where it was meant to once that is declared; or elsewhere with to=."""
    shop.bus.store.note(
        Bookkeeping(buried=(evolve(failing(shop), endpoint="later", reason="no-endpoint"),)),
    )
    (letter,) = shop.bus.dead_letters.find(endpoint="later")
    (retried,) = shop.bus.dead_letters.retry(letter)
    assert isinstance(retried.error, UnknownEndpointError)
    assert shop.bus.store.letters.given_up("later", "m1")
    (moved,) = shop.bus.dead_letters.retry(letter, to="spare")
    assert moved.to == "spare"
    shop.run()
    assert shop.done == [(1, "spare", 1)]
    assert shop.bus.dead_letters.audit()[0].details["to"] == "spare"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"no json", "undecodable"),
        (b'{"specversion":"1.0","id":"m","source":"/t","type":"letters.job","data":{"number":"x"}}', "undecodable"),
        (b'{"specversion":"1.0","id":"m","source":"/t","type":"letters.unheard-of"}', "unknown-type"),
    ],
)
def test_letter_that_cannot_be_read_is_sent_only_with_another_body(shop: Shop, body: bytes, reason: str) -> None:
    """It would come straight back. With a body that fits its class, named where nothing says it, it goes."""
    shop.bus.transport.send([Parcel(ParcelKind.COMMAND, "jobs", body, "k", "m")])
    shop.run()
    letter = shop.letter()
    assert letter.reason == reason
    (refused,) = shop.bus.dead_letters.retry(letter)
    assert isinstance(refused.error, UnreadableDeadLetterError)
    assert shop.letter() == letter
    shop.broken = False
    retried = shop.bus.dead_letters.edit(letter, '{"number": 4}', type="letters.job")
    assert retried.error is None
    shop.run()
    assert [(number, attempt) for number, _, attempt in shop.done] == [(4, 1)]
    assert list(shop.bus.dead_letters.find()) == []


def test_letter_without_a_type_cannot_be_edited_without_one(shop: Shop) -> None:
    """Nothing says which class its body is for."""
    shop.bus.transport.send([Parcel(ParcelKind.COMMAND, "jobs", b"no json", "k", "m")])
    shop.run()
    with pytest.raises(UnreadableDeadLetterError, match="--type"):
        shop.bus.dead_letters.edit(shop.letter(), "{}")


def test_edited_message_is_checked_and_the_trail_keeps_what_changed(shop: Shop) -> None:
    """A validator of its class refuses it before anything is sent; then the patch says what became of it."""
    shop.bus.send(Open("7"), to="adds")
    shop.bus.send(Step("7", 13), to="adds", id="bad")
    shop.run()
    letter = shop.letter()
    with pytest.raises(CodecError):
        shop.bus.dead_letters.edit(letter, '{"key": "7", "by": -1}')
    assert shop.letter() == letter
    retried = shop.bus.dead_letters.edit(letter, Step("7", 2), by="ann@desk")
    assert retried.id == "bad"
    shop.run()
    assert list(shop.bus.dead_letters.find()) == []
    line = shop.bus.dead_letters.audit()[0]
    assert (line.what, line.details["patch"]) == ("edit", [{"op": "replace", "path": "/by", "value": 2}])
    assert line.details["before"] != line.details["after"]


def test_edited_message_under_a_new_id_is_handled_once_more(shop: Shop) -> None:
    """A saga that has handled the old id passes over the old one, and takes the new one."""
    shop.bus.send(Open("7"), to="adds", id="open")
    shop.bus.send(Step("7", 5), to="adds", id="five")
    shop.run()
    body = encode(wrap(Step("7", 5), id="five", source="/t", now_ms=1))
    letter = DeadLetter("five", "adds", "failed", "", "", 1, 1, body, "letters.step")

    def versions_after(new_id: bool) -> int:
        shop.bus.store.note(Bookkeeping(buried=(letter,)))
        assert (shop.bus.dead_letters.edit(letter, Step("7", 1), new_id=new_id).id == "five") is not new_id
        shop.run()
        (row,) = shop.bus.store.sagas()
        return row.versions

    before = versions_after(new_id=False)
    assert versions_after(new_id=True) == before + 1
    assert "new_id" in shop.bus.dead_letters.audit("five", limit=1)[0].details


def test_many_are_sent_again_and_dropped_as_they_are_found(shop: Shop) -> None:
    """More than a batch; what fails again is not met again on the way."""
    shop.bus.send_many([Job(n) for n in range(1100)], to="jobs")
    shop.run()
    assert shop.bus.dead_letters.count().reasons == {"failed": 1100}
    found = shop.bus.dead_letters.find(reason="failed")
    assert [r.error for r in shop.bus.dead_letters.retry(found)] == [None] * 1100
    shop.run()
    assert shop.bus.dead_letters.drop(shop.bus.dead_letters.find()) == 1100
    assert shop.bus.dead_letters.count(Sought()).total == 0


def test_exported_letter_can_be_brought_back(shop: Shop) -> None:
    """All of it survives the file, bytes that are no text too; it is sent though its letter is gone."""
    letter = failing(shop)
    odd = evolve(letter, id="odd", body=b"\xff\x00", context=b'{"saga":"A/1"}')
    assert list(from_lines("\n".join((to_line(letter).decode(), "", to_line(odd).decode())))) == [letter, odd]
    with pytest.raises(ConfigurationError, match="line 2"):
        list(from_lines(to_line(letter).decode() + "\n" + '{"id": 1}'))
    shop.bus.dead_letters.drop(letter)
    shop.broken = False
    (gone,) = shop.bus.dead_letters.retry(letter)
    assert isinstance(gone.error, DeadLetterNotFoundError)
    (sent,) = shop.bus.dead_letters.retry(letter, exported=True)
    assert sent.error is None
    shop.run()
    assert shop.done == [(1, "m1", 1)]


# -- patches -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "patch"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": True}, [{"op": "replace", "path": "/a", "value": True}]),
        (
            {"a": {"b/c": 1, "d~": 2}, "e": [1]},
            {"a": {"b/c": 2}, "e": [1, 2], "f": None},
            [
                {"op": "remove", "path": "/a/d~0"},
                {"op": "replace", "path": "/a/b~1c", "value": 2},
                {"op": "replace", "path": "/e", "value": [1, 2]},
                {"op": "add", "path": "/f", "value": None},
            ],
        ),
        (1, {"a": 1}, [{"op": "replace", "path": "", "value": {"a": 1}}]),
    ],
)
def test_patch_says_how_to_get_from_one_to_the_other(before: Any, after: Any, patch: Any) -> None:
    """As RFC 6902 has it."""
    assert sorted(json_patch(before, after), key=str) == sorted(patch, key=str)


# -- keeping house -----------------------------------------------------------------------------------------------


def test_letters_expire_by_themselves() -> None:
    """One worker of all does it, once in a while, a part at a time."""
    now = [NOW_MS]
    store = MemoryStore(now_ms=lambda: now[0])
    bus = Bus(store, "memory:", dead_letter_retention=timedelta(days=30))
    old = tuple(DeadLetter(f"{n}", "jobs", "failed", "", "", 1, 1000, b"") for n in range(1500))
    young = DeadLetter("young", "jobs", "failed", "", "", 1, NOW_MS, b"")
    store.note(Bookkeeping(buried=(*old, young)))
    first = Housekeeping(bus, "first", log=get_logger())
    second = Housekeeping(bus, "second", log=get_logger())
    assert first.step(0.0) == 1000
    assert second.step(0.0) == 0
    assert first.step(0.0) == 500
    assert list(store.letters.find()) == [young]
    store.note(Bookkeeping(buried=old[:1]))
    assert first.step(EVERY_S - 1) == 0
    now[0] += round(EVERY_S * 1000)
    assert second.step(EVERY_S) == 1
    (grant,) = store.leases.read([LEASE])
    assert grant is not None
    assert grant.holder == "second"


def test_retention_must_be_positive() -> None:
    """A letter that nobody could ever see helps nobody."""
    with pytest.raises(ConfigurationError, match="dead_letter_retention"):
        Bus("memory:", "memory:", dead_letter_retention=timedelta(0))


# -- retries -----------------------------------------------------------------------------------------------------


def test_immediate_retries_come_before_those_that_wait() -> None:
    """The copies go straight back to the queue, with no timer; the next one waits."""
    bus = Bus("memory:", "memory:")
    attempts: list[int] = []
    policy = RetryPolicy(max_attempts=4, immediate=2, first_delay_s=1000.0)

    @bus.endpoint("jobs", retry=policy).consumer
    async def work(m: Job, context: Context) -> None:
        attempts.append(context.attempt)
        raise OSError("cold")

    bus.send(Job(1), to="jobs", id="m")
    worker = bus.worker()
    for _ in range(10):
        worker.run_until_idle()
    assert attempts == [1, 2, 3]
    (waiting,) = bus.store.scheduled()
    assert decode(waiting.body).attempt == 4
    assert [policy.delay_s(n) for n in (1, 2, 3, 4)] == [0.0, 0.0, 60.0, 60.0]


@pytest.mark.parametrize("is_async", [False, True])
def test_errors_that_are_never_retried_are_dead_lettered_at_once(is_async: bool) -> None:
    """Subclasses too; for one message type, where the endpoint says so for that type."""
    bus = Bus("memory:", "memory:")
    endpoint = bus.endpoint(
        "jobs",
        retry=RetryPolicy(first_delay_s=1000.0),
        retries={Job: RetryPolicy(never=(LookupError,))},
    )

    def fails(m: Job | Open) -> None:
        raise KeyError(m)

    async def fails_later(m: Job | Open) -> None:
        fails(m)

    endpoint.consumer(Job, Open)(fails_later if is_async else fails)
    bus.send(Job(1), to="jobs", id="job")
    bus.send(Open("1"), to="jobs", id="open")
    bus.worker().run_until_idle()
    assert [(letter.id, letter.reason, letter.attempts) for letter in bus.dead_letters.find()] == [("job", "failed", 1)]
    assert [decode(item.body).id for item in bus.store.scheduled()] == ["open"]


@pytest.mark.parametrize("is_async", [False, True])
def test_message_that_a_validator_refuses_is_never_retried(is_async: bool) -> None:
    """Nor handled: it is no message of its class, whatever kind of handler waits for it."""
    bus = Bus("memory:", "memory:")
    handled: list[Any] = []

    async def later(m: Step) -> None:
        handled.append(m)

    bus.endpoint("jobs", retry=RetryPolicy(immediate=3)).consumer(Step)(later if is_async else handled.append)
    body = b'{"specversion":"1.0","id":"m","source":"/t","type":"letters.step","data":{"key":"1","by":-1}}'
    bus.transport.send([Parcel(ParcelKind.COMMAND, "jobs", body, "k", "m")])
    bus.worker().run_until_idle()
    (letter,) = bus.dead_letters.find()
    assert (letter.reason, letter.attempts, handled, bus.store.scheduled()) == ("undecodable", 1, [], [])


@pytest.mark.parametrize(
    "options",
    [{"max_attempts": 0}, {"immediate": -1}, {"first_delay_s": -1.0}, {"never": (3,)}, {"never": ("ValueError",)}],
)
def test_policy_that_cannot_work_is_refused(options: dict[str, Any]) -> None:
    """When it is made, not when the first message fails."""
    with pytest.raises(ConfigurationError, match="RetryPolicy"):
        RetryPolicy(**options)
