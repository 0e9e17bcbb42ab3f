"""`sagabus completion`: the script that has a shell complete commands, options and apps."""

from __future__ import annotations

import click


@click.command("completion", short_help="Print the script with which a shell completes.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print what has SHELL complete commands, options and APP: what pyproject.toml names, and modules with a Bus.

    \b
      eval "$(sagabus completion bash)"     in ~/.bashrc; bash 4.4 or newer
      eval "$(sagabus completion zsh)"      in ~/.zshrc, behind compinit
      sagabus completion fish > ~/.config/fish/completions/sagabus.fish
    """
    from click.shell_completion import get_completion_class

    from sagabus.cli.group import main

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(main, {}, "sagabus", "_SAGABUS_COMPLETE").source())
