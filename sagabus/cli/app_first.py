"""Groups of subcommands that take the app in front of the subcommand too, and list where none is given."""

from __future__ import annotations

import click


class AppFirst(click.Group):
    """A group in which `APP`, `APP SUBCOMMAND ...` and `SUBCOMMAND APP ...` all work; `APP` alone lists."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            app, *rest = args
            named = bool(rest) and rest[0] in self.commands
            args = [rest[0], app, *rest[1:]] if named else ["list", app, *rest]
        return super().parse_args(ctx, args)
