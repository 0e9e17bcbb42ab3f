"""What is logged, and how it looks; users' own lines say what they were handling."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from attrs import define

from sagabus import Bus, Context, MergeSagaState, RetryPolicy, Saga, handles, message, starts
from sagabus.advance import advance
from sagabus.commit import Lifecycle, Snapshot, StoredVersion, Want
from sagabus.definition import definition_of
from sagabus.envelope import Incoming, SagaKey, encode, wrap
from sagabus.observe.handling import Handling, add_handling, handling
from sagabus.observe.log import configure, get_logger, redact_event
from sagabus.versions import Dot
from tests.changes import evolve
from tests.integration.apps import put


@message("log.begin")
class Begin:
    key: str


@message("log.change")
class Change:
    key: str
    to: int = 0


@define
class State:
    value: int = 0


class Logged(Saga[State], key="key", merger=lambda siblings: max(siblings, key=lambda s: s.value)):
    @starts
    def begun(self, m: Begin) -> None: ...

    @handles
    def changed(self, m: Change) -> None:
        structlog.get_logger("mine").info("changing", to=m.to)
        logging.getLogger("plain").warning("changing too")
        if m.to < 0:
            raise ValueError("no")
        if m.to > 100:
            self.complete()
        self.state.value = m.to


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def bus() -> Bus:
    made = Bus(store="memory:", transport="memory:")
    made.endpoint("e", Logged, max_attempts=1, early=RetryPolicy(1))
    return made


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_every_message_has_one_event_that_says_what_became_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    """At DEBUG, with saga, id, type and outcome."""
    configure(level="DEBUG", as_json=True)
    one = bus()
    ids = [one.send(Begin("1"), to="e"), one.send(Change("1", 2), to="e")]
    one.worker(name="w").run_until_idle()
    handled = [line for line in lines(capsys) if line["event"] == "handled"]
    assert [line["message_id"] for line in handled] == ids
    for line in handled:
        assert (line["saga"], line["outcome"], line["level"]) == ("Logged/1", "stored", "debug")
        assert (line["endpoint"], line["worker"]) == ("e", "w")
        assert line["timestamp"].endswith("Z")


def test_messages_that_no_handler_of_a_saga_ran_for_have_their_event_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Consumed by a consumer, a copy of one handled before, or a timer that nobody waits for: each says so."""
    configure(level="DEBUG", as_json=True)
    one = bus()
    consumed = one.endpoint("c")

    @consumed.consumer
    def changed(m: Change) -> None: ...

    one.send(Begin("1"), to="e", id="begin")
    one.send(Change("1", 1), to="c", id="for the consumer")
    one.worker().run_until_idle()
    one.send(Begin("1"), to="e", id="begin")
    stale = wrap(Change("1", 2), id="stale", source="/e", now_ms=0, saga="Logged/1", sagalife=1, timer="gone")
    put(one, "e", encode(stale))
    one.worker().run_until_idle()
    handled = [(line["message_id"], line["outcome"]) for line in lines(capsys) if line["event"] == "handled"]
    assert sorted(handled) == [
        ("begin", "duplicate"),
        ("begin", "stored"),
        ("for the consumer", "consumed"),
        ("stale", "stale"),
    ]


class Talkative(Saga[State], key="key", merger=lambda siblings: siblings[0]):
    @starts
    def begun(self, m: Begin) -> None: ...

    @handles
    def merged(self, m: MergeSagaState) -> None:
        structlog.get_logger("mine").info("merging")

    def decide(self) -> None:
        structlog.get_logger("mine").info("deciding")

    def on_late(self, m: Any) -> None:
        structlog.get_logger("mine").info("late indeed")


def test_lines_of_every_hook_carry_saga_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    """Not only in message handlers: in `decide`, on a merge, and for a late message as well."""
    configure(level="INFO", as_json=True)
    definition = definition_of(Talkative)
    key = SagaKey("Talkative", "1")
    state = definition.codec.encode(State())
    begin = Incoming(wrap(Begin("1"), id="begin", source="/t", now_ms=0))
    siblings = tuple(StoredVersion(Dot("a", n), {}, state) for n in (1, 2))
    live = Snapshot(key, 0, Lifecycle.LIVE, 1, {"a": 2}, siblings)
    advance(definition, live, [begin])
    advance(definition, evolve(live, lifecycle=Lifecycle.COMPLETED), [begin])
    said = [(line["event"], line["saga"], line["message_id"]) for line in lines(capsys)]
    assert said == [(what, "Talkative/1", "begin") for what in ("merging", "deciding", "late indeed")]


