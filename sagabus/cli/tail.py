"""`sagabus tail`: what happens, as it happens; looked up again and again, so that it costs the workers nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from sagabus.cli.output import emit, json_option
from sagabus.cli.session import opened
from sagabus.printable import printable

if TYPE_CHECKING:
    from sagabus.bus import Bus
    from sagabus.envelope import SagaKey
    from sagabus.errors import CorruptRecordError
    from sagabus.index.query import SagaSummary
    from sagabus.store.protocol import Store

Event = dict[str, Any]
_FEW: Final = 10_000
"""Up to so many sagas are all looked at; of more only those with siblings, which the index knows."""
_AT_ONCE: Final = 500


@click.command("tail", short_help="Show what happens, live.")
@click.argument("app")
@click.option("--saga", metavar="NAME/ID", help="One saga: every commit of it, from its history.")
@click.option("--follow/--no-follow", default=True, show_default=True, help="Go on, or show what is there and end.")
@click.option("--interval", type=click.FloatRange(0.05), default=1.0, show_default=True, help="Seconds between looks.")
@json_option
def command(app: str, saga: str | None, follow: bool, interval: float, as_json: bool) -> None:
    """Show what happens on the bus of APP, until Ctrl-C.

    With --saga: each commit once, forks, merges and dropped decisions included, those already in the history first.
    Without: first what is there; then, at each look, the queues whose depth changed, how many sagas there are where
    that changed, and new dead letters; and the sagas that changed since the look before, in one line each, however
    often they did. Of more than 10,000 sagas only those are told that have siblings, or had them at the look before.
    Kinds of --json: commit; queue, sagas, saga, unreadable, dead.

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
        from sagabus.index.part import index_of

        self._bus, self._index = bus, index_of(bus.store)
        self._rows: dict[SagaKey, SagaSummary] | None = None
        self._told: Event = {}
        self._many = False
        self._unreadable: set[str] = set()
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
        live, completed = self._counts()
        many = live + completed > _FEW
        rows, unreadable = self._look(many)
        # Counted after: what is told of one saga is in the counts already.
        live, completed = self._counts()
        siblings = self._index.forked().count
        told = {"kind": "sagas", "live": live, "completed": completed, "with_siblings": siblings}
        if told != self._told:
            self._told = told
            yield told
        for error in unreadable:
            if error.key not in self._unreadable:
                self._unreadable.add(error.key)
                yield {"kind": "unreadable", "saga": error.key, "error": str(error)}
        before, self._rows = self._rows, rows
        was_many, self._many = self._many, many
        # Where there are more than a few now, or were, what comes into sight or goes has not changed for that.
        if before is not None and many == was_many:
            yield from self._changes(before, rows)

    def _counts(self) -> tuple[int, int]:
        counts = self._index.counts()
        return sum(count.live for count in counts), sum(count.completed for count in counts)

    def _look(self, many: bool) -> tuple[dict[SagaKey, SagaSummary], list[CorruptRecordError]]:
        """Return all sagas, or, of many, those with siblings; and those that cannot be read."""
        from sagabus.index.query import SagaQuery

        rows: dict[SagaKey, SagaSummary] = {}
        unreadable: list[CorruptRecordError] = []
        cursor = ""
        while True:
            page = self._index.find(SagaQuery(forked=many), _AT_ONCE, cursor)
            rows |= {row.key: row for row in page.rows}
            unreadable += page.unreadable
            cursor = page.cursor
            if not cursor or len(rows) > 2 * _FEW:
                return rows, unreadable

    def _changes(self, before: dict[SagaKey, SagaSummary], rows: dict[SagaKey, SagaSummary]) -> Iterator[Event]:
        from sagabus.index.query import SagaQuery

        settled: dict[SagaKey, SagaSummary] = {}
        if self._many:
            for key in before.keys() - rows.keys():
                settled |= {row.key: row for row in self._index.find(SagaQuery(key.name, id=key.id)).rows}
        now = rows | settled
        for key in sorted(now):
            old, new = before.get(key), now[key]
            if new != old:
                written = new.versions - old.versions if old else None if self._many else new.versions
                yield {
                    "kind": "saga",
                    "saga": str(key),
                    "lifecycle": new.lifecycle.value,
                    "siblings": new.siblings,
                    "life": new.life,
                    "versions": new.versions,
                    "new_versions": written,
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
            written = "" if event["new_versions"] is None else f", +{event['new_versions']} versions"
            return f"{event['saga']}: {event['lifecycle']}{siblings}{written}"
        case "unreadable":
            return f"{event['saga']}: {event['error']}"
        case _:
            what = f"{event['type']} {event['id']}".strip()
            return f"dead letter on {event['endpoint']}: {what}: {event['reason']}: {event['error']}"
