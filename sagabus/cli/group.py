"""The `sagabus` command: finds its subcommands, and turns expected errors into a line and an exit code."""

from __future__ import annotations

import importlib
from typing import Any, Final

import click

from sagabus.cli.exit_codes import exit_code
from sagabus.errors import SagabusError

COMMANDS: Final = ("worker", "send", "list", "inspect", "tail", "record", "replay", "simulate")
"""In the order in which a newcomer meets them; each is a module here, mostly of that name."""
_MODULES: Final = {"list": "listing"}

_HELP: Final = """Run and watch sagas whose state may fork. APP is package.module:bus;
SAGABUS_STORE and SAGABUS_TRANSPORT are its URLs.

\b
  sagabus worker examples.credit_check.app:bus --processes 2
  sagabus inspect examples.credit_check.app:bus CreditCheck/42

\b
Exit codes: 0 ok, 1 failure, 2 usage or definition, 3 not found, 4 unreachable.
Data goes to stdout, logs and progress to stderr.
"""


class _Group(click.Group):
    """A group that imports a subcommand when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"sagabus.cli.{_MODULES.get(cmd_name, cmd_name)}")
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SagabusError as error:
            # Expected, so one line says it; anything else keeps its traceback.
            click.echo(f"sagabus: {' '.join(str(error).split())}", err=True)
            ctx.exit(exit_code(error))


@click.group(cls=_Group, help=_HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="sagabus", message="sagabus %(version)s")
def main() -> None:
    """Dispatch to a subcommand."""
