"""`sagabus docs`: what an app says and hears, written down for others."""

from __future__ import annotations

from typing import Any

import click


@click.group("docs", short_help="Write down what an app says and hears.")
def command() -> None:
    """Document an app for those who send to it, or hear what it publishes.

    \b
      sagabus docs asyncapi shop.app:bus --yaml > asyncapi.yaml
    """


@command.command("asyncapi", short_help="As an AsyncAPI 3.0 document.")
@click.argument("app")
@click.option("--json/--yaml", "as_json", default=True, show_default=True, help="YAML needs sagabus[dev].")
@click.option("--title", help="What the application is called; the namespace of its bus by default.")
@click.option("--app-version", metavar="VERSION", help="Of the application; that of its distribution by default.")
def asyncapi(app: str, as_json: bool, title: str | None, app_version: str | None) -> None:
    """Print an AsyncAPI 3.0 document of APP: endpoints as channels, handlers as operations, message schemas.

    What handlers send, publish and reply is read from their source, as far as they make the message themselves; routes
    count as well. No server is asked, and no credential printed.

    \b
      sagabus docs asyncapi shop.app:bus | jq .channels
      sagabus docs asyncapi shop.app:bus --yaml > asyncapi.yaml
    """
    from sagabus.app import load_app
    from sagabus.asyncapi.document import asyncapi as document_of
    from sagabus.observe.log import configure

    configure(level="WARNING")
    with load_app(app) as bus:
        document = document_of(bus, title=title or bus.namespace, version=app_version or _version(app))
    click.echo(_as_json(document) if as_json else _as_yaml(document))


def _version(app: str) -> str:
    """Return the version of the distribution that the app is in; 0.0.0 where it is in none."""
    from importlib.metadata import packages_distributions, version

    found = packages_distributions().get(app.partition(":")[0].partition(".")[0])
    return version(found[0]) if found else "0.0.0"


def _as_json(document: dict[str, Any]) -> str:
    import msgspec

    from sagabus.printable import printable_json

    return printable_json(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


def _as_yaml(document: dict[str, Any]) -> str:
    try:
        import yaml
    except ModuleNotFoundError as error:
        from sagabus.errors import ConfigurationError

        raise ConfigurationError("YAML needs PyYAML; pip install 'sagabus[dev]', or leave out --yaml") from error
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
    return text.rstrip("\n")
