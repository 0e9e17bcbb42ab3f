"""`sagabus dashboard`: pages about a bus, for a browser."""

from __future__ import annotations

import click

from sagabus.cli.session import opened

_INSTALL = "the dashboard needs more packages: pip install 'sagabus[dashboard]'"


@click.command("dashboard", short_help="Show sagas, versions and failures in a browser.")
@click.argument("app")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8750, show_default=True, help="0 for a free one.")
@click.option("--token", envvar="SAGABUS_DASHBOARD_TOKEN", help="Who has it may look; by default a new one.")
@click.option("--allow-actions", is_flag=True, help="Also send again, drop, merge, cancel, pause, resume.")
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help="Another name that it is called by.")
def command(app: str, host: str, port: int, token: str | None, allow_actions: bool, hosts: tuple[str, ...]) -> None:
    """Serve the dashboard of APP until Ctrl-C, and print the address to open.

    Whoever has the token sees every state and message; fields that are encrypted stay so. It is read-only unless
    --allow-actions, and every action is audited. Put TLS in front of it where it listens beyond this machine.

    \b
      sagabus dashboard examples.credit_check.app:bus
      sagabus dashboard shop.app:bus --port 0 --allow-actions
    """
    from sagabus.errors import ConfigurationError

    try:
        from sagabus.dashboard.serve import new_token, serve
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn", "jinja2", "markupsafe"):
            raise
        raise ConfigurationError(_INSTALL) from error

    with opened(app) as bus:
        serve(
            bus,
            app=app,
            host=host,
            port=port,
            token=token or new_token(),
            may_act=allow_actions,
            hosts=hosts,
            told=lambda address: click.echo(f"dashboard of {app}: {address}"),
        )
