"""`once` in every order: notifications at once, workers that die anywhere, copies, and attempts that are taken over.

Sizes, in states that the search looks at: two notifications 30 plainly, 268 with a crash, 746 with a second delivery,
18,980 with both; three 179, 3,088 and 5,990. Where the action speaks: 306, 856, 27,504; 3,757 and 6,905. Where each may
take over from the other: two 100, 1,522 with a crash, 17,268 with a second delivery; three 11,594. Two, and an operator
who forgets: 378, 11,038 with a crash. `SAGABUS_RULES=whole` adds three with both mishaps (332,998, ten seconds) and the
operator with a second delivery (63,272).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from attrs import frozen

from sagabus import Bus, ConcurrencyError, Context, DocumentKey, Documents, message
from sagabus.errors import DocumentNotFoundError
from sagabus.testing import Exploration, Moment, explore
from sagas import Once, OnceRecord, OnceStatus, once
from tests.changes import evolve

PATH: Final = "a.csv"
WHOLE: Final = os.environ.get("SAGABUS_RULES") == "whole"
MODULE: Final = sys.modules["sagas.once.action"]  # of `sagas`, once is the decorator
LONG_AGO: Final = datetime(2001, 1, 1, tzinfo=UTC)


@message("once-explored.file-published")
class FilePublished:
    path: str
    by: str


@message("once-explored.file-imported")
class FileImported:
    path: str
    idempotency_key: str
    by: str


@frozen
class Asked:
    """What the importing service has written down: who asked, under which key."""

    idempotency_key: str
    by: str


def importing(*, speaks: bool = False) -> tuple[Bus, Once[..., None]]:
    """Return a bus with an import whose service keeps its book in documents: one for each key and caller."""
    bus = Bus(store="memory:")

    @once(bus.endpoint("imports"), key="path", name="import", takeover_after=timedelta(hours=1))
    def import_file(m: FilePublished, idempotency_key: str, context: Context) -> None:
        ask(m, idempotency_key, context)
        if speaks:
            context.publish(FileImported(m.path, idempotency_key, m.by))

    return bus, import_file


def ask(m: FilePublished, idempotency_key: str, context: Context) -> None:
    """Ask the service for an import."""
    context.documents.group("service").overwrite(f"{idempotency_key}/{m.by}", Asked(idempotency_key, m.by))


def asked(moment: Moment) -> list[Asked]:
    """Return who has asked the service so far."""
    return [moment.load(key, Asked).value for key in moment.document_keys if key.group == "service"]


def announced(moment: Moment) -> list[FileImported]:
    """Return what has been said of the file so far."""
    return [m for m in moment.released if isinstance(m, FileImported)]


def record_of(moment: Moment) -> OnceRecord:
    """Return what is recorded of the file."""
    found = moment.load(f"once/import/{PATH}", OnceRecord)
    assert found.exists, "nothing is recorded"
    return found.value


# -- what holds ----------------------------------------------------------------------------------------------------


def service_sees_one_idempotency_key(moment: Moment) -> bool:
    """Whatever happens, the service counts one import."""
    return len({entry.idempotency_key for entry in asked(moment)}) <= 1


def one_notification_acts(moment: Moment) -> bool:
    """The others do nothing, unless they take over."""
    return len(asked(moment)) <= 1


def import_is_done(moment: Moment) -> None:
    """In the end it is recorded as done, and the service was asked."""
    assert record_of(moment).status is OnceStatus.DONE
    assert asked(moment)
    assert not moment.dead


def service_was_asked(moment: Moment) -> bool:
    return bool(asked(moment))


def import_was_announced(moment: Moment) -> bool:
    """What the action said has left."""
    return record_of(moment).idempotency_key in {m.idempotency_key for m in announced(moment)}


def one_notification_speaks(moment: Moment) -> bool:
    """Also where several act: what is said of a file is said by one of them, so that its copies have equal ids."""
    return len({m.by for m in announced(moment)}) <= 1


def explored(bus: Bus, notifications: int, *, always: Any = (one_notification_acts,), **options: Any) -> Exploration:
    """Return what becomes of some notifications of one file, in every order and with every mishap of *options*."""
    return explore(
        bus,
        messages=[FilePublished(PATH, by=str(number)) for number in range(notifications)],
        always=[service_sees_one_idempotency_key, one_notification_speaks, *always],
        mode="exhaustive",
        **{"documents": {}, "finally_": [import_is_done], "outcome": lambda moment: "done"} | options,
    )


CASES: Final = [
    (2, {}),
    (2, {"crashes": 1}),
    (2, {"duplicates": 1}),
    (2, {"crashes": 1, "duplicates": 1}),
    (3, {}),
    (3, {"crashes": 1}),
    (3, {"duplicates": 1}),
]
if WHOLE:
    CASES.append((3, {"crashes": 1, "duplicates": 1, "max_states": 2_000_000}))


@pytest.mark.parametrize(("notifications", "circumstances"), CASES, ids=str)
def test_once_in_every_order_acts_for_one_notification(notifications: int, circumstances: dict[str, int]) -> None:
    """One of them acts, under one idempotency key, until it is done; the others do nothing, whoever dies when."""
    bus, _ = importing()
    assert explored(bus, notifications, **circumstances).assert_ok().complete


@pytest.mark.parametrize(("notifications", "circumstances"), CASES[:-1] if WHOLE else CASES[:6], ids=str)
def test_once_that_speaks_in_every_order_is_heard(notifications: int, circumstances: dict[str, int]) -> None:
    """What the action says leaves, wherever between its mark and the sending a worker dies."""
    bus, _ = importing(speaks=True)
    finally_ = [import_is_done, import_was_announced]
    assert explored(bus, notifications, finally_=finally_, **circumstances).assert_ok().complete


def test_once_with_an_async_action_is_the_same_in_every_order() -> None:
    """`async def` goes through the same steps."""
    bus = Bus(store="memory:")

    @once(bus.endpoint("imports"), key="path", name="import")
    async def import_file(m: FilePublished, idempotency_key: str, context: Context) -> None:
        ask(m, idempotency_key, context)

    result = explored(bus, 2, crashes=1).assert_ok()
    assert result.complete
    assert result.states == explored(importing()[0], 2, crashes=1).states


# -- attempts that are taken over ----------------------------------------------------------------------------------


def left_behind(action: Once[..., None], status: OnceStatus) -> dict[DocumentKey, OnceRecord]:
    """Return the record that a message which will never come again has left long ago, in the second round."""
    record = OnceRecord(status, "second-round", "given-up", LONG_AGO, round=2)
    return {action.document_key(PATH): record}


@pytest.mark.parametrize("status", [OnceStatus.BEGUN, OnceStatus.FORGOTTEN])
@pytest.mark.parametrize(("notifications", "circumstances"), CASES[:3] + CASES[4:6], ids=str)
def test_once_left_behind_is_resumed_by_one_notification(
    status: OnceStatus, notifications: int, circumstances: dict[str, int]
) -> None:
    """A time-out, or an operator who forgets it, frees the key for one notification, under the same idempotency key."""
    bus, action = importing(speaks=True)

    def is_resumed(moment: Moment) -> None:
        assert {entry.idempotency_key for entry in asked(moment)} == {"second-round"}
        assert record_of(moment).round == 2

    result = explored(
        bus,
        notifications,
        documents=left_behind(action, status),
        finally_=[import_is_done, import_was_announced, is_resumed],
        **circumstances,
    ).assert_ok()
    assert result.complete


@pytest.mark.parametrize(("notifications", "circumstances"), CASES[:6], ids=str)
def test_once_that_is_done_does_nothing_in_any_order(notifications: int, circumstances: dict[str, int]) -> None:
    """A republication asks nobody."""
    bus, action = importing(speaks=True)
    documents = left_behind(action, OnceStatus.DONE)
    result = explored(
        bus,
        notifications,
        documents=documents,
        always=[lambda moment: not asked(moment)],
        finally_=[lambda moment: record_of(moment) == documents[action.document_key(PATH)]],
        **circumstances,
    ).assert_ok()
    assert result.complete


def always_overdue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every notification find that the time of the attempt before it is over; each takes over once."""
    real = MODULE.begun

    def begun(known: OnceRecord | None, first_key: str, message_id: str, now: datetime, after: timedelta | None) -> Any:
        if known is not None and known.status is OnceStatus.BEGUN:
            known = evolve(known, begun_at=LONG_AGO)
        return real(known, first_key, message_id, now, after)

    monkeypatch.setattr(MODULE, "begun", begun)


