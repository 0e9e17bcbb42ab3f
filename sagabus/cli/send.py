"""`sagabus send`: send commands, or publish events, from the shell."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import click

from sagabus.cli.output import emit, json_option
from sagabus.cli.progress import watched
from sagabus.cli.session import opened

if TYPE_CHECKING:
    from sagabus.bus import Bus
    from sagabus.messages import MessageType

_CHUNK: Final = 500


@click.command("send", short_help="Send a message from the shell.")
@click.argument("app")
@click.argument("type_name", metavar="TYPE")
@click.argument("body", metavar="JSON|-")
@click.option("--to", metavar="ENDPOINT", help="Where to; the route of its type by default.")
@click.option("--id", "message_id", help="An idempotency key: a saga handles one id once.")
@click.option("--after", type=click.FloatRange(min=0), metavar="SECONDS", help="Deliver it later.")
@click.option("--publish", is_flag=True, help="Publish an event instead, to all who subscribed.")
@json_option
def command(
    app: str,
    type_name: str,
    body: str,
    to: str | None,
    message_id: str | None,
    after: float | None,
    publish: bool,
    as_json: bool,
) -> None:
    """Send one message of TYPE, a wire name, and print its id.

    The body is checked against the message class before anything is sent; what the class declares Encrypted is written
    plainly, and encrypted here. With - one body a line is read from stdin;
    they are sent 500 at a time, and a bad line ends it: the lines before it are sent, those behind it are not.

    \b
      sagabus send shop.app:bus shop.order '{"order": "17"}' --to orders
      sagabus send shop.app:bus shop.order - --to orders < orders.jsonl
    """
    if publish and (to or after is not None):
        raise click.UsageError("an event goes to whoever subscribed, now; leave out --to and --after")
    if body == "-" and message_id:
        raise click.UsageError("--id is for one message; put ids of many into their bodies")
    from sagabus.errors import ConfigurationError
    from sagabus.messages import registry

    with opened(app) as bus:
        kind = registry.named(type_name)
        if not publish:
            to = to or _route(bus, kind)
        for messages, bad in _chunks(kind, body):
            for id_ in _send(bus, messages, to, message_id, after, publish):
                if as_json:
                    emit({"kind": "sent", "id": id_, "type": kind.name, "to": to or ""})
                else:
                    click.echo(id_)
            if bad:
                raise ConfigurationError(bad)


def _route(bus: Bus, kind: MessageType) -> str:
    """Return where commands of *kind* go when nobody says."""
    from sagabus.errors import ConfigurationError

    route = bus.routes.get(kind.name)
    if route is None:
        takers = [e.name for e in bus.endpoints.values() if kind.name in e.handled_types()]
        hint = " or ".join(f"--to {name}" for name in takers) or "--to ENDPOINT; no endpoint of this bus handles it"
        raise ConfigurationError(f"no route for {kind.name}; say {hint}, or --publish if it is an event")
    return route


def _chunks(kind: MessageType, body: str) -> Iterator[tuple[list[Any], str]]:
    """Yield messages, and what is wrong with the body behind them, if something is; no more comes then."""
    from sagabus.errors import CodecError

    single = body != "-"
    source: Iterable[str] = [body] if single else sys.stdin
    if not single and not sys.stdin.isatty():
        source = watched(source, None, "sent", prints=True)
    lines = ((number, line) for number, line in enumerate(source, 1) if single or line.strip())
    while chunk := list(islice(lines, _CHUNK)):
        messages: list[Any] = []
        for number, line in chunk:
            try:
                messages.append(kind.codec.given(line.encode()))
            except CodecError as error:
                yield messages, str(error) if single else f"line {number}: {error}"
                return
        yield messages, ""


def _send(
    bus: Bus, messages: list[Any], to: str | None, id_: str | None, after: float | None, publish: bool
) -> list[str]:
    if publish:
        return [bus.publish(message, id=id_) for message in messages]
    if id_ or after is not None:
        return [bus.send(message, to, id=id_, after=after) for message in messages]
    return bus.send_many(messages, to)
