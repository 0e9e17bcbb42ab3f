"""`once`: one action a key among any number of notifications, and what a failure, a time-out or an operator changes."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from sagabus import Bus, Context, RetryPolicy, message
from sagabus.errors import ConcurrencyError, DefinitionError, DocumentNotFoundError
from sagas import Once, OnceRecord, OnceStatus, once
from sagas.once.record import begun, finished, forgotten
from tests.changes import evolve
from tests.integration.apps import Clock, memory_parts

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@message("once.file-published")
class FilePublished:
    path: str


@message("once.file-renamed")
class FileRenamed:
    path: str


@message("once.file-imported")
class FileImported:
    path: str
    idempotency_key: str


@define
class Importer:
    """The service, and all that it was asked.

    Attributes:
        calls: (path, idempotency key).
        failing: how many of the next calls fail.
        during: what happens elsewhere during the next call.
    """

    calls: list[tuple[str, str]] = field(factory=list)
    failing: int = 0
    during: Callable[[], None] | None = None

    def import_(self, path: str, idempotency_key: str) -> None:
        self.calls.append((path, idempotency_key))
        during, self.during = self.during, None
        if during is not None:
            during()
        if self.failing:
            self.failing -= 1
            raise OSError("the importer does not answer")

    @property
    def imports(self) -> list[str]:
        """Return what it has imported, as it counts: by idempotency key."""
        return [path for path, _ in dict.fromkeys(self.calls)]


@define
class Office:
    """A bus on a clock turned by hand, an importer, and whoever listens for what was imported."""

    clock: Clock
    bus: Bus
    importer: Importer = field(factory=Importer)
    heard: list[tuple[str, FileImported]] = field(factory=list)

    def publish(self, *paths: str) -> None:
        for path in paths:
            self.bus.publish(FilePublished(path))

    def run(self) -> None:
        """Handle all that is there; a worker of its own sees what time it is."""
        self.bus.worker().run_until_idle()

    def later(self, time: timedelta) -> None:
        self.clock.advance(time.total_seconds())


@pytest.fixture
def office() -> Iterator[Office]:
    clock = Clock()
    # A worker that is slow for an hour is alive: its messages are given to no other.
    with Bus(*memory_parts(clock), claim_s=86_400.0) as bus:
        office = Office(clock, bus)

        @bus.endpoint("ledger").consumer
        def heard(m: FileImported, context: Context) -> None:
            office.heard.append((context.message_id, m))

        yield office


def importing(office: Office, **options: Any) -> Once[[FilePublished, str], None]:
    """Declare the import on *office*; a message that fails is tried twice more, then given up."""

    @once(
        office.bus.endpoint("imports", retry=RetryPolicy(max_attempts=3, first_delay_s=1.0)),
        **{"key": "path", "name": "import"} | options,
    )
    def import_file(m: FilePublished, idempotency_key: str) -> None:
        office.importer.import_(m.path, idempotency_key)

    return import_file


def announcing(office: Office, **options: Any) -> Once[[FilePublished, str, Context], None]:
    """Declare an import that tells the ledger of it."""

    @once(office.bus.endpoint("imports"), **{"key": "path", "name": "import"} | options)
    def import_file(m: FilePublished, idempotency_key: str, context: Context) -> None:
        context.publish(FileImported(m.path, idempotency_key))
        office.importer.import_(m.path, idempotency_key)

    return import_file


# -- once --------------------------------------------------------------------------------------------------------


def test_once_with_twenty_notifications_acts_once(office: Office) -> None:
    """All notifications of a file are one import, and other files have theirs."""
    import_file = importing(office)
    office.publish(*["a.csv", "b.csv"] * 20)
    office.run()
    assert sorted(path for path, _ in office.importer.calls) == ["a.csv", "b.csv"]
    assert len({key for _, key in office.importer.calls}) == 2
    state = import_file.state(office.bus.documents, "a.csv")
    assert state is not None
    assert (state.status, state.attempts) == (OnceStatus.DONE, 1)
    assert [q.depth for q in office.bus.transport.queues()] == [0, 0]


@pytest.mark.parametrize("time", [HOUR, timedelta(days=365)], ids=["an-hour", "a-year"])
def test_once_republished_later_does_nothing(office: Office, time: timedelta) -> None:
    """What is done is never forgotten, whatever time has passed."""
    importing(office)
    office.publish("a.csv")
    office.run()
    office.later(time)
    office.publish(*["a.csv"] * 20)
    office.run()
    assert len(office.importer.calls) == 1


def test_once_with_an_async_action_acts_once(office: Office) -> None:
    """`async def` is the same."""

    @once(office.bus.endpoint("imports"), key="path", name="import")
    async def import_file(m: FilePublished, idempotency_key: str, context: Context) -> None:
        office.importer.import_(m.path, idempotency_key)
        context.publish(FileImported(m.path, idempotency_key))

    office.publish(*["a.csv"] * 20)
    office.run()
    assert len(office.importer.calls) == len(office.heard) == 1


def test_once_with_a_function_as_key_acts_once_for_what_it_returns(office: Office) -> None:
    """The key may be made of the message: here two spellings are one file."""
    importing(office, key=lambda m: m.path.lower())
    office.publish("a.csv", "A.CSV")
    office.run()
    assert office.importer.imports == ["a.csv"]


def test_once_on_two_message_classes_acts_once_for_both(office: Office) -> None:
    """Who takes several messages has one action for their common key."""

    @once(office.bus.endpoint("imports"), key="path", name="import")
    def import_file(m: FilePublished | FileRenamed, idempotency_key: str) -> None:
        office.importer.import_(m.path, idempotency_key)

    office.publish("a.csv")
    office.bus.publish(FileRenamed("a.csv"))
    office.run()
    assert len(office.importer.calls) == 1


def test_once_under_two_names_acts_once_for_each(office: Office) -> None:
    """A name has its own keys and idempotency keys: import and index do not keep each other from a file."""
    importing(office)

    @once(office.bus.endpoint("indexes"), FilePublished, key="path", name="index")
    def index_file(m: Any, idempotency_key: str) -> None:
        office.importer.import_(m.path, idempotency_key)

    office.publish(*["a.csv"] * 5)
    office.run()
    assert office.importer.imports == ["a.csv", "a.csv"]


def test_once_takes_messages_that_only_its_function_sees(office: Office) -> None:
    """The annotation may name a class of the function around it, though annotations are text."""

    @message("once.local")
    class Local:
        number: int

    @once(office.bus.endpoint("numbers"), key="number", name="numbers")
    def count(m: Local, idempotency_key: str) -> None:
        office.importer.import_(str(m.number), idempotency_key)

    for number in (7, 7, 8):
        office.bus.publish(Local(number))
    office.run()
    assert office.importer.imports == ["7", "8"]


def test_once_called_calls_the_action_itself(office: Office) -> None:
    """A unit test of the action needs no bus, and records nothing."""
    import_file = importing(office)
    import_file(FilePublished("a.csv"), "some-key")
    assert office.importer.calls == [("a.csv", "some-key")]
    assert import_file.state(office.bus.documents, "a.csv") is None


# -- failures, time-outs, races -----------------------------------------------------------------------------------


def test_once_whose_action_fails_is_retried_with_the_same_idempotency_key(office: Office) -> None:
    """The message that has begun resumes it; the others stay out of it meanwhile."""
    import_file = importing(office)
    office.importer.failing = 2
    office.publish(*["a.csv"] * 20)
    for _ in range(3):
        office.run()
        office.later(timedelta(seconds=3))
    assert len(office.importer.calls) == 3
    assert office.importer.imports == ["a.csv"]
    state = import_file.state(office.bus.documents, "a.csv")
    assert state is not None
    assert (state.status, state.attempts) == (OnceStatus.DONE, 3)
    assert state.idempotency_key == office.importer.calls[0][1]


def give_up(office: Office) -> None:
    """Have the first notification of a.csv end as a dead letter."""
    office.importer.failing = 3
    office.publish("a.csv")
    for _ in range(3):
        office.run()
        office.later(timedelta(seconds=3))
    assert len(office.bus.store.dead()) == 1


def test_once_given_up_is_taken_over_when_its_time_is_over(office: Office) -> None:
    """A key whose message is a dead letter is not blocked for ever; nor is it done under another idempotency key."""
    import_file = importing(office, takeover_after=HOUR)
    give_up(office)
    office.publish(*["a.csv"] * 3)
    office.run()
    assert len(office.importer.calls) == 3, "taken over too soon"
    office.later(HOUR)
    office.publish(*["a.csv"] * 3)
    office.run()
    assert len(office.importer.calls) == 4
    assert office.importer.imports == ["a.csv"]
    state = import_file.state(office.bus.documents, "a.csv")
    assert state is not None
    assert state.status is OnceStatus.DONE


def test_once_given_up_without_takeover_waits_for_an_operator(office: Office) -> None:
    """None is never; who forgets a key that was only begun has it resumed with the same idempotency key."""
    import_file = importing(office, takeover_after=None)
    give_up(office)
    office.later(timedelta(days=365))
    office.publish("a.csv")
    office.run()
    assert len(office.importer.calls) == 3
    import_file.forget(office.bus.documents, "a.csv")
    office.publish("a.csv")
    office.run()
    assert len(office.importer.calls) == 4
    assert office.importer.imports == ["a.csv"]


def test_once_taken_over_while_the_owner_is_slow_says_its_messages_once(office: Office) -> None:
    """Both act with one idempotency key; the first to be done speaks for the key, and the other is silent."""
    announcing(office, takeover_after=HOUR)

    def meanwhile() -> None:
        office.later(HOUR)
        office.publish("a.csv")
        office.run()  # another worker takes it over and is done before this one goes on
        assert len(office.importer.calls) == 2

    office.importer.during = meanwhile
    office.publish("a.csv")
    office.run()
    assert office.importer.imports == ["a.csv"]
    assert len(office.heard) == 1


def test_once_delivered_twice_at_once_acts_with_one_idempotency_key(office: Office) -> None:
    """Nobody can tell a paused worker from a dead one: both copies act, and what they say has the same id."""
    import_file = announcing(office)

    def meanwhile() -> None:
        office.bus.publish(FilePublished("a.csv"), id="one")
        office.run()

    office.importer.during = meanwhile
    office.bus.publish(FilePublished("a.csv"), id="one")
    office.run()
    assert len(office.importer.calls) == 2
    assert office.importer.imports == ["a.csv"]
    assert len(office.heard) == 2
    assert len({id_ for id_, _ in office.heard}) == 1, "a saga would take it for two"
    state = import_file.state(office.bus.documents, "a.csv")
    assert state is not None
    assert (state.status, state.attempts) == (OnceStatus.DONE, 2)


# -- what the action says ----------------------------------------------------------------------------------------


def test_once_says_its_messages_when_it_is_done(office: Office) -> None:
    """One message for twenty notifications, and none of an attempt that failed."""
    announcing(office)
    office.importer.failing = 1
    office.publish(*["a.csv"] * 20)
    settle_over(office, timedelta(seconds=1))
    assert len(office.importer.calls) == 2
    assert [m.path for _, m in office.heard] == ["a.csv"]


def settle_over(office: Office, *pauses: timedelta) -> None:
    office.run()
    for pause in pauses:
        office.later(pause)
        office.run()


def test_once_whose_worker_died_before_its_messages_left_says_them_again(office: Office) -> None:
    """Between the mark and the sending a worker may die: the message comes again, and what it says is not lost."""
    announcing(office)
    for _ in range(2):
        office.bus.publish(FilePublished("a.csv"), id="one")
        office.run()
    assert len(office.importer.calls) == 2
    assert office.importer.imports == ["a.csv"]
    assert len(office.heard) == 2
    assert len({id_ for id_, _ in office.heard}) == 1, "a saga would take it for two"


def test_once_republished_under_its_old_id_a_year_later_does_nothing(office: Office) -> None:
    """What comes so late is no redelivery but a republication, whatever its sender calls it."""
    announcing(office)
    office.bus.publish(FilePublished("a.csv"), id="one")
    office.run()
    office.later(timedelta(days=365))
    office.bus.publish(FilePublished("a.csv"), id="one")
    office.run()
    assert len(office.importer.calls) == 1
    assert len(office.heard) == 1


def test_once_that_said_nothing_is_not_repeated_when_its_message_comes_again(office: Office) -> None:
    """There is nothing to be lost, so a copy of the message does nothing."""
    importing(office)
    for _ in range(2):
        office.bus.publish(FilePublished("a.csv"), id="one")
        office.run()
    assert len(office.importer.calls) == 1


@pytest.mark.parametrize("say", ["reply", "send", "publish"])
def test_once_says_everything_that_a_consumer_can(office: Office, say: str) -> None:
    """The third argument is a Context: replies and commands leave like events."""
    arguments: dict[str, Any] = {"send": {"to": "ledger"}}

    @once(office.bus.endpoint("imports"), key="path", name="import")
    def import_file(m: FilePublished, idempotency_key: str, context: Context) -> None:
        assert isinstance(context, Context)
        assert (context.endpoint, context.attempt) == ("imports", 1)
        assert context.message_id == "one"
        getattr(context, say)(FileImported(m.path, idempotency_key), **arguments.get(say, {}))

    office.bus.send(FilePublished("a.csv"), to="imports", id="one", reply_to="ledger")
    office.run()
    assert [m.path for _, m in office.heard] == ["a.csv"]


# -- operators ---------------------------------------------------------------------------------------------------


def test_forget_has_what_was_done_done_again_under_another_key(office: Office) -> None:
    """The service would recognise the old idempotency key and do nothing; a redo is a new round, and again once."""
    import_file = importing(office)
    office.publish("a.csv")
    office.run()
    record = import_file.forget(office.bus.documents, "a.csv")
    assert (record.status, record.round) == (OnceStatus.FORGOTTEN, 2)
    assert import_file.state(office.bus.documents, "a.csv") == record
    assert import_file.forget(office.bus.documents, "a.csv") == record, "twice is once"
    office.publish(*["a.csv"] * 20)
    office.run()
    assert office.importer.imports == ["a.csv", "a.csv"]
    assert len(office.importer.calls) == 2
    state = import_file.state(office.bus.documents, "a.csv")
    assert state is not None
    assert (state.status, state.round, state.attempts) == (OnceStatus.DONE, 2, 1)


def test_forget_of_a_key_that_was_never_begun_says_so(office: Office) -> None:
    """A misspelt key is an error, and not a redo of something else."""
    import_file = importing(office)
    assert import_file.state(office.bus.documents, "b.csv") is None
    with pytest.raises(DocumentNotFoundError, match=r"b\.csv"):
        import_file.forget(office.bus.documents, "b.csv")


def test_forget_while_an_attempt_goes_on_leaves_it_alone(office: Office) -> None:
    """What was begun meanwhile is not what the operator has looked at."""
    import_file = importing(office)
    office.publish("a.csv")
    office.run()
    documents = office.bus.documents
    key = import_file.document_key("a.csv")

    class Meanwhile:
        """Documents that somebody else changes between a look and a write."""

        def load(self, *args: Any) -> Any:
            found = documents.load(*args)
            documents.put(key, evolve(found.value, attempts=9), etag=found.etag)
            return found

        put = staticmethod(documents.put)

    with pytest.raises(ConcurrencyError):
        import_file.forget(Meanwhile(), "a.csv")  # type: ignore[arg-type]


def test_once_forgotten_while_it_is_at_work_marks_what_was_begun_as_done(office: Office) -> None:
    """An operator who forgets a running attempt frees the key; the attempt that ends is done, in the same round."""

    @once(office.bus.endpoint("imports"), key="path", name="import")
    def import_file(m: FilePublished, idempotency_key: str) -> None:
        office.importer.import_(m.path, idempotency_key)
        import_file.forget(office.bus.documents, m.path)

    office.publish("a.csv")
    office.run()
    state = import_file.state(office.bus.documents, "a.csv")
    assert state is not None
    assert (state.status, state.round) == (OnceStatus.DONE, 1)


def test_once_whose_record_was_lost_is_done_again_with_the_same_idempotency_key(office: Office) -> None:
    """A failover may lose the record: the key follows from what is announced, so the service sees through it."""
    import_file = importing(office)
    for _ in range(2):
        office.publish("a.csv")
        office.run()
        found = office.bus.documents.load(import_file.document_key("a.csv"), OnceRecord)
        assert found.etag is not None
        office.bus.documents.delete(found.key, found.etag)
    assert len(office.importer.calls) == 2
    assert office.importer.imports == ["a.csv"]


# -- keys --------------------------------------------------------------------------------------------------------


def test_keys_that_are_long_are_told_apart(office: Office) -> None:
    """A path of a thousand characters has a document of its own, and nobody can write another key that means it."""
    import_file = importing(office)
    long = "d/" * 500
    documents = {import_file.document_key(key) for key in (long + "a", long + "b", long)}
    names = {key.name for key in documents}
    assert len(names) == 3
    posing = names.pop().removeprefix("once/import/")
    assert import_file.document_key(posing) not in documents
    office.publish(*[long + "a", long + "b"] * 3)
    office.run()
    assert len(office.importer.calls) == 2


@given(st.lists(st.text(min_size=1), min_size=2, max_size=2, unique=True))
def test_keys_that_differ_have_documents_that_differ(keys: list[str]) -> None:
    """No two keys share a record."""
    action: Once[..., None] = Once(lambda m, k: None, "import", lambda m: m, None, wants_context=False)
    assert action.document_key(keys[0]) != action.document_key(keys[1])


@pytest.mark.parametrize("key", ["text", 7, uuid.UUID(int=7)])
def test_key_that_is_a_text_a_number_or_a_uuid_is_taken(office: Office, key: object) -> None:
    """The usual kinds of key."""
    importing(office, key=lambda m: key)
    office.publish("a.csv", "b.csv")
    office.run()
    assert len(office.importer.calls) == 1


@pytest.mark.parametrize("key", [None, "", True, 1.5, ("a", "b"), object()])
def test_key_that_may_be_another_text_next_time_is_a_dead_letter(office: Office, key: object) -> None:
    """Whatever has no lasting text is refused before anything is done."""
    importing(office, key=lambda m: key)
    office.publish("a.csv")
    settle_over(office, *[timedelta(seconds=3)] * 3)
    assert office.importer.calls == []
    (letter,) = office.bus.store.dead()
    assert "is no key. Give a text that is not empty, a whole number or a UUID" in letter.error


# -- definitions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"key": "pth"}, r"FilePublished has no field 'pth' .* Name one that it has \(path\), or give a function"),
        ({"key": ""}, "key='' is neither a field nor a function"),
        ({"key": 7}, "key=7 is neither a field nor a function. Write key='path'"),
        ({"name": ""}, "no name to keep keys under. Give a text of 1 to 100 characters without /"),
        ({"name": "a/b"}, "no name to keep keys under"),
        ({"name": None}, "no name to keep keys under"),
        ({"takeover_after": 60}, "takeover_after=60 is no time to wait. Write a timedelta over zero, or None"),
        ({"takeover_after": timedelta(0)}, "no time to wait"),
    ],
)
def test_once_with_arguments_that_cannot_work_says_the_mend(
    office: Office, options: dict[str, Any], problem: str
) -> None:
    """A mistake is found at import."""
    with pytest.raises(DefinitionError, match=problem):
        importing(office, **options)


def no_arguments() -> None: ...


def no_annotation(m, idempotency_key) -> None: ...  # type: ignore[no-untyped-def]


def no_class(m: Nowhere, idempotency_key: str) -> None: ...  # type: ignore[name-defined]  # noqa: F821


def no_message(m: str, idempotency_key: str) -> None: ...


def generic(m: list[int], idempotency_key: str) -> None: ...


def no_idempotency_key(m: FilePublished) -> None: ...


def keyword_only(m: FilePublished, *, idempotency_key: str) -> None: ...


def with_yield(m: FilePublished, idempotency_key: str) -> Iterator[None]:
    yield


@pytest.mark.parametrize(
    ("action", "problem"),
    [
        (no_arguments, "takes a message, an idempotency key and perhaps a Context. Write def no_arguments"),
        (no_annotation, "the message it takes is not annotated. Write m: MessageType"),
        (no_class, r"cannot be resolved \(name 'Nowhere' is not defined\). Write m: MessageType"),
        (no_message, "str'> is not a message. Decorate that class with @message"),
        (generic, r"annotated with list\[int\], which is no message class"),
        (no_idempotency_key, "takes a message, an idempotency key and perhaps a Context"),
        (keyword_only, "takes a message, an idempotency key and perhaps a Context"),
        (with_yield, "has a yield"),
        (functools.partial(no_message), "is no function with a name. Write it as a def"),
    ],
)
def test_once_on_a_function_that_cannot_act_says_the_mend(office: Office, action: Any, problem: str) -> None:
    """Whatever is decorated is looked at when it is decorated."""
    with pytest.raises(DefinitionError, match=problem):
        once(office.bus.endpoint("imports"), key=lambda m: m, name="import")(action)


def test_once_on_something_else_than_an_endpoint_says_the_mend(office: Office) -> None:
    """The bus is a likely slip."""
    with pytest.raises(DefinitionError, match=r"which is no endpoint\. Write @once\(bus\.endpoint"):
        once(office.bus, key="path", name="import")  # type: ignore[arg-type]


def test_once_twice_under_one_name_on_an_endpoint_is_refused(office: Office) -> None:
    """Each would keep the other from its keys."""
    importing(office)
    with pytest.raises(DefinitionError, match="another action on endpoint 'imports' is called 'import'"):

        @once(office.bus.endpoints["imports"], key="path", name="import")
        def index_file(m: FilePublished, idempotency_key: str) -> None: ...


# -- the rules, in every state -----------------------------------------------------------------------------------

RECORDS = st.builds(
    OnceRecord,
    status=st.sampled_from(OnceStatus),
    idempotency_key=st.sampled_from(["key-1", "key-2"]),
    message_id=st.sampled_from(["mine", "another"]),
    begun_at=st.sampled_from([NOW - HOUR, NOW - timedelta(minutes=1)]),
    attempts=st.integers(0, 3),
    round=st.integers(1, 3),
    has_said=st.booleans(),
)


@given(RECORDS, st.sampled_from([None, HOUR]))
def test_begin_keeps_the_idempotency_key_of_what_is_recorded(
    known: OnceRecord, takeover_after: timedelta | None
) -> None:
    """Whoever resumes or takes over does it under the key that was given out, in the same round, one attempt on."""
    record = begun(known, "first", "mine", NOW, takeover_after)
    if record is not None:
        assert (record.idempotency_key, record.round) == (known.idempotency_key, known.round)
        assert (record.message_id, record.begun_at, record.attempts) == ("mine", NOW, known.attempts + 1)


@given(RECORDS)
def test_begin_of_another_message_only_follows_a_time_out_or_an_operator(known: OnceRecord) -> None:
    """What is done stays done, and what is begun is left to who has begun it."""
    record = begun(known, "first", "third", NOW, HOUR)
    overdue = known.status is OnceStatus.BEGUN and known.begun_at == NOW - HOUR
    assert (record is not None) == (overdue or known.status is OnceStatus.FORGOTTEN)


@given(RECORDS, RECORDS)
def test_finish_never_takes_back_what_is_done(known: OnceRecord, mine: OnceRecord) -> None:
    """The first mark of a round stays, as does everything of later rounds; what a store has lost is written again."""
    mine = evolve(mine, status=OnceStatus.DONE)
    record = finished(known, mine)
    kept = known.round > mine.round or (known.round == mine.round and known.status is OnceStatus.DONE)
    assert (record is None) == kept
    assert finished(None, mine) == mine


@given(RECORDS)
def test_forget_gives_a_new_idempotency_key_only_to_what_is_done(known: OnceRecord) -> None:
    """What was only begun may have been counted already, so it goes on under its own."""
    record = forgotten(known, lambda count: f"key-of-{count}")
    assert record.status is OnceStatus.FORGOTTEN
    new = known.status is OnceStatus.DONE
    assert (record.idempotency_key != known.idempotency_key) == (record.round > known.round) == new
    assert begun(record, "first", "third", NOW, None) is not None