def test_what_people_must_know_is_logged_at_info_or_above(capsys: pytest.CaptureFixture[str]) -> None:
    """Forks, merges, late messages, retries and dead letters are there without asking; plain handling is not."""
    configure(level="INFO", as_json=True)
    one = bus()
    one.send(Begin("1"), to="e")
    one.worker().run_until_idle()
    definition = one.saga("Logged")
    assert definition is not None
    (snapshot,) = one.store.load([Want(SagaKey("Logged", "1"))])
    ahead = Incoming(wrap(Change("1", 5), id="ahead", source="/t", now_ms=0))
    worker = one.worker()
    real = one.store.commit

    def overtaken(commits: Any, *, by: str) -> Any:
        one.store.commit = real  # type: ignore[method-assign]
        one.store.commit([advance(definition, snapshot, [ahead])], by="other")  # type: ignore[arg-type]
        return real(commits, by=by)

    one.store.commit = overtaken  # type: ignore[method-assign]
    one.send(Change("1", 3), to="e")
    worker.run_until_idle()
    one.send(Change("1", -1), to="e")
    one.send(Change("nobody", 1), to="e")
    one.send(Change("1", 101), to="e")
    worker.run_until_idle()
    one.send(Change("1", 4), to="e")
    worker.run_until_idle()
    events = [(line["event"], line["level"]) for line in lines(capsys) if "worker" in line]
    for event in (("forked", "info"), ("merged", "info"), ("late", "info"), ("dead-lettered", "error")):
        assert event in events
    assert "handled" not in dict(events)


def test_run_that_is_made_again_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """A serial saga that was overtaken says so, with the reason."""
    configure(level="INFO", as_json=True)

    class Serial(Saga[State], key="key"):
        @starts
        def begun(self, m: Begin) -> None: ...

        @handles
        def changed(self, m: Change) -> None:
            self.state.value += m.to

    one = Bus(store="memory:", transport="memory:")
    one.endpoint("e", Serial)
    one.send(Begin("1"), to="e")
    worker = one.worker()
    worker.run_until_idle()
    definition = one.saga("Serial")
    assert definition is not None
    (snapshot,) = one.store.load([Want(SagaKey("Serial", "1"))])
    real = one.store.commit

    def overtaken(commits: Any, *, by: str) -> Any:
        one.store.commit = real  # type: ignore[method-assign]
        other = Incoming(wrap(Change("1", 5), id="other", source="/t", now_ms=0))
        real([advance(definition, snapshot, [other])], by="other")  # type: ignore[arg-type]
        return real(commits, by=by)

    one.store.commit = overtaken  # type: ignore[method-assign]
    one.send(Change("1", 3), to="e")
    worker.run_until_idle()
    (again,) = [line for line in lines(capsys) if line["event"] == "again"]
    assert (again["saga"], again["reason"], again["level"]) == ("Serial/1", "settle", "info")
    assert worker.lanes[0].tally.again == {"settle": 1}


def test_lines_of_the_user_say_what_was_being_handled(capsys: pytest.CaptureFixture[str]) -> None:
    """Through structlog or the standard library, in sagas and in consumers."""
    configure(level="INFO", as_json=True)
    one = bus()
    consumer = one.endpoint("c")

    @consumer.consumer
    def begun(m: Begin, context: Context) -> None:
        logging.getLogger("plain").info("in a consumer", extra={"more": 1})

    change = [one.send(Begin("1"), to="e"), one.send(Change("1", 2), to="e")][1]
    begin = one.send(Begin("1"), to="c")
    one.worker().run_until_idle()
    mine = {line["event"]: line for line in lines(capsys)}
    for event in ("changing", "changing too"):
        assert (mine[event]["saga"], mine[event]["message_id"]) == ("Logged/1", change)
        assert mine[event]["message_type"] == "log.change"
    assert (mine["in a consumer"]["message_id"], mine["in a consumer"]["endpoint"]) == (begin, "c")
    assert mine["in a consumer"]["more"] == 1
    assert handling.get() is None, "nothing is being handled any more"


