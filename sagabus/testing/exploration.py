"""`explore`: every order that a saga could meet, or many at random, and the shortest way to break it."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence, Set
from typing import Any, Final, Literal

from attrs import field, frozen

from sagabus.errors import ConfigurationError
from sagabus.messages import registry
from sagabus.testing import session
from sagabus.testing.session import Progress
from sagabus.testing.simulator.inquiry import Inquiry
from sagabus.testing.simulator.moment import Messages, Moment
from sagabus.testing.simulator.report import Failure, failure_of
from sagabus.testing.simulator.sampling import Sampling
from sagabus.testing.simulator.scene import Scene, Subject
from sagabus.testing.simulator.schedule import schedule_of, token_of
from sagabus.testing.simulator.search import Found, Search
from sagabus.testing.simulator.shrinking import Shrinker
from sagabus.testing.simulator.telling import write_down
from sagabus.testing.simulator.verdict import Expectations, Invariant
from sagabus.testing.simulator.wording import say
from sagabus.testing.simulator.world import Budget, Settings

Mode = Literal["auto", "exhaustive", "random"]
_MAX_STATES: Final = 200_000


class ExplorationError(AssertionError):
    """A schedule breaks something, and the text is the whole report; or an exhaustive search was not through.

    Attributes:
        failure: the schedule, and what it breaks; None where the search was cut off before it found any.
    """

    def __init__(self, failure: Failure | None, text: str) -> None:
        super().__init__(text)
        self.failure = failure


@frozen
class Ending:
    """One way in which schedules end.

    Attributes:
        schedules: how many end so; infinite where a schedule can go round in circles first.
        example: the shortest of them, as a token for `replay=`.
    """

    schedules: float
    example: str


@frozen
class Exploration:
    """What `explore` has found.

    Attributes:
        failure: the shortest schedule that breaks something; None where all is well.
        outcomes: outcome -> how many schedules end so, with an example.
        states: how many different worlds were passed.
        transitions: how many steps between them.
        schedules: how many schedules there are, or were tried.
        complete: whether there are no others.
        mode: `exhaustive`, `random` or `replay`.
        seed: of a random search; else None.
        trace: of a replay: what happened, a line a step.
    """

    failure: Failure | None
    outcomes: Mapping[Any, Ending]
    states: int
    transitions: int
    schedules: float
    complete: bool
    mode: str
    seed: int | None = None
    trace: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Return whether nothing was broken, and nothing was left out that was to be looked at."""
        return self.failure is None and not self.cut_off

    @property
    def cut_off(self) -> bool:
        """Return whether an exhaustive search has met its limit: then there may be failures that nobody has seen."""
        return self.mode == "exhaustive" and self.failure is None and not self.complete

    def assert_ok(self) -> Exploration:
        """Return this exploration.

        Raises:
            ExplorationError: something was broken, and the text is the whole report; or the search was cut off.
        """
        __tracebackhide__ = True  # pytest is to show the user's own frames
        if self.failure is not None:
            raise ExplorationError(self.failure, self.failure.report)
        if self.cut_off:
            raise ExplorationError(
                None,
                f"the search was cut off after {self.states:,} states, with nothing broken so far. Raise max_states=, "
                f"explore fewer messages, or say mode='auto' to go on at random",
            )
        return self

    def __str__(self) -> str:
        end = self.failure.kind if self.failure else "cut off" if self.cut_off else "ok"
        if self.mode == "replay":
            return f"replay of {len(self.trace)} steps: {end}"
        how = f"{self.mode}, seed {self.seed}" if self.seed is not None else self.mode
        looked = f"{how}: {self.states:,} states, {self.transitions:,} transitions"
        if self.failure is not None and not self.schedules:
            return f"{looked}: {end}"
        many = "endless" if math.isinf(self.schedules) else f"{int(self.schedules):,}"
        return f"{looked}, {many} schedules, {len(self.outcomes)} outcomes: {end}"


