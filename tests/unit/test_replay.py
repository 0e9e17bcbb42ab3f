"""Recordings and their replay: the format, what each step does, and what is expected of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from sagabus import Bus, Saga, handles, message, starts
from sagabus.app import load_app
from sagabus.commit import Lifecycle
from sagabus.envelope import SagaKey
from sagabus.observe.recording import RecordingError, parse
from sagabus.observe.replay import Happened, Replay, type_of_outgoing

HEAD = '{"sagabus-replay": 1, "app": "some.app:bus", "saga": "Vote/7"}'
RACE = Path(__file__).parents[2] / "examples" / "credit_check" / "race.jsonl"


@message("replay.open")
class OpenVote:
    vote: str


@message("replay.cast")
class CastVote:
    vote: str
    by: str


@message("replay.closed")
class VoteClosed:
    yes: int


@message("replay.time-up")
class TimeUp:
    pass


@define
class Votes:
    by: set[str] = field(factory=set)


def union(siblings: Sequence[Votes]) -> Votes:
    """Keep all votes."""
    return Votes(set().union(*(sibling.by for sibling in siblings)))


class Vote(Saga[Votes], key="vote", merger=union):
    @starts
    def opened(self, m: OpenVote) -> None:
        self.defer(TimeUp(), after=timedelta(hours=1), name="end")

    @handles
    def cast(self, m: CastVote) -> None:
        if m.by == "nobody":
            raise ValueError("nobody cannot vote")
        self.state.by.add(m.by)

    @handles
    def time_up(self, m: TimeUp) -> None:
        self.state.by.add("the clock")

    def decide(self) -> None:
        if len(self.state.by) > 1:
            self.publish(VoteClosed(len(self.state.by)))
            self.complete()


def opened(id_: str = "open") -> dict[str, Any]:
    return {"id": id_, "type": "replay.open", "data": {"vote": "7"}}


def cast(by: str) -> dict[str, Any]:
    return {"id": f"by-{by}", "type": "replay.cast", "data": {"vote": "7", "by": by}}


def load(worker: str, *messages: Any) -> dict[str, Any]:
    return {"worker": worker, "do": "load", "messages": list(messages)}


def commit(worker: str, expect: Any = None) -> dict[str, Any]:
    return {"worker": worker, "do": "commit"} | ({} if expect is None else {"expect": expect})


STARTED = (load("A", opened()), commit("A", "stored"))
FORKED = (
    *STARTED,
    load("A", cast("x")),
    load("B", cast("y")),
    commit("A", {"outcome": "stored", "state": {"by": ["x"]}, "siblings": 1}),
    commit("B", {"outcome": "forked", "state": {"by": ["y"]}, "siblings": 2, "merge": True, "completed": False}),
)


@pytest.fixture
def bus() -> Bus:
    """Return a bus that nothing connects."""
    bus = Bus(store="memory:", transport="memory:")
    bus.endpoint("votes", Vote)
    return bus


def play(bus: Bus, *steps: dict[str, Any]) -> list[Happened]:
    """Return what the steps do, which must be as they expect."""
    happened = list(played(bus, *steps))
    assert [h.differences for h in happened] == [()] * len(happened)
    return happened


def played(bus: Bus, *steps: dict[str, Any]) -> Iterator[Happened]:
    recording = parse([HEAD, *map(json.dumps, steps)])
    definition = bus.saga("Vote")
    assert definition is not None
    replay = Replay(definition, recording.saga, recording.start_ms)
    for step in recording.steps:
        yield replay.play(step)


def types(messages: Sequence[Any]) -> list[str]:
    return [type_of_outgoing(m) for m in messages]


# -- what steps do -----------------------------------------------------------------------------------------------


def test_replay_of_a_race_forks_merges_and_decides_once(bus: Bus) -> None:
    """Load, load, commit, commit: a fork, a MergeSagaState, and one decision from the settled saga."""
    happened = play(
        bus,
        *FORKED,
        load("A", "merge"),
        commit(
            "A",
            {
                "outcome": "stored",
                "released": ["replay.closed"],
                "state": {"by": ["x", "y"]},
                "siblings": 1,
                "completed": True,
                "merge": False,
            },
        ),
    )
    last = happened[-1]
    assert last.lifecycle is Lifecycle.COMPLETED
    assert [len(h.history) for h in happened] == [0, 1, 1, 1, 2, 3, 3, 4]
    assert last.history[-1].parents == (happened[4].history[1].dot, happened[5].history[2].dot)
    assert [entry.by for entry in last.history] == ["A", "A", "B", "A"]


def test_replay_of_a_decision_that_forks_drops_it_with_what_it_asked_for(bus: Bus) -> None:
    """What a discarded decision would have released is shown, and does not leave."""
    happened = play(
        bus,
        *STARTED,
        load("A", cast("x")),
        load("B", cast("y"), cast("z")),
        commit("A"),
        commit("B", {"outcome": "forked", "released": [], "dropped": ["replay.closed"], "state": {"by": ["y", "z"]}}),
    )
    assert types(happened[-1].released) == ["sagabus.MergeSagaState"]
    assert happened[-1].history[-1].dropped_decision


def test_replay_of_merges_at_once_has_the_second_run_again(bus: Bus) -> None:
    """Two workers that merge at once never fork: the second has to run again."""
    third = cast("z")
    play(
        bus,
        *FORKED,
        load("A", "merge"),
        load("B", third),
        commit("B", {"outcome": "stored", "siblings": 1, "completed": True}),
        commit("A", {"outcome": "again", "reason": "completed", "released": []}),
    )


def test_replay_of_a_message_twice_consumes_it_once(bus: Bus) -> None:
    """A message that another worker has consumed meanwhile is a duplicate; one consumed before is not even handled."""
    happened = play(
        bus,
        *STARTED,
        load("A", cast("x")),
        load("B", cast("x")),
        commit("A", "stored"),
        commit("B", "duplicate"),
        load("B", cast("x")),
        commit("B", "nothing"),
    )
    assert happened[-1].snapshot.consumed == {"by-x": b""}


def test_replay_of_a_crash_forgets_what_was_held(bus: Bus) -> None:
    """What a worker held when it crashed is not stored, and its messages can be loaded again."""
    happened = play(
        bus,
        *STARTED,
        load("A", cast("x")),
        {"worker": "A", "do": "crash"},
        load("B", cast("x")),
        commit("B", {"outcome": "stored", "state": {"by": ["x"]}}),
    )
    assert happened[3].outcome == ""
    with pytest.raises(RecordingError, match="worker A holds nothing to commit"):
        play(bus, *STARTED, load("A", cast("x")), {"worker": "A", "do": "crash"}, commit("A"))


def test_replay_of_a_timer_loads_what_the_saga_deferred(bus: Bus) -> None:
    """A timer that was set can be loaded by its name; one that was not set cannot."""
    happened = play(
        bus,
        load("A", opened()),
        commit("A", {"released": ["replay.time-up"]}),
        {"worker": "A", "do": "load", "messages": ["timer:end"], "at": "2026-01-01T01:00:00Z"},
        commit("A", {"outcome": "stored", "state": {"by": ["the clock"]}}),
    )
    assert happened[2].snapshot.now_ms - happened[0].snapshot.now_ms == 3_600_000 - 1
    with pytest.raises(RecordingError, match="there is no 'timer:other' yet"):
        play(bus, *STARTED, load("A", "timer:other"))


def test_replay_of_late_early_and_failing_messages_says_so(bus: Bus) -> None:
    """A late message leaves the state; early and failing ones leave nothing to commit."""
    happened = play(
        bus,
        load("A", cast("x")),
        commit("A", "nothing"),
        *STARTED,
        load("A", cast("nobody")),
        commit("A", "nothing"),
        load("A", cast("x"), cast("y")),
        commit("A", {"outcome": "stored", "completed": True}),
        load("A", cast("z")),
        commit("A", {"outcome": "late", "state": {"by": ["x", "y"]}}),
    )
    assert [m.id for m in happened[0].commit.early] == ["by-x"]
    assert str(happened[4].commit.failures[0].error) == "nobody cannot vote"


def test_replay_twice_gives_the_same_ids(bus: Bus) -> None:
    """A replay depends on nothing but its recording."""
    first, second = ([h.released for h in played(bus, *FORKED)] for _ in range(2))
    assert first == second


def test_replay_of_the_example_comes_out_as_recorded() -> None:
    """The race that the example tells of is still the race that happens."""
    recording = parse(RACE.read_text("utf-8").splitlines())
    definition = load_app(recording.app).saga(recording.saga.name)
    assert definition is not None
    replay = Replay(definition, recording.saga, recording.start_ms)
    happened = [replay.play(step) for step in recording.steps]
    assert [h.differences for h in happened] == [()] * len(happened)
    assert {"forked", "stored"} <= {h.outcome for h in happened}
    assert happened[-1].lifecycle is Lifecycle.COMPLETED


# -- what is expected --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expect", "difference"),
    [
        ("forked", "outcome 'stored' instead of 'forked'"),
        ({"reason": "siblings"}, "reason '' instead of 'siblings'"),
        ({"siblings": 2}, "siblings 1 instead of 2"),
        ({"state": {"by": ["x"]}}, "state.by [] instead of ['x']"),
        ({"state": {"nothing": 1}}, "state.nothing None instead of 1"),
        ({"released": []}, "released ['replay.time-up'] instead of []"),
        ({"dropped": ["replay.closed"]}, "dropped [] instead of ['replay.closed']"),
        ({"merge": True}, "merge False instead of True"),
        ({"completed": True}, "completed False instead of True"),
    ],
)
def test_expectation_that_does_not_hold_is_told_with_both_values(bus: Bus, expect: Any, difference: str) -> None:
    """A difference names the member, what came, and what was expected."""
    happened = list(played(bus, load("A", opened()), commit("A", expect)))
    assert happened[-1].differences == (difference,)


# -- the format --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "line", "words"),
    [
        ([], 1, "no head"),
        (['{"worker": "A"}'], 1, "no head"),
        (["# why", "{"], 2, "no JSON"),
        (["[]"], 1, "no JSON object"),
        (['{"sagabus-replay": 2, "app": "a:b", "saga": "V/1"}'], 1, "format 2 is not known"),
        (['{"sagabus-replay": 1, "app": "a:b", "saga": "V"}'], 1, "saga .NAME/ID."),
        (['{"sagabus-replay": 1, "app": "a:b", "saga": "V/1", "sga": 1}'], 1, "unknown sga"),
        (['{"sagabus-replay": 1, "app": "a:b", "saga": "V/1", "at": "noon"}'], 1, "'noon' is no time"),
        ([HEAD, "", '{"do": "load"}'], 3, "needs a worker"),
        ([HEAD, '{"worker": "A", "do": "store"}'], 2, "not 'store'"),
        ([HEAD, '{"worker": "A", "do": "load"}'], 2, "list of messages"),
        ([HEAD, '{"worker": "A", "do": "load", "messages": ["later"]}'], 2, "not 'later'"),
        ([HEAD, '{"worker": "A", "do": "load", "messages": [{"id": 1}]}'], 2, "no envelope"),
        ([HEAD, '{"worker": "A", "do": "load", "messages": ["merge"], "expect": "stored"}'], 2, "only a commit"),
        ([HEAD, '{"worker": "A", "do": "commit", "expect": "lost"}'], 2, "expect is one of"),
        ([HEAD, '{"worker": "A", "do": "commit", "expect": {"lost": 1}}'], 2, "unknown lost"),
    ],
)
def test_recording_that_says_nothing_sensible_is_refused_with_its_line(lines: list[str], line: int, words: str) -> None:
    """A line that does not follow the format is named, with what is wrong."""
    with pytest.raises(RecordingError, match=words) as raised:
        parse(lines)
    assert raised.value.line == line


def test_recording_leaves_out_what_can_be_supplied() -> None:
    """Envelopes need no specversion and no source; the clock starts with the first message's time."""
    step = load("A", opened() | {"time": "2026-05-01T00:00:00Z"})
    recording = parse(["# a comment", HEAD, "", json.dumps(step)])
    (envelope,) = recording.steps[0].messages
    assert not isinstance(envelope, str)
    assert (envelope.specversion, envelope.source) == ("1.0", "/client")
    assert (recording.saga, recording.start_ms) == (SagaKey("Vote", "7"), 1_777_593_600_000)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (cast("x") | {"type": "replay.closed"}, "Vote does not handle 'replay.closed'; it handles replay.cast"),
        (cast("x") | {"data": {"vote": "8", "by": "x"}}, "is for Vote/8, not Vote/7"),
        (cast("x") | {"data": {}}, r"missing required field"),
        ({"id": "t", "type": "replay.time-up"}, 'is for no saga that could be told, not Vote/7; add "saga": "Vote/7"'),
        ("merge", "there is no 'merge' yet"),
    ],
)
def test_message_that_is_not_for_the_saga_is_refused_with_its_line(bus: Bus, item: Any, words: str) -> None:
    """A recording cannot load what its saga would never get."""
    with pytest.raises(RecordingError, match=words) as raised:
        play(bus, *STARTED, load("A", item))
    assert raised.value.line == 4
