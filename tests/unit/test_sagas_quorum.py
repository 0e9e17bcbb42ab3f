"""What a quorum does with each answer, and what its class may say: hook by hook, in an order that the test says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Generic, TypeVar

import pytest

from sagabus import Bus, Context, Saga, handles, message
from sagabus.errors import DefinitionError
from sagabus.testing import Deferred, Published, SagaHarness, Sent
from sagas import DECLINED, Quorum, QuorumDeadline, QuorumMissed, QuorumState, UnknownMemberError
from sagas._plain import NotPlainError

K = TypeVar("K")
Make = Callable[..., SagaHarness[QuorumState]]


@message("quorum-unit.invite")
class Invite:
    party: str
    host: str = "zoe"


@message("quorum-unit.ask-guest")
class AskGuest:
    party: str
    guest: str


@message("quorum-unit.accepted")
class Accepted:
    guest: str
    brings: Any = 1


@message("quorum-unit.excused")
class Excused:
    guest: str


@message("quorum-unit.party-on")
class PartyOn:
    host: str
    brought: dict[str, Any]


@message("quorum-unit.sorry")
class Sorry:
    guest: str


class Party(
    Quorum[Invite, Accepted | Excused],
    key="party",
    members={"ann": "friends", "bob": "friends", "cid": "family"},
    need=2,
    within=timedelta(hours=1),
):
    """Takes place with two of three guests."""

    def ask(self, m: Invite, member: str) -> object:
        return AskGuest(m.party, member)

    def answer(self, m: Accepted | Excused) -> tuple[str, Any]:
        return m.guest, m.brings if isinstance(m, Accepted) else DECLINED

    def about(self, m: Invite) -> Any:
        return m.host

    def verdict(self, answers: dict[str, Any]) -> None:
        self.publish(PartyOn(self.state.about, answers))


@pytest.fixture
def party(saga_harness: Make) -> SagaHarness[QuorumState]:
    """Return a party whose guests have been asked."""
    harness = saga_harness(Party)
    harness.give(Invite("p1"))
    return harness


# -- a request -------------------------------------------------------------------------------------------------------


def test_request_asks_every_member_at_its_endpoint(saga_harness: Make) -> None:
    """Members of one endpoint are asked one by one; the deadline runs from the request on."""
    harness = saga_harness(Party)
    left = harness.give(Invite("p1"))
    assert left[:3] == [
        Sent(AskGuest("p1", "ann"), to="friends"),
        Sent(AskGuest("p1", "bob"), to="friends"),
        Sent(AskGuest("p1", "cid"), to="family"),
    ]
    assert left[3:] == [Deferred(QuorumDeadline(), harness.now + timedelta(hours=1), name="deadline")]


def test_second_request_asks_nobody_anew(party: SagaHarness[QuorumState]) -> None:
    """What was kept of the first request stays."""
    assert party.give(Invite("p1", host="eve")) == []
    assert party.state.about == "zoe"


# -- answers ---------------------------------------------------------------------------------------------------------


def test_verdict_comes_with_the_answer_that_makes_it_enough(party: SagaHarness[QuorumState]) -> None:
    """Sorted by member, with what was kept of the request at hand; then the quorum is complete, and has no timer."""
    assert party.give(Accepted("bob", "cake")) == []
    assert party.give(Accepted("ann", ["tea", None])) == [
        Published(PartyOn("zoe", {"ann": ["tea", None], "bob": "cake"}))
    ]
    assert party.completed
    assert party.timers == {}


def test_answers_are_handed_over_sorted_by_member(saga_harness: Make) -> None:
    """Whichever came first, so that a verdict that goes through them says the same each time."""

    class Named(Party):
        def verdict(self, answers: dict[str, Any]) -> None:
            self.publish(PartyOn(" and ".join(answers), answers))

    harness = saga_harness(Named)
    for m in (Invite("p1"), Accepted("cid"), Accepted("ann")):
        harness.give(m)
    assert harness.decisions == [PartyOn("ann and cid", {"ann": 1, "cid": 1})]


def test_answers_at_once_are_one_verdict(party: SagaHarness[QuorumState]) -> None:
    """Each worker knows one answer; the merge knows both."""
    party.together(Accepted("ann"), Accepted("bob"))
    assert party.decisions == [PartyOn("zoe", {"ann": 1, "bob": 1})]


def test_first_answer_of_a_member_counts(party: SagaHarness[QuorumState]) -> None:
    """A second one, of whatever value, changes nothing."""
    for answer in (Accepted("ann", 1), Accepted("ann", 2), Excused("ann")):
        party.give(answer)
    assert (party.state.answers, party.state.declined) == ({"ann": 1}, set())


def test_answers_of_one_member_at_once_leave_the_one_that_sorts_first(party: SagaHarness[QuorumState]) -> None:
    """Every worker keeps the same."""
    party.together(Accepted("ann", 2), Accepted("ann", 1))
    assert party.state.answers == {"ann": 1}


def test_answer_of_a_member_that_has_declined_counts(party: SagaHarness[QuorumState]) -> None:
    """Who comes after all has come."""
    for answer in (Excused("ann"), Accepted("ann"), Accepted("bob")):
        party.give(answer)
    assert party.decisions == [PartyOn("zoe", {"ann": 1, "bob": 1})]


def test_answer_of_a_stranger_is_an_error_that_says_who_was_asked(party: SagaHarness[QuorumState]) -> None:
    """It ends as a dead letter, for somebody to look at; the state is as it was."""
    with pytest.raises(UnknownMemberError, match=r"Party/p1: .* 'dan', who was not asked; asked were ann, bob, cid"):
        party.give(Accepted("dan"))
    assert party.state.answers == {}


def test_stranger_may_be_answered_instead(saga_harness: Make) -> None:
    """The hook decides what becomes of them; their value is not kept."""

    class Polite(Party):
        def stranger(self, m: Accepted | Excused, member: str) -> None:
            self.reply(Sorry(member))

    harness = saga_harness(Polite)
    harness.give(Invite("p1"))
    harness.give(Accepted("dan"))
    assert harness.replies == [Sorry("dan")]
    assert harness.state.answers == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"at": {1: 2}}, r"the key 1 at \$\.at"),
        ([1, float("nan")], r"nan at \$\[1\]"),
        ((1, 2), r"a tuple at \$"),
        (2**64, r"18446744073709551616, more than 64 bits at \$"),
        (Sorry("ann"), r"a Sorry at \$"),
    ],
)
def test_answer_that_is_no_plain_data_is_refused(saga_harness: Make, value: Any, text: str) -> None:
    """It would come back from the store as something else than the verdict of the same run saw."""

    class Odd(Party):
        def answer(self, m: Accepted | Excused) -> tuple[str, Any]:
            return m.guest, value

    harness = saga_harness(Odd)
    harness.give(Invite("p1"))
    with pytest.raises(NotPlainError, match=rf"Odd\.answer\(\) returned {text}.*return plain data"):
        harness.give(Accepted("ann"))


# -- too few ---------------------------------------------------------------------------------------------------------


def test_deadline_with_too_few_answers_says_who_is_missing(party: SagaHarness[QuorumState]) -> None:
    """Not before its time; then the quorum is missed, and complete."""
    party.give(Accepted("bob"))
    assert party.advance(timedelta(minutes=59)) == []
    assert party.advance(timedelta(minutes=1)) == [Published(QuorumMissed("Party", "p1", ["bob"], ["ann", "cid"]))]
    assert party.completed


def test_too_many_that_decline_end_it(party: SagaHarness[QuorumState]) -> None:
    """One may decline; the second of three ends it, whoever else has answered."""
    party.give(Accepted("cid"))
    assert party.give(Excused("ann")) == []
    assert party.give(Excused("bob")) == [Published(QuorumMissed("Party", "p1", ["cid"], ["ann", "bob"]))]


def test_deadline_may_decide_on_what_there_is(saga_harness: Make) -> None:
    """`missed` gets the partial answers, and who did not answer."""

    class Small(Party, name="small-party"):
        def missed(self, answers: dict[str, Any], missing: list[str]) -> None:
            if answers:
                self.verdict(answers)
            else:
                super().missed(answers, missing)

    harness = saga_harness(Small)
    for name in ("p1", "p2"):
        harness.give(Invite(name))
    harness.give(Accepted("ann"), saga="p1")
    harness.advance(timedelta(hours=1))
    assert harness.decisions == [
        PartyOn("zoe", {"ann": 1}),
        QuorumMissed("small-party", "p2", [], ["ann", "bob", "cid"]),
    ]


# -- too late --------------------------------------------------------------------------------------------------------


def test_late_answer_changes_nothing_and_says_nothing(party: SagaHarness[QuorumState]) -> None:
    """Unless the class says more."""
    party.together(Accepted("ann"), Accepted("bob"))
    assert party.give(Accepted("cid")) == []
    assert party.give(Invite("p1")) == []
    assert party.state.answers.keys() == {"ann", "bob"}


def test_late_answer_goes_to_its_hook(saga_harness: Make) -> None:
    """Answers of each type do; requests do not."""

    class Polite(Party):
        def late(self, m: Accepted | Excused) -> None:
            self.reply(Sorry(m.guest))

    harness = saga_harness(Polite)
    for m in (Invite("p1"), Accepted("ann"), Accepted("bob"), Accepted("cid"), Excused("ann"), Invite("p1")):
        harness.give(m)
    assert harness.replies == [Sorry("cid"), Sorry("ann")]


# -- what a class may say --------------------------------------------------------------------------------------------


def test_all_are_needed_unless_said_otherwise(saga_harness: Make) -> None:
    """So is it after `need="all"`; members that are names alone are endpoints too."""

    class Everybody(Party, members=("ann", "bob"), need="all"):
        pass

    harness = saga_harness(Everybody)
    assert [effect.to for effect in harness.give(Invite("p1")) if isinstance(effect, Sent)] == ["ann", "bob"]
    harness.give(Accepted("ann"))
    assert not harness.completed
    harness.give(Accepted("bob"))
    assert harness.completed


def test_running_quorum_keeps_the_members_that_it_asked(saga_harness: Make) -> None:
    """A class that names more members later does not wait for those that were never asked."""
    members: dict[str, str] = {"ann": "friends"}

    class Growing(Party, members=members, need="all"):
        pass

    harness = saga_harness(Growing)
    harness.give(Invite("p1"))
    Growing._options = type(Growing._options)({"ann": "friends", "bob": "friends"})
    harness.give(Accepted("ann"))
    assert harness.decisions == [PartyOn("zoe", {"ann": 1})]


def test_generic_base_is_no_saga_yet(saga_harness: Make) -> None:
    """A base may leave its messages open and share hooks; its options hold for what is made of it."""

    class House(Quorum[K, Accepted], Generic[K], within=timedelta(minutes=5), members=("ann",), key="party"):
        def answer(self, m: Accepted) -> tuple[str, Any]:
            return m.guest, m.brings

        def verdict(self, answers: dict[str, Any]) -> None:
            self.publish(PartyOn("house", answers))

    class Dinner(House[Invite]):
        def ask(self, m: Invite, member: str) -> object:
            return AskGuest(m.party, member)

    harness = saga_harness(Dinner)
    harness.give(Invite("p1"))
    assert harness.timers.keys() == {"deadline"}
    harness.give(Accepted("ann"))
    assert harness.decisions == [PartyOn("house", {"ann": 1})]
    with pytest.raises(DefinitionError, match="is no saga with handlers"):
        saga_harness(House)


def test_subclass_may_handle_messages_of_its_own(saga_harness: Make) -> None:
    """Classes within a function are found, through postponed annotations too."""

    @message("quorum-unit.poke")
    class Poke:
        party: str

    class Poked(Party, key="party"):
        @handles
        def poked(self, m: Poke) -> None:
            self.publish(Sorry("everybody"))

    harness = saga_harness(Poked)
    harness.give(Invite("p1"))
    harness.give(Poke("p1"))
    assert harness.published == [Sorry("everybody")]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"need": 3}, r"needs 3 answers and asks 2, so it could never decide. Lower need= to 2 or less, .* need='all'"),
        ({"need": 0}, r"need=0 is no number of answers. Write 1 or more, or 'all'"),
        ({"need": "most"}, r"need='most' is no number of answers"),
        ({"members": "ann"}, r"members='ann' is one text, and no list of names. Write members=\('ann',\)"),
        ({"members": ("ann", "ann")}, r"a member is named twice. Name each once"),
        ({"members": ("ann", "")}, r"a member or its endpoint is called ''. Name each by a text"),
        ({"members": {"ann": 5}}, r"a member or its endpoint is called 5"),
        ({"members": ()}, r"it has nobody to ask. Name them: members=\("),
        (
            {"members": (name for name in ("ann", "bob"))},
            r"is no list of names. .* make a tuple of them: members=tuple",
        ),
        ({"members": 5}, r"members=5 is no list of names. Write them out, members=\("),
        ({"members": (["ann"], "bob")}, r"a member or its endpoint is called \['ann'\]"),
        ({"exclusive": True}, r"is exclusive, .* Write merger=None beside exclusive=True, or leave out exclusive="),
        ({"within": 30}, r"within=30 is no time to wait. Write a timedelta over zero, or None"),
        ({"within": timedelta(0)}, r"is no time to wait"),
        ({"patience": 3}, r"unknown option patience"),
        ({"key": "guest"}, r"has no field 'guest' to find the saga by"),
    ],
)
def test_class_that_could_not_work_is_refused(options: dict[str, Any], text: str) -> None:
    """While it is defined, with the mend; what the kernel refuses is refused as for every saga."""
    with pytest.raises(DefinitionError, match=text):
        type("Bad", (Party,), {}, **({"members": ("ann", "bob")} | options))


def test_class_without_messages_is_refused() -> None:
    """`class X(Quorum)` says nothing of what is asked and answered."""
    with pytest.raises(DefinitionError, match=r"Bad: the message class of its answer is not given. Write the class"):
        type("Bad", (Quorum,), {}, members=("ann",))


@pytest.mark.parametrize(
    ("hook", "signature"), [("ask", "self, m, member"), ("answer", "self, m"), ("verdict", "self, answers")]
)
def test_class_without_one_of_its_methods_is_refused(hook: str, signature: str) -> None:
    """While it is defined, and not with the first message; the error has its name and its arguments."""
    with pytest.raises(DefinitionError, match=rf"Lame: it has no {hook}\(\). Write {hook}\({signature}\), or leave"):
        type("Lame", (Party,), {hook: getattr(Quorum, hook)})


def test_base_that_leaves_all_to_its_subclasses_is_made(saga_harness: Make) -> None:
    """Neither messages, nor members, nor methods; one of them may come from a mixin."""
    other = TypeVar("other")

    class House(Quorum[K, other], Generic[K, other], need=1):
        """A base for others."""

    class Verdict:
        def verdict(self: Any, answers: dict[str, Any]) -> None:
            self.publish(PartyOn("house", answers))

    class Dinner(Verdict, House[Invite, Accepted], key="party", members=("ann", "bob")):
        def ask(self, m: Invite, member: str) -> object:
            return AskGuest(m.party, member)

        def answer(self, m: Accepted) -> tuple[str, Any]:
            return m.guest, m.brings

    harness = saga_harness(Dinner)
    harness.give(Invite("p1"))
    harness.give(Accepted("ann"))
    assert harness.decisions == [PartyOn("house", {"ann": 1})]


def test_exclusive_quorum_without_a_merger_works(saga_harness: Make) -> None:
    """What the error advises is right; a subclass need not say it again."""

    class Alone(Party, exclusive=True, merger=None):
        pass

    class AloneToo(Alone, need="all"):
        pass

    harness = saga_harness(AloneToo)
    harness.give(Invite("p1"))
    harness.together(Accepted("ann"), Accepted("bob"), Accepted("cid"))
    assert harness.decisions == [PartyOn("zoe", {"ann": 1, "bob": 1, "cid": 1})]


# -- on a real store -------------------------------------------------------------------------------------------------


def test_parties_on_a_real_bus_end_once_each(sagabus_bus: Bus) -> None:
    """Request, three answers, verdict and a late answer, through a server."""
    heard: list[Any] = []

    def invited(m: AskGuest, context: Context) -> None:
        context.reply(Excused(m.guest) if m.party == "p2" else Accepted(m.guest))

    def entered(m: PartyOn | QuorumMissed) -> None:
        heard.append(m)

    saga: type[Saga[Any]] = Party
    sagabus_bus.endpoint("parties", saga)
    for name in ("friends", "family"):
        sagabus_bus.endpoint(name).consumer(invited)
    sagabus_bus.endpoint("diary").consumer(entered)
    sagabus_bus.send_many([Invite("p1"), Invite("p2")], to="parties")
    sagabus_bus.worker().run_until_idle()
    (on,) = [m for m in heard if isinstance(m, PartyOn)]
    assert on.host == "zoe"
    assert len(on.brought) >= 2
    (missed,) = [m for m in heard if isinstance(m, QuorumMissed)]
    assert (missed.id, missed.answered, missed.missing) == ("p2", [], ["ann", "bob", "cid"])
