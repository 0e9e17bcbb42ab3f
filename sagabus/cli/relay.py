"""`sagabus relay`: send what an outbox table holds."""

from __future__ import annotations

import os
import signal
from types import FrameType

import click

_STOPPING = (signal.SIGTERM, signal.SIGINT)


@click.command("relay", short_help="Send what an outbox table in PostgreSQL holds.")
@click.argument("app")
@click.option("--database", metavar="URL", envvar="SAGABUS_DATABASE", help="Where the table is; or SAGABUS_DATABASE.")
@click.option("--table", metavar="NAME", default="sagabus_outbox", show_default=True, help="What it is called.")
@click.option("--batch", type=click.IntRange(1), default=500, show_default=True, help="The most messages at once.")
@click.option("--poll", type=click.FloatRange(0.1), default=5.0, show_default=True, metavar="S", help="Look so often.")
@click.option("--once", is_flag=True, help="Send what is there, and end.")
@click.option("--ddl", is_flag=True, help="Print the statement that creates the table, and end.")
def command(app: str, database: str | None, table: str, batch: int, poll: float, once: bool, ddl: bool) -> None:
    """Send the messages that transactions of APP have left in its outbox table, until SIGTERM or Ctrl-C.

    Any number of relays may run. A message is deleted when the broker has it; one that is sent twice has one id.

    \b
      sagabus relay shop.app:bus --database postgresql://shop@db/shop
      sagabus relay shop.app:bus --ddl
    """
    from sagabus.app import load_app
    from sagabus.observe.log import configure
    from sagabus.outbox import PostgresOutbox, Relay

    configure(level="info", as_json=False, color=False if os.environ.get("NO_COLOR") else None)
    with load_app(app) as bus:
        if ddl:
            click.echo(PostgresOutbox(bus, table=table).ddl)
            return
        if not database:
            raise click.UsageError("say where the outbox is, with --database URL or SAGABUS_DATABASE")
        relay = Relay(bus, database, table=table, batch=batch, poll_s=poll)
        if once:
            sent = 0
            while relayed := relay.relay():
                sent += relayed.sent
            click.echo(f"{sent} sent, {relay.waiting().rows} left")
            relay.close()
            return

        def stop(_number: int, _frame: FrameType | None) -> None:
            relay.stop()

        for number in _STOPPING:
            signal.signal(number, stop)
        relay.run()
