"""`sagabus tail`: what happens, as it happens; looked up again and again, so that it costs the workers nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from sagabus.cli.output import emit, json_option
from sagabus.cli.session import opened
from sagabus.printable import printable

if TYPE_CHECKING:
    from sagabus.bus import Bus
    from sagabus.store.protocol import SagaRow, Store

Event = dict[str, Any]


@click.command("tail", short_help="Show what happens, live.")
@click.argument("app")
@click.option("--saga", metavar="NAME/ID", help="One saga: every commit of it, from its history.")
@click.option("--follow/--no-follow", default=True, show_default=True, help="Go on, or show what is there and end.")
@click.option("--interval", type=click.FloatRange(0.05), default=1.0, show_default=True, help="Seconds between looks.")
@json_option
def command(app: str, saga: str | None, follow: bool, interval: float, as_json: bool) -> None:
    """Show what happens on the bus of APP, until Ctrl-C.

    With --saga: each commit once, forks, merges and dropped decisions included, those already in the history first.
    Without: first what is there; then, at each look, the queues whose depth changed, the sagas that changed
    since the look before (in one line each, however often they did), and new dead letters. A look reads every saga:
    choose a longer interval where there are many.

    \b
      sagabus tail examples.credit_check.app:bus --saga CreditCheck/42
      sagabus tail shop.app:bus --interval 5 --json
    """
    from sagabus.envelope import SagaKey

    key = SagaKey.parse(saga) if saga else None
    with opened(app) as bus:
        looks = _SagaLooks(bus.store, key) if key else _BusLooks(bus)
        try:
            while True:
                for event in looks.look():
                    if as_json:
                        emit(event)
                    else:
                        click.echo(printable(_line(event)))
                if not follow:
                    looks.check()
                    return
                time.sleep(interval)
        except KeyboardInterrupt:
            return


class _SagaLooks:
    """Looks at the history of one saga."""

    def __init__(self, store: Store, key: Any) -> None:
        self._store, self._key = store, key
        self._shown: list[Any] = []

    def look(self) -> Iterator[Event]:
        """Yield the commits that were not there at the look before."""
        from sagabus.cli.inspect import entry_row

        entries = self._store.history(self._key)
        last = self._shown[-1] if self._shown else None
        # The history is capped: where what was shown last has gone, all of it is new.
        first = entries.index(last) + 1 if last in entries else 0
        self._shown = entries
        for entry in entries[first:]:
            yield {"kind": "commit", "saga": str(self._key)} | entry_row(entry)

    def check(self) -> None:
        """Make sure that there is such a saga.

        Raises:
            SagaNotFoundError: nothing is known of it.
        """
        from sagabus.errors import SagaNotFoundError

        if not self._shown:
            raise SagaNotFoundError(str(self._key))


class _BusLooks:
    """Looks at queues, sagas and dead letters."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._rows: dict[Any, SagaRow] | None = None
        self._depths: dict[str, int] = {}
        self._dead: set[tuple[str, str, int]] = set()

    def check(self) -> None:
        """Nothing there is no error: a bus may be idle."""

    def look(self) -> Iterator[Event]:
        """Yield what is different from the look before."""
        yield from self._queues()
        yield from self._sagas()
        yield from self._letters()

    def _queues(self) -> Iterator[Event]:
        for queue in self._bus.transport.queues():
            if self._depths.get(queue.endpoint) != queue.depth:
                self._depths[queue.endpoint] = queue.depth
                yield {"kind": "queue", "endpoint": queue.endpoint, "depth": queue.depth}

    def _sagas(self) -> Iterator[Event]:
        from sagabus.commit import Lifecycle

        rows = {row.key: row for row in self._bus.store.sagas()}
        before, self._rows = self._rows, rows
        if before is None:
            live = sum(row.lifecycle is Lifecycle.LIVE for row in rows.values())
            siblings = sum(row.siblings > 1 for row in rows.values())
            yield {"kind": "sagas", "live": live, "completed": len(rows) - live, "with_siblings": siblings}
            return
        for key in sorted(rows):
            old, new = before.get(key), rows[key]
            if new != old:
                yield {
                    "kind": "saga",
                    "saga": str(key),
                    "lifecycle": new.lifecycle.value,
                    "siblings": new.siblings,
                    "life": new.life,
                    "versions": new.versions,
                    "new_versions": new.versions - (old.versions if old else 0),
                }

    def _letters(self) -> Iterator[Event]:
        for letter in reversed(self._bus.store.dead()):
            name = (letter.endpoint, letter.id, letter.at_ms)
            if name not in self._dead:
                self._dead.add(name)
                yield {
                    "kind": "dead",
                    "endpoint": letter.endpoint,
                    "id": letter.id,
                    "type": letter.type,
                    "saga": letter.saga,
                    "reason": letter.reason,
                    "error": letter.error,
                }


def _line(event: Event) -> str:
    match event["kind"]:
        case "commit":
            types = ", ".join(message["type"] for message in event["messages"])
            parts = [event["outcome"]]
            if len(event["parents"]) > 1:
                parts.append(f"merged {' + '.join(event['parents'])}")
            parts += [word for word in ("dropped_decision", "completed") if event[word]]
            what = ", ".join(parts).replace("dropped_decision", "decision dropped")
            return f"{event['at']}  {event['saga']}  {event['version'] or '-'}  {types}  {event['by']}  {what}"
        case "queue":
            return f"queue {event['endpoint']}: {event['depth']}"
        case "sagas":
            return (
                f"sagas: {event['live']} live, {event['with_siblings']} with siblings, {event['completed']} completed"
            )
        case "saga":
            siblings = f", {event['siblings']} siblings" if event["siblings"] > 1 else ""
            return f"{event['saga']}: {event['lifecycle']}{siblings}, +{event['new_versions']} versions"
        case _:
            what = f"{event['type']} {event['id']}".strip()
            return f"dead letter on {event['endpoint']}: {what}: {event['reason']}: {event['error']}"