def explore(
    subject: Subject,
    *,
    start: Sequence[Any] = (),
    messages: Sequence[Any] = (),
    workers: int = 2,
    batch: int = 1,
    duplicates: int = 0,
    resends: int = 0,
    timeouts: bool = True,
    rollbacks: int = 0,
    crashes: int = 0,
    documents: Mapping[Any, Any] | None = None,
    outcomes: Iterable[Any] | None = None,
    outcome: Callable[[Moment], Hashable] | None = None,
    always: Sequence[Invariant] = (),
    finally_: Sequence[Invariant] = (),
    must_end: bool = True,
    serial_merges: bool = True,
    dead_letters: bool = False,
    merger_laws: bool = True,
    mode: Mode = "auto",
    max_states: int | None = None,
    runs: int = 2_000,
    seed: int | None = None,
    replay: str | None = None,
) -> Exploration:
    """Try the orders in which workers could handle *start* and *messages*, and say what breaks.

    Each step is one of the runtime's own: a worker loads a saga and runs the functional core, or it commits what it has
    in hand by the store's own rules. Checked in every schedule: a saga completes once, decides only when
    settled, and is never stuck; no message's effect is lost; handlers are pure and mergers lawful; it ends as declared.

    Args:
        subject: a saga class, several, or a `Bus`, whose consumers then answer.
        start, messages: in the queues from the beginning. One without a key goes to the saga that *start* began.
        workers: how many may hold one saga at once.
        batch: the most messages that one load takes: 1 or 2.
        duplicates: how many deliveries happen once more, with the same message id; also to consumers at work on
            documents, and then perhaps at the same time.
        resends: how many messages come again under a new id.
        timeouts: whether a timer may fire at any time from when it is set, or never.
        rollbacks: how often the store fails over and loses the last commit of a saga.
        crashes: how often a worker dies with a consumer at work on documents, whose message is delivered again.
        documents: for consumers of a `Bus` that use `context.documents`: name or `DocumentKey` -> the value that is
            there at the beginning. Each operation is a step then; they must depend on nothing else. Nothing expires.
        outcomes: the outcomes that are allowed. Without it, every schedule must end as it would without a race.
        outcome: what a final moment amounts to; by default the decisions released.
        always: invariants that hold after every commit: return False, or raise AssertionError, where they do not.
        finally_: likewise, when nothing can happen any more.
        must_end: whether every saga that has started must have completed then.
        serial_merges: whether a settled state must be one that handling its messages in some order gives.
        dead_letters: whether messages may end as dead letters.
        merger_laws: whether mergers must keep the laws of `check_merger` on all siblings that are reached.
        mode: `exhaustive`, `random`, or `auto`: exhaustive while it fits *max_states*, then random.
        max_states: how many states an exhaustive search may find; 200,000, or as pytest's `--saga-states` says.
        runs: how many schedules a random search tries.
        seed: of a random search; 0, or as pytest's `--saga-seed` says.
        replay: a token from a report: play that schedule only. Steps that cannot be taken any more are passed over.

    Raises:
        ConfigurationError: the arguments do not fit together, or a message is for nobody; the text says the mend.
        ExplorationError: by `assert_ok` of what is returned.
    """
    if outcomes is not None:
        # An iterator is read once, and the report shows them as well; a set has no order that lasts.
        outcomes = sorted(outcomes, key=say) if isinstance(outcomes, Set) else list(outcomes)
    call = {name: value for name, value in locals().items() if name not in ("subject", "replay")}
    given = {name: value for name, value in call.items() if value != _DEFAULTS.get(name)}
    if runs < 1:
        raise ConfigurationError(f"runs={runs} tries nothing; it is at least 1")
    if max_states is not None and max_states < 1:
        raise ConfigurationError(f"max_states={max_states} looks at nothing; it is at least 1")
    if mode not in ("auto", "exhaustive", "random"):
        raise ConfigurationError(f"mode {mode!r} is none of auto, exhaustive, random")
    inquiry = inquiry_of(subject, **{name: call[name] for name in _ASKED})
    reporter = _Reporter(subject, given)
    defaults = session.defaults()
    limit = max_states or defaults.max_states or _MAX_STATES
    with session.progress() as progress:
        found = None
        if replay is not None:
            found = _replayed(inquiry, replay, reporter)
        elif mode != "random":
            found = _searched(inquiry, limit, reporter, progress)
        if found is None or (
            mode == "auto" and found.mode == "exhaustive" and not found.complete and found.failure is None
        ):
            chosen = seed if seed is not None else defaults.seed or 0
            found = _sampled(inquiry, runs, chosen, limit, reporter, progress)
    session.note(found)
    return found


