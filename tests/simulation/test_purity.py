"""Purity: `explore` finds runs that depend on more than state and message, and lets alone what only looks like it."""

from __future__ import annotations

import datetime
import gc
import logging
import os
import random
import secrets
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pytest
import structlog
from attrs import define, field

from mergers import fieldwise, highest
from sagabus import Saga, handles, message, starts
from sagabus.errors import UnmergeableStateError
from sagabus.testing import explore
from tests.simulation.small_sagas import Add, Begin, Heard

START = [Begin()]


@message("purity.due")
class Due:
    pass


@define
class Text:
    said: Annotated[str, highest] = ""


def saga_that(does: Callable[[], Any], *, when: str = "handle") -> type[Saga[Text]]:
    """Return a saga that does something, and keeps what comes of it, in one of its methods."""

    class Doing(Saga[Text], key="order", merger=fieldwise(Text)):
        @starts
        def begun(self, m: Begin) -> None:
            if when == "handle":
                self.state.said = str(does())

        @handles
        def added(self, m: Add) -> None:
            pass

        def decide(self) -> None:
            if when == "decide":
                self.state.said = str(does())
            self.complete()

        def on_late(self, message: Any) -> None:
            if when == "on_late":
                self.send(Heard(str(does())), to="listeners")

    return Doing


def saga_merged_by(merger: Callable[[Any], Text]) -> type[Saga[Text]]:
    """Return a saga that keeps the last word by the alphabet, which is what its merger had better do, too."""

    class Merged(Saga[Text], key="order", merger=merger):
        @starts
        def begun(self, m: Begin) -> None:
            pass

        @handles
        def added(self, m: Add) -> None:
            self.state.said = max(self.state.said, m.word)

    return Merged


# A handler may be looked at through any of these; the last word of each is how the report names it.
IMPURE: list[tuple[Callable[[], Any], str]] = [
    (lambda: time.time(), "time.time()"),
    (lambda: time.time_ns(), "time.time_ns()"),
    (lambda: time.monotonic(), "time.monotonic()"),
    (lambda: time.perf_counter(), "time.perf_counter()"),
    (lambda: datetime.datetime.now(datetime.UTC), "datetime.now()"),
    (lambda: datetime.datetime.today(), "datetime.today()"),  # noqa: DTZ002 - that is the fault
    (lambda: datetime.date.today(), "date.today()"),  # noqa: DTZ011 - that is the fault
    (lambda: random.random(), "random.random()"),
    (lambda: random.choice("abcd"), "random.getrandbits()"),
    (lambda: random.randint(1, 9), "random.getrandbits()"),
    (lambda: uuid.uuid4(), "posix.urandom()"),
    (lambda: os.urandom(4), "posix.urandom()"),
    (lambda: secrets.token_hex(4), "posix.urandom()"),
]


@pytest.mark.parametrize("when", ["handle", "decide", "on_late"])
@pytest.mark.parametrize(("does", "called"), IMPURE, ids=[called for _, called in IMPURE])
def test_explore_of_a_saga_that_asks_a_clock_or_chance_is_impure(
    does: Callable[[], Any], called: str, when: str
) -> None:
    """Whichever it asks, and in whichever method: the report names the function that asked, and the mend."""
    saga = saga_that(does, when=when)
    failure = explore(saga, start=START, messages=[Add("a")]).failure
    assert failure is not None
    assert failure.kind == "impure"
    assert "<lambda> (line " in failure.problem
    assert f" calls {called}" in failure.problem
    assert "use self.now, or put it in a message" in failure.problem


def test_explore_of_a_clock_whose_answer_is_thrown_away_is_impure_all_the_same() -> None:
    """It makes no difference today: what is asked for is seen, not only what comes of it."""
    failure = explore(saga_that(lambda: time.time() and "always"), start=START).failure
    assert failure is not None
    assert failure.kind == "impure"


def test_explore_of_a_saga_that_logs_is_fine() -> None:
    """A log line has a time, and no effect."""
    log = logging.getLogger("tests.purity")
    log.addHandler(logging.NullHandler())
    stamped = structlog.wrap_logger(
        structlog.ReturnLogger(), processors=[structlog.processors.TimeStamper(), lambda *_: "said"]
    )

    def logs() -> str:
        log.warning("handled at %s", "once")
        stamped.info("handled")
        return "logged"

    for when in ("handle", "decide", "on_late"):
        explore(saga_that(logs, when=when), start=START, messages=[Add("a")]).assert_ok()


