"""A quorum: ask several, and decide once enough of them have answered.

class CreditCheck(Quorum[CheckCredit, ScoreReported], key="customer", members=("equifax", "experian"), need=2):
    def ask(self, m: CheckCredit, member: str) -> object:
        return RequestScore(m.customer)

    def answer(self, m: ScoreReported) -> tuple[str, Any]:
        return m.bureau, m.score

    def verdict(self, answers: dict[str, Any]) -> None:
        self.publish(CreditDecided(self.key, sum(answers.values()) > 1400))
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Final, Generic, Literal, TypeVar, cast

from attrs import define, evolve, field, frozen

from mergers import any_true, by_key, fieldwise, first_of, union
from sagabus import Saga, SagabusError, handles, message, starts
from sagabus.errors import DefinitionError
from sagas._classes import (
    UNSAID,
    Unsaid,
    add_handler,
    arguments_of,
    is_open,
    messages_in,
    refuse_siblings_of_exclusive,
    subject_of,
)
from sagas._plain import plain

M = TypeVar("M")
R = TypeVar("R")

DEADLINE: Final = "deadline"
"""The name of the timer of a quorum."""


class _Declined(enum.Enum):
    """What stands for itself, and not for a value."""

    DECLINED = enum.auto()


DECLINED: Final = _Declined.DECLINED
"""What `answer` returns beside a member that will give no answer."""


@message("sagas.quorum.deadline")
class QuorumDeadline:
    """The time that a quorum gives its members is over."""


@message("sagas.quorum.missed")
class QuorumMissed:
    """A quorum was missed: its deadline has passed, or too many members have declined.

    Attributes:
        quorum: what the saga is called.
        id: which one of them.
        answered: the members that did answer, sorted.
        missing: the members that were asked and did not, sorted; those that declined are among them.
    """

    quorum: str
    id: str
    answered: list[str]
    missing: list[str]


class UnknownMemberError(SagabusError):
    """An answer came from somebody who was not asked.

    Attributes:
        member: who it says it is from.
        members: who was asked, sorted.
    """

    def __init__(self, saga: str, member: str, members: Sequence[str]) -> None:
        super().__init__(
            f"{saga}: an answer came from {member!r}, who was not asked; asked were {', '.join(members)}. "
            f"Mend the name that answer() returns, or say in stranger() what becomes of such answers"
        )
        self.member, self.members = member, tuple(members)


@define
class QuorumState:
    """What a quorum knows. Siblings know different answers; together they know them all.

    Attributes:
        members: who was asked.
        answers: member -> the value that `answer` returned. Of two from one member, one stays: the first to be
            handled, or the first in sort order where they were handled at once.
        declined: who said that no answer will come. An answer outweighs it.
        overdue: whether the deadline has passed.
        about: what the hook `about` kept of the request.
    """

    members: Annotated[set[str], union] = field(factory=set)
    answers: Annotated[dict[str, Any], by_key(first_of)] = field(factory=dict)
    declined: Annotated[set[str], union] = field(factory=set)
    overdue: Annotated[bool, any_true] = False
    about: Annotated[Any, first_of] = None


@frozen
class _Options:
    """What a quorum class says of itself.

    Attributes:
        members: name -> endpoint.
        need: how many answers; None for all.
        within: how long members may take; None for ever.
    """

    members: Mapping[str, str] = field(factory=dict)
    need: int | None = None
    within: timedelta | None = None


class Quorum(Saga[QuorumState], Generic[M, R]):
    """Ask the members when a request comes, and decide once when `need` of them have answered.

    Subclass it as `Quorum[Request, Answer]`, either of which may be a union, and write `ask`, `answer` and `verdict`.
    A base for others, which lacks some of them, leaves a message class open: `Base(Quorum[R, Answer], Generic[R])`.
    Answers may race, come twice or too late, or not at all. One of `verdict` and `missed` is released, once, from a
    settled saga; then the quorum completes.

    Class arguments, beside those of `Saga`; a subclass of a subclass has those of its base, but for `name`:
        members: whom to ask: names, each of which is an endpoint too, or a mapping of name to endpoint.
        need: how many answers decide; `"all"` by default.
        within: how long members may take, a timedelta; None, the default, waits for ever.

    Raises:
        DefinitionError: the arguments contradict each other, or a method is missing; when the class is defined.
    """

    _options: ClassVar[_Options] = _Options()
    _of_the_kernel: ClassVar[Mapping[str, Any]] = {"merger": fieldwise(QuorumState)}
    _name: ClassVar[str] = ""
    _answer_types: ClassVar[tuple[type, ...]] = ()

    def __init_subclass__(
        cls,
        *,
        members: Collection[str] | Mapping[str, str] | None = None,
        need: int | Literal["all"] | None = None,
        within: timedelta | Literal[Unsaid.UNSAID] | None = UNSAID,
        **options: Any,
    ) -> None:
        said = cls._options
        if members is not None:
            said = evolve(said, members=_endpoints(cls, members))
        if need is not None:
            said = evolve(said, need=None if need == "all" else need)
        if within is not UNSAID:
            said = evolve(said, within=within)
        _check(cls, said)
        cls._options = said
        given, options = options, {**cls._of_the_kernel, **options}
        refuse_siblings_of_exclusive(cls, given, options)
        cls._name = options.pop("name", None) or cls.__name__
        cls._of_the_kernel = options
        if not is_open(cls):
            request, answer = arguments_of(cls, Quorum)
            if not said.members:
                raise DefinitionError(subject_of(cls), "it has nobody to ask", "Name them: members=('equifax', ...)")
            cls._answer_types = messages_in(cls, answer, "answer")
            requests = messages_in(cls, request, "request")
            _check_written(cls)
            add_handler(cls, "_on_request", starts(*requests), "_requested")
            add_handler(cls, "_on_answer", handles(*cls._answer_types), "_answered")
            add_handler(cls, "_on_deadline", handles(QuorumDeadline), "_overdue")
        super().__init_subclass__(name=cls._name, **options)

    # -- for users to write --------------------------------------------------------------------------------------

    def ask(self, m: M, member: str) -> object:
        """Return the command that asks *member*."""
        raise NotImplementedError

    def answer(self, m: R) -> tuple[str, Any]:
        """Return who answered, and the value to keep, plain data; `DECLINED` where no answer will come from them."""
        raise NotImplementedError

    def verdict(self, answers: dict[str, Any]) -> None:
        """Announce what *answers* come to: member -> value, sorted by member, at least `need` of them.

        More than `need` where several came at once.
        """
        raise NotImplementedError

    # -- for users to override -----------------------------------------------------------------------------------

    def about(self, m: M) -> Any:
        """Return what of the request is kept, plain data: `self.state.about`, for the verdict. Nothing by default."""
        return None

    def missed(self, answers: dict[str, Any], missing: list[str]) -> None:
        """Announce that there will be no quorum, or decide on what there is; *answers* may be empty.

        Called in the place of `verdict`, when the deadline has passed or too many members declined. By default it
        publishes `QuorumMissed`.

        Args:
            answers: member -> value, fewer than `need`, sorted by member.
            missing: who was asked and did not answer, sorted; `self.state.declined` says who declined.
        """
        self.publish(QuorumMissed(self._name, self.id, answered=list(answers), missing=missing))

    def late(self, m: R) -> None:
        """React to an answer after the end. Nothing by default; it may send and publish, and changes no state."""

    def stranger(self, m: R, member: str) -> None:
        """React to an answer from *member*, who was not asked.

        Raises:
            UnknownMemberError: by default, so that the message ends as a dead letter and somebody looks at it.
        """
        raise UnknownMemberError(f"{self._name}/{self.id}", member, sorted(self.state.members))

    # -- how -----------------------------------------------------------------------------------------------------

    def _requested(self, m: M) -> None:
        if self.state.members:
            return  # a second request for the same quorum: its members have been asked
        self.state.members = set(self._options.members)
        self.state.about = plain(self.about(m), f"{self._name}.about()")
        for member, endpoint in self._options.members.items():
            self.send(self.ask(m, member), to=endpoint)
        if self._options.within is not None:
            self.defer(QuorumDeadline(), after=self._options.within, name=DEADLINE)

    def _answered(self, m: R) -> None:
        member, value = self.answer(m)
        if member not in self.state.members:
            self.stranger(m, member)
        elif member in self.state.answers:
            return  # the first answer of a member counts
        elif value is DECLINED:
            self.state.declined.add(member)
        else:
            self.state.answers[member] = plain(value, f"{self._name}.answer()")

    def _overdue(self, m: QuorumDeadline) -> None:
        self.state.overdue = True

    def decide(self) -> None:
        """Give the verdict, or say that there will be none; `verdict` and `missed` are where to write."""
        state = self.state
        need = min(self._options.need or len(state.members), len(state.members))
        answers = dict(sorted(state.answers.items()))
        to_come = state.members - state.declined - answers.keys()
        if len(answers) >= need:
            self.verdict(answers)
        elif state.overdue or len(answers) + len(to_come) < need:
            self.missed(answers, sorted(state.members - answers.keys()))
        else:
            return
        self.complete()

    def on_late(self, message: Any) -> None:
        """Hand late answers to `late`."""
        if isinstance(message, self._answer_types):
            self.late(cast(R, message))


def _check_written(cls: type) -> None:
    """Refuse a class that would raise when it is first asked."""
    for method, arguments in (("ask", "m, member"), ("answer", "m"), ("verdict", "answers")):
        if getattr(cls, method) is getattr(Quorum, method):
            raise DefinitionError(
                subject_of(cls),
                f"it has no {method}()",
                f"Write {method}(self, {arguments}), or leave a message class open if it is a base for others",
            )


def _endpoints(cls: type, members: Collection[str] | Mapping[str, str]) -> dict[str, str]:
    """Return member -> endpoint."""
    said: Any = members  # types are for type checkers; who has none is told here
    if isinstance(said, str):
        raise DefinitionError(
            subject_of(cls), f"members={members!r} is one text, and no list of names", f"Write members=({members!r},)"
        )
    if not isinstance(said, Collection):
        raise DefinitionError(
            subject_of(cls),
            f"members={said!r} is no list of names",
            "Write them out, members=('equifax', ...), or make a tuple of them: members=tuple(...)",
        )
    names: list[Any] = [*said, *said.values()] if isinstance(said, Mapping) else list(said)
    strange = [name for name in names if not isinstance(name, str) or not name]
    if strange:
        raise DefinitionError(
            subject_of(cls),
            f"a member or its endpoint is called {strange[0]!r}",
            "Name each by a text that is not empty",
        )
    named = dict(members) if isinstance(members, Mapping) else {member: member for member in members}
    if len(named) < len(members):
        raise DefinitionError(subject_of(cls), "a member is named twice", "Name each once; each has one answer")
    return named


def _check(cls: type, options: _Options) -> None:
    """Refuse what can never come to a verdict."""
    need: Any = options.need
    count = len(options.members)
    if need is not None and (type(need) is not int or need < 1):
        raise DefinitionError(subject_of(cls), f"need={need!r} is no number of answers", "Write 1 or more, or 'all'")
    if need is not None and 0 < count < need:
        raise DefinitionError(
            subject_of(cls),
            f"it needs {need} answers and asks {count}, so it could never decide",
            f"Lower need= to {count} or less, say need='all', or name more members",
        )
    within: Any = options.within
    if within is not None and (not isinstance(within, timedelta) or within <= timedelta(0)):
        raise DefinitionError(
            subject_of(cls),
            f"within={within!r} is no time to wait",
            "Write a timedelta over zero, or None for no deadline",
        )