def inquiry_of(
    subject: Subject,
    *,
    start: Sequence[Any] = (),
    messages: Sequence[Any] = (),
    workers: int = 2,
    batch: int = 1,
    duplicates: int = 0,
    resends: int = 0,
    timeouts: bool = True,
    rollbacks: int = 0,
    crashes: int = 0,
    documents: Mapping[Any, Any] | None = None,
    outcomes: Iterable[Any] | None = None,
    outcome: Callable[[Moment], Hashable] | None = None,
    always: Sequence[Invariant] = (),
    finally_: Sequence[Invariant] = (),
    must_end: bool = True,
    serial_merges: bool = True,
    dead_letters: bool = False,
    merger_laws: bool = True,
) -> Inquiry:
    """Return what `explore` asks when it is given these arguments.

    Raises:
        ConfigurationError: as `explore`.
    """
    if workers < 1 or min(duplicates, resends, rollbacks, crashes) < 0:
        raise ConfigurationError("workers is at least 1; duplicates, resends, rollbacks and crashes are at least 0")
    if crashes and documents is None:
        raise ConfigurationError("crashes are between operations on documents; give documents={...}, or {} for none")
    if batch not in (1, 2):
        raise ConfigurationError(f"batch={batch} is not explored: a load takes one message or two; say 1 or 2")
    allowed = None if outcomes is None else _allowed(tuple(outcomes), by_decisions=outcome is None)
    return Inquiry(
        Scene.of(subject),
        tuple(start),
        tuple(messages),
        Settings(workers, batch, Budget(duplicates, resends, rollbacks, crashes), timeouts, serial_merges),
        Expectations(tuple(always), tuple(finally_), outcome, allowed, must_end, dead_letters, timeouts),
        merger_laws=merger_laws,
        documents=None if documents is None else tuple(documents.items()),
    )


def _allowed(outcomes: tuple[Any, ...], *, by_decisions: bool) -> tuple[Any, ...]:
    if not outcomes:
        raise ConfigurationError("outcomes=[] allows none; name those that may be, or leave it out")
    if not by_decisions:
        return outcomes
    for outcome in outcomes:
        if not isinstance(outcome, list | tuple) and registry.of(type(outcome)) is not None:
            raise ConfigurationError(
                f"an outcome is all that one schedule decides, a list of messages; write [{say(outcome)}] in outcomes="
            )
    return tuple(Messages(o) if isinstance(o, list | tuple) else o for o in outcomes)


_DEFAULTS: Final = dict(explore.__kwdefaults__ or {})
_ASKED: Final = tuple(inquiry_of.__kwdefaults__ or {})


# -- the three ways --------------------------------------------------------------------------------------------------


def _searched(inquiry: Inquiry, limit: int, reporter: _Reporter, progress: Progress) -> Exploration:
    inquiry, search = inquiry.search(limit, progress)
    how = f"the shortest schedule that shows it, of {search.states:,} states looked at"
    failure = None
    if search.failure is not None:
        failure = reporter.shrunk(inquiry, search.failure, Shrinker(limit, progress), how, shortest=True)
    return Exploration(
        failure,
        _endings(inquiry, search),
        search.states,
        search.transitions,
        search.schedules,
        search.complete,
        "exhaustive",
    )


def _sampled(
    inquiry: Inquiry, runs: int, seed: int, limit: int, reporter: _Reporter, progress: Progress
) -> Exploration:
    inquiry, sampling = inquiry.sample(runs, seed, progress)
    how = f"found at random by schedule {sampling.schedules:,} of seed {seed}, and made shorter"
    failure = None
    if sampling.failure is not None:
        failure = reporter.shrunk(inquiry, sampling.failure, Shrinker(limit, progress), how, shortest=False)
    return Exploration(
        failure,
        _endings(inquiry, sampling),
        sampling.states,
        sampling.transitions,
        sampling.schedules,
        False,
        "random",
        seed,
    )


def _replayed(inquiry: Inquiry, token: str, reporter: _Reporter) -> Exploration:
    inquiry, found = inquiry.follow(schedule_of(token))
    failure = None if found.fault is None else reporter.failure(inquiry, found, "the schedule that was asked for")
    trace = failure.trace if failure else inquiry.tell(found.events).lines
    return Exploration(failure, {}, 0, len(found.events), 1, False, "replay", trace=trace)


def _endings(inquiry: Inquiry, searched: Search | Sampling) -> dict[Any, Ending]:
    ready = inquiry.ready()
    return {
        ending.outcome: Ending(ending.schedules, token_of(write_down(ready.worlds, ready.opening, ending.example)))
        for ending in searched.endings
    }


@frozen
class _Reporter:
    """Turns what was found into what is shown.

    Attributes:
        subject: what was explored.
        call: the arguments that are not defaults.
    """

    subject: Any
    call: Mapping[str, Any] = field(factory=dict)

    def failure(self, inquiry: Inquiry, found: Found, how: str) -> Failure:
        """Return the report of a schedule."""
        assert found.fault is not None
        return failure_of(found.fault, inquiry.tell(found.events), self.call, self.subject, how)

    def shrunk(self, inquiry: Inquiry, found: Found, shrinker: Shrinker, how: str, *, shortest: bool) -> Failure:
        """Return the report of the smallest case that fails alike."""
        return self.failure(*shrinker.shrink(inquiry, found, shortest=shortest), how)
