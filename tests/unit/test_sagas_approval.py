"""What an approval does with each vote and each timer, and what its class may say: in an order that the test says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from sagabus import Bus, Context, message
from sagabus.errors import DefinitionError
from sagabus.testing import Published, Replied, SagaHarness, Sent
from sagas import Approval, Level
from sagas._plain import NotPlainError
from sagas.approval import (
    ApprovalState,
    Approved,
    AskForApproval,
    Ballot,
    CancelApproval,
    Cancelled,
    EscalationDue,
    Expired,
    Rejected,
    RemindApprover,
    ReminderDue,
    Vote,
    VoteRefused,
)

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
Make = Callable[..., SagaHarness[ApprovalState]]


@message("approval-unit.request")
class RequestTrip:
    trip: str
    to: str = "Rome"


@message("approval-unit.booked")
class Booked:
    trip: str
    told: str


class Trip(
    Approval[RequestTrip],
    key="trip",
    people="desk",
    levels=(Level("ann", "bob", need="all", within=DAY), Level("bob", "carla", within=DAY)),
    remind_every=timedelta(hours=10),
    reminders=2,
):
    """Ann and Bob approve, or Bob or Carla a day later."""

    def about(self, m: RequestTrip) -> Any:
        return {"to": m.to}


@pytest.fixture
def trip(saga_harness: Make) -> SagaHarness[ApprovalState]:
    """Return a trip that Ann and Bob have been asked about."""
    harness = saga_harness(Trip)
    harness.give(RequestTrip("t1"))
    return harness


def vote(approver: str, approves: bool = True, comment: str = "") -> Vote:
    """Return a vote on the trip."""
    return Vote("t1", approver, approves, comment)


# -- asking, reminding, escalating -----------------------------------------------------------------------------------


def test_request_asks_the_first_level(trip: SagaHarness[ApprovalState]) -> None:
    """Each of its people once, with what they are to know; the others not yet."""
    assert [effect for effect in trip.effects if isinstance(effect, Sent)] == [
        Sent(AskForApproval("t1", "ann", 1, {"to": "Rome"}), to="desk"),
        Sent(AskForApproval("t1", "bob", 1, {"to": "Rome"}), to="desk"),
    ]
    assert {name: due - trip.now for name, due in trip.timers.items()} == {
        "escalation": DAY,
        "reminder": timedelta(hours=10),
    }


def test_second_request_asks_nobody_anew(trip: SagaHarness[ApprovalState]) -> None:
    """And what people are told stays what the first one said."""
    assert trip.give(RequestTrip("t1", to="Oslo")) == []
    assert trip.state.about == {"to": "Rome"}


def test_requests_at_once_ask_each_person_once(saga_harness: Make) -> None:
    """The first to be stored asks; the other finds that all were asked."""
    harness = saga_harness(Trip)
    harness.together(RequestTrip("t1"), RequestTrip("t1"))
    assert [m.approver for m in harness.sent] == ["ann", "bob"]


def test_reminders_go_to_who_has_not_voted(trip: SagaHarness[ApprovalState]) -> None:
    """As often as was said, and no more."""
    trip.give(vote("bob"))
    trip.advance(timedelta(hours=23))
    assert [(m.approver, m.level, m.number) for m in trip.sent if isinstance(m, RemindApprover)] == [
        ("ann", 1, 1),
        ("ann", 1, 2),
    ]
    assert "reminder" not in trip.timers


def test_escalation_asks_the_next_level_but_nobody_twice(trip: SagaHarness[ApprovalState]) -> None:
    """Bob, who stands in both levels, was asked already; reminders begin anew, and for that level alone."""
    trip.advance(DAY)
    assert [m for m in trip.sent if isinstance(m, AskForApproval) and m.level == 2] == [
        AskForApproval("t1", "carla", 2, {"to": "Rome"})
    ]
    trip.advance(timedelta(hours=10))
    assert [m.approver for m in trip.sent[-2:]] == ["bob", "carla"]
    assert trip.sent[-1] == RemindApprover("t1", "carla", 2, 1, {"to": "Rome"})


def test_level_that_cannot_come_to_its_need_is_passed_at_once(saga_harness: Make) -> None:
    """Where one rejection does not end it, the next level is asked without waiting for the time."""

    class Patient(Trip, rejections=2):
        pass

    harness = saga_harness(Patient)
    harness.give(RequestTrip("t1"))
    harness.give(vote("ann", approves=False))
    assert harness.sent[-1] == AskForApproval("t1", "carla", 2, {"to": "Rome"})
    harness.give(vote("bob"))
    assert harness.decisions[-1] == Approved("Patient", "t1", 2, ["bob"])


def test_reminder_at_once_with_the_escalation_reminds_nobody(trip: SagaHarness[ApprovalState]) -> None:
    """The people of the level that is over are left in peace."""
    trip.together(EscalationDue(1), ReminderDue(1, 1))
    assert trip.state.asked == 2
    assert not [m for m in trip.sent if isinstance(m, RemindApprover)]


def test_level_without_a_time_ends_that_of_the_level_before(saga_harness: Make) -> None:
    """Where it is asked before the time of the other has come."""

    class Endless(Trip, levels=(Level("ann", within=DAY), Level("carla")), rejections=2):
        pass

    harness = saga_harness(Endless)
    harness.give(RequestTrip("t1"))
    harness.give(vote("ann", approves=False))
    assert harness.sent[-1] == AskForApproval("t1", "carla", 2, {"to": "Rome"})
    assert harness.timers.keys() == {"reminder"}


def test_level_of_no_use_is_not_asked(saga_harness: Make) -> None:
    """Who has rejected below stands in the way above as well: the others there are left in peace."""

    class Strict(
        Approval[RequestTrip],
        key="trip",
        people="desk",
        levels=(
            Level("ann", "bob", within=DAY),
            Level("bob", "carla", need="all", within=DAY),
            Level("dora", within=DAY),
        ),
        rejections=3,
    ):
        pass

    harness = saga_harness(Strict)
    harness.give(RequestTrip("t1"))
    harness.give(vote("bob", approves=False))
    harness.advance(DAY)
    assert [m.approver for m in harness.sent] == ["ann", "bob", "dora"]
    harness.advance(DAY)
    assert harness.decisions[-1] == Expired("Strict", "t1", ["ann", "carla", "dora"])


# -- how it ends -----------------------------------------------------------------------------------------------------


def test_enough_approvals_of_one_level_approve(trip: SagaHarness[ApprovalState]) -> None:
    """At once, and with it all timers end."""
    trip.give(vote("ann"))
    assert trip.give(vote("bob")) == [Published(Approved("Trip", "t1", 1, ["ann", "bob"]))]
    assert trip.completed
    assert trip.timers == {}


def test_people_of_the_first_level_may_approve_after_the_escalation(trip: SagaHarness[ApprovalState]) -> None:
    """They were asked, and their votes count as before."""
    trip.give(vote("ann"))
    trip.advance(DAY)
    trip.give(vote("bob"))
    assert trip.decisions[-1] == Approved("Trip", "t1", 1, ["ann", "bob"])


def test_one_rejection_rejects(trip: SagaHarness[ApprovalState]) -> None:
    """Whoever has approved before."""
    trip.give(vote("ann"))
    assert trip.give(vote("bob", approves=False)) == [Published(Rejected("Trip", "t1", ["bob"]))]


def test_rejection_stays_whatever_the_same_person_says_later(saga_harness: Make) -> None:
    """In this order, in the other, and at once; the comment is that of the vote that stays."""

    class Patient(Trip, rejections=2):
        pass

    yes, no = vote("ann", comment="fine"), vote("ann", approves=False, comment="too far")
    for votes in ((yes, no), (no, yes)):
        harness = saga_harness(Patient)
        harness.give(RequestTrip("t1"))
        for m in votes:
            harness.give(m)
        assert harness.state.ballots == {"ann": Ballot(False, "too far")}
    harness = saga_harness(Patient)
    harness.give(RequestTrip("t1"))
    harness.together(yes, no)
    assert harness.state.ballots == {"ann": Ballot(False, "too far")}


def test_rejections_that_leave_no_level_able_to_approve_reject(saga_harness: Make) -> None:
    """Two are to reject; but with Bob's alone neither level can approve any more."""

    class Bobs(Trip, levels=(Level("ann", "bob", need=2, within=DAY), Level("bob", within=DAY)), rejections=2):
        pass

    harness = saga_harness(Bobs)
    harness.give(RequestTrip("t1"))
    harness.give(vote("bob", approves=False))
    assert harness.decisions[-1] == Rejected("Bobs", "t1", ["bob"])


