"""A recorded saga as a pytest test: the text runs, passes, and fails where the code does something else."""

from __future__ import annotations

import ast
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from attrs import define, field

from sagabus import Bus, Encrypted, Saga, message, starts
from sagabus.definition import SagaDefinition
from sagabus.envelope import SagaKey
from sagabus.errors import ConfigurationError
from sagabus.observe.as_test import NoTestError, as_test, as_tests
from sagabus.observe.record import record
from sagabus.observe.recording import RecordingError
from sagabus.store.memory import MemoryStore
from sagabus.testing import PlayedOtherwiseError, play
from sagabus.testing.keys import fall_back_on_test_keys
from tests.changes import evolve
from tests.sagas_for_tests import End, Hand, Note, Tally, incoming, merge_message
from tests.unit import test_record as races
from tests.unit.test_record import KEY, Check, Today, score


@message("as-test.put")
class Put:
    vault: str
    secret: Encrypted[str]


@define
class VaultState:
    secrets: list[Encrypted[str]] = field(factory=list)


class Vault(Saga[VaultState], key="vault"):
    @starts
    def put(self, m: Put) -> None:
        self.state.secrets.append(m.secret)


bus = Bus(store="memory:", transport="memory:", retention=timedelta(days=7))
bus.endpoint("credit", Today, Tally, Vault)
HERE = f"{__name__}:bus"


def run(source: str, **names: Any) -> None:
    """Run the one test in *source*; *names* replace what it imports."""
    scope: dict[str, Any] = {}
    exec(compile(source, "generated", "exec"), scope)
    scope |= names
    (test,) = [value for name, value in scope.items() if name.startswith("test_")]
    test()


def definition(name: str = "Check") -> SagaDefinition:
    found = bus.saga(name)
    assert found is not None
    return found


@pytest.fixture
def hand() -> Hand:
    """Return a hand on a saga that has forked, merged, decided, and got a late score."""
    clock = iter(range(1_700_000_000_000, 1_800_000_000_000, 7))
    hand = Hand(MemoryStore(now_ms=lambda: next(clock)), definition())
    hand.handle(incoming(Check("42"), "start"))
    forked = hand.fork(score("a", 710), score("b", 690))
    hand.handle(merge_message(forked, "b"))
    hand.handle(score("c", 800))
    return hand


def test_as_test_of_a_race_runs_and_passes(hand: Hand) -> None:
    """Loads, commits, fork, merge and late message are steps, with what came of each."""
    source = as_test(definition(), record(hand.store, hand.key, HERE))
    assert "def test_check_42_as_recorded() -> None:" in source
    assert "Check/42 as it was recorded at " in source
    assert "5 commits, 1 fork, 1 merge; completed." in source
    assert '"messages": ["merge"]' in source
    assert '"outcome": "forked"' in source
    assert max(map(len, source.splitlines())) <= 120
    run(source)


def test_as_test_fails_where_the_code_does_something_else(hand: Hand) -> None:
    """It is a test: another threshold is another verdict."""
    source = as_test(definition(), record(hand.store, hand.key, HERE))
    other = Bus(store="memory:", transport="memory:")
    changed = type(Today)("Changed", (Today,), {"merged": None}, key="customer", merger=races.first, name="Check")
    other.endpoint("credit", changed)
    with pytest.raises(PlayedOtherwiseError, match="state"):
        run(source, bus=other)


def test_as_test_where_the_code_has_changed_already_expects_what_was_recorded(hand: Hand) -> None:
    """The comment says what comes now; the test fails until the code gives what it gave."""
    other = Bus(store="memory:", transport="memory:")
    other.endpoint(
        "credit", type(Today)("C", (Today,), {"threshold": 0}, key="customer", merger=races.first, name="Check")
    )
    changed = other.saga("Check")
    assert changed is not None
    source = as_test(changed, record(hand.store, hand.key, HERE))
    assert "# today's code differs here: state.scores" in source or "# today's code differs here: " in source
    with pytest.raises(PlayedOtherwiseError):
        run(source, bus=other)


def test_as_test_of_any_race_runs_and_passes() -> None:
    """Whatever the order of loads and commits, with timers, late messages, failovers and new lives."""
    made = 0
    for seed in range(120):
        store = races.chance(definition(), seed)
        if store.history(KEY):
            run(as_test(definition(), record(store, KEY, HERE)))
            made += 1
    assert made > 80


