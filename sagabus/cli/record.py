"""`sagabus record`: what really happened to sagas, for `sagabus replay` to run again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import click

from sagabus.cli.progress import watched
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
@click.option("--pytest", "as_pytest", is_flag=True, help="As tests that play them again.")
def command(app: str, sagas: Sequence[str], completed: bool, limit: int, as_pytest: bool) -> None:
    """Write what really happened to sagas of APP, as JSON lines: messages, versions, merges, what came out.

    `sagabus replay` runs that through today's code. The lines hold whole messages and states: keep them
    as you keep the personal data in them. Nothing is changed.

    \b
      sagabus record shop.app:bus Order/17 > trace.jsonl
      sagabus record shop.app:bus Order --completed --limit 500 > traces.jsonl
      sagabus record shop.app:bus Order/17 --pytest > tests/test_order_17.py
    """
    with opened(app) as bus:
        found = (saga for wanted in sagas for saga in _recorded(bus, app, wanted, completed, limit))
        for text in _tests(bus, found) if as_pytest else _lines(found):
            click.echo(text.encode(), nl=False)  # JSON and Python are UTF-8, whatever the terminal is


def _lines(found: Iterable[RecordedSaga]) -> Iterator[str]:
    """Yield the lines of recorded sagas."""
    from sagabus.observe.record_lines import write

    return (f"{line}\n" for saga in found for line in write(saga))


def _tests(bus: Bus, found: Iterable[RecordedSaga]) -> Iterator[str]:
    """Yield the parts of a file of tests that play recorded sagas again."""
    from sagabus.observe.as_test import as_tests
    from sagabus.operations.cancel import saga_definition

    return as_tests((saga_definition(bus, saga.key), saga) for saga in found)


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
    for key in watched(sorted(keys[:limit]), min(len(keys), limit), "recorded", prints=True):
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
