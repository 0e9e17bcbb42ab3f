"""`sagabus new`: add something to a project. So far: a saga."""

from __future__ import annotations

from pathlib import Path

import click


@click.group("new", short_help="Add a saga to a project.")
def command() -> None:
    """Add to the project of this folder, which pyproject.toml describes in [tool.sagabus].

    \b
      sagabus new saga RefundOrder --key order
    """


@command.command("saga", short_help="Add a saga: its messages, state, merger and tests.")
@click.argument("name")
@click.option("--key", metavar="FIELD", default="id", show_default=True, help="The field that identifies one.")
@click.option("--no-register", is_flag=True, help="Leave the app as it is; only print the lines.")
def saga(name: str, key: str, no_register: bool) -> None:
    """Add a saga called NAME, as RefundOrder or refund_order, with its tests, and put it on the bus.

    Its module goes beside the app's, its test into tests/. The app gets two lines, where it is plain where they
    belong; otherwise they are printed. Nothing is overwritten.

    \b
      sagabus new saga RefundOrder --key order
    """
    from sagabus.scaffold.names import key_field
    from sagabus.scaffold.new_saga import new_saga
    from sagabus.scaffold.project import find_project
    from sagabus.scaffold.templates import write

    project = find_project(Path.cwd())
    made = new_saga(project, name, key_field(key))
    paths = list(write(made.files))
    for path in paths:
        click.echo(f"made {_shown(path)}")
    app, lines = _shown(made.app), (made.registration.import_line, made.registration.endpoint_line)
    if made.app_text is not None and not no_register:
        made.app.write_bytes(made.app_text.encode())
        click.echo(f"put into {app}:")
    else:
        click.echo(f"put these lines into {app}:")
    for line in lines:
        click.echo(f"  {line}")
    click.echo(f"\nnext:\n  pytest {_shown(paths[1])}")


def _shown(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