def test_as_test_of_a_later_life_begins_with_it() -> None:
    """What was before is over, and not part of the test."""
    limits = evolve(definition("Tally").limits, history=3)
    hand = Hand(MemoryStore(), evolve(definition("Tally"), limits=limits))
    for body, id_ in ((Note("a"), "1"), (End(), "2"), (Note("b"), "3"), (Note("c"), "4")):
        hand.handle(incoming(body, id_, saga=str(hand.key)))
    source = as_test(definition("Tally"), record(hand.store, hand.key, HERE))
    assert "life=2," in source
    run(source)


def test_as_tests_of_several_sagas_are_one_file(hand: Hand) -> None:
    """Imports once, and no two tests of one name."""
    saga = record(hand.store, hand.key, HERE)
    source = "".join(as_tests([(definition(), saga), (definition(), saga)]))
    scope: dict[str, Any] = {}
    exec(compile(source, "generated", "exec"), scope)
    tests = [name for name in scope if name.startswith("test_")]
    assert tests == ["test_check_42_as_recorded", "test_check_42_as_recorded_2"]
    assert source.count("import play") == 1
    for name in tests:
        scope[name]()


def test_as_test_of_a_trimmed_history_is_refused() -> None:
    """A test that begins in the middle would prove nothing."""
    limits = evolve(definition("Tally").limits, history=1)
    hand = Hand(MemoryStore(), evolve(definition("Tally"), limits=limits))
    for id_ in ("1", "2"):
        hand.handle(incoming(Note(id_), id_, saga=str(hand.key)))
    with pytest.raises(NoTestError, match="does not reach back"):
        as_test(definition("Tally"), record(hand.store, hand.key, HERE))


def test_as_test_cannot_be_made_to_run_what_a_message_says() -> None:
    """What comes from messages stands in literals and comments alone."""
    evil = '"""; import os; os.abort()  # \\'
    hand = Hand(MemoryStore(), definition("Tally"), id=evil)
    hand.put(hand.run(hand.load(), incoming(Note(evil), "1", saga=str(hand.key))), by="w\nraise SystemExit")
    source = as_test(definition("Tally"), record(hand.store, SagaKey("Tally", evil), HERE))
    run(source)
    statements = [type(node).__name__ for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)]
    assert statements == ["ImportFrom", "ImportFrom", "FunctionDef", "Expr", "Expr"]


def test_as_test_keeps_secrets_encrypted() -> None:
    """Messages and states hold ciphertext, the text says that it needs the keys, and with them it runs."""
    fall_back_on_test_keys()
    hand = Hand(MemoryStore(), definition("Vault"))
    hand.handle(incoming(Put("42", Encrypted("4111 1111")), "1"))
    source = as_test(definition("Vault"), record(hand.store, hand.key, HERE))
    assert "4111" not in source
    assert source.count('"encrypted:1:') == 2
    assert "# it holds encrypted values: run it with the keys" in source
    run(source)


# -- play --------------------------------------------------------------------------------------------------------

START = {"worker": "A", "do": "load", "messages": [{"id": "m1", "type": "record.check", "data": {"customer": "42"}}]}


def test_play_returns_what_happened_in_each_step() -> None:
    """So that a test may ask for more than a step expects."""
    loaded, committed = play(bus, "Check/42", [START, {"worker": "A", "do": "commit", "expect": "stored"}])
    assert loaded.outcome == ""
    assert [message.to for message in committed.released] == ["bureaus", "bureaus", "credit"]
    assert play(Today, "Check/42", [START])[0].commit.ids == ("m1",)


def test_play_names_the_step_that_differs_with_the_graph_so_far() -> None:
    """What was expected, and what came instead."""
    with pytest.raises(PlayedOtherwiseError) as caught:
        play(bus, "Check/42", [START, {"worker": "A", "do": "commit", "expect": {"completed": True}}])
    assert (caught.value.step, caught.value.differences) == (2, ("completed False instead of True",))
    assert "memory:1  record.check" in str(caught.value)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: play(bus, "None/42", []), ConfigurationError),
        (lambda: play(Today, "Tally/42", []), ConfigurationError),
        (lambda: play(bus, "Check/42", [{"worker": "A", "do": "commit"}]), RecordingError),
    ],
)
def test_play_of_what_cannot_be_is_refused(call: Callable[[], Any], error: type[Exception]) -> None:
    """The error says what to write instead."""
    with pytest.raises(error):
        call()
