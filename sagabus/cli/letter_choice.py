"""Which dead letters a command is for: one by its id, those that options describe, or all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from attrs import field, frozen

from sagabus.cli.moments import before, read_moment

if TYPE_CHECKING:
    from sagabus.bus import Bus
    from sagabus.dead_letters.letter import DeadLetter
    from sagabus.dead_letters.sought import Sought

F = TypeVar("F", bound=Callable[..., Any])
_OPTIONS: Final = (
    click.option("--endpoint", metavar="NAME", default="", help="Those of one endpoint."),
    click.option("--type", "type_name", metavar="TYPE", default="", help="Those of one message type, by wire name."),
    click.option("--reason", metavar="WORD", default="", help="Those given up for one reason: failed, no-saga, ..."),
    click.option("--saga", metavar="NAME/ID", default="", help="Those for one saga."),
    click.option("--text", metavar="TEXT", default="", help="Those with this in their error."),
    click.option(
        "--since",
        callback=read_moment,
        metavar="WHEN",
        help="Given up since: 2h ago, or RFC 3339.",
    ),
    click.option("--until", callback=read_moment, metavar="WHEN", help="Given up before then."),
)


def filter_options(function: F) -> F:
    """Add the options that describe dead letters; the command gets them as one mapping, `described`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@frozen
class Choice:
    """Which dead letters are meant.

    Attributes:
        ids: of single ones.
        all: whether all are meant, where nothing else says which.
        described: what the options say.
    """

    ids: tuple[str, ...]
    all: bool
    described: dict[str, Any] = field(factory=dict)

    def check(self, what: str) -> None:
        """Make sure that it was said which letters *what* is for.

        Raises:
            click.UsageError: it was not, or twice.
        """
        given = {name for name, value in self.described.items() if value}
        if self.ids and (self.all or given - {"endpoint"}):
            raise click.UsageError("say ids, or options that describe dead letters; not both")
        if not (self.ids or self.all or given):
            raise click.UsageError(f"say which: ids, options such as --reason failed, or --all to {what} them all")

    def sought(self, bus: Bus) -> Sought:
        """Return what the options describe."""
        from sagabus.dead_letters.dead_letters import sought

        now_ms, _ = bus.store.next_due_ms()
        said = dict(self.described)
        said["type"] = said.pop("type_name", "")
        said["since"], said["until"] = before(said.get("since"), now_ms), before(said.get("until"), now_ms)
        return sought(**said)

    def letters(self, bus: Bus) -> Iterator[DeadLetter]:
        """Yield the letters that are meant.

        Raises:
            DeadLetterNotFoundError: there is none of an id.
            AmbiguousDeadLetterError: there are several.
        """
        if self.ids:
            endpoint = self.described.get("endpoint", "")
            yield from [bus.dead_letters.get(id_, endpoint=endpoint) for id_ in self.ids]
        else:
            yield from bus.store.letters.find(self.sought(bus))

    def total(self, bus: Bus) -> int:
        """Return how many letters are meant; where nobody watches at a terminal they are not counted."""
        if self.ids or not sys.stderr.isatty():
            return len(self.ids)
        return bus.dead_letters.count(self.sought(bus)).total

    def confirm(self, total: int, question: str) -> None:
        """Ask whoever sits at a terminal before many letters are touched.

        Args:
            total: how many are meant.
            question: with a place for that.

        Raises:
            click.Abort: they would rather not.
        """
        if self.ids or not (sys.stdin.isatty() and sys.stderr.isatty()):
            return
        click.confirm(question.format(f"{total:,} dead letter{'s' if total != 1 else ''}"), abort=True, err=True)