@pytest.mark.parametrize(("notifications", "circumstances"), [*CASES[:3], CASES[4]], ids=str)
def test_once_taken_over_from_slow_owners_keeps_one_idempotency_key(
    notifications: int, circumstances: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where everybody is too slow, several act, all under one key; the record is done and one of them is heard."""
    always_overdue(monkeypatch)
    bus, _ = importing(speaks=True)
    finally_ = [import_is_done, import_was_announced]
    assert explored(bus, notifications, always=[], finally_=finally_, **circumstances).assert_ok().complete


# -- an operator ---------------------------------------------------------------------------------------------------


@message("once-explored.forget")
class Forget:
    path: str


def a_key_for_each_round(moment: Moment) -> bool:
    """The service sees another idempotency key only after something done was forgotten."""
    found = moment.load(f"once/import/{PATH}", OnceRecord)
    return not found.exists or len({entry.idempotency_key for entry in asked(moment)}) <= found.value.round


def is_done_or_forgotten(moment: Moment) -> None:
    """Nothing is left begun."""
    assert record_of(moment).status is not OnceStatus.BEGUN


@pytest.mark.parametrize(("notifications", "circumstances"), CASES[: 3 if WHOLE else 2], ids=str)
def test_forget_among_notifications_gives_a_key_to_each_round(
    notifications: int, circumstances: dict[str, int]
) -> None:
    """Whenever an operator comes, also while attempts go on: what is done twice was done, forgotten, and done anew."""
    bus, action = importing()

    @bus.endpoint("operators").consumer
    def forget(m: Forget, context: Context) -> None:
        with suppress(DocumentNotFoundError):
            action.forget(context.documents, m.path)

    result = explore(
        bus,
        messages=[*(FilePublished(PATH, by=str(number)) for number in range(notifications)), Forget(PATH)],
        documents={},
        always=[a_key_for_each_round],
        finally_=[is_done_or_forgotten, service_was_asked],
        outcome=lambda moment: "done",
        mode="exhaustive",
        **circumstances,
    ).assert_ok()
    assert result.complete


# -- what others would write ---------------------------------------------------------------------------------------


def looking(m: FilePublished, context: Context) -> None:
    """Look whether it is begun, and begin: nothing keeps another from doing the same in between."""
    if not context.documents.load("begun", Asked).exists:
        context.documents.put("begun", Asked("key", m.by))
        ask(m, "key", context)


def marking_first(m: FilePublished, context: Context) -> None:
    """Begin as only one can, and never come back to it."""
    try:
        context.documents.create("begun", Asked("key", m.by))
    except ConcurrencyError:
        return
    ask(m, "key", context)


def bus_of(consumer: Callable[[FilePublished, Context], None]) -> Bus:
    bus = Bus(store="memory:")
    bus.endpoint("imports").consumer(consumer)
    return bus


def test_look_before_the_write_acts_for_two_notifications() -> None:
    """The explorer finds the race that `once` is there for: two looks, then two imports."""
    failure = explored(bus_of(looking), 2, finally_=[service_was_asked]).failure
    assert failure is not None
    assert failure.kind == "invariant"
    assert "one_notification_acts" in failure.problem


def test_mark_without_a_way_back_loses_the_import_of_a_worker_that_dies() -> None:
    """Only one creates the document, but a crash after that leaves the file unimported for ever."""
    assert explored(bus_of(marking_first), 2, finally_=[service_was_asked]).ok
    failure = explored(bus_of(marking_first), 2, finally_=[service_was_asked], crashes=1).failure
    assert failure is not None
    assert failure.kind == "finally"
    assert "service_was_asked" in failure.problem


Mutation = Callable[[pytest.MonkeyPatch], None]


def forgets_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write without an etag."""
    real = Documents.put
    monkeypatch.setattr(Documents, "put", lambda self, key, value, *, etag: real(self, key, value))


def overwrites(monkeypatch: pytest.MonkeyPatch) -> None:
    """Overwrite where it should create."""
    monkeypatch.setattr(Documents, "put", lambda self, key, value, *, etag: self.overwrite(key, value))


def makes_a_key_for_each_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give out an idempotency key that does not outlive the attempt."""
    real = MODULE.begun

    def begun(known: Any, first_key: str, message_id: str, *rest: Any) -> Any:
        record = real(known, first_key, message_id, *rest)
        return record and evolve(record, idempotency_key=f"{message_id}-{record.attempts}")

    monkeypatch.setattr(MODULE, "begun", begun)


def drops_what_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take what is done for what was heard."""
    real = MODULE.begun

    def begun(known: OnceRecord | None, *rest: Any) -> Any:
        return real(evolve(known, has_said=False) if known else None, *rest)

    monkeypatch.setattr(MODULE, "begun", begun)


def resumes_for_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every notification for the owner come again."""
    real = MODULE.begun

    def begun(known: OnceRecord | None, first_key: str, message_id: str, *rest: Any) -> Any:
        return real(evolve(known, message_id=message_id) if known else None, first_key, message_id, *rest)

    monkeypatch.setattr(MODULE, "begun", begun)


@pytest.mark.parametrize(
    "mutation",
    [forgets_to_compare, overwrites, makes_a_key_for_each_attempt, drops_what_was_said, resumes_for_anybody],
)
def test_once_without_one_of_its_rules_is_broken_by_some_order(
    mutation: Mutation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rule is needed: without it two notifications and one crash are enough to break a promise."""
    mutation(monkeypatch)
    bus, _ = importing(speaks=True)
    assert not explored(bus, 2, finally_=[import_is_done, import_was_announced], crashes=1).ok


def test_once_that_speaks_for_another_is_heard_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an attempt was taken over, only who has marked the key as done may speak."""
    always_overdue(monkeypatch)
    bus, _ = importing(speaks=True)
    assert explored(bus, 2, always=[], finally_=[import_is_done]).ok
    real = Once._finish
    monkeypatch.setattr(Once, "_finish", lambda *args: real(*args) or True)
    failure = explored(bus, 2, always=[], finally_=[import_is_done]).failure
    assert failure is not None
    assert "one_notification_speaks" in failure.problem
