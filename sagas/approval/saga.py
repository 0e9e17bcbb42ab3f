"""An approval: ask people, remind them, ask those above them, and end once with one of four answers.

class PurchaseApproval(
    Approval[RequestPurchase],
    key="purchase",
    people="desk",
    levels=(
        Level("ann", "bob", within=timedelta(days=2)),
        Level("carla", within=timedelta(days=5)),
    ),
    remind_every=timedelta(hours=8),
):
    def about(self, m: RequestPurchase) -> Any:
        return {"what": m.what, "cents": m.cents}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar

from attrs import evolve

from mergers import fieldwise
from sagabus import Saga, handles, starts
from sagas._classes import (
    UNSAID,
    Unsaid,
    add_handler,
    arguments_of,
    is_open,
    messages_in,
    refuse_siblings_of_exclusive,
)
from sagas._plain import plain
from sagas.approval.ballots import ApprovalState, Ballot, graver_of
from sagas.approval.levels import Level, Options, check, check_complete, levels_of
from sagas.approval.messages import (
    Approved,
    AskForApproval,
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

M = TypeVar("M")

ESCALATION: Final = "escalation"
"""The name of the timer that ends the time of a level."""
REMINDER: Final = "reminder"
"""The name of the timer of the next reminder."""


class Approval(Saga[ApprovalState], Generic[M]):
    """Ask people, level after level, until it is approved, rejected, expired or cancelled.

    Subclass it as `Approval[Request]`; `key` names the field of the request that says what is to be approved. People
    vote at the same time, change their minds, vote too late or unasked. One of `approved`, `rejected`, `expired` and
    `cancelled` is released, once, from a settled saga; then the approval completes.

    Class arguments, beside those of `Saga`; a subclass of a subclass has those of its base, but for `name`:
        people: the endpoint that gets what is meant for people: `AskForApproval`, `RemindApprover`, `VoteRefused`.
        levels: who is asked, level by level.
        rejections: how many people must reject to end it; one by default. It also ends when so many have rejected
            that no level can come to its `need` any more.
        remind_every: how long people who do not answer are left in peace; None, the default, for ever.
        reminders: how often the people of a level are reminded at most; 3 by default.

    Raises:
        DefinitionError: the arguments say too little, or contradict each other; when the class is defined.
    """

    _options: ClassVar[Options] = Options()
    _of_the_kernel: ClassVar[Mapping[str, Any]] = {"merger": fieldwise(ApprovalState)}
    _name: ClassVar[str] = ""

    def __init_subclass__(
        cls,
        *,
        people: str | None = None,
        levels: Sequence[Level] | None = None,
        rejections: int | None = None,
        remind_every: timedelta | Literal[Unsaid.UNSAID] | None = UNSAID,
        reminders: int | None = None,
        **options: Any,
    ) -> None:
        said: dict[str, Any] = {
            "people": people,
            "levels": None if levels is None else levels_of(cls, levels),
            "rejections": rejections,
            "reminders": reminders,
        }
        said = {name: value for name, value in said.items() if value is not None}
        if remind_every is not UNSAID:
            said["remind_every"] = remind_every
        cls._options = evolve(cls._options, **said)
        check(cls, cls._options)
        given, options = options, {**cls._of_the_kernel, **options}
        refuse_siblings_of_exclusive(cls, given, options)
        cls._name = options.pop("name", None) or cls.__name__
        cls._of_the_kernel = options
        if not is_open(cls):
            check_complete(cls, cls._options)
            (request,) = arguments_of(cls, Approval)
            add_handler(cls, "_on_request", starts(*messages_in(cls, request, "request")), "_requested")
            add_handler(cls, "_on_vote", handles(Vote, key="subject"), "_voted")
            add_handler(cls, "_on_cancel", handles(CancelApproval, key="subject"), "_cancel_came")
            add_handler(cls, "_on_escalation", handles(EscalationDue), "_level_over")
            add_handler(cls, "_on_reminder", handles(ReminderDue), "_reminder_came")
        super().__init_subclass__(name=cls._name, **options)

    # -- for users to override -----------------------------------------------------------------------------------

    def about(self, m: M) -> Any:
        """Return what of the request people are told, plain data; kept as `self.state.about`. Nothing by default."""
        return None

    def ask(self, approver: str, level: int) -> object:
        """Return the command that asks *approver*, for the endpoint of the people."""
        return AskForApproval(self.id, approver, level, self.state.about)

    def remind(self, approver: str, level: int, number: int) -> object:
        """Return the command that reminds *approver* of *level*, for the *number*-th time."""
        return RemindApprover(self.id, approver, level, number, self.state.about)

    def approved(self, level: int) -> None:
        """Announce that the people of *level* have approved; `self.state.ballots` has the votes."""
        self.publish(Approved(self._name, self.id, level, self._voters(approving=True)))

    def rejected(self) -> None:
        """Announce that people have rejected; `self.state.ballots` has the votes."""
        self.publish(Rejected(self._name, self.id, self._voters(approving=False)))

    def expired(self, silent: list[str]) -> None:
        """Announce that the time of the last level is over; *silent* were asked and never voted, sorted."""
        self.publish(Expired(self._name, self.id, silent))

    def cancelled(self, by: str, reason: str) -> None:
        """Announce that the approval was cancelled."""
        self.publish(Cancelled(self._name, self.id, by, reason))

    def not_asked(self, m: Vote) -> None:
        """React to a vote of somebody who was not asked, or not yet. By default they are told: `VoteRefused`."""
        self.send(VoteRefused(self.id, m.approver, "not-asked"), to=self._options.people)

    def late(self, m: Vote | CancelApproval) -> None:
        """React to a vote or a cancellation after the end; it may send and publish, and changes no state.

        By default who votes is told (`VoteRefused`), and who cancels hears nothing but the event that was published.
        """
        if isinstance(m, Vote):
            self.send(VoteRefused(self.id, m.approver, "closed"), to=self._options.people)

    # -- how: facts ----------------------------------------------------------------------------------------------

    def _requested(self, m: M) -> None:
        if self.state.due == 0:  # a second request for the same subject changes nothing
            self.state.about = plain(self.about(m), f"{self._name}.about()")
            self.state.due = 1

    def _voted(self, m: Vote) -> None:
        if m.approver not in self._asked():
            self.not_asked(m)
            return
        ballots = self.state.ballots
        ballot = Ballot(m.approves, m.comment)
        ballots[m.approver] = graver_of([ballot, ballots.get(m.approver, ballot)])

    def _cancel_came(self, m: CancelApproval) -> None:
        if self.state.cancellation is None:
            self.state.cancellation = (m.by, m.reason)

    def _level_over(self, m: EscalationDue) -> None:
        self.state.due = max(self.state.due, m.level + 1)

    def _reminder_came(self, m: ReminderDue) -> None:
        self.state.reminder_due = max(self.state.reminder_due, (m.level, m.number))

    # -- how: the decision ---------------------------------------------------------------------------------------

    def decide(self) -> None:
        """End it, or ask the next level, or remind; the hooks are where to write."""
        while not self._end():
            if not self._ask_next():
                self._remind()
                return
        self.complete()

    def _end(self) -> bool:
        """Announce the end if there is one, and return whether there is."""
        state, levels = self.state, self._options.levels
        ballots = state.ballots
        approving = [n for n, level in enumerate(levels[: state.asked], 1) if level.approvals(ballots) >= level.needed]
        rejections = sum(not ballot.approves for ballot in ballots.values())
        if state.cancellation is not None:
            self.cancelled(*state.cancellation)
        elif rejections >= self._options.rejections or not any(map(self._possible, levels)):
            self.rejected()
        elif approving:
            self.approved(approving[0])
        elif state.asked >= len(levels) and state.due > state.asked:  # asked: code with more levels may have written it
            self.expired(sorted(self._asked() - ballots.keys()))
        else:
            return False
        return True

    def _possible(self, level: Level) -> bool:
        return level.possible(self.state.ballots) >= level.needed

    def _ask_next(self) -> bool:
        """Ask the next level if it is time, and return whether it was."""
        state, levels = self.state, self._options.levels
        if state.asked >= len(levels):
            return False
        if state.asked >= state.due and self._possible(levels[state.asked - 1]):
            return False
        before = self._asked()
        state.asked += 1
        level = levels[state.asked - 1]
        if self._possible(level):  # else one of its people has said no before, at another level
            for name in level.approvers:
                if name not in before:
                    self.send(self.ask(name, state.asked), to=self._options.people)
        self._set_timer(REMINDER, ReminderDue(state.asked, 1), self._until_reminder(1))
        self._set_timer(ESCALATION, EscalationDue(state.asked), level.within)
        return True

    def _remind(self) -> None:
        """Remind who has not voted, if it is time: the people of the level asked last."""
        state, levels = self.state, self._options.levels
        level, number = state.reminder_due
        if state.reminder_due <= state.reminded or level != state.asked or level > len(levels):
            return
        state.reminded = state.reminder_due
        for name in levels[level - 1].approvers:
            if name not in state.ballots:
                self.send(self.remind(name, level, number), to=self._options.people)
        self._set_timer(REMINDER, ReminderDue(level, number + 1), self._until_reminder(number + 1))

    def _until_reminder(self, number: int) -> timedelta | None:
        return self._options.remind_every if number <= self._options.reminders else None

    def _set_timer(self, name: str, m: object, after: timedelta | None) -> None:
        """Have the timer *name* deliver *m*; with no time, have none of that name."""
        if after is None:
            self.cancel(name)
        else:
            self.defer(m, after=after, name=name)

    def on_late(self, message: Any) -> None:
        """Hand late votes and cancellations to `late`."""
        if isinstance(message, Vote | CancelApproval):
            self.late(message)

    def _asked(self) -> set[str]:
        """Return who is named by the levels asked so far, as the running code names them: their votes count."""
        return {name for level in self._options.levels[: self.state.asked] for name in level.approvers}

    def _voters(self, *, approving: bool) -> list[str]:
        return sorted(name for name, ballot in self.state.ballots.items() if ballot.approves is approving)