def test_approval_that_nobody_answers_expires(trip: SagaHarness[ApprovalState]) -> None:
    """After the time of the last level; it says who never voted."""
    trip.give(vote("ann"))
    trip.advance(2 * DAY - timedelta(seconds=1))
    assert not trip.completed
    assert trip.advance(1) == [Published(Expired("Trip", "t1", ["bob", "carla"]))]


def test_last_level_without_a_time_waits(saga_harness: Make) -> None:
    """It never expires by itself."""

    class Endless(Trip, levels=(Level("ann", within=DAY), Level("carla")), reminders=1):
        pass

    harness = saga_harness(Endless)
    harness.give(RequestTrip("t1"))
    harness.advance(100 * DAY)
    assert not harness.completed
    assert harness.timers == {}


def test_cancellation_ends_it_at_any_time(trip: SagaHarness[ApprovalState]) -> None:
    """Whatever votes are there; the event says who and why."""
    trip.give(vote("ann"))
    assert trip.give(CancelApproval("t1", "zoe", "ill")) == [Published(Cancelled("Trip", "t1", "zoe", "ill"))]
    assert trip.timers == {}


def test_cancellation_and_rejection_at_once_are_one_ending(trip: SagaHarness[ApprovalState]) -> None:
    """The first to be stored has ended it."""
    trip.together(CancelApproval("t1", "zoe"), vote("ann", approves=False))
    assert trip.published == [Cancelled("Trip", "t1", "zoe", "")]


