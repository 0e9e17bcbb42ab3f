"""Recorded sagas: what is exported, that the same code replays it as the same, and that every change of it is found."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from random import Random
from typing import Any

import msgspec
import pytest
from attrs import define, field

from sagabus import MergeSagaState, Saga, handles, message, starts
from sagabus.advance import advance
from sagabus.commit import Commit, HistoryEntry, Lifecycle, Outcome, Snapshot, Want
from sagabus.definition import SagaDefinition
from sagabus.digest import EffectDigest, digests
from sagabus.envelope import Incoming, SagaKey, decode, encode, wrap
from sagabus.errors import SagaNotFoundError
from sagabus.observe.record import RecordedSaga, RestlessSagaError, look, record
from sagabus.observe.record_lines import RecordError, read, write
from sagabus.observe.rerun import Comparison, rerun
from sagabus.outgoing import Outgoing, OutgoingKind, posted_merge
from sagabus.store.memory import MemoryStore
from tests.changes import evolve
from tests.sagas_for_tests import Hand, bound, incoming, merge_message

APP = "some.app:bus"
KEY = SagaKey("Check", "42")


@message("record.check")
class Check:
    customer: str


@message("record.score")
class Score:
    bureau: str
    points: int


@message("record.remind")
class Remind:
    pass


@message("record.calm")
class Calm:
    pass


@message("record.ask")
class Ask:
    bureau: str
    tags: set[str] = field(factory=set)


@message("record.verdict")
class Verdict:
    accepted: bool


@define
class CheckState:
    scores: dict[str, int] = field(factory=dict)
    reminded: int = 0
    opened_at: str = ""


def best(siblings: Sequence[CheckState]) -> CheckState:
    """Keep the higher of two scores."""
    merged = CheckState({}, max(s.reminded for s in siblings), max(s.opened_at for s in siblings))
    for sibling in siblings:
        for bureau, points in sibling.scores.items():
            merged.scores[bureau] = max(points, merged.scores.get(bureau, points))
    return merged


def first(siblings: Sequence[CheckState]) -> CheckState:
    """Keep the first sibling alone."""
    return siblings[0]


def by_change(a: CheckState, b: CheckState, ancestor: CheckState) -> CheckState:
    """Apply what either changed."""
    reminded = a.reminded + b.reminded - ancestor.reminded
    return CheckState(a.scores | b.scores, reminded, max(a.opened_at, b.opened_at))


class CheckBase(Saga[CheckState]):
    """A check of one customer: asks, is reminded, decides on two scores."""

    threshold = 700

    @starts
    def requested(self, m: Check) -> None:
        self.state.opened_at = self.now.isoformat()
        self.send(Ask("a", {"x", "y", "z"}), to="bureaus")
        self.send(Ask("b"), to="bureaus")
        self.defer(Remind(), after=timedelta(seconds=1), name="reminder")

    @handles
    def scored(self, m: Score) -> None:
        self.state.scores[m.bureau] = m.points

    @handles
    def reminded(self, m: Remind) -> None:
        self.state.reminded += 1
        self.send(Ask("again"), to="bureaus")

    @handles
    def calmed(self, m: Calm) -> None:
        self.cancel("reminder")

    @handles
    def merged(self, m: MergeSagaState) -> None:
        self.send(Ask("merged"), to="bureaus")

    def decide(self) -> None:
        if len(self.state.scores) >= 2:
            self.publish(Verdict(min(self.state.scores.values()) >= self.threshold))
            self.complete()

    def on_late(self, message: Any) -> None:
        self.send(Ask(f"late {len(self.state.scores)}"), to="bureaus")


class Today(CheckBase, key="customer", merger=best, name="Check", restartable=True):
    """As it was recorded."""


TODAY = bound(Today)


def changed(base: type[Saga[Any]] = CheckBase, merger: Any = best, **members: Any) -> SagaDefinition:
    """Return the definition of a saga that is the recorded one but for some members."""
    cls = type(Saga)("Changed", (base,), members, key="customer", merger=merger, name="Check", restartable=True)
    return bound(cls)


def score(bureau: str, points: int, id_: str = "") -> Incoming:
    return incoming(Score(bureau, points), id_ or bureau, saga=str(KEY))


@pytest.fixture
def hand() -> Hand:
    """Return a hand on a saga that has forked, merged, decided, and got a late score."""
    clock = iter(range(1_700_000_000_000, 1_800_000_000_000, 7))
    hand = Hand(MemoryStore(now_ms=lambda: next(clock)), TODAY)
    hand.handle(incoming(Check("42"), "start"))
    forked = hand.fork(score("a", 710), score("b", 690))
    hand.handle(merge_message(forked, "b"))
    hand.handle(score("c", 800))
    return hand


def recorded(hand: Hand) -> RecordedSaga:
    """Return the saga as a file would give it."""
    (saga,) = read(write(record(hand.store, hand.key, APP)))
    return saga


def texts(comparison: Comparison) -> list[tuple[int, str, str]]:
    """Return number, subject and text of what differs, without what may only follow."""
    return [(r.number, d.about, d.text) for r in comparison.differing if not r.follows for d in r.differences]


# -- the same code -----------------------------------------------------------------------------------------------


def test_replay_by_the_same_code_says_same(hand: Hand) -> None:
    """A fork with a dropped decision, a merge that decides, and a late message all come out as recorded."""
    comparison = rerun(TODAY, recorded(hand))
    assert (comparison.verdict, texts(comparison), comparison.notes) == ("same", [], ())
    assert [r.result.outcome.value for r in comparison.commits if r.result] == [
        "stored",
        "stored",
        "forked",
        "stored",
        "late",
    ]
    assert [r.entry.dot for r in comparison.commits] == [r.result.dot for r in comparison.commits if r.result]


def chance(definition: SagaDefinition, seed: int) -> MemoryStore:
    """Return a store on which three workers raced over one saga, in an order that *seed* says."""
    random, now_ms = Random(seed), [1_700_000_000_000]
    store = MemoryStore(now_ms=lambda: now_ms[0], actor="p1")
    bodies = [Check("42"), Check("42"), *(Score(b, random.choice((650, 720))) for b in "abcab"), Calm(), Check("42")]
    queue = [Incoming(wrap(b, id=f"m{n}", source="/client", now_ms=0, saga=str(KEY))) for n, b in enumerate(bodies)]
    held: dict[str, tuple[Snapshot, Commit, list[Incoming]]] = {}
    for step in range(60):
        now_ms[0] += random.choice((0, 0, 3, 400))
        worker = random.choice("ABC")
        if worker in held:
            _, commit, batch = held.pop(worker)
            (result,) = store.commit([commit], by=worker) if commit.ids else (None,)
            queue += [m for m in batch if result is None or result.outcome is Outcome.AGAIN or m.id not in commit.ids]
            if result and result.outcome in (Outcome.STORED, Outcome.FORKED):
                queue += timers(commit)
            if result and result.posted_merge:
                posted = posted_merge(commit.key, commit.life, commit.ids[-1], definition.endpoint, now_ms[0])
                queue.append(Incoming(decode(posted.body)))
        elif queue:
            random.shuffle(queue)
            batch, queue = queue[: random.choice((1, 1, 2))], queue[2:] + queue[1:2][: random.choice((0, 1))]
            (snapshot,) = store.load([Want(KEY, tuple(m.id for m in batch))])
            held[worker] = snapshot, advance(definition, snapshot, batch), batch
        if step == 30 and random.random() < 0.3:
            store.actor = "p2"
    return store


def timers(commit: Commit) -> list[Incoming]:
    sent = [m for messages in commit.facts.outgoing.values() for m in messages]
    return [Incoming(decode(m.body)) for m in sent if m.kind is OutgoingKind.TIMER]


@pytest.mark.parametrize("merger", [best, by_change])
def test_replay_of_any_race_by_the_same_code_says_same(merger: Any) -> None:
    """Whatever the order of loads and commits, with forks, merges, timers, late messages and new lives."""
    definition = changed(merger=merger)
    happened: Counter[str] = Counter()
    for seed in range(400):
        store = chance(definition, seed)
        if not store.history(KEY):
            continue
        saga = record(store, KEY, APP)
        (again,) = read(write(saga))
        assert again == evolve(saga, line=1), f"seed {seed}"
        comparison = rerun(definition, again)
        assert (comparison.verdict, texts(comparison), comparison.end) == ("same", [], ()), f"seed {seed}"
        for entry in saga.history:
            happened.update([entry.outcome.value, f"{len(entry.parents)} parents", f"life {entry.life}"])
            happened.update("timer" for m in entry.messages if m.timer)
            happened["dropped"] += entry.dropped_decision
            happened["completed"] += entry.completed
            happened["no version"] += entry.dot is None and entry.outcome is Outcome.STORED
    expected = {"stored", "forked", "late", "2 parents", "life 2", "timer", "dropped", "completed", "no version"}
    assert all(happened[what] >= 10 for what in expected), happened


def test_replay_gives_the_time_that_the_run_had(hand: Hand) -> None:
    """`self.now` is when the saga was loaded, not when it was committed."""
    entry = recorded(hand).history[0]
    assert 0 < entry.loaded_ms < entry.at_ms
    assert rerun(TODAY, recorded(hand)).verdict == "same"


def test_bodies_have_the_same_bytes_in_every_process() -> None:
    """Sets and mappings are written sorted, so a digest does not hang on the seed of hashes."""
    code = (
        "from tests.unit.test_record import Ask; from sagabus.codec import encode_body; "
        "print(encode_body(Ask('a', set('qwertz'))))"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(runs) == 1


def test_digest_leaves_out_ids_and_times_of_messages() -> None:
    """What a message says counts, not when it was sent nor what it is called; of a timer, also when it is due."""

    def sent(kind: OutgoingKind, body: Any, id_: str, now_ms: int, timer: str = "", due_ms: int = 0) -> EffectDigest:
        envelope = wrap(body, id=id_, source="/credit", now_ms=now_ms, timer=timer)
        outgoing = Outgoing(kind, "somewhere", id_, "", encode(envelope), due_ms)
        (effect,) = digests(Commit(KEY, facts=evolve(Commit(KEY).facts, outgoing={"m": (outgoing,)})))[0].effects
        return effect

    command, timer = OutgoingKind.COMMAND, OutgoingKind.TIMER
    assert sent(command, Ask("a"), "1", 5) == sent(command, Ask("a"), "2", 6)
    assert sent(command, Ask("a"), "1", 5) != sent(command, Ask("b"), "1", 5)
    assert sent(timer, Remind(), "1", 5, "1", 9) == sent(timer, Remind(), "2", 5, "2", 9)
    assert sent(timer, Remind(), "1", 5, "t", 9) != sent(timer, Remind(), "1", 5, "u", 9)
    assert sent(timer, Remind(), "1", 5, "t", 9) != sent(timer, Remind(), "1", 5, "t", 8)


# -- changed code ------------------------------------------------------------------------------------------------


def two_asks(self: Any, m: Check) -> None:
    self.state.opened_at = self.now.isoformat()
    self.send(Ask("b"), to="bureaus")
    self.send(Ask("a", {"x", "y", "z"}), to="bureaus")
    self.defer(Remind(), after=timedelta(seconds=1), name="reminder")


def other_asks(self: Any, m: Check) -> None:
    self.state.opened_at = self.now.isoformat()
    self.send(Ask("a", {"x"}), to="bureaus")
    self.send(Ask("b"), to="others")
    self.defer(Remind(), after=timedelta(seconds=2), name="reminder")


def halved(self: Any, m: Score) -> None:
    self.state.scores[m.bureau] = m.points // 2


def fails(self: Any, m: Score) -> None:
    raise ValueError(f"no {m.bureau}")


def ends(self: Any, m: Score) -> None:
    self.state.scores[m.bureau] = m.points
    self.complete()


def undecided(self: Any) -> None:
    pass


def silent(self: Any) -> None:
    if len(self.state.scores) >= 2:
        self.complete()


def rash(self: Any) -> None:
    if self.state.scores:
        self.publish(Verdict(accepted=False))


def no_note(self: Any, message: Any) -> None:
    pass


def unmergeable(siblings: Sequence[CheckState]) -> CheckState:
    raise ValueError("never")


OTHER = "changed: the recorded digest is of another body; now "
OPENED = '"opened_at": "2023-11-14T22:13:20+00:00"'
CHANGES: dict[str, tuple[Callable[[], SagaDefinition], list[tuple[int, str, str]]]] = {
    "a threshold": (
        lambda: changed(threshold=600),
        [
            (
                4,
                "decision",
                OTHER + 'event record.verdict {"accepted": true}',
            )
        ],
    ),
    "a merger": (
        lambda: changed(merger=first),
        [
            (4, "decision", "recorded completed, now the saga goes on"),
            (
                4,
                "state",
                "state.scores.b: recorded 690, now missing",
            ),
            (4, "decision", "recorded event record.verdict, completion, now none"),
        ],
    ),
    "effects of a handler": (
        lambda: changed(requested=starts(other_asks)),
        [
            (
                1,
                "effects",
                OTHER + 'record.ask to bureaus {"bureau": "a", "tags": ["x"]}',
            ),
            (1, "effects", 'new: record.ask to others {"bureau": "b", "tags": []}'),
            (
                1,
                "effects",
                OTHER + "timer record.remind, due 2023-11-14T22:13:22.000Z",
            ),
            (1, "effects", "missing: record.ask to bureaus"),
        ],
    ),
    "the order of effects": (
        lambda: changed(requested=starts(two_asks)),
        [
            (
                1,
                "effects",
                'in another order: now record.ask to bureaus {"bureau": "b", "tags": []}, '
                'record.ask to bureaus {"bureau": "a", "tags": ["x", "y", "z"]}, '
                "timer record.remind, due 2023-11-14T22:13:21.000Z",
            )
        ],
    ),
    "the state after a handler": (
        lambda: changed(scored=handles(halved)),
        [
            (
                2,
                "state",
                "state: the recorded digest is of another one; now {"
                + OPENED
                + ', "reminded": 0, "scores": {"a": 355}}',
            )
        ],
    ),
    "a handler that fails": (
        lambda: changed(scored=handles(fails)),
        [
            (2, "messages", "record.score a fails now: ValueError: no a"),
            (2, "outcome", "recorded stored, now nothing to commit"),
        ],
    ),
    "a handler that must settle": (
        lambda: changed(scored=handles(ends)),
        [(2, "decision", "recorded going on, now completed")],
    ),
    "no decision": (
        lambda: changed(decide=undecided),
        [
            (4, "decision", "recorded completed, now the saga goes on"),
            (4, "decision", "recorded event record.verdict, completion, now none"),
        ],
    ),
    "a decision that says nothing": (
        lambda: changed(decide=silent),
        [(4, "decision", "missing: event record.verdict")],
    ),
    "a decision too early": (
        lambda: changed(decide=rash),
        [(2, "decision", 'recorded none, now event record.verdict {"accepted": false}')],
    ),
    "what is sent when it is late": (
        lambda: changed(on_late=no_note),
        [(5, "effects", "missing: record.ask to bureaus")],
    ),
    "a merger that raises": (
        lambda: changed(merger=unmergeable),
        [
            (4, "messages", "the versions cannot be opened now: ValueError: never"),
            (4, "outcome", "recorded stored, now nothing to commit"),
        ],
    ),
    "no merger": (
        lambda: changed(merger=None),
        [(3, "outcome", "recorded forked, now again (settle)")],
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_replay_by_changed_code_names_the_first_commit_that_differs(hand: Hand, change: str) -> None:
    """Each difference is told at its commit, with what comes now; what may follow from it is marked."""
    definition, expected = CHANGES[change]
    comparison = rerun(definition(), recorded(hand))
    assert comparison.verdict == "differs"
    assert texts(comparison)[: len(expected)] == expected
    number = expected[0][0]
    assert comparison.differing[0].number == number
    assert len(comparison.commits) == 5


def test_replay_marks_only_what_may_follow(hand: Hand) -> None:
    """Another effect changes nothing that later commits see; another state does."""
    effects = rerun(changed(requested=starts(other_asks), threshold=600), recorded(hand))
    assert [(r.number, r.follows) for r in effects.differing] == [(1, False), (4, False)]
    state = rerun(changed(scored=handles(halved)), recorded(hand))
    assert [(r.number, r.follows) for r in state.differing] == [(2, False), (3, True), (4, True)]


def test_replay_shows_states_that_are_known_member_by_member(hand: Hand) -> None:
    """The last state was recorded in full, so each of its members is compared."""
    comparison = rerun(changed(scored=handles(halved)), recorded(hand))
    assert [d.text for d in comparison.end] == [
        "state.scores.a: recorded 710, now 355",
        "state.scores.b: recorded 690, now 345",
    ]
    (at_merge,) = (r for r in comparison.differing if r.number == 4)
    assert ("state.scores.a: recorded 710, now 355") in [d.text for d in at_merge.differences]


def test_replay_of_a_saga_that_is_not_over_compares_its_siblings(hand: Hand) -> None:
    """What is live is compared as what has completed is, sibling by sibling."""
    store = MemoryStore()
    hand = evolve(hand, store=store)
    hand.handle(incoming(Check("42"), "start"))
    hand.fork(score("a", 710), score("b", 690))
    assert rerun(TODAY, recorded(hand)).verdict == "same"
    comparison = rerun(changed(scored=handles(halved)), recorded(hand))
    assert [d.text for d in comparison.end] == [
        "state of sibling 1.scores.a: recorded 710, now 355",
        "state of sibling 2.scores.b: recorded 690, now 345",
    ]
    assert (2, "state", "state.scores.a: recorded 710, now 355") in texts(comparison)


@define
class WiderState(CheckState):
    asked: int = 0


class Wider(Saga[WiderState]):
    """The recorded saga with a member more in its state."""

    requested, scored, reminded = CheckBase.requested, CheckBase.scored, CheckBase.reminded
    calmed, merged, decide, on_late = CheckBase.calmed, CheckBase.merged, CheckBase.decide, CheckBase.on_late
    threshold = 700


def widest(siblings: Sequence[WiderState]) -> WiderState:
    """Merge as before."""
    merged = best(siblings)
    return WiderState(merged.scores, merged.reminded, merged.opened_at)


def test_replay_by_a_state_with_a_new_member_compares_all_that_was_there(hand: Hand) -> None:
    """A new member is no difference; what decisions make of the others still is."""
    comparison = rerun(changed(Wider, widest), recorded(hand))
    assert (comparison.verdict, texts(comparison)) == ("same", [])
    assert comparison.notes == (
        "the class of the state has changed; states are compared at the end only",
        "new in the state, and not compared: asked",
    )
    comparison = rerun(changed(Wider, widest, threshold=600), recorded(hand))
    assert [(number, about) for number, about, _ in texts(comparison)] == [(4, "decision")]
    comparison = rerun(changed(Wider, widest, scored=handles(halved)), recorded(hand))
    assert "state.scores.a: recorded 710, now 355" in [d.text for d in comparison.end]


# -- what cannot be compared, or not replayed ------------------------------------------------------------------------


def test_replay_of_an_older_history_compares_outcomes_and_the_end(hand: Hand) -> None:
    """Entries without digests are replayed; what they cannot tell is said."""
    saga = recorded(hand)
    old = [evolve(entry, loaded_ms=0, facts=None, decision=None) for entry in saga.history]
    saga = evolve(saga, history=tuple(old))
    comparison = rerun(changed(threshold=600), saga)
    assert texts(comparison) == []
    # When it was loaded is not known either: the saga has kept that time, and the replay has the commit's.
    assert [d.text.partition(":")[0] for d in comparison.end] == ["state.opened_at"]
    assert comparison.notes[0].startswith("5 commits were stored by an older sagabus, without digests")
    assert texts(rerun(changed(merger=first), saga)) == [(4, "decision", "recorded completed, now the saga goes on")]


def test_replay_of_a_trimmed_history_is_refused(hand: Hand) -> None:
    """A saga whose start is not remembered cannot be replayed, and that is no `same`."""
    saga = recorded(hand)
    comparison = rerun(TODAY, evolve(saga, history=saga.history[1:]))
    assert (comparison.verdict, comparison.commits) == ("not replayed", ())
    assert "keeps 64 commits; raise history= of Check" in comparison.refusal
    assert rerun(TODAY, evolve(saga, history=())).refusal == "it has no history"


def test_replay_of_a_history_with_a_hole_goes_to_the_hole(hand: Hand) -> None:
    """What was computed from versions that the history never had ends the replay, with its number."""
    saga = recorded(hand)
    comparison = rerun(TODAY, evolve(saga, history=saga.history[:2] + saga.history[3:]))
    assert comparison.verdict == "not replayed"
    assert comparison.refusal == "commit 3 was computed from memory:2, memory:3, which this history never had"
    assert [r.number for r in comparison.commits] == [1, 2]


def test_replay_begins_with_the_first_life_that_is_whole(hand: Hand) -> None:
    """Where an earlier life is trimmed, the next one is replayed from its start."""
    hand.handle(incoming(Check("42"), "restart"))
    hand.handle(score("x", 720, "x"))
    saga = recorded(hand)
    assert [entry.life for entry in saga.history] == [1, 1, 1, 1, 1, 2, 2]
    assert rerun(TODAY, saga).verdict == "same"
    comparison = rerun(TODAY, evolve(saga, history=saga.history[2:]))
    assert (comparison.verdict, [r.number for r in comparison.commits]) == ("same", [4, 5])
    assert comparison.notes == ("the first 3 commits are of a life that is not remembered from its start",)


# -- taking and writing ------------------------------------------------------------------------------------------


def test_record_of_no_saga_is_refused() -> None:
    """What is not there cannot be recorded."""
    with pytest.raises(SagaNotFoundError):
        record(MemoryStore(), KEY, APP)


def test_record_of_a_saga_that_is_written_meanwhile_is_taken_again(hand: Hand) -> None:
    """History and versions are of one moment, or there is no record."""

    class Busy(MemoryStore):
        writes = 3

        def history(self, key: SagaKey) -> list[HistoryEntry]:
            found = super().history(key)
            if self.writes:
                self.writes -= 1
                busy.handle(score("a", self.writes, f"m{self.writes}"))
            return found

    busy = Hand(Busy(), TODAY)
    busy.handle(incoming(Check("42"), "start"))
    saga = record(busy.store, KEY, APP)
    assert [entry.messages[0].id for entry in saga.history] == ["start", "m2", "m1", "m0"]
    assert saga.history[-1].dot == saga.versions[0].dot
    Busy.writes = 1000
    restless = Hand(Busy(), TODAY)
    busy = restless
    restless.handle(incoming(Check("42"), "start"))
    with pytest.raises(RestlessSagaError, match="Check/42 is being written too fast"):
        record(restless.store, KEY, APP)
    seen = look(restless.store, KEY, whole=False)
    assert seen.snapshot.lifecycle is Lifecycle.LIVE
    assert seen.recorded.history


def test_record_has_whole_messages_and_readable_states(hand: Hand) -> None:
    """People can read in it what came in and what the saga ended with."""
    head, *lines = map(json.loads, write(record(hand.store, KEY, APP)))
    assert (head["sagabus-record"], head["app"], head["saga"]) == (1, APP, "Check/42")
    assert (head["lifecycle"], head["commits"], head["versions"]) == ("completed", 5, 1)
    assert [line["kind"] for line in lines] == ["commit"] * 5 + ["version"]
    assert lines[1]["messages"][0]["data"] == {"bureau": "a", "points": 710}
    assert lines[0]["facts"]["effects"][2]["kind"] == "timer"
    assert lines[-1]["state"]["scores"] == {"a": 710, "b": 690}


def test_message_that_was_laid_out_for_people_goes_into_one_line() -> None:
    """Whatever a foreign sender put between the members of a body, a commit is a line."""
    hand = Hand(MemoryStore(), TODAY)
    pretty = (
        b'{"specversion":"1.0","id":"1","source":"/x","type":"record.check","data":{\r\n "customer":\t"42\xc3\xa9"}}'
    )
    hand.handle(Incoming(decode(pretty)))
    lines = list(write(record(hand.store, KEY, APP)))
    assert all("\n" not in line and "\r" not in line for line in lines)
    (saga,) = read(lines)
    assert bytes(saga.history[0].messages[0].data) == '{"customer":"42é"}'.encode()
    assert rerun(TODAY, saga).verdict == "same"


def test_file_holds_many_sagas_and_comments(hand: Hand) -> None:
    """Sagas follow each other; empty lines and comments say nothing."""
    other = evolve(hand, id="43")
    other.handle(incoming(Check("43"), "start-43"))
    lines = ["# why", *write(record(hand.store, KEY, APP)), "", *write(record(hand.store, other.key, APP))]
    sagas = list(read(lines))
    assert [(str(saga.key), saga.line) for saga in sagas] == [("Check/42", 2), ("Check/43", 10)]
    assert [saga.lifecycle for saga in sagas] == [Lifecycle.COMPLETED, Lifecycle.LIVE]


def spoiled(lines: Sequence[str], at: int, line: str) -> list[str]:
    return [*lines[:at], line, *lines[at + 1 :]]


SPOILERS: dict[str, tuple[Callable[[list[str]], Iterable[str]], int, str]] = {
    "no head": (lambda lines: lines[1:], 1, 'no head {"sagabus-record": 1'),
    "a later format": (lambda lines: [lines[0].replace(':1,"app"', ':2,"app"')], 1, "format 2 is not known here"),
    "an unknown member of the head": (lambda lines: [lines[0].replace('"app"', '"ap"')], 1, "unknown field `ap`"),
    "no key": (lambda lines: [lines[0].replace("Check/42", "Check")], 1, "'Check' is no saga"),
    "an early end": (lambda lines: lines[:4], 4, "the file ends here, before the 5 commits of Check/42"),
    "no version": (lambda lines: lines[:6], 6, "the file ends here, before the 1 versions of Check/42"),
    "no JSON": (lambda lines: spoiled(lines, 2, "{"), 3, "truncated"),
    "no commit": (lambda lines: spoiled(lines, 2, lines[6]), 3, "Invalid value 'version'"),
    "no dot": (lambda lines: spoiled(lines, 1, lines[1].replace("memory:1", "memory")), 2, "invalid literal for int"),
    "no time": (lambda lines: spoiled(lines, 1, lines[1].replace('"at":"', '"at":"x')), 2, "Invalid isoformat"),
}


@pytest.mark.parametrize("spoiler", SPOILERS)
def test_file_that_is_spoiled_is_refused_with_its_line(hand: Hand, spoiler: str) -> None:
    """A line that does not follow the format is named, with what is wrong."""
    spoil, line, words = SPOILERS[spoiler]
    with pytest.raises(RecordError, match=words) as raised:
        list(read(spoil(list(write(record(hand.store, KEY, APP))))))
    assert raised.value.line == line


def test_format_1_stays_readable() -> None:
    """A record that an earlier version wrote is read as it was."""
    (saga,) = read(FORMAT_1)
    assert (saga.app, saga.key, saga.life, saga.sagabus) == (APP, KEY, 1, "0.1.0")
    (entry,) = saga.history
    assert (entry.dot, entry.parents, entry.by, entry.at_ms - entry.loaded_ms) == (("m", 2), (("m", 1),), "w", 1)
    assert entry.facts is not None
    assert entry.facts.effects == (EffectDigest(None, "t"), EffectDigest(OutgoingKind.EVENT, "e", "e", b"8bytes.."))
    assert msgspec.json.decode(entry.messages[0].data) == {"bureau": "a", "points": 1}
    assert saga.versions[0].stored == b"\x92\x01\x80"


FORMAT_1 = (
    '{"sagabus-record":1,"app":"some.app:bus","saga":"Check/42","lifecycle":"live","life":1,'
    '"recorded_at":"2026-01-02T03:04:05.678Z","sagabus":"0.1.0","commits":1,"versions":1}',
    '{"kind":"commit","version":"m:2","outcome":"forked","at":"2026-01-02T03:04:05.678Z",'
    '"loaded_at":"2026-01-02T03:04:05.677Z","parents":["m:1"],"by":"w","life":1,"completed":false,'
    '"dropped_decision":true,"messages":[{"specversion":"1.0","id":"a","source":"/x","type":"record.score",'
    '"data":{"bureau":"a","points":1}}],"facts":{"state":"OGJ5dGVzLi4=","effects":[{"kind":"cancel","to":"t"},'
    '{"kind":"event","to":"e","type":"e","body":"OGJ5dGVzLi4="}]},"decision":{"state":"OGJ5dGVzLi4=","completes":true}}',
    '{"kind":"version","version":"m:2","state":{},"stored":"kgGA"}',
)
