"""What the credit check decides, whatever the order in which its scores come, and whoever handles them."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import msgspec
import pytest

from examples.credit_check.applicants import applicants
from examples.credit_check.bureaus import latency_s, score_of
from examples.credit_check.ledger import Ledger
from examples.credit_check.messages import CheckCredit, CreditDecided, ScoreReported
from examples.credit_check.saga import BUREAUS, CreditCheck, CreditState
from sagabus import Bus
from sagabus.advance import advance
from sagabus.commit import Commit, Lifecycle, Outcome, Result, Snapshot, Want
from sagabus.definition import definition_of
from sagabus.envelope import Envelope, Incoming, SagaKey, wrap
from sagabus.observe.recording import parse
from sagabus.observe.replay import Replay
from sagabus.outgoing import Outgoing, posted_merge
from sagabus.store.memory import MemoryStore

KEY = SagaKey("CreditCheck", "C000042")
SCORES = {"equifax": 540, "experian": 760, "transunion": 720}
DEFINITION = definition_of(CreditCheck).bound("credit", {}, dedupe_window_s=3600, retention_s=3600, max_bytes=1 << 20)


class Desk:
    """Workers around one saga in a memory store; each step of theirs is called by hand, so every race is an order."""

    def __init__(self) -> None:
        self.store = MemoryStore(now_ms=lambda: 1_000)
        self.left: list[Outgoing] = []
        self.write(self.read(Incoming(wrap(CheckCredit(customer=KEY.id), id="check", source="/client", now_ms=0))))

    def read(self, *incoming: Incoming) -> tuple[Snapshot, Commit]:
        """Have a worker load the saga and run it on *incoming*."""
        (snapshot,) = self.store.load([Want(KEY, tuple(m.id for m in incoming))])
        return snapshot, advance(DEFINITION, snapshot, incoming)

    def write(self, run: tuple[Snapshot, Commit]) -> Result:
        """Have the worker commit what it has run, and dispatch what leaves."""
        snapshot, commit = run
        (result,) = self.store.commit([commit], by="worker")
        halves = [commit.facts] if result.outcome is not Outcome.AGAIN else []
        if result.outcome is Outcome.STORED and commit.decision is not None:
            halves.append(commit.decision)
        self.left += [message for half in halves for messages in half.outgoing.values() for message in messages]
        if result.posted_merge:
            self.left.append(posted_merge(KEY, commit.life, commit.ids[-1], "credit", snapshot.now_ms))
        return result

    def merge(self) -> Result:
        """Handle the MergeSagaState that was posted last."""
        return self.write(self.read(Incoming(self.envelopes("sagabus.MergeSagaState")[-1])))

    def envelopes(self, name: str) -> list[Envelope]:
        """Return what left under a wire name."""
        decoded = [msgspec.json.decode(message.body, type=Envelope) for message in self.left]
        return [envelope for envelope in decoded if envelope.type == name]

    def decisions(self) -> list[CreditDecided]:
        """Return the decisions that left."""
        return [Incoming(envelope).message for envelope in self.envelopes("credit.decided")]

    @property
    def lifecycle(self) -> Lifecycle:
        (snapshot,) = self.store.load([Want(KEY)])
        return snapshot.lifecycle


def scored(bureau: str) -> Incoming:
    """Return the reply of *bureau*, which finds its saga by header."""
    message = ScoreReported(bureau=bureau, score=SCORES[bureau])
    return Incoming(wrap(message, id=bureau, source=f"/{bureau}", now_ms=0, saga=str(KEY)))


@pytest.fixture
def desk() -> Desk:
    """Return a desk at which the customer has applied and the bureaus were asked."""
    return Desk()


def test_check_started_asks_every_bureau_once_and_decides_nothing(desk: Desk) -> None:
    """An application asks each of the three bureaus for a score; without scores there is no decision."""
    assert [message.to for message in desk.left] == list(BUREAUS)
    assert {envelope.type for envelope in desk.envelopes("credit.request-score")} == {"credit.request-score"}
    assert all(e.replysaga == str(KEY) and e.replyto == "credit" for e in desk.envelopes("credit.request-score"))
    assert desk.decisions() == []


@pytest.mark.parametrize("order", list(permutations(BUREAUS)))
def test_check_with_replies_one_by_one_decides_on_the_first_two_and_the_third_is_late(
    desk: Desk, order: tuple[str, ...]
) -> None:
    """The second score decides, whichever it is; the third changes nothing."""
    first, second, third = order
    assert desk.write(desk.read(scored(first))).outcome is Outcome.STORED
    assert desk.decisions() == []
    assert desk.write(desk.read(scored(second))).outcome is Outcome.STORED
    assert desk.write(desk.read(scored(third))).outcome is Outcome.LATE
    average = (SCORES[first] + SCORES[second]) / 2
    expected = CreditDecided(
        customer=KEY.id,
        accepted=average > 700,
        average=average,
        scores={first: SCORES[first], second: SCORES[second]},
    )
    assert desk.decisions() == [expected]
    assert desk.lifecycle is Lifecycle.COMPLETED


@pytest.mark.parametrize("order", list(permutations(BUREAUS, 2)))
def test_check_with_two_replies_at_once_forks_and_decides_after_the_merge(desk: Desk, order: tuple[str, str]) -> None:
    """Two workers that read the same version each keep their score; the decision rests on both."""
    first, second = desk.read(scored(order[0])), desk.read(scored(order[1]))
    assert desk.write(first).outcome is Outcome.STORED
    forked = desk.write(second)
    assert (forked.outcome, forked.live, forked.posted_merge) == (Outcome.FORKED, 2, True)
    assert desk.decisions() == []
    assert desk.merge().outcome is Outcome.STORED
    (decided,) = desk.decisions()
    assert decided.scores == {bureau: SCORES[bureau] for bureau in order}
    assert decided.accepted is (sum(decided.scores.values()) / 2 > 700)


def test_check_with_a_verdict_taken_beside_a_sibling_holds_it_back(desk: Desk) -> None:
    """A worker with two good scores would accept; it has not seen the bad one, so its verdict never leaves."""
    one, two = desk.read(scored("equifax")), desk.read(scored("experian"), scored("transunion"))
    decision = two[1].decision
    assert decision is not None
    assert decision.outgoing, "the worker had decided"
    desk.write(one)
    assert desk.write(two).outcome is Outcome.FORKED
    assert desk.decisions() == []
    assert desk.lifecycle is Lifecycle.LIVE
    desk.merge()
    assert desk.decisions() == [
        CreditDecided(customer=KEY.id, accepted=False, average=sum(SCORES.values()) / 3, scores=SCORES)
    ]


def test_check_with_two_verdicts_taken_at_once_announces_one(desk: Desk) -> None:
    """Two workers decide on two scores each, with opposite verdicts; the first to write is heard, the other is late."""
    desk.write(desk.read(scored("transunion")))
    accepts, declines = desk.read(scored("experian")), desk.read(scored("equifax"))
    assert desk.write(accepts).outcome is Outcome.STORED
    assert desk.write(declines).outcome is Outcome.AGAIN
    assert desk.write(desk.read(scored("equifax"))).outcome is Outcome.LATE
    assert [decided.accepted for decided in desk.decisions()] == [True]


def test_check_with_three_replies_in_one_batch_decides_once_on_all(desk: Desk) -> None:
    """What one worker receives together is one run and one decision."""
    assert desk.write(desk.read(*map(scored, BUREAUS))).outcome is Outcome.STORED
    assert [decided.scores for decided in desk.decisions()] == [SCORES]


def test_check_with_a_reply_delivered_again_says_nothing_new(desk: Desk) -> None:
    """A duplicate of a reply changes nothing and decides nothing."""
    desk.write(desk.read(scored("experian")))
    assert desk.read(scored("experian"))[1].ids == ()
    assert desk.decisions() == []


def test_siblings_of_a_check_merge_to_the_same_in_any_order_grouping_and_repetition() -> None:
    """Together they know every score that one of them knows; of two for one bureau the higher."""
    merge = DEFINITION.merger
    siblings = [CreditState(scores={bureau: score}) for bureau, score in SCORES.items()]
    siblings.append(CreditState(scores={"equifax": 541}))
    expected = CreditState(scores=SCORES | {"equifax": 541})
    for order in permutations(siblings):
        assert merge(order) == expected
        assert merge([merge(order[:2]), merge(order[2:])]) == expected
        assert merge([*order, *order]) == expected


def test_recorded_race_comes_out_as_its_story_says() -> None:
    """Every expectation in race.jsonl holds: a fork, a verdict held back, a merge, one decision."""
    path = Path(__file__).parents[2] / "examples/credit_check/race.jsonl"
    with path.open(encoding="utf-8") as lines:
        recording = parse(lines)
    replay = Replay(DEFINITION, recording.saga, recording.start_ms)
    happened = [replay.play(step) for step in recording.steps]
    assert [step.differences for step in happened] == [()] * len(happened)
    assert [step.outcome for step in happened if step.outcome] == ["stored", "stored", "forked", "stored"]


def test_ledger_told_of_decisions_counts_by_message_id() -> None:
    """A second copy of one message is a repeat; another message for the same customer is a second decision."""
    with Bus(store="memory:", transport="memory:") as bus:
        ledger = Ledger(bus)
        for customer, accepted, id_ in (
            ("a", True, "1"),
            ("a", True, "1"),
            ("b", True, "2"),
            ("b", True, "3"),
            ("c", True, "4"),
            ("c", False, "5"),
        ):
            bus.publish(CreditDecided(customer=customer, accepted=accepted, average=0.0, scores={}), id=id_)
        bus.worker().run_until_idle()
    audit = ledger.audit(["a", "b", "c", "d"])
    assert (audit.decided, audit.lost, audit.twice, audit.contradictory, audit.repeats) == (3, 1, 2, 1, 1)
    assert not audit.clean


def test_applicants_beyond_the_file_are_all_different() -> None:
    """However many apply, each has a customer number of their own, and the first thousand are those of the file."""
    many = applicants(20_000)
    assert many[:1000] == applicants(1000)
    assert len({applicant.customer for applicant in many}) == 20_000
    assert all(applicant.name.partition(" ")[2] for applicant in many)


def test_bureau_asked_twice_says_the_same_and_all_answer_at_nearly_the_same_time() -> None:
    """Scores and latencies follow from customer, bureau and seed; the three differ by a millisecond at most."""
    for applicant in applicants(100):
        scores = [score_of(applicant.customer, bureau, seed=7) for bureau in BUREAUS]
        assert scores == [score_of(applicant.customer, bureau, seed=7) for bureau in BUREAUS]
        assert all(500 <= score <= 900 for score in scores)
        latencies = [latency_s(applicant.customer, bureau, seed=7) for bureau in BUREAUS]
        assert max(latencies) - min(latencies) <= 0.001
