"""`sagabus init`: a new project that works as it stands."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("init", short_help="Make a new project that works as it stands.")
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path, file_okay=False))
@click.option("--package", metavar="NAME", help="What to import it as; after DIR by default.")
def command(folder: Path, package: str | None) -> None:
    """Make a project in DIR, by default in this folder, and say what to do next.

    It has a package with a saga, its merger and its consumers, tests of every order in which workers could handle its
    messages, pyproject.toml, a Compose file and a README. Nothing is overwritten: where one of its files exists
    already, none is written, and the exit code is 2.

    \b
      sagabus init shop
      sagabus init . --package shop
    """
    from importlib.metadata import version

    from sagabus.scaffold.project import new_project
    from sagabus.scaffold.templates import write

    files = new_project(folder, package, version("sagabus"))
    for path in write(files):
        click.echo(f"made {path}")
    app = next(path.parent.name for path in files if path.name == "app.py")
    steps = [] if folder.resolve() == Path.cwd() else [f"cd {folder}"]
    steps += [
        "sagabus dev                 a store, workers that reload, the dashboard",
        f'sagabus send {app}.app:bus {app}.ship-order \'{{"order": "42"}}\' --to shipping',
        "pytest                      needs pip install 'sagabus[testing]'",
        "sagabus new saga Refund --key order",
    ]
    click.echo("\nnext:")
    for step in steps:
        click.echo(f"  {step}")
