"""`sagabus resume`: have workers receive from an endpoint again."""

from __future__ import annotations

import click

from sagabus.cli.output import emit, json_option
from sagabus.cli.session import opened


@click.command("resume", short_help="Have workers receive from a paused endpoint again.")
@click.argument("app")
@click.argument("endpoint")
@json_option
def command(app: str, endpoint: str, as_json: bool) -> None:
    """End the pause of ENDPOINT: workers go on with what waits, within two seconds.

    \b
      sagabus resume shop.app:bus billing
    """
    with opened(app) as bus:
        from sagabus.operations.pausing import resume

        over = resume(bus, endpoint)
    from sagabus.envelope import rfc3339

    if as_json:
        was = {"by": over.by, "why": over.why, "at": rfc3339(over.at_ms)} if over else None
        emit({"kind": "resumed", "endpoint": endpoint, "became": "resumed" if over else "already", "was": was})
    elif over:
        click.echo(f"{endpoint}: resumed; it was paused by {over.by} since {rfc3339(over.at_ms)}")
    else:
        click.echo(f"{endpoint}: it is not paused")
