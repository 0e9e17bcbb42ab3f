"""`sagabus dead retry`: send messages that were given up again, as they were or edited."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sagabus.cli.letter_choice import Choice, filter_options
from sagabus.cli.output import emit, json_option
from sagabus.cli.progress import watched
from sagabus.cli.session import opened

if TYPE_CHECKING:
    from sagabus.bus import Bus
    from sagabus.dead_letters.dead_letters import Retried
    from sagabus.dead_letters.letter import DeadLetter

_CHUNK = 500


@click.command("retry", short_help="Send dead letters again, as they were or edited.")
@click.argument("app")
@click.argument("ids", nargs=-1)
@filter_options
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--from", "file", type=click.Path(exists=True, dir_okay=False), help="What dead export has written.")
@click.option("--to", metavar="ENDPOINT", help="To another endpoint than the one it was for.")
@click.option("--edit", is_flag=True, help="Open the body of one in $EDITOR first.")
@click.option("--body", metavar="JSON|@FILE", help="Give one another body.")
@click.option("--as-type", metavar="TYPE", help="With --body: its wire name, where the letter does not say.")
@click.option("--new-id", is_flag=True, help="With --edit or --body: also for sagas that have handled the message.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only list them.")
@json_option
def retry(
    app: str,
    ids: tuple[str, ...],
    everything: bool,
    file: str | None,
    to: str | None,
    edit: bool,
    body: str | None,
    as_type: str | None,
    new_id: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    **described: Any,
) -> None:
    """Send the messages of IDS again, or those that options describe; their attempts begin anew.

    A message keeps its id, so that a saga which has handled it already passes it over; --new-id gives an edited one
    another. It is sent before its letter goes. An edited body is checked against its class before anything is sent.

    \b
      sagabus dead retry shop.app:bus 5f1c
      sagabus dead retry shop.app:bus 5f1c --body '{"order": "17"}'
      sagabus dead retry shop.app:bus --reason no-saga --since 2h --to orders
    """
    choice = Choice(ids, everything, described)
    editing = edit or body is not None
    if edit and body is not None:
        raise click.UsageError("--edit opens an editor, --body says the body; take one of them")
    if editing and (len(ids) != 1 or file):
        raise click.UsageError("--edit and --body are for one dead letter; say its id")
    if not editing and (new_id or as_type):
        raise click.UsageError("--new-id and --as-type are for an edited message; say --edit or --body too")
    if file and (ids or everything or any(described.values())):
        raise click.UsageError("--from sends what is in the file; leave out ids and options, or edit the file")
    if not file:
        choice.check("retry")
    from sagabus.cli.dead import row, show_rows
    from sagabus.dead_letters.lines import from_lines

    with opened(app) as bus:
        if file:
            # Read to the end before anything is sent: a line that is none must not end it half-way.
            letters: Iterable[DeadLetter] = list(from_lines(Path(file).read_text("utf-8")))
        else:
            letters = choice.letters(bus)
        if dry_run:
            show_rows("dead", [row(letter) for letter in letters], as_json, "no dead letters")
            return
        if editing:
            (letter,) = letters
            given = _given(body) if body is not None else None
            retried: Iterable[Retried] = [_edited(bus, letter, given, to=to, type=as_type, new_id=new_id)]
        else:
            total = len(letters) if isinstance(letters, list) else choice.total(bus)
            if not yes and not file:
                choice.confirm(total, "Send {} again?")
            retried = watched(send_all(bus, letters, to, exported=bool(file)), total, "sent", prints=True)
        tell_all(retried, as_json)


def tell_all(retried: Iterable[Retried], as_json: bool) -> None:
    """Say what becomes of letters as they are sent; exit with 1 where some were not."""
    failed = [_shown(each, as_json) for each in retried].count(False)
    if failed:
        click.echo(f"{failed} not sent; their dead letters are where they were", err=True)
        sys.exit(1)


def send_all(
    bus: Bus, letters: Iterable[DeadLetter], to: str | None = None, *, exported: bool = False
) -> Iterable[Retried]:
    """Send *letters* again, some hundred at a time, and yield what became of each."""
    left = iter(letters)
    parts = iter(lambda: list(islice(left, _CHUNK)), [])
    return chain.from_iterable(bus.dead_letters.retry(part, to=to, exported=exported) for part in parts)


def _shown(retried: Retried, as_json: bool) -> bool:
    """Say what became of one; return whether it was sent."""
    sent = retried.error is None
    if as_json:
        error = None if retried.error is None else str(retried.error)
        emit({"kind": "retried", "id": retried.id, "of": retried.letter.id, "to": retried.to, "error": error})
    elif sent:
        click.echo(retried.id)
    else:
        click.echo(f"sagabus: {retried.letter.name}: {' '.join(str(retried.error).split())}", err=True)
    return sent


def _given(body: str) -> bytes:
    """Return the body that was given, or what is in the file that it names."""
    if not body.startswith("@"):
        return body.encode()
    try:
        return Path(body[1:]).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{body[1:]} cannot be read: {error.strerror}") from error


def _edited(bus: Bus, letter: DeadLetter, body: bytes | None, **options: Any) -> Retried:
    """Send *letter* with *body*, or with what whoever sits there makes of its own."""
    from sagabus.errors import CodecError

    if body is not None:
        return bus.dead_letters.edit(letter, body, **options)
    text = _body_of(letter)
    while True:
        changed = click.edit(text, extension=".json")
        if changed is None or changed == text:
            raise click.ClickException("the body was left as it was; without --edit it is sent so")
        try:
            return bus.dead_letters.edit(letter, changed.encode(), **options)
        except CodecError as error:
            click.echo(f"sagabus: {' '.join(str(error).split())}", err=True)
            ask: Callable[..., bool] = click.confirm
            if not sys.stdin.isatty() or not ask("Edit it again?", default=True, err=True):
                raise
            text = changed


def _body_of(letter: DeadLetter) -> str:
    """Return the body of a letter for an editor; all of it, where that cannot be told."""
    import msgspec

    from sagabus.cli.drawing import pretty
    from sagabus.envelope import decode
    from sagabus.errors import CodecError

    try:
        return pretty(msgspec.json.decode(decode(letter.body, max(1, len(letter.body))).data)) + "\n"
    except (CodecError, msgspec.MsgspecError, ValueError, RecursionError):
        return letter.body.decode(errors="replace")
