"""The saga: handlers note what is answered, `decide()` asks for the next step or says how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar, get_args, get_origin

import attrs

from sagabus import Saga, handles
from sagabus.errors import DefinitionError
from sagas._classes import subject_of
from sagas.itinerary import course
from sagas.itinerary.course import Move, MoveKind
from sagas.itinerary.messages import (
    ItineraryAbandoned,
    ItineraryCompleted,
    ItineraryOutcome,
    ItineraryUndone,
    LateUndoFailed,
    Slip,
    StepDone,
    StepFailed,
    StepOverdue,
)
from sagas.itinerary.progress import ItineraryState
from sagas.itinerary.steps import Ask, ItineraryError, Step, check_route, doubled

S = TypeVar("S", bound=ItineraryState)


class Itinerary(Saga[S]):
    """Steps in order, each with its undo. Subclass it with a state, a start handler and the steps:

        class Trip(Itinerary[TripState], key="trip"):
            steps = (
                Step("flight", lambda state, slip: BookFlight(slip, state.passenger),
                     undo=lambda state, slip: CancelFlight(slip), to="airline"),
                ...
            )

            @starts
            def requested(self, m: BookTrip) -> None:
                self.state.passenger = m.passenger

    Whoever does a step answers with `slip.done(...)` or `slip.failed(reason)`, and may be asked twice. The next step is
    asked for when the one before is done; when one fails, what was or may have been done is undone in reverse order.
    Exactly one outcome is published. It is a serial saga. Its decision is its own: say what else you want in `ended`,
    and in `on_late` call this one.

    Class arguments: as of `Saga`, without `merger` and `restartable`.

    Raises:
        DefinitionError: the steps or the class arguments contradict each other; when the class is defined.
        ItineraryError: a command does not carry its slip, or an answer has a slip of another; while it runs.
    """

    steps: ClassVar[Sequence[Step]] = ()
    """The steps in order, one at least. Do not rename or take out one that a live itinerary may be at."""

    _route: ClassVar[tuple[Step, ...]] = ()
    _name: ClassVar[str] = ""

    def __init_subclass__(cls, **options: Any) -> None:
        subject = subject_of(cls)
        if options.get("merger") is not None:
            raise DefinitionError(subject, "an itinerary is serial and takes no merger", "Leave out merger=")
        if options.get("restartable"):
            raise DefinitionError(
                subject,
                "a second life would use the idempotency keys of the first again, so nothing would be done",
                "Leave out restartable=, and let each run have a key of its own",
            )
        if cls.decide is not Itinerary.decide:
            raise DefinitionError(
                subject,
                "its own decide() would take the place of the one that asks for the steps",
                "Leave it out: say more about the end in ended(outcome), and call turn_back(reason) in a handler",
            )
        for base in vars(cls).get("__orig_bases__", ()):
            for state in get_args(base) if get_origin(base) is Itinerary else ():
                if isinstance(state, type) and not issubclass(state, ItineraryState):
                    raise DefinitionError(
                        subject,
                        f"its state {state.__qualname__} has no room for the itinerary's own",
                        f"Write class {state.__qualname__}(ItineraryState)",
                    )
        if "steps" in vars(cls):
            cls._route = check_route(cls.steps, subject)
        if cls._route:
            cls._name = options.get("name") or cls.__name__
            _add_handlers(cls)
        super().__init_subclass__(**options)
        if cls.__saga__ is not None and not cls._route:
            raise DefinitionError(subject, "it has handlers and no steps", "Write steps = (Step(...), ...)")

    # -- for users ---------------------------------------------------------------------------------------------------

    def turn_back(self, reason: str) -> None:
        """Have the itinerary undo what it has done, unless its pivot is done. For handlers, e.g. of a cancellation.

        The step under way is waited for first, for as long as one attempt has; one that may take for ever is undone
        at once. While the pivot is under way, it depends on the answer.

        Args:
            reason: what `ItineraryUndone` will say; the first reason counts.
        """
        if not reason:
            raise ItineraryError(self._name, "it is to turn back for no reason", "Give turn_back a text")
        self.state.itinerary.reason = self.state.itinerary.reason or reason

    def ended(self, outcome: ItineraryOutcome) -> None:
        """Say more about the end, in the same write: for users to override, e.g. with `self.reply_to_starter(...)`."""

    # -- facts -------------------------------------------------------------------------------------------------------

    def _answered(self, m: StepDone) -> None:
        known = self.state.itinerary.begin(self._step(m.slip).name)
        if m.slip.undo:
            if not self.state.itinerary.back:
                self.turn_back(f"{m.slip.step} was undone, and the store had lost that it was to be")
            known.hear_undone(m.slip.attempt)
            over = known.undone
        else:
            if known.hear_done(m.slip.attempt):
                self.state.results[m.slip.step] = m.result
            over = True
        if over:
            self.cancel(m.slip.step)

    def _refused(self, m: StepFailed) -> None:
        self.state.itinerary.begin(self._step(m.slip).name).hear_refused(m.slip, m.reason)

    def _overdue(self, m: StepOverdue) -> None:
        self.state.itinerary.begin(self._step(m.slip).name).hear_overdue(m.slip)

    # -- the decision ------------------------------------------------------------------------------------------------

    def decide(self) -> None:
        """Ask for the next step, or its undo, or end."""
        progress = self.state.itinerary
        move = course.next_move(self._route, progress)
        if move.kind is MoveKind.TURN_BACK:
            self._turn(move)
            move = course.next_move(self._route, progress)
        match move.kind:
            case MoveKind.DO:
                self._do(move)
            case MoveKind.UNDO:
                self._undo(move)
            case MoveKind.COMPLETED:
                self._end(ItineraryCompleted(self._name, self.id, dict(self.state.results)), "completed")
            case MoveKind.UNDONE:
                self._end(self._all_undone(), "undone")
            case MoveKind.ABANDONED:
                self._end(self._abandoned(move), "abandoned")

    def _turn(self, move: Move) -> None:
        progress = self.state.itinerary
        if move.step is not None:
            # Nobody waits for it any more; its undo sets a timer of the same name.
            self.cancel(move.step.name)
            progress.failed = "" if progress.reason else move.step.name
        progress.back, progress.reason = True, move.reason

    def _do(self, move: Move) -> None:
        assert move.step is not None
        step, known = move.step, self.state.itinerary.begin(move.step.name)
        known.asked, known.overdue = known.asked + 1, False
        slip = Slip(self._name, self.id, step.name, attempt=known.asked)
        self.send(self._command(step.do, slip), to=step.to)
        patience = step.patience(known.asked, firm=move.firm)
        if patience is not None:
            self.defer(StepOverdue(slip), after=patience, name=step.name)

    def _undo(self, move: Move) -> None:
        assert move.step is not None
        step, known = move.step, self.state.itinerary.begin(move.step.name)
        known.undo_asked, known.undo_overdue = known.undo_asked + 1, False
        slip = self._send_undo(step, known.undo_asked)
        self.defer(StepOverdue(slip), after=doubled(step.undo_within, known.undo_tries), name=step.name)

    def _end(self, outcome: ItineraryOutcome, word: str) -> None:
        self.state.itinerary.outcome = word
        self.publish(outcome)
        self.ended(outcome)
        self.complete()

    def _all_undone(self) -> ItineraryUndone:
        route, progress = self._route, self.state.itinerary
        return ItineraryUndone(
            self._name,
            self.id,
            progress.reason,
            progress.failed,
            course.undone(route, progress),
            course.kept(route, progress),
        )

    def _abandoned(self, move: Move) -> ItineraryAbandoned:
        assert move.step is not None
        route, progress = self._route, self.state.itinerary
        left = course.to_undo(route, progress) if progress.back else course.not_done(route, progress)
        return ItineraryAbandoned(self._name, self.id, move.step.name, progress.back, move.reason, left)

    # -- after the end -------------------------------------------------------------------------------------------------

    def on_late(self, message: Any) -> None:
        """Undo what was done after it had been undone; say so where that fails."""
        progress = self.state.itinerary
        if not progress.back or not isinstance(message, StepDone | StepFailed):
            return
        step = self._step(message.slip)
        known = progress.of(step.name)
        if isinstance(message, StepFailed):
            if message.slip.undo and message.slip.attempt > known.undo_asked:
                self.publish(LateUndoFailed(self._name, self.id, step.name, message.reason))
        elif not message.slip.undo and step.undo is not None and not known.may_stand:
            # What is left of an abandoned itinerary was reported, and is for people.
            self._send_undo(step, known.undo_asked + 1)

    # -- slips ---------------------------------------------------------------------------------------------------------

    def _send_undo(self, step: Step, attempt: int) -> Slip:
        assert step.undo is not None
        slip = Slip(self._name, self.id, step.name, undo=True, attempt=attempt)
        self.send(self._command(step.undo, slip), to=step.undo_to or step.to)
        return slip

    def _command(self, ask: Ask, slip: Slip) -> Any:
        """Return the command that *ask* makes, having made sure that its answer will find its step."""
        command: Any = ask(self.state, slip)
        fields = attrs.fields(type(command)) if attrs.has(type(command)) else ()
        if not any(getattr(command, a.name) == slip for a in fields):
            raise ItineraryError(
                slip.key,
                f"the command {type(command).__qualname__} does not carry the slip, so nobody could answer it",
                f"Give {type(command).__qualname__} a field `slip: Slip`, and put in the slip that the step is given",
            )
        return command

    def _step(self, slip: Slip) -> Step:
        """Return the step that *slip* is about, having made sure that it is one of this itinerary's own."""
        if (slip.itinerary, slip.id) != (self._name, self.id):
            raise ItineraryError(
                f"{self._name}/{self.id}",
                f"was answered with a slip of {slip.key}",
                "Answer with the slip of the command",
            )
        for step in self._route:
            if step.name == slip.step:
                return step
        raise ItineraryError(
            f"{self._name}/{self.id}",
            f"was answered about {slip.step!r} and has no such step",
            "Bring the step back until no itinerary that was at it is live, and replay the dead letter",
        )


def _add_handlers(cls: type[Itinerary[Any]]) -> None:
    """Give *cls* the handlers of answers. The base has none, for a saga with handlers must have a start as well."""

    @handles(StepDone)
    def _on_step_done(self: Itinerary[Any], m: StepDone) -> None:
        self._answered(m)

    @handles(StepFailed)
    def _on_step_failed(self: Itinerary[Any], m: StepFailed) -> None:
        self._refused(m)

    @handles(StepOverdue)
    def _on_step_overdue(self: Itinerary[Any], m: StepOverdue) -> None:
        self._overdue(m)

    for handler in (_on_step_done, _on_step_failed, _on_step_overdue):
        setattr(cls, handler.__name__, handler)
