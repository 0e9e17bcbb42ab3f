"""`sagabus dead groups`: dead letters by what went wrong, and what is done to all of a group."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from sagabus.cli.dead_retry import send_all, tell_all
from sagabus.cli.output import emit, json_option
from sagabus.cli.progress import watched
from sagabus.cli.session import opened

if TYPE_CHECKING:
    from sagabus.dead_letters.groups import Groups, LetterGroup


@click.command("groups", short_help="Group dead letters by what went wrong; retry or drop a group.")
@click.argument("app")
@click.option("--retry", metavar="GROUP", help="Send all of one group again.")
@click.option("--drop", metavar="GROUP", help="Drop all of one group for good.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--limit", type=click.IntRange(1), default=10_000, show_default=True, help="How many letters to look at.")
@json_option
def groups(app: str, retry: str | None, drop: str | None, yes: bool, limit: int, as_json: bool) -> None:
    """Show the newest dead letters of APP in groups: one error but for what it names, one type, reason and endpoint.

    GROUP is what stands in front, or the beginning of it; all letters of the group are meant, also those beyond
    the limit. JSON has an object a group: id, letters, first, last, error, type, reason, endpoint.

    \b
      sagabus dead groups shop.app:bus
      sagabus dead groups shop.app:bus --retry 3f9a
    """
    if retry is not None and drop is not None:
        raise click.UsageError("--retry sends a group again, --drop drops it; take one of them")
    with opened(app) as bus:
        found = bus.dead_letters.groups(limit)
        wanted = retry if retry is not None else drop
        if wanted is None:
            _show(found, as_json)
            return
        group = _named(found, wanted)
        if not yes:
            _confirm("Send {} again?" if retry is not None else "Drop {} for good?", group)
        letters = bus.dead_letters.of_group(group)
        if retry is not None:
            tell_all(watched(send_all(bus, letters), group.count, "sent", prints=True), as_json)
            return
        dropped = bus.dead_letters.drop(watched(letters, group.count, "dropped"))
    if as_json:
        emit({"kind": "dropped", "letters": dropped})
    else:
        click.echo(f"dropped {dropped}")


def group_row(group: LetterGroup) -> dict[str, Any]:
    """Return a group as a list shows it."""
    from sagabus.envelope import rfc3339

    return {
        "id": group.id,
        "letters": group.count,
        "first": rfc3339(group.first_ms),
        "last": rfc3339(group.last_ms),
        "error": group.error,
        "type": group.type,
        "reason": group.reason,
        "endpoint": group.endpoint,
    }


def _show(found: Groups, as_json: bool) -> None:
    from sagabus.cli.dead import show_rows

    show_rows("dead-group", [group_row(group) for group in found.groups], as_json, "no dead letters")
    if found.looked_at < found.total:
        click.echo(f"only the newest {found.looked_at} of {found.total} were looked at (--limit)", err=True)


def _named(found: Groups, name: str) -> LetterGroup:
    """Return the one group whose id begins with *name*.

    Raises:
        DeadLetterGroupNotFoundError: there is none, or more than one.
    """
    from sagabus.errors import DeadLetterGroupNotFoundError

    meant = [group for group in found.groups if name and group.id.startswith(name)]
    if len(meant) != 1:
        raise DeadLetterGroupNotFoundError(name, [group.id for group in meant])
    return meant[0]


def _confirm(question: str, group: LetterGroup) -> None:
    """Ask whoever sits at a terminal.

    Raises:
        click.Abort: they would rather not.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    letters = f"{group.count:,} dead letter{'s' if group.count != 1 else ''} ({group.error})"
    click.confirm(question.format(letters), abort=True, err=True)