def test_explore_of_a_generator_with_a_seed_of_its_own_is_fine() -> None:
    """It draws the same every time."""
    explore(saga_that(lambda: random.Random(7).random()), start=START).assert_ok()
    explore(saga_that(lambda: random.Random(7).choice("abc")), start=START).assert_ok()
    explore(saga_that(lambda: datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC).isoformat()), start=START).assert_ok()


def test_explore_of_a_saga_that_uses_its_own_time_explores_time_too() -> None:
    """`self.now` may decide; a timer never comes before it is due."""

    class Deadline(Saga[Text], key="order"):
        @starts
        def begun(self, m: Begin) -> None:
            self.state.said = self.now.isoformat()
            self.defer(Due(), after=datetime.timedelta(hours=1))

        @handles
        def due(self, m: Due) -> None:
            waited = self.now - datetime.datetime.fromisoformat(self.state.said)
            self.publish(Heard(f"{waited}"))
            self.complete()

        @handles
        def added(self, m: Add) -> None:
            if self.now > datetime.datetime.fromisoformat(self.state.said):
                self.send(Heard("late in the day"), to="listeners")

    result = explore(
        Deadline,
        start=START,
        messages=[Add("a")],
        outcome=lambda moment: moment.sent,
        outcomes=[[Heard("1:00:00")], [Heard("late in the day"), Heard("1:00:00")]],
    ).assert_ok()
    assert result.complete
    assert len(result.outcomes) == 2
    told = explore(
        Deadline,
        start=START,
        messages=[Add("a")],
        outcome=lambda moment: moment.sent,
        outcomes=[[Heard("1:00:00")]],
    ).failure
    assert told is not None
    assert any("01:00:00.000" in line for line in told.graph.splitlines())


@define
class Shared:
    words: list[str] = field(default=[])


@pytest.fixture
def kept() -> Iterator[list[str]]:
    """Return a list outside of any saga."""
    words: list[str] = []
    yield words
    words.clear()


def test_explore_of_a_saga_that_keeps_something_elsewhere_comes_out_differently(kept: list[str]) -> None:
    """What a handler remembers in a module is found by handling the same message twice."""

    def remembers() -> str:
        kept.append("x")
        return f"{len(kept)} so far"

    failure = explore(saga_that(remembers), start=START).failure
    assert failure is not None
    assert failure.kind == "impure"
    assert "handled Begin(order='1', want=2) twice on the same state, and it came out differently" in failure.problem
    assert "first Text(said='1 so far'), then Text(said='" in failure.problem


def test_explore_of_a_saga_that_sends_something_else_each_time_says_what(kept: list[str]) -> None:
    """Where the state is the same and the messages are not, the messages are shown."""

    class Sends(Saga[Text], key="order"):
        @starts
        def begun(self, m: Begin) -> None:
            kept.append("x")
            self.send(Heard(str(len(kept))), to="listeners")

    failure = explore(Sends, start=START, must_end=False).failure
    assert failure is not None
    assert "first it sent [Heard(word='1')], then [Heard(word='" in failure.problem


def test_explore_of_a_saga_that_raises_now_and_then_is_impure(kept: list[str]) -> None:
    """To raise the first time only is to depend on something else."""

    def raises_once() -> str:
        kept.append("x")
        if len(kept) == 1:
            raise ValueError("not yet")
        return "done"

    failure = explore(saga_that(raises_once), start=START).failure
    assert failure is not None
    assert failure.kind == "impure"
    assert "once it decided or raised something else" in failure.problem


def test_explore_of_a_saga_that_keeps_something_on_its_class_is_impure() -> None:
    """Also where nothing comes of it yet, and where a base class of the user's holds it."""

    class Base(Saga[Text], key="order"):
        seen: list[str] = []  # noqa: RUF012 - that is the fault

    class Keeps(Base, key="order"):
        @starts
        def begun(self, m: Begin) -> None:
            self.seen.append(m.order)
            self.complete()

    failure = explore(Keeps, start=START).failure
    assert failure is not None
    assert failure.kind == "impure"
    assert "keeps something on its class while it handles Begin" in failure.problem


def test_explore_of_a_shared_default_is_impure() -> None:
    """A mutable default is one value for all sagas."""

    class Shares(Saga[Shared], key="order"):
        @starts
        def begun(self, m: Begin) -> None:
            self.state.words.append("x")
            self.complete()

    failure = explore(Shares, start=START).failure
    assert failure is not None
    assert failure.kind == "impure"
    assert "a default of Shared is shared by all sagas" in failure.problem
    assert "Use field(factory=...)" in failure.problem