def test_lines_are_for_people_unless_json_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Key-value pairs on stderr; nothing on stdout, which is for data."""
    configure(level="WARNING", color=False)
    get_logger().info("not shown")
    get_logger().warning("shown", number=3)
    logging.getLogger("plain").error("shown too")
    captured = capsys.readouterr()
    assert captured.out == ""
    first, second = captured.err.splitlines()
    assert "[warning  ] shown" in first
    assert "number=3" in first
    assert "shown too" in second
    assert "\x1b[" not in captured.err


def test_exception_in_a_line_has_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """In JSON too, as one field."""
    configure(level="INFO", as_json=True)
    try:
        raise ValueError("broken")
    except ValueError:
        get_logger().exception("oops")
    (line,) = lines(capsys)
    assert "ValueError: broken" in line["exception"]


def test_what_a_line_says_itself_outranks_what_is_being_handled() -> None:
    """A user's `saga=` is the user's."""
    token = handling.set(Handling("Saga/1", "m", "t", ""))
    try:
        event = add_handling(None, "info", {"saga": "mine"})
    finally:
        handling.reset(token)
    assert event == {"saga": "mine", "message_id": "m", "message_type": "t"}


def test_many_siblings_are_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    """From a fifth of the limit on somebody should look."""
    configure(level="WARNING", as_json=True)
    one = bus()
    one.send(Begin("1"), to="e")
    one.worker().run_until_idle()
    definition = one.saga("Logged")
    assert definition is not None
    (snapshot,) = one.store.load([Want(SagaKey("Logged", "1"))])
    for n in range(4):
        message_ = Incoming(wrap(Change("1", n + 1), id=f"n{n}", source="/t", now_ms=0))
        one.store.commit([advance(definition, snapshot, [message_])], by="t")
    capsys.readouterr()
    real = one.store.load

    def stale(wants: Any, noting: Any = None) -> Any:
        one.store.load = real  # type: ignore[method-assign]
        return [snapshot]

    one.store.load = stale  # type: ignore[method-assign]
    put(one, "e", encode(wrap(Change("1", 9), id="n9", source="/t", now_ms=0)))
    one.worker().run_until_idle()
    (warning,) = [line for line in lines(capsys) if line["event"] == "many-siblings"]
    assert (warning["live"], warning["limit"]) == (5, 25)


def test_logger_that_nobody_set_up_says_warnings_on_stderr_and_nothing_on_stdout(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A worker inside somebody's program leaves stdout to the program, and is silent while all is well."""
    structlog.reset_defaults()
    log = get_logger()
    log.debug("handled")
    log.info("forked")
    log.warning("retrying", attempt=1)
    written = capsys.readouterr()
    assert written.out == ""
    assert "retrying" in written.err
    assert "forked" not in written.err


CANARY = "c4n4ry"


class Connected:
    """Something that users log, with a repr that says too much."""

    def __repr__(self) -> str:
        return f"Connected('amqp://u:{CANARY}@host//')"


@pytest.mark.parametrize("as_json", [True, False])
def test_credentials_are_in_no_line(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """In the event, in any value, in a traceback or among the variables of its frames; ours and users' lines alike."""
    configure(level="INFO", as_json=as_json, color=False)
    url = f"redis://u:{CANARY}@host:6379/0"
    get_logger().warning(f"lost {url}", url=url, urls=[url, {"a": url}], password=CANARY, thing=Connected())
    logging.getLogger("plain").error("lost %s", url, extra={"ssl_password": CANARY})
    try:
        raise ConnectionError(f"Error 111 connecting to {url}")
    except ConnectionError:
        get_logger().exception("oops")
        logging.getLogger("plain").exception("oops too")
    said = capsys.readouterr().err
    assert CANARY not in said
    assert said.count("host:6379/0") >= 4
    assert said.count("Traceback (most recent call last)") == 2


def test_redacting_leaves_what_is_no_secret_as_it_is() -> None:
    """Numbers stay numbers, and an object whose repr says nothing is passed on to whatever renders it."""
    thing = object()
    event = {"n": 1, "flag": None, "list": ["a", 2.0], "thing": thing, "token": 7}
    assert redact_event(None, "info", dict(event)) == event


def test_logger_that_nobody_set_up_shows_no_credentials_either(capsys: pytest.CaptureFixture[str]) -> None:
    """A worker inside somebody's program, whose logs are set up otherwise or not at all."""
    structlog.reset_defaults()
    try:
        raise ConnectionError(f"redis://:{CANARY}@host")
    except ConnectionError:
        get_logger().exception("oops", at=f"redis://:{CANARY}@host")
    said = capsys.readouterr().err
    assert CANARY not in said
    assert "ConnectionError: redis://***@host" in said
