"""`sagabus audit`: what people did, on one trail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sagabus.cli.moments import before, read_moment
from sagabus.cli.output import emit, json_option
from sagabus.cli.session import opened

if TYPE_CHECKING:
    from sagabus.dead_letters.audit import AuditLine


@click.command("audit", short_help="Show who did what: cancel, merge, retry, drop, pause, ...")
@click.argument("app")
@click.argument("id", default="")
@click.option("--saga", metavar="NAME[/ID]", default="", help="What was done to one saga, or to all of a class.")
@click.option("--endpoint", metavar="NAME", default="", help="What was done to one endpoint, or its messages.")
@click.option("--what", metavar="WORD", default="", help="cancel, merge, pause, resume, retry, edit, drop, fire.")
@click.option("--by", metavar="WHO", default="", help="By one person: USER, or USER@HOST.")
@click.option("--since", callback=read_moment, metavar="WHEN", help="Since: 2h ago, or RFC 3339.")
@click.option("--until", callback=read_moment, metavar="WHEN", help="Before then.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="The most lines.")
@json_option
def command(app: str, id: str, since: Any, until: Any, limit: int, as_json: bool, **described: str) -> None:
    """Show what people did to sagas, endpoints and messages of APP, newest first; to the message ID alone.

    \b
      sagabus audit shop.app:bus --what cancel --since 1d
    """
    from sagabus.operations.audit import trail

    with opened(app) as bus:
        now_ms, _ = bus.store.next_due_ms()
        moments = {"since": before(since, now_ms), "until": before(until, now_ms)}
        meant: dict[str, Any] = {**described, **moments}
        found = trail(bus, id=id, limit=limit + 1, **meant)
    if as_json:
        for line in found[:limit]:
            emit({"kind": "audit"} | audit_row(line))
    elif not found:
        click.echo("nothing was done", err=True)
    else:
        for line in found[:limit]:
            click.echo(audit_said(line))
    if len(found) > limit:
        click.echo(f"only the newest {limit} are shown; there are more (--limit)", err=True)


def audit_row(line: AuditLine) -> dict[str, Any]:
    """Return a line of the audit trail as plain data."""
    from sagabus.envelope import rfc3339

    return {
        "at": rfc3339(line.at_ms),
        "by": line.by,
        "what": line.what,
        "id": line.id,
        "endpoint": line.endpoint,
        "type": line.type,
        "saga": line.saga,
        "details": dict(line.details),
    }


def audit_said(line: AuditLine) -> str:
    """Return a line of the audit trail as people read it."""
    import msgspec

    from sagabus.ending import CANCEL
    from sagabus.envelope import rfc3339
    from sagabus.messages import MERGE
    from sagabus.printable import printable

    details = msgspec.json.encode(line.details).decode()
    message = "/".join(part for part in (line.endpoint, line.id) if part)
    whom = line.saga if line.type in (CANCEL, MERGE) and line.saga else message
    return printable(f"{rfc3339(line.at_ms)}  {line.by}  {line.what}  {whom}  {details}")
