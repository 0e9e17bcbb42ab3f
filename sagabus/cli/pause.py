"""`sagabus pause`: have workers receive nothing from an endpoint."""

from __future__ import annotations

import click

from sagabus.cli.output import emit, json_option
from sagabus.cli.session import opened


@click.command("pause", short_help="Have workers receive nothing from an endpoint.")
@click.argument("app")
@click.argument("endpoint")
@click.option("--why", metavar="TEXT", default="", help="For whoever asks later.")
@json_option
def command(app: str, endpoint: str, why: str, as_json: bool) -> None:
    """Pause ENDPOINT: no worker receives from it, also none that starts, until it is resumed.

    Workers hear of it within two seconds, finish what is in hand and go on with
    other endpoints. The queue fills meanwhile; timers and retries go into it.

    \b
      sagabus pause shop.app:bus billing --why "the bank is down"
    """
    with opened(app) as bus:
        from sagabus.operations.pausing import pause

        found, made = pause(bus, endpoint, why=why)
    from sagabus.envelope import rfc3339

    since = rfc3339(found.at_ms)
    if as_json:
        became = "paused" if made else "already"
        emit({"kind": "paused", "endpoint": endpoint, "became": became, "by": found.by, "why": found.why, "at": since})
    elif made:
        click.echo(f"{endpoint}: paused; sagabus resume {app} {endpoint}")
    else:
        click.echo(f"{endpoint}: paused already, by {found.by} since {since}{f': {found.why}' if found.why else ''}")
