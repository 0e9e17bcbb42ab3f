"""Who is asked: the levels of an approval, and the options of its class, checked while the class is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Literal

from attrs import frozen

from sagabus.errors import DefinitionError
from sagas._classes import subject_of
from sagas.approval.ballots import Ballot


@frozen(init=False)
class Level:
    """Some people, any `need` of whom can approve.

    Attributes:
        approvers: their names.
        need: how many of them; `"all"` for every one.
        within: how long they have before the next level is asked, or all expires; None for ever, at the last level.
    """

    approvers: tuple[str, ...]
    need: int | Literal["all"]
    within: timedelta | None

    def __init__(self, *approvers: str, need: int | Literal["all"] = 1, within: timedelta | None = None) -> None:
        self.__attrs_init__(approvers, need, within)

    @property
    def needed(self) -> int:
        """Return how many of them can approve."""
        return len(self.approvers) if self.need == "all" else self.need

    def approvals(self, ballots: Mapping[str, Ballot]) -> int:
        """Return how many of them have approved."""
        return sum(ballots[name].approves for name in self.approvers if name in ballots)

    def possible(self, ballots: Mapping[str, Ballot]) -> int:
        """Return how many of them may still come to approve, or have."""
        return sum(name not in ballots or ballots[name].approves for name in self.approvers)


@frozen
class Options:
    """What an approval class says of itself; see `Approval`."""

    people: str = ""
    levels: tuple[Level, ...] = ()
    rejections: int = 1
    remind_every: timedelta | None = None
    reminders: int = 3


def check(cls: type, options: Options) -> None:
    """Refuse what contradicts itself, or is of another type; types are for type checkers, and not all have one."""
    subject, every, last = subject_of(cls), options.remind_every, len(options.levels)
    people: Any = options.people
    if not isinstance(people, str):
        raise DefinitionError(subject, f"people={people!r} is no name", "Name the endpoint: people='desk'")
    for name, count in (("rejections", options.rejections), ("reminders", options.reminders)):
        if not _is_number(count):
            raise DefinitionError(subject, f"{name}={count!r} is no number", f"Write 1 or more, e.g. {name}=2")
    if options.rejections < 1:
        raise DefinitionError(subject, f"rejections={options.rejections} would reject at once", "Write 1 or more")
    if options.reminders < 1 or (every is not None and not _is_time(every)):
        raise DefinitionError(
            subject,
            f"remind_every={every!r} with reminders={options.reminders} reminds nobody",
            "Write a timedelta over zero and at least 1, or leave both out for no reminders",
        )
    for number, level in enumerate(options.levels, 1):
        _check_level(f"{subject}, level {number}", level, is_last=number == last)


def levels_of(cls: type, levels: Any) -> tuple[Level, ...]:
    """Return the class argument `levels` as a tuple, and refuse what is none of levels."""
    mend = "Write a Level for each, with a comma behind it: levels=(Level('ann', 'bob'),)"
    if isinstance(levels, str) or not isinstance(levels, Iterable):
        raise DefinitionError(subject_of(cls), f"levels={levels!r} is no list of levels", mend)
    found = tuple(levels)
    for level in found:
        if not isinstance(level, Level):
            raise DefinitionError(subject_of(cls), f"levels= has {level!r}, which is no Level", mend)
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_time(value: object) -> bool:
    return isinstance(value, timedelta) and value > timedelta(0)


def _check_level(subject: str, level: Level, *, is_last: bool) -> None:
    names: tuple[Any, ...] = level.approvers
    within = level.within
    if not names or not all(isinstance(name, str) and name for name in names):
        raise DefinitionError(subject, f"its people are {names!r}", "Name at least one, each by a text")
    if len(set(names)) < len(names):
        raise DefinitionError(subject, "it names somebody twice", "Name each once; each has one vote")
    if level.need != "all" and not _is_number(level.need):
        raise DefinitionError(
            subject, f"need={level.need!r} is no number of approvals", f"Write from 1 to {len(names)}, or 'all'"
        )
    need = level.needed
    if not 1 <= need <= len(names):
        raise DefinitionError(
            subject,
            f"it needs {need} approvals of {len(names)} people, which can never be or always is",
            f"Write need= from 1 to {len(names)}, or 'all'",
        )
    if within is not None and not _is_time(within):
        raise DefinitionError(subject, f"within={within!r} is no time to vote", "Write a timedelta over zero")
    if within is None and not is_last:
        raise DefinitionError(
            subject, "its time never ends, so nobody after it would be asked", "Give every level but the last within="
        )


def check_complete(cls: type, options: Options) -> None:
    """Refuse what says too little."""
    if not options.levels:
        raise DefinitionError(subject_of(cls), "it has nobody to ask", "Name them: levels=(Level('ann', 'bob'),)")
    if not options.people:
        raise DefinitionError(
            subject_of(cls), "nothing says where people are asked", "Name the endpoint: people='desk'"
        )
