"""Consumers at work on documents, explored operation by operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from attrs import define, field

from sagabus import Bus, ConcurrencyError, Context, DocumentKey, Documents, Saga, handles, message, starts
from sagabus.errors import ConfigurationError
from sagabus.testing import Exploration, Moment, explore
from sagabus.testing.simulator.shelves import ShelfStore, Shelves
from tests.changes import evolve


@message("documents-test.count")
class Count:
    """Ask for one more."""

    by: str = ""


@message("documents-test.counted")
class Counted:
    """It is one more now."""

    total: int


@define
class Tally:
    """A number of things, and who was counted."""

    total: int = 0
    seen: set[str] = field(factory=set)


Consumer = Callable[[Count, Context], None]


def careless(m: Count, context: Context) -> None:
    """Count without looking whether others were faster."""
    tally = context.documents.load("tally", Tally).value
    context.documents.overwrite("tally", evolve(tally, total=tally.total + 1))


def optimistic(m: Count, context: Context) -> None:
    """Count, or have the message handled again where others were faster; a second delivery counts twice."""
    found = context.documents.load("tally", Tally)
    context.documents.put("tally", evolve(found.value, total=found.value.total + 1), etag=found.etag)


def patient(m: Count, context: Context) -> None:
    """Count, trying again until nobody is faster."""
    while True:
        found = context.documents.load("tally", Tally)
        try:
            after = context.documents.put("tally", evolve(found.value, total=found.value.total + 1), etag=found.etag)
        except ConcurrencyError:
            continue
        context.publish(Counted(total=after.value.total))
        return


def careful(m: Count, context: Context) -> None:
    """Count each message once, however often it comes."""
    found = context.documents.load("tally", Tally)
    if context.message_id not in found.value.seen:
        tally = Tally(found.value.total + 1, {*found.value.seen, context.message_id})
        context.documents.put("tally", tally, etag=found.etag)


def explored(consumer: Consumer, *, messages: int = 2, **options: Any) -> Exploration:
    """Return what becomes of some messages for *consumer*, which must count each of them once."""
    bus = Bus(store="memory:")
    bus.endpoint("counter").consumer(consumer)

    def counts_each_once(moment: Moment) -> None:
        assert moment.load("tally", Tally).value.total == messages

    return explore(
        bus,
        messages=[Count(by=f"{number}") for number in range(messages)],
        documents={"tally": Tally()},
        **{"finally_": [counts_each_once], "outcome": lambda moment: "done", **options},
    )


@pytest.mark.parametrize("consumer", [optimistic, patient, careful])
def test_consumer_that_compares_counts_each_message_once(consumer: Consumer) -> None:
    """Where each write demands what it has read, no update is lost in any order."""
    result = explored(consumer, messages=3).assert_ok()
    assert result.complete
    assert result.schedules > 6


def test_consumer_that_overwrites_loses_an_update_and_the_report_says_how() -> None:
    """Two reads before two writes: the shortest schedule that loses an update, played on a real store too."""
    failure = explored(careless).failure
    assert failure is not None
    assert failure.kind == "finally"
    assert [line.partition(": ")[2] for line in failure.trace] == [
        "reads tally: {'seen': [], 'total': 0}",
        "reads tally: {'seen': [], 'total': 0}",
        "writes tally = {'seen': [], 'total': 1}; ends",
        "writes tally = {'seen': [], 'total': 1}; ends",
    ]


def test_replay_token_of_a_lost_update_plays_it_again() -> None:
    """The token of a report leads to the same steps."""
    failure = explored(careless).failure
    assert failure is not None
    again = explored(careless, replay=failure.token)
    assert again.failure is not None
    assert again.failure.trace == failure.trace


@pytest.mark.parametrize("circumstances", [{"duplicates": 1}, {"crashes": 1}], ids=["duplicate", "crash"])
def test_consumer_that_knows_no_message_counts_one_twice(circumstances: dict[str, int]) -> None:
    """A second delivery, or a worker that dies after its write, makes it write again."""
    failure = explored(optimistic, **circumstances).failure
    assert failure is not None
    assert failure.kind == "finally"
    assert any("delivered" in line for line in failure.trace)


def test_consumer_that_knows_its_messages_counts_each_once_whatever_happens() -> None:
    """Deliveries at the same time and deaths between any two operations included."""
    result = explored(careful, duplicates=1, crashes=1).assert_ok()
    assert result.complete


def test_crash_after_the_last_operation_loses_what_was_to_be_sent() -> None:
    """What a consumer sends leaves when it returns: a worker that dies before has its message handled again."""
    allowed = [(1,), (2,)]
    result = explored(patient, messages=1, crashes=1, finally_=[], outcome=_totals, outcomes=allowed).assert_ok()
    assert set(result.outcomes) == {(1,), (2,)}


def _totals(moment: Moment) -> tuple[int, ...]:
    return tuple(sorted(m.total for m in moment.released))


def test_consumer_that_begins_again_is_refused_what_it_created_before() -> None:
    """The report plays what the search has found: a worker that dies after a write does not make it once more."""

    def first(m: Count, context: Context) -> None:
        try:
            context.documents.create("mark", Tally())
        except ConcurrencyError:
            return
        context.documents.overwrite("tally", Tally(1))

    failure = explored(first, messages=1, crashes=1).failure
    assert failure is not None
    assert [line.partition(": ")[2].partition(" ")[0] for line in failure.trace] == ["writes", "", "is"]


def test_random_search_finds_the_lost_update_too() -> None:
    """Operations are tasks for the random search as loads and commits are."""
    failure = explored(careless, mode="random", runs=200, seed=1).failure
    assert failure is not None
    assert failure.kind == "finally"
    assert len(failure.trace) == 4


def test_consumer_that_raises_is_a_failure() -> None:
    """Whatever leaves a consumer but a ConcurrencyError would end in a dead letter."""

    def broken(m: Count, context: Context) -> None:
        context.documents.load("tally", Tally)
        raise ValueError("no")

    failure = explored(broken).failure
    assert failure is not None
    assert failure.kind == "dead-letter"
    assert "ValueError: no" in failure.problem


def test_consumer_that_does_otherwise_when_run_again_is_a_failure() -> None:
    """Where a consumer stands is found by running it again, so it must do the same then."""
    names = iter("abcdefgh")

    def fickle(m: Count, context: Context) -> None:
        context.documents.load(next(names), Tally)
        context.documents.load("tally", Tally)

    failure = explored(fickle, messages=1).failure
    assert failure is not None
    assert failure.kind == "impure"
    assert "fickle" in failure.problem


def test_document_that_is_created_anew_has_another_etag() -> None:
    """Who holds the etag of a document that was deleted is refused, also in an exploration."""
    store = ShelfStore(Shelves())
    documents = Documents(lambda: store)
    first = documents.create("tally", Tally())
    assert first.etag is not None
    documents.delete("tally", first.etag)
    assert documents.create("tally", Tally()).etag != first.etag


def test_groups_and_lists_are_played() -> None:
    """What stands in a group is listed, and several of one group are written together."""

    def move(m: Count, context: Context) -> None:
        shelf = context.documents.group("shelf")
        listed = shelf.keys()
        found = shelf.load_many(sorted(listed), Tally)
        shelf.compare_exchange(
            {d.key: (d.etag, Tally(d.value.total + step)) for d, step in zip(found, (1, -1), strict=True)}
        )

    bus = Bus(store="memory:")
    bus.endpoint("counter").consumer(move)
    documents = {DocumentKey("a", "shelf"): Tally(5), DocumentKey("b", "shelf"): Tally(5), "other": Tally(1)}

    def keeps_ten(moment: Moment) -> bool:
        return sum(moment.load(key, Tally).value.total for key in moment.document_keys if key.group) == 10

    explore(
        bus,
        messages=[Count(by="1"), Count(by="2")],
        documents=documents,
        always=[keeps_ten],
        outcome=lambda m: m.load(DocumentKey("a", "shelf"), Tally).value.total,
        outcomes=[7],
    ).assert_ok()


# -- with sagas ----------------------------------------------------------------------------------------------------


@message("documents-test.start")
class Start:
    """Have two things counted."""

    key: str


@define
class Waiting:
    """What has been counted."""

    totals: set[int] = field(factory=set)


class Counting(Saga[Waiting], key="key"):
    """Asks a consumer twice, and ends when it has both answers."""

    @starts
    def started(self, m: Start) -> None:
        """Ask twice."""
        for by in "ab":
            self.send(Count(by=by), to="counter")

    @handles
    def counted(self, m: Counted) -> None:
        """Note an answer."""
        self.state.totals.add(m.total)

    def decide(self) -> None:
        """End with both."""
        if len(self.state.totals) == 2:
            self.publish(Counted(total=sum(self.state.totals)))
            self.complete()


def test_saga_whose_consumers_use_documents_is_explored_with_them() -> None:
    """Requests, operations, answers and commits are steps of one schedule."""
    bus = Bus(store="memory:")
    bus.endpoint("counting", Counting)

    @bus.endpoint("counter").consumer
    def count(m: Count, context: Context) -> None:
        found = context.documents.load(m.by, Tally)
        tally = context.documents.load("tally", Tally)
        if not found.exists:
            total = tally.value.total + 1
            writes = {m.by: Tally(total), "tally": Tally(total)}
            context.documents.put("tally", writes["tally"], etag=tally.etag)
            context.documents.create(m.by, writes[m.by])
        context.reply(Counted(total=context.documents.load(m.by, Tally).value.total))

    result = explore(
        bus, start=[Start(key="k")], documents={"tally": Tally()}, outcomes=[[Counted(total=3)]]
    ).assert_ok()
    assert result.complete
    # A worker that dies between the two writes counts one thing twice: two documents of no group are not one write.
    assert not explore(
        bus, start=[Start(key="k")], documents={"tally": Tally()}, outcomes=[[Counted(total=3)]], crashes=1
    ).ok


@define
class Race:
    """Who came first, and second."""

    order: list[str] = field(factory=list)


@message("documents-test.came")
class Came:
    """Somebody has come, as the how-manieth."""

    key: str
    place: int


class Finish(Saga[Race], key="key"):
    """Sends each who comes on, with the place that they came in: what a message id says depends on the order."""

    @starts
    def started(self, m: Start) -> None:
        """Open the finish."""

    @handles(key="by")
    def counted(self, m: Count) -> None:
        """Never called: the finish is found by another key."""

    @handles
    def came(self, m: Came) -> None:
        """Say who won."""
        self.state.order.append(f"{m.place}")
        self.send(Count(by=f"{len(self.state.order)} was {m.place}"), to="counter")


def test_message_whose_body_depends_on_the_order_is_played_with_each_body() -> None:
    """An id derives from what caused a message; what it says derives from what that found, and both bodies are met."""
    bus = Bus(store="memory:")
    bus.endpoint("finish", Finish)

    @bus.endpoint("counter").consumer
    def note(m: Count, context: Context) -> None:
        context.documents.create(m.by, Tally())

    outcomes = explore(
        bus,
        start=[Start(key="k")],
        messages=[Came(key="k", place=1), Came(key="k", place=2)],
        documents={},
        must_end=False,
        outcome=lambda moment: tuple(key.name for key in moment.document_keys),
        outcomes=[("1 was 1", "2 was 2"), ("1 was 2", "2 was 1")],
    ).assert_ok()
    assert len(outcomes.outcomes) == 2


def test_documents_of_two_groups_are_read_one_after_the_other() -> None:
    """On a cluster they are on two nodes: a reader may see the one as it was and the other as it is."""
    bus = Bus(store="memory:")
    bus.endpoint("counter").consumer(_moves)
    torn = explore(
        bus,
        messages=[Count(by="move"), Count(by="look")],
        documents={"a": Tally(1), "b": Tally(0)},
        outcome=lambda moment: moment.load("seen", Tally).value.total,
        outcomes=[0, 1, 2],
    ).assert_ok()
    assert set(torn.outcomes) == {0, 1, 2}


def _moves(m: Count, context: Context) -> None:
    if m.by == "move":
        context.documents.overwrite("a", Tally(0))
        context.documents.overwrite("b", Tally(1))
    else:
        b, a = context.documents.load_many(["b", "a"], Tally)
        context.documents.overwrite("seen", Tally(a.value.total + b.value.total))


def test_consumer_that_knows_a_message_by_its_id_counts_a_resent_one_twice() -> None:
    """A sender that sends the same again gives it another id."""
    failure = explored(careful, messages=1, resends=1).failure
    assert failure is not None
    assert failure.kind == "finally"
    assert any("sends it again under a new id" in line for line in failure.trace)
    assert explored(careful, messages=1, resends=1, replay=failure.token).failure is not None


# -- bad input -----------------------------------------------------------------------------------------------------

NEEDED: Final = "documents={"


def test_consumer_with_documents_and_none_given_is_refused_with_the_mend() -> None:
    """It is not guessed what is there."""
    bus = Bus(store="memory:")
    bus.endpoint("counter").consumer(optimistic)
    with pytest.raises(ConfigurationError, match=NEEDED):
        explore(bus, messages=[Count()])


def test_crashes_without_documents_are_refused_with_the_mend() -> None:
    """Nothing can happen between operations where there are none."""
    with pytest.raises(ConfigurationError, match=NEEDED):
        explore(Counting, start=[Start(key="k")], crashes=1)


def test_moment_without_documents_says_what_to_give() -> None:
    """An invariant that looks at documents which nobody gave is told so."""
    with pytest.raises(Exception, match=NEEDED):
        explore(
            Counting,
            start=[Start(key="k")],
            messages=[Counted(total=1), Counted(total=2)],
            finally_=[lambda moment: moment.load("tally", Tally).exists],
        )
