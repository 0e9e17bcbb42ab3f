"""The `sagabus` command: finds its subcommands, and turns expected errors into a line and an exit code."""

from __future__ import annotations

import importlib
from typing import Any, Final

import click

from sagabus.cli.app_name import complete_apps
from sagabus.cli.exit_codes import USAGE, exit_code
from sagabus.errors import AppImportError, SagabusError
from sagabus.printable import printable, printable_lines
from sagabus.redaction import scrub

SECTIONS: Final = (
    ("begin", ("init", "new", "dev")),
    ("run", ("worker", "relay", "send", "health", "doctor")),
    ("look", ("list", "inspect", "siblings", "tail", "audit", "dashboard")),
    ("act", ("dead", "timers", "merge", "cancel", "pause", "resume", "reindex")),
    ("prove", ("simulate", "record", "replay")),
    ("tools", ("docs", "completion")),
)
"""What one does with them -> commands, in the order in which a newcomer meets them."""
COMMANDS: Final = tuple(name for _, names in SECTIONS for name in names)
"""Each is a module here, mostly of that name."""
_MODULES: Final = {"list": "listing"}

_HELP: Final = """Run and watch sagas whose state may fork. APP is package.module:bus.

\b
  sagabus worker examples.credit_check.app:bus --processes 2
\b
Exit codes: 0 ok, 1 failure, 2 usage or definition, 3 not found,
4 store or broker unreachable, 5 a handler hangs.
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
        complete_apps(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by what one does with them: the heading stands beside its first command."""
        width = max(map(len, COMMANDS)) + 2
        rows = []
        for heading, names in SECTIONS:
            for name in names:
                command = self.get_command(ctx, name)
                assert command is not None
                rows.append((heading if name == names[0] else "", name.ljust(width) + command.get_short_help_str(100)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except AppImportError as error:
            click.echo(_import_failed(error), err=True)
            ctx.exit(exit_code(error))
        except SagabusError as error:
            # Expected, so one line says it; anything else keeps its traceback.
            click.echo(f"sagabus: {printable(scrub(' '.join(str(error).split())))}", err=True)
            ctx.exit(exit_code(error))
        except UnicodeDecodeError as error:
            problem = f"the input is no UTF-8 ({error.reason} at byte {error.start})"
            click.echo(f"sagabus: {problem}; save it as such", err=True)
            ctx.exit(USAGE)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for arg in args:
            if not arg.isprintable() and any(0xD800 <= ord(c) < 0xE000 for c in arg):
                raise click.UsageError(f"the argument {printable(arg)} is no UTF-8; look at the locale of the shell")
        return super().parse_args(ctx, args)


def _import_failed(error: AppImportError) -> str:
    """Return where in the user's code it went wrong; how sagabus came there is no news."""
    from sagabus.app import traceback_of

    return f"sagabus: {error.app} cannot be imported\n{printable_lines(scrub(traceback_of(error.__cause__ or error)))}"


@click.group(cls=_Group, help=_HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="sagabus", message="sagabus %(version)s")
def main() -> None:
    """Dispatch to a subcommand."""
    from sagabus.observe.log import show_no_secrets_at_exit

    show_no_secrets_at_exit()