# -- code that has changed while an approval waits -------------------------------------------------------------------


@pytest.fixture
def shrunk(trip: SagaHarness[ApprovalState], saga_harness: Make) -> SagaHarness[ApprovalState]:
    """Return a trip that waits at the second level, and a deployment that has the first one alone."""
    trip.advance(DAY)
    assert trip.state.asked == 2
    fewer: Any = type("Trip", (Trip,), {}, levels=(Level("ann", "bob", need="all", within=DAY),))
    trip._desk.definition = saga_harness(fewer)._desk.definition
    return trip


def test_vote_after_a_level_was_taken_out_counts(shrunk: SagaHarness[ApprovalState]) -> None:
    """The people of the levels that are left approve as before; those that are named no more are told."""
    assert shrunk.give(vote("carla")) == [Sent(VoteRefused("t1", "carla", "not-asked"), to="desk")]
    assert shrunk.give(vote("ann")) == []
    assert shrunk.give(vote("bob")) == [Published(Approved("Trip", "t1", 1, ["ann", "bob"]))]
    assert shrunk.completed


def test_rejection_after_a_level_was_taken_out_rejects(shrunk: SagaHarness[ApprovalState]) -> None:
    """It is nobody's fault that the class is another one."""
    assert shrunk.give(vote("ann", approves=False)) == [Published(Rejected("Trip", "t1", ["ann"]))]


def test_time_after_a_level_was_taken_out_runs_on_and_expires(shrunk: SagaHarness[ApprovalState]) -> None:
    """The people who are left have the time of the level asked last; its reminders remind nobody."""
    assert shrunk.advance(DAY - timedelta(seconds=1)) == []
    assert shrunk.advance(1) == [Published(Expired("Trip", "t1", ["ann", "bob"]))]
    assert shrunk.timers == {}


def test_person_who_takes_the_place_of_another_votes_instead(
    trip: SagaHarness[ApprovalState], saga_harness: Make
) -> None:
    """At a level that was asked already, the names of the running code count: of approvals, and of who may vote."""
    trip.give(vote("bob"))
    renamed: Any = type("Trip", (Trip,), {}, levels=(Level("ann", "zoe", need="all", within=DAY), Level("carla")))
    trip._desk.definition = saga_harness(renamed)._desk.definition
    assert trip.give(vote("bob", comment="again")) == [Sent(VoteRefused("t1", "bob", "not-asked"), to="desk")]
    assert trip.give(vote("ann")) == []
    assert trip.give(vote("zoe")) == [Published(Approved("Trip", "t1", 1, ["ann", "bob", "zoe"]))]


def test_rejection_of_a_person_who_is_named_no_more_counts(
    trip: SagaHarness[ApprovalState], saga_harness: Make
) -> None:
    """It was cast by somebody who was asked."""
    patient: Any = type("Trip", (Trip,), {}, rejections=2)
    trip._desk.definition = saga_harness(patient)._desk.definition
    trip.give(vote("bob", approves=False))
    renamed: Any = type("Trip", (patient,), {}, levels=(Level("ann", "zoe", within=DAY), Level("carla")))
    trip._desk.definition = saga_harness(renamed)._desk.definition
    assert trip.give(vote("ann", approves=False))[-1] == Published(Rejected("Trip", "t1", ["ann", "bob"]))


