"""Reports: the trace, the versions, a token and a test to paste, the same in every process."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from attrs import define

from sagabus import Bus, Saga, message, starts
from sagabus.store import memory
from sagabus.testing import ExplorationError, explore
from sagabus.testing.simulator.report import Failure
from sagabus.testing.simulator.schedule import token_of
from sagabus.testing.simulator.telling import SimulatorError
from sagabus.testing.simulator.wording import say
from tests.simulation import report_app
from tests.simulation.report_app import PAINT, Painted, Painting, never_five
from tests.simulation.small_sagas import Add, Begin, Collect, Exact, Words, words_of

THREE = [Add("a"), Add("b"), Add("c")]


def failing(*args: Any, **kwargs: Any) -> Failure:
    """Return the failure that an exploration finds."""
    failure = explore(*args, **kwargs).failure
    assert failure is not None
    return failure


def pasted(failure: Failure) -> Any:
    """Return the test function that a report ends with."""
    names: dict[str, Any] = {}
    exec(failure.test, names)
    (test,) = (value for name, value in names.items() if name.startswith("test_"))
    return test


def test_report_has_the_problem_the_trace_the_versions_the_token_and_a_test() -> None:
    """All that a failure knows stands in its report, in this order."""
    failure = failing(Exact, start=[Begin()], messages=THREE, outcomes=[words_of("a", "b")])
    report = failure.report
    places = [
        report.index(f"{failure.kind}: {failure.problem}"),
        report.index("the shortest schedule that shows it, of "),
        *(report.index(f"{number:>4}  {line}") for number, line in enumerate(failure.trace, 1)),
        report.index("the versions:"),
        report.index(f'to see it again: explore(..., replay="{failure.token}")'),
        report.index("as a test:"),
    ]
    assert places == sorted(places)
    assert len(failure.trace) == len(failure.events)
    for line in failure.graph.splitlines():
        assert line in report
    for line in failure.test.splitlines():
        assert line in report


def test_report_of_several_sagas_names_each_graph() -> None:
    """Where versions of two sagas are drawn, each graph has its saga above it."""
    failure = failing(Collect, start=[Begin("1", want=1), Begin("2", want=1)], messages=[Add("a")])
    assert failure.kind == "stuck"
    assert {"Collect/1", "Collect/2"} <= set(failure.graph.splitlines())


def test_report_reads_the_same_in_every_process() -> None:
    """Sets are sorted and names do not depend on hashes: two processes with other seeds print the same text."""
    root = Path(report_app.__file__).parents[2]
    texts = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)}
        done = subprocess.run(
            [sys.executable, "-m", report_app.__name__],
            env=environment,
            cwd=root,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        texts.append(done.stdout)
    assert "{'alpha', 'beta'}" in texts[0]
    assert texts[0] == texts[1]


def test_report_of_a_bus_pastes_a_test_that_runs() -> None:
    """Enums, datetimes, decimals, nested values, and a bus by the name that it has in its module."""
    failure = failing(report_app.bus, start=[PAINT], always=[never_five], outcomes=[ANY])
    assert failure.kind == "invariant"
    assert "never_five does not hold: too many of ['alpha', 'beta', " in failure.problem
    assert "def test_bus_keeps_its_invariants()" in failure.test
    assert "Colour.BLUE" in failure.test
    assert "from unittest.mock import ANY" in failure.test
    assert "frozenset({'alpha', 'beta'})" in failure.test
    with pytest.raises(ExplorationError) as caught:
        pasted(failure)()
    assert caught.value.failure.problem == failure.problem
    assert caught.value.failure.trace == failure.trace


def test_report_of_outcomes_with_messages_pastes_a_test_that_runs() -> None:
    """Also where the outcomes came from an iterator, that is at its end by now."""
    start, messages = [PAINT], [Painted({"x"}), Painted({"y"}), Painted({"z"})]
    outcomes = iter([[Painted({"alpha", "beta", "x", "y"})]])
    failure = failing(Painting, start=start, messages=messages, outcomes=outcomes)
    assert "Painted(words={'alpha', 'beta', 'x', 'y'})" in failure.test
    with pytest.raises(ExplorationError) as caught:
        pasted(failure)()
    assert caught.value.failure.kind == failure.kind
    assert caught.value.failure.trace == failure.trace


def test_report_of_a_set_of_outcomes_names_them_in_an_order_that_lasts() -> None:
    """A set is ordered anew in every process; the report is not."""
    counts = frozenset({"three", "one", "two", "four", "five"})
    failure = failing(Collect, start=[Begin()], messages=THREE, outcome=lambda moment: "none", outcomes=counts)
    assert failure.problem.endswith("and only 'five' or 'four' or 'one' or 'three' or 'two' may be")


def test_report_of_several_sagas_pastes_a_test_that_runs() -> None:
    """A list of classes is a list of their names; the test is called after the first."""
    failure = failing([Exact, Collect], start=[Begin()], messages=THREE)
    assert "def test_exact_" in failure.test
    with pytest.raises(ExplorationError):
        pasted(failure)()


def test_report_of_what_has_no_name_says_what_to_give_again() -> None:
    """A lambda cannot be written down, nor a class inside a function imported; what is pasted is Python still."""

    @message("reports.local")
    class Local:
        order: str

    @define
    class LocalState:
        word: str = ""

    class Locally(Saga[LocalState], key="order"):
        @starts
        def begun(self, m: Local) -> None:
            pass

    failure = failing(Locally, start=[Local("1")], must_end=False, finally_=[lambda moment: False])
    ast.parse(failure.test)
    assert "Locally,\n" in failure.test
    assert "Local(order='1')," in failure.test
    assert re.search("# finally_= is to be given again: it has no name of its own", failure.test)
    assert "<lambda> does not hold" in failure.problem


def test_report_of_a_bus_without_a_name_calls_it_bus() -> None:
    """A bus that stands in no module cannot be imported."""
    bus = Bus(store="memory:", transport="memory:")
    bus.endpoint("houses", Painting)
    failure = failing(bus, start=[PAINT])
    ast.parse(failure.test)
    assert "        bus,\n" in failure.test


def test_report_of_search_settings_keeps_them_in_the_test() -> None:
    """What was given and is not the default is given again."""
    failure = failing(Exact, start=[Begin()], messages=THREE, workers=3, resends=1, max_states=5_000)
    for said in ("workers=3,", "resends=1,", "max_states=5000,"):
        assert said in failure.test
    assert "batch" not in failure.test


def test_simulator_error_says_that_search_and_store_disagree(monkeypatch: pytest.MonkeyPatch) -> None:
    """A schedule is played on a real store once more; where that does something else, it is a bug of sagabus."""
    apply_commit = memory.apply_commit

    def forgetful(record: Any, commit: Any, **more: Any) -> Any:
        return apply_commit(None if record is not None and len(record.versions.live) == 1 else record, commit, **more)

    monkeypatch.setattr(memory, "apply_commit", forgetful)
    with pytest.raises(SimulatorError, match=r"step \d+ came out as \w+ .*in the search and as .*on the store"):
        explore(Exact, start=[Begin()], messages=THREE)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"b", "a"}, "{'a', 'b'}"),
        (frozenset({2, 1}), "frozenset({1, 2})"),
        (set(), "set()"),
        ([{"b", "a"}], "[{'a', 'b'}]"),
        (({"b", "a"},), "({'a', 'b'},)"),
        ((1, 2), "(1, 2)"),
        ({"k": {"b", "a"}}, "{'k': {'a', 'b'}}"),
        (Words(1, {"b", "a"}), "Words(want=1, words={'a', 'b'})"),
        (None, "None"),
    ],
)
def test_say_of_a_value_is_its_source_with_sets_sorted(value: Any, said: str) -> None:
    """As `repr`, but the same in every process."""
    assert say(value) == said


def test_say_of_a_class_with_a_repr_of_its_own_uses_that() -> None:
    """Who has written one knows why; and a value that holds itself has an end."""

    @define
    class Own:
        secret: str

        def __repr__(self) -> str:
            return "Own(...)"

    assert say(Own("x")) == "Own(...)"
    endless: list[Any] = []
    endless.append(endless)
    assert say(endless) == "[...]"


def test_replay_of_the_plain_schedule_tells_it() -> None:
    """A token without steps is handling one message after the other."""
    result = explore(Collect, start=[Begin()], messages=THREE[:2], replay=token_of(()))
    assert result.assert_ok().mode == "replay"
    assert result.trace[-1] == (
        "A commits: stored v:3 = Words(want=2, words={'a', 'b'}); "
        "decides Collected(order='1', words=['a', 'b']); completed"
    )
