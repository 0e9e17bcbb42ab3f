"""`sagabus timers`: look at messages that wait for their time, cancel one, or send it now."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import click

from sagabus.cli.app_first import AppFirst
from sagabus.cli.dead import show_rows
from sagabus.cli.moments import read_span
from sagabus.cli.output import console, emit, json_option
from sagabus.cli.session import opened

if TYPE_CHECKING:
    from sagabus.bus import Bus
    from sagabus.waiting.message import WaitingMessage

_KINDS: Final = ("timer", "delayed", "retry", "parked", "unreadable")


@click.group("timers", cls=AppFirst, short_help="Look at waiting messages; cancel one, or fire it now.")
def command() -> None:
    """Work with messages that wait: timers of sagas, delayed sends, retries, and what was parked.

    \b
      sagabus timers list shop.app:bus --saga Order/17
      sagabus timers list shop.app:bus --within 10m --count
      sagabus timers fire shop.app:bus 5f1c
    """


@command.command("list", short_help="List waiting messages, soonest first.")
@click.argument("app")
@click.option("--saga", metavar="NAME[/ID]", default="", help="Those for one saga, or for all of a class.")
@click.option("--endpoint", metavar="NAME", default="", help="Those that go to one endpoint.")
@click.option("--type", "type_name", metavar="TYPE", default="", help="Those of one message type, by wire name.")
@click.option("--name", "timer", metavar="TIMER", default="", help="Timers of that name.")
@click.option("--kind", type=click.Choice(_KINDS), help="Why they wait.")
@click.option("--within", callback=read_span, metavar="SPAN", help="Due in less than 10m, 2h, ...")
@click.option("--beyond", callback=read_span, metavar="SPAN", help="Due in that time or later.")
@click.option("--overdue", is_flag=True, help="Due already.")
@click.option("--count", is_flag=True, help="Only how many there are, by kind.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="The most rows.")
@json_option
def list_(
    app: str,
    type_name: str,
    kind: str | None,
    within: timedelta | None,
    beyond: timedelta | None,
    overdue: bool,
    count: bool,
    limit: int,
    as_json: bool,
    **described: str,
) -> None:
    """List the messages of APP that wait for their time, soonest first.

    \b
      sagabus timers list shop.app:bus --kind retry
      sagabus timers list shop.app:bus --within 10m --count
    """
    if overdue and (within is not None or beyond is not None):
        raise click.UsageError("--overdue is what is due before now; leave out --within and --beyond")
    with opened(app) as bus:
        from sagabus.waiting.message import WaitingKind

        now = datetime.fromtimestamp(bus.store.next_due_ms()[0] / 1000, UTC)
        found = bus.waiting.find(
            type=type_name,
            kind=WaitingKind(kind) if kind else None,
            since=now + beyond if beyond is not None else None,
            until=now if overdue else now + within if within is not None else None,
            **described,
        )
        if count:
            kinds = Counter(message.kind.value for message in found)
            rows: list[dict[str, Any]] = [{"why": name, "messages": number} for name, number in sorted(kinds.items())]
            more = False
        else:
            messages = list(islice(found, limit + 1))
            rows, more = [row(message) for message in messages[:limit]], len(messages) > limit
    show_rows("timers", rows, as_json, "nothing waits")
    if more:
        click.echo(f"only the soonest {limit} are shown; there are more (--limit, --count)", err=True)


@command.command("show", short_help="Show one waiting message.")
@click.argument("app")
@click.argument("name")
@json_option
def show(app: str, name: str, as_json: bool) -> None:
    """Show the message that waits under NAME; the beginning of that, or of its message id, is enough.

    \b
      sagabus timers show shop.app:bus 5f1c
    """
    import msgspec

    from sagabus.cli.drawing import pretty

    with opened(app) as bus:
        message = bus.waiting.get(name)
    try:
        body = msgspec.json.decode(message.body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        body = message.body.decode(errors="backslashreplace")
    if as_json:
        emit({"kind": "timers"} | row(message) | {"body": body})
        return
    out = console()
    for field, value in row(message).items():
        out.print(f"{field:9} {value}", markup=False, soft_wrap=True)
    out.print(body if isinstance(body, str) else pretty(body), markup=False, soft_wrap=True)


@command.command("cancel", short_help="Cancel one: it is never sent.")
@click.argument("app")
@click.argument("name")
@json_option
def cancel(app: str, name: str, as_json: bool) -> None:
    """Cancel the message that waits under NAME. A saga forgets a timer that is cancelled; the audit trail has who did.

    A message that was to be tried again becomes a dead letter: none is dropped in silence.

    \b
      sagabus timers cancel shop.app:bus 5f1c
    """
    with opened(app) as bus:
        message = bus.waiting.get(name)
        became = bus.waiting.cancel(message.name)
    _tell(message, "cancelled", became.value, became.said, as_json)


@command.command("fire", short_help="Send one now.")
@click.argument("app")
@click.argument("name")
@json_option
def fire(app: str, name: str, as_json: bool) -> None:
    """Have the message that waits under NAME be due now; a worker sends it within a moment.

    \b
      sagabus timers fire shop.app:bus 5f1c
    """
    with opened(app) as bus:
        message = bus.waiting.get(name)
        fired = bus.waiting.fire(message.name)
    said = "due now" if fired else "it is due already, or being sent"
    _tell(message, "fired", "fired" if fired else "too-late", said, as_json)


def _tell(message: WaitingMessage, kind: str, became: str, said: str, as_json: bool) -> None:
    if as_json:
        emit({"kind": kind, "name": message.name, "id": message.id, "became": became})
    else:
        click.echo(f"{message.name}: {said}")


def row(message: WaitingMessage) -> dict[str, Any]:
    """Return a waiting message as a list shows it."""
    from sagabus.envelope import rfc3339

    return {
        "due": rfc3339(message.due_ms),
        "why": message.kind.value,
        "endpoint": message.endpoint,
        "type": message.type,
        "saga": message.saga,
        "timer": message.timer,
        "attempt": message.attempt,
        "id": message.id,
        "name": message.name,
    }


def rows_of(bus: Bus, limit: int) -> tuple[list[dict[str, Any]], bool]:
    """Return the soonest *limit* messages that wait, as `sagabus list` shows them, and whether there are more."""
    messages = list(islice(bus.waiting.find(), limit + 1))
    return [row(message) for message in messages[:limit]], len(messages) > limit