# -- votes that do not count -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["carla", "dan"])
def test_vote_of_somebody_not_asked_is_refused_to_their_face(trip: SagaHarness[ApprovalState], who: str) -> None:
    """Not yet, or never: they are told, and nothing is kept."""
    assert trip.give(vote(who)) == [Sent(VoteRefused("t1", who, "not-asked"), to="desk")]
    assert trip.state.ballots == {}


def test_late_vote_is_refused_to_their_face(trip: SagaHarness[ApprovalState]) -> None:
    """Who votes after the end learns that it is closed; a late cancellation changes nothing and is not answered."""
    trip.give(CancelApproval("t1"))
    assert trip.give(vote("ann")) == [Sent(VoteRefused("t1", "ann", "closed"), to="desk")]
    assert trip.give(CancelApproval("t1")) == []
    assert trip.give(RequestTrip("t1")) == []


def test_hooks_say_otherwise(saga_harness: Make) -> None:
    """Each message that leaves may be another one."""

    class Own(Trip):
        def ask(self, approver: str, level: int) -> object:
            return Booked(self.id, f"ask {approver} {level}")

        def remind(self, approver: str, level: int, number: int) -> object:
            return Booked(self.id, f"remind {approver} {level} {number}")

        def approved(self, level: int) -> None:
            self.publish(Booked(self.id, f"approved at {level}: {self.state.ballots['ann'].comment}"))

        def rejected(self) -> None:
            self.publish(Booked(self.id, "rejected"))

        def expired(self, silent: list[str]) -> None:
            self.publish(Booked(self.id, f"expired: {silent}"))

        def cancelled(self, by: str, reason: str) -> None:
            self.reply_to_starter(Booked(self.id, f"cancelled by {by}: {reason}"))

        def not_asked(self, m: Vote) -> None:
            self.reply(Booked(self.id, f"who is {m.approver}?"))

        def late(self, m: Vote | CancelApproval) -> None:
            self.reply(Booked(self.id, f"late: {type(m).__name__}"))

    def told(*messages: Any, wait: timedelta = timedelta(0)) -> list[str]:
        harness = saga_harness(Own)
        for m in (RequestTrip("t1"), *messages):
            harness.give(m)
        harness.advance(wait)
        return [effect.message.told for effect in harness.effects if isinstance(effect, Sent | Published | Replied)]

    assert told(vote("ann", comment="go"), vote("bob"), vote("bob")) == [
        "ask ann 1",
        "ask bob 1",
        "approved at 1: go",
        "late: Vote",
    ]
    assert told(vote("ann", approves=False), CancelApproval("t1"))[2:] == ["rejected", "late: CancelApproval"]
    assert told(CancelApproval("t1", "zoe", "ill"))[2:] == ["cancelled by zoe: ill"]
    assert told(vote("dan"), wait=timedelta(hours=10))[2:] == ["who is dan?", "remind ann 1 1", "remind bob 1 1"]
    assert told(wait=2 * DAY)[-1] == "expired: ['ann', 'bob', 'carla']"


def test_what_is_kept_of_the_request_is_plain_data(saga_harness: Make) -> None:
    """Anything else would come back from the store as something else."""

    class Odd(Trip):
        def about(self, m: RequestTrip) -> Any:
            return m

    with pytest.raises(NotPlainError, match=r"Odd\.about\(\) returned a RequestTrip at \$"):
        saga_harness(Odd).give(RequestTrip("t1"))


