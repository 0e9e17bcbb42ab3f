"""`sagabus dev`: run an app while it is written; one command for store, workers and dashboard."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click


@click.command("dev", short_help="Run an app while you write it: store, workers, dashboard.")
@click.argument("app", required=False)
@click.option("--processes", type=click.IntRange(1, 64), default=2, show_default=True, help="How many workers.")
@click.option("--no-dashboard", is_flag=True, help="Leave it out.")
@click.option("--poll", is_flag=True, help="Look for changed files, as on network drives.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], False),
    default="warning",
    show_default=True,
    help="Of the workers; info shows forks and merges.",
)
def command(app: str | None, processes: int, no_dashboard: bool, poll: bool, log_level: str) -> None:
    """Run APP until Ctrl-C: a store, workers, the dashboard.

    Whenever a .py file of the project changes, the workers finish what they have in hand and start again. One that
    cannot be loaded is shown, and the workers go on as they were until it is mended. Without APP it is the one that
    pyproject.toml names in [tool.sagabus].

    \b
      sagabus dev shop.app:bus
      sagabus dev --processes 4 --log-level info
    """
    from sagabus.dev.changes import Changes
    from sagabus.dev.dashboard import Dashboard, is_installed
    from sagabus.dev.screen import Screen
    from sagabus.dev.session import DevSession
    from sagabus.observe.log import configure
    from sagabus.scaffold.project import find_project

    if app is None:
        project = find_project(Path.cwd())
        os.chdir(project.folder)
        app = project.app
    configure(level="WARNING", color=False if os.environ.get("NO_COLOR") else None)
    folder = Path.cwd().resolve()
    without = "left out" if no_dashboard else "" if is_installed() else "pip install 'sagabus[dashboard]' brings it"
    session = DevSession(
        app,
        processes,
        log_level,
        Screen(app, folder),
        Changes(folder, poll=poll),
        dashboard=None if without else Dashboard(app),
        without=without,
    )
    sys.exit(session.run())
