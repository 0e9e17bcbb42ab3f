"""`sagabus dead`: look at messages that were given up, send them again, drop them, take them along."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from sagabus.cli.app_first import AppFirst
from sagabus.cli.audit import audit_row, audit_said
from sagabus.cli.dead_groups import groups
from sagabus.cli.dead_retry import retry
from sagabus.cli.letter_choice import Choice, filter_options
from sagabus.cli.output import console, emit, json_option, print_table
from sagabus.cli.progress import watched
from sagabus.cli.session import opened

if TYPE_CHECKING:
    from sagabus.dead_letters.audit import AuditLine
    from sagabus.dead_letters.letter import DeadLetter

_LIMIT = click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="The most rows.")


@click.group("dead", cls=AppFirst, short_help="Look at dead letters; retry, edit or drop them.")
def command() -> None:
    """Work with dead letters: messages that were given up, with their error.

    \b
      sagabus dead groups shop.app:bus
      sagabus dead list shop.app:bus --reason failed --since 2h
      sagabus dead show shop.app:bus 5f1c
      sagabus dead retry shop.app:bus 5f1c --edit
      sagabus dead drop shop.app:bus --type shop.order --until 7d --dry-run
    """


command.add_command(retry)
command.add_command(groups)


@command.command("list", short_help="List dead letters, newest first.")
@click.argument("app")
@filter_options
@click.option("--count", is_flag=True, help="Only how many there are, by reason.")
@_LIMIT
@json_option
def list_(app: str, count: bool, limit: int, as_json: bool, **described: Any) -> None:
    """List dead letters of APP, newest first.

    \b
      sagabus dead list shop.app:bus --reason failed --since 2h
      sagabus dead list shop.app:bus --count
    """
    choice = Choice((), False, described)
    with opened(app) as bus:
        if count:
            reasons = bus.dead_letters.count(choice.sought(bus)).reasons
            found = [{"reason": reason, "letters": number} for reason, number in sorted(reasons.items())]
            more = False
        else:
            letters = list(islice(choice.letters(bus), limit + 1))
            found, more = [row(letter) for letter in letters[:limit]], len(letters) > limit
    show_rows("dead", found, as_json, "no dead letters")
    if more:
        click.echo(f"only the newest {limit} are shown; there are more (--limit, --count)", err=True)


@command.command("show", short_help="Show one dead letter: error, message, its saga, what was done.")
@click.argument("app")
@click.argument("id")
@click.option("--endpoint", default="", metavar="NAME", help="Who gave it up, where several did.")
@json_option
def show(app: str, id: str, endpoint: str, as_json: bool) -> None:
    """Show the dead letter whose message id is ID, or begins with it: all that is kept of it.

    \b
      sagabus dead show shop.app:bus 5f1c
    """
    from sagabus.dead_letters.lines import to_row

    with opened(app) as bus:
        letter = bus.dead_letters.get(id, endpoint=endpoint)
        resent = bus.store.letters.resent([letter])[0]
        trail = [line for line in bus.dead_letters.audit(letter.id) if line.id == letter.id]
    if as_json:
        emit({"kind": "dead"} | to_row(letter) | {"resent": bool(resent), "audit": [audit_row(line) for line in trail]})
    else:
        _print(letter, bool(resent), trail)


def _print(letter: DeadLetter, resent: bool, trail: list[AuditLine]) -> None:
    import msgspec
    from rich.text import Text

    from sagabus.cli.drawing import pretty, print_states
    from sagabus.envelope import rfc3339

    out = console()
    out.print(Text.assemble((letter.id, "bold"), f"  {letter.type or 'of no type that can be read'}"), soft_wrap=True)
    facts = [
        f"given up by {letter.endpoint} at {rfc3339(letter.at_ms)} after {letter.attempts} attempts: {letter.reason}",
        f"handler {letter.handler}" if letter.handler else "",
        f"saga {letter.saga}" if letter.saga else "",
        f"worker {letter.worker} on {letter.host}" if letter.worker else "",
        "it was sent again, and may be under way" if resent else "",
    ]
    for fact in filter(None, facts):
        out.print(Text(fact, "dim"), soft_wrap=True)
    sections: list[tuple[str, str]] = [("error", letter.error), ("traceback", letter.traceback)]
    try:
        sections.append(("message", pretty(msgspec.json.decode(letter.body))))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        sections.append(("message", letter.body.decode(errors="backslashreplace")))
    for name, text in sections:
        if text:
            out.print(Text(f"\n{name}", "bold underline"))
            out.print(Text(text.rstrip()), soft_wrap=True)
    if known := _context(letter):
        out.print(Text(f"\nthe saga then: {known['lifecycle']}, life {known['life']}", "bold underline"))
        states = {v["version"]: v.get("state", "(too large to keep)") for v in known.get("versions", ())}
        if states:
            print_states(out, states)
        for timer, id_ in known.get("timers", {}).items():
            out.print(Text(f"timer {timer}  {id_}"), soft_wrap=True)
    if trail:
        out.print(Text("\nwhat was done", "bold underline"))
        for line in trail:
            out.print(Text(audit_said(line)), soft_wrap=True)


def _context(letter: DeadLetter) -> dict[str, Any]:
    """Return what a letter says of its saga; nothing where that is damaged."""
    import msgspec

    try:
        known = msgspec.json.decode(letter.context, type=dict[str, Any]) if letter.context else {}
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}
    return known if {"lifecycle", "life"} <= set(known) else {}


@command.command("drop", short_help="Drop dead letters for good.")
@click.argument("app")
@click.argument("ids", nargs=-1)
@filter_options
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only list them.")
@json_option
def drop(
    app: str, ids: tuple[str, ...], everything: bool, yes: bool, dry_run: bool, as_json: bool, **described: Any
) -> None:
    """Drop the dead letters of IDS, or those that options describe. The audit trail keeps who did.

    \b
      sagabus dead drop shop.app:bus 5f1c 77ab
      sagabus dead drop shop.app:bus --reason no-saga --until 7d
    """
    choice = Choice(ids, everything, described)
    choice.check("drop")
    with opened(app) as bus:
        if dry_run:
            show_rows("dead", [row(letter) for letter in choice.letters(bus)], as_json, "no dead letters")
            return
        total = choice.total(bus)
        if not yes:
            choice.confirm(total, "Drop {} for good?")
        dropped = bus.dead_letters.drop(watched(choice.letters(bus), total, "dropped"))
    if as_json:
        emit({"kind": "dropped", "letters": dropped})
    else:
        click.echo(f"dropped {dropped}")


@command.command("export", short_help="Write dead letters as JSON lines, whole.")
@click.argument("app")
@click.argument("ids", nargs=-1)
@filter_options
@click.option("--all", "everything", is_flag=True, help="All of them; so it is where nothing else is said.")
def export(app: str, ids: tuple[str, ...], everything: bool, **described: Any) -> None:
    """Write dead letters to stdout, a JSON object a line, with all that is kept of them.

    `sagabus dead retry --from FILE` sends what was exported, also where its letters are gone.

    \b
      sagabus dead export shop.app:bus --reason failed > letters.jsonl
    """
    from sagabus.dead_letters.lines import to_line
    from sagabus.printable import printable_json

    given = any(described.values())
    choice = Choice(ids, everything or not (ids or given), described)
    choice.check("export")
    with opened(app) as bus:
        for letter in watched(choice.letters(bus), choice.total(bus), "exported", prints=True):
            click.echo(printable_json(to_line(letter).decode()))


@command.command("audit", short_help="Show what was done to dead letters and waiting messages.")
@click.argument("app")
@click.argument("id", default="")
@_LIMIT
@json_option
def audit(app: str, id: str, limit: int, as_json: bool) -> None:
    """Show who did what when, newest first; to messages whose id begins with ID.

    \b
      sagabus dead audit shop.app:bus
    """
    with opened(app) as bus:
        trail = bus.dead_letters.audit(id, limit)
    if as_json:
        for line in trail:
            emit({"kind": "audit"} | audit_row(line))
        return
    if not trail:
        click.echo("nothing was done", err=True)
    for line in trail:
        click.echo(audit_said(line))


# -- rows --------------------------------------------------------------------------------------------------------


def row(letter: DeadLetter) -> dict[str, Any]:
    """Return a dead letter as a list shows it."""
    from sagabus.envelope import rfc3339

    return {
        "at": rfc3339(letter.at_ms),
        "endpoint": letter.endpoint,
        "type": letter.type,
        "saga": letter.saga,
        "id": letter.id,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "error": letter.error,
    }


def show_rows(kind: str, found: list[dict[str, Any]], as_json: bool, nothing: str) -> None:
    """Print *found* as JSON lines of that *kind*, or as a table; *nothing* where there is none."""
    if as_json:
        for each in found:
            emit({"kind": kind} | each)
    elif found:
        columns = list(found[0])
        print_table(console(), columns, [[each[column] for column in columns] for each in found])
    else:
        click.echo(nothing, err=True)
