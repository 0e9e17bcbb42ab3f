"""`sagabus health`: what a worker's health file says, as an exit code; for probes that run a command."""

from __future__ import annotations

import sys
from typing import Final

import click

WITHIN_S: Final = 30.0


@click.command("health", short_help="Say by its exit code how a worker is.")
@click.option("--file", "path", metavar="PATH", required=True, help="What `sagabus worker --health-file` was given.")
@click.option("--ready", is_flag=True, help="Ask whether it is ready: its servers answer, and it does not drain.")
@click.option(
    "--within",
    type=click.FloatRange(1.0),
    metavar="SECONDS",
    default=WITHIN_S,
    show_default=True,
    help="How old what it said may be.",
)
def command(path: str, ready: bool, within: float) -> None:
    """Exit with 0 where the worker that writes PATH is alive, with 1 where it is not, or says nothing.

    \b
      sagabus health --file /run/worker.health
      sagabus health --file /run/worker.health --ready
    """
    from pathlib import Path

    from sagabus.health.health_file import HealthFile
    from sagabus.health.vitals import Health

    file = HealthFile(Path(path))
    health = file.read(within) or Health(False, False, (f"there is no {path}; is the worker started with it?",))
    word = "ready" if ready else "alive"
    well = health.ready if ready else health.alive
    click.echo(word if well else f"not {word}")
    for reason in health.reasons:
        click.echo(f"  {reason}")
    sys.exit(0 if well else 1)