def test_explore_under_a_profiler_still_compares_runs(kept: list[str]) -> None:
    """There is room for one profiler, and it stays; what comes out differently is found without."""

    def profiler(frame: Any, event: str, arg: Any) -> None:
        return None

    sys.setprofile(profiler)
    try:
        explore(saga_that(lambda: "the same"), start=START).assert_ok()
        failure = explore(saga_that(lambda: kept.append("x") or len(kept)), start=START).failure
        by_chance = explore(saga_that(uuid.uuid4), start=START).failure
        assert sys.getprofile() is profiler
    finally:
        sys.setprofile(None)
    assert failure is not None
    assert failure.kind == "impure"
    assert by_chance is not None
    assert by_chance.kind == "impure"


def test_explore_of_an_impure_merger_is_a_broken_law() -> None:
    """A merger is examined as one: it must give the same again."""

    def by_chance(siblings: Any) -> Text:
        return Text(str(uuid.uuid4()))

    class Guesses(Saga[Text], key="order", merger=by_chance):
        @starts
        def begun(self, m: Begin) -> None:
            pass

        @handles
        def added(self, m: Add) -> None:
            self.state.said = m.word

    failure = explore(Guesses, start=START, messages=[Add("a"), Add("b")], must_end=False).failure
    assert failure is not None
    assert failure.kind == "merger"


@pytest.mark.parametrize("laws", [True, False])
def test_explore_of_a_merger_that_asks_a_clock_is_impure_whatever_it_makes_of_the_time(laws: bool) -> None:
    """A merger is watched like a handler, also where what it makes is lawful, and where its laws are not looked at."""

    def timed(siblings: Any) -> Text:
        time.monotonic()
        return max(siblings, key=lambda text: text.said)

    failure = explore(
        saga_merged_by(timed), start=START, messages=[Add("a"), Add("b"), Add("c")], must_end=False, merger_laws=laws
    ).failure
    assert failure is not None
    assert failure.kind == "impure"
    assert "timed" in failure.problem
    assert "time.monotonic()" in failure.problem


def test_explore_of_a_merger_that_changes_its_mind_later_is_a_broken_law() -> None:
    """What a merger answers is remembered; each set of siblings that is reached is merged once more all the same."""
    asked: list[int] = []

    def fickle(siblings: Any) -> Text:
        asked.append(len(siblings))
        words = sorted({sibling.said for sibling in siblings})
        return Text(words[-1] if len(asked) < 40 else f"{words[-1]} of {len(asked)}")

    failure = explore(
        saga_merged_by(fickle), start=START, messages=[Add("a"), Add("b"), Add("c")], must_end=False, workers=3
    ).failure
    assert len(asked) > 40
    assert failure is not None
    assert failure.kind in ("merger", "impure")


def test_explore_of_a_merger_that_refuses_some_siblings_examines_the_runs_on_others() -> None:
    """What cannot be merged is told as such, and does not keep other runs from being examined."""

    def picky(siblings: Any) -> Text:
        if len({sibling.said for sibling in siblings} - {""}) > 1:
            raise UnmergeableStateError("two words")
        return max(siblings, key=lambda text: text.said)

    class Picky(Saga[Text], key="order", merger=picky):
        @starts
        def begun(self, m: Begin) -> None:
            pass

        @handles
        def added(self, m: Add) -> None:
            self.state.said = m.word

    failure = explore(Picky, start=START, messages=[Add("a"), Add("b")], must_end=False, serial_merges=False).failure
    assert failure is not None
    assert failure.kind == "unmergeable"


def test_explore_while_collections_are_measured_blames_nobody() -> None:
    """A callback of the garbage collector that asks a clock, as Hypothesis has one, is none of the saga's doing."""
    called: list[float] = []

    def measure(phase: str, info: dict[str, int]) -> None:
        called.append(time.perf_counter())

    thresholds = gc.get_threshold()
    gc.callbacks.append(measure)
    gc.set_threshold(5)
    try:
        explore(saga_that(lambda: len([[[]] for _ in range(500)])), start=START).assert_ok()
        assert called
        assert gc.isenabled()
    finally:
        gc.callbacks.remove(measure)
        gc.set_threshold(*thresholds)