# -- what a class may say --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"levels": ()}, r"it has nobody to ask. Name them: levels=\(Level\("),
        ({"levels": (Level(),)}, r"level 1: its people are \(\). Name at least one"),
        ({"levels": (Level("ann", ""),)}, r"level 1: its people are \('ann', ''\)"),
        ({"levels": (Level("ann", "ann"),)}, r"level 1: it names somebody twice. Name each once"),
        ({"levels": (Level("ann", need=2),)}, r"level 1: it needs 2 approvals of 1 people.* Write need= from 1 to 1"),
        ({"levels": (Level("ann", need=0),)}, r"level 1: it needs 0 approvals"),
        ({"levels": (Level("ann", within=DAY), Level("bob", within=-DAY))}, r"level 2: within=.* is no time to vote"),
        (
            {"levels": (Level("ann"), Level("bob"))},
            r"level 1: its time never ends, .* every level but the last within=",
        ),
        (
            {"levels": (Level("ann", need="al"),)},
            r"level 1: need='al' is no number of approvals. Write from 1 to 1, or",
        ),
        ({"levels": (Level("ann", need=True),)}, r"level 1: need=True is no number"),
        ({"levels": (Level("ann", within=5),)}, r"level 1: within=5 is no time to vote. Write a timedelta"),
        ({"levels": (Level(5),)}, r"level 1: its people are \(5,\). Name at least one, each by a text"),
        ({"levels": ("ann", "bob")}, r"levels= has 'ann', which is no Level. Write a Level for each"),
        ({"levels": "ann"}, r"levels='ann' is no list of levels"),
        (
            {"levels": Level("ann")},
            r"levels=Level\(.*\) is no list of levels. Write .* levels=\(Level\('ann', 'bob'\),\)",
        ),
        ({"people": 5}, r"people=5 is no name. Name the endpoint: people='desk'"),
        ({"people": ""}, r"nothing says where people are asked. Name the endpoint: people="),
        ({"rejections": 0}, r"rejections=0 would reject at once. Write 1 or more"),
        ({"rejections": "2"}, r"rejections='2' is no number. Write 1 or more, e.g. rejections=2"),
        ({"reminders": "2"}, r"reminders='2' is no number. Write 1 or more, e.g. reminders=2"),
        ({"remind_every": 5}, r"remind_every=5 .* reminds nobody. Write a timedelta over zero"),
        ({"exclusive": True}, r"is exclusive, .* Write merger=None beside exclusive=True, or leave out exclusive="),
        ({"remind_every": -DAY}, r"reminds nobody. Write a timedelta over zero"),
        ({"reminders": 0}, r"reminders=0 reminds nobody"),
        ({"within": DAY}, r"unknown option within"),
        ({"key": "subject"}, r"has no field 'subject' to find the saga by"),
    ],
)
def test_class_that_could_not_work_is_refused(options: dict[str, Any], text: str) -> None:
    """While it is defined, with the mend; what the kernel refuses is refused as for every saga."""
    with pytest.raises(DefinitionError, match=text):
        type("Bad", (Trip,), {}, **options)


def test_class_without_a_request_is_refused() -> None:
    """`class X(Approval)` does not say what starts it."""
    with pytest.raises(DefinitionError, match=r"Bad: the message class of its request is not given. Write the class"):
        type("Bad", (Approval,), {}, people="desk", levels=(Level("ann"),))


def test_subclass_that_reminds_nobody_says_none(saga_harness: Make) -> None:
    """`remind_every=None` is not the same as leaving it to the base, which reminds."""

    class Quiet(Trip, remind_every=None):
        pass

    class QuietToo(Quiet):
        pass

    for saga in (Quiet, QuietToo):
        harness = saga_harness(saga)
        harness.give(RequestTrip("t1"))
        assert harness.timers.keys() == {"escalation"}
    assert Trip._options.remind_every == timedelta(hours=10)


def test_exclusive_approval_without_a_merger_works(saga_harness: Make) -> None:
    """What the error advises is right; a subclass need not say it again."""

    class Alone(Trip, exclusive=True, merger=None):
        pass

    class AloneToo(Alone, reminders=1):
        pass

    harness = saga_harness(AloneToo)
    harness.give(RequestTrip("t1"))
    harness.together(vote("ann"), vote("bob"))
    assert harness.published == [Approved("AloneToo", "t1", 1, ["ann", "bob"])]


# -- on a real store -------------------------------------------------------------------------------------------------


def test_approvals_on_a_real_bus_end_once_each(sagabus_bus: Bus) -> None:
    """People reply to what asks them, or vote by subject from anywhere else; the subject finds the approval."""
    heard: list[Any] = []

    def asked(m: AskForApproval, context: Context) -> None:
        if m.subject != "t3":
            context.reply(Vote(m.subject, m.approver, approves=m.subject == "t1"))

    def entered(m: Approved | Rejected | Cancelled) -> None:
        heard.append(m)

    def refused(m: VoteRefused) -> None:
        """A vote on what was rejected by the other one already."""

    sagabus_bus.endpoint("trips", Trip)
    desk = sagabus_bus.endpoint("desk")
    desk.consumer(asked)
    desk.consumer(refused)
    sagabus_bus.endpoint("diary").consumer(entered)
    sagabus_bus.send_many([RequestTrip(name) for name in ("t1", "t2", "t3")], to="trips")
    worker = sagabus_bus.worker()
    worker.run_until_idle()
    sagabus_bus.send(CancelApproval("t3", "zoe"), to="trips")
    worker.run_until_idle()
    first, second, third = sorted(heard, key=lambda m: str(m.subject))
    assert first == Approved("Trip", "t1", 1, ["ann", "bob"])
    assert isinstance(second, Rejected)
    assert third == Cancelled("Trip", "t3", "zoe", "")
