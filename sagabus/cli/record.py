"""`sagabus record`: what really happened to sagas, for `sagabus replay` to run again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import click

from sagabus.cli.session import opened

if TYPE_CHECKING:
    from sagabus.bus import Bus
    from sagabus.envelope import SagaKey
    from sagabus.observe.record import RecordedSaga


@click.command("record", short_help="Export what really happened to sagas.")
@click.argument("app")
@click.argument("sagas", metavar="NAME[/ID]...", nargs=-1, required=True)
@click.option("--completed", is_flag=True, help="Of a NAME, only sagas that have completed.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="The most sagas of a NAME.")
def command(app: str, sagas: Sequence[str], completed: bool, limit: int) -> None:
    """Write what really happened to sagas of APP, as JSON lines: messages, versions, merges, what came out.

    `sagabus replay` runs that through today's code. The lines hold whole messages and states: keep them
    as you keep the personal data in them. Nothing is changed.

    \b
      sagabus record shop.app:bus Order/17 > trace.jsonl
      sagabus record shop.app:bus Order --completed --limit 500 > traces.jsonl
    """
    from sagabus.observe.record_lines import write

    with opened(app) as bus:
        for wanted in sagas:
            for recorded in _recorded(bus, app, wanted, completed, limit):
                for line in write(recorded):
                    click.echo(line.encode())  # JSON is UTF-8, whatever the terminal is


def _recorded(bus: Bus, app: str, wanted: str, completed: bool, limit: int) -> Iterator[RecordedSaga]:
    """Yield the saga NAME/ID, or the sagas of the class NAME.

    Raises:
        SagaNotFoundError: there is none.
    """
    from sagabus.envelope import SagaKey
    from sagabus.errors import SagaNotFoundError
    from sagabus.observe.record import record

    if "/" in wanted:
        yield record(bus.store, SagaKey.parse(wanted), app)
        return
    keys = list(islice(_keys(bus, wanted, completed), limit + 1))
    if not keys:
        raise SagaNotFoundError(f"of class {wanted}")
    if len(keys) > limit:
        click.echo(f"only {limit} sagas of {wanted} are recorded; there are more (--limit)", err=True)
    for key in sorted(keys[:limit]):
        try:
            yield record(bus.store, key, app)
        except SagaNotFoundError:
            click.echo(f"{key} was forgotten meanwhile: its retention is over", err=True)


def _keys(bus: Bus, name: str, completed: bool) -> Iterator[SagaKey]:
    """Yield the sagas of a class, each once."""
    from sagabus.commit import Lifecycle

    seen: set[SagaKey] = set()
    for row in bus.store.sagas(name):
        if row.key not in seen and (row.lifecycle is Lifecycle.COMPLETED or not completed):
            seen.add(row.key)
            yield row.key
