"""`sagabus list`: sagas, queues, workers, routes, dead letters and timers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from sagabus.cli.moments import read_span
from sagabus.cli.output import console, emit, json_option, print_table
from sagabus.cli.saga_rows import Asked, find, shown
from sagabus.cli.session import opened
from sagabus.health.checks import said_of

if TYPE_CHECKING:
    from datetime import timedelta

    from sagabus.bus import Bus

Rows = list[dict[str, Any]]
_KINDS: Final = ("queues", "workers", "routes", "dead", "timers")


@click.command("list", short_help="List sagas, queues, workers, routes, timers.")
@click.argument("app")
@click.option("--saga", "name", metavar="NAME", help="Sagas of this class only.")
@click.option("--lifecycle", type=click.Choice(["live", "completed"]), help="Sagas that are so only.")
@click.option("--siblings", is_flag=True, help="With siblings; who had them first comes first.")
@click.option("--older-than", metavar="SPAN", callback=read_span, help="Sagas begun so long ago: 90s, 2h, 3d.")
@click.option("--id", "prefix", metavar="PREFIX", default="", help="Sagas whose id begins so, in no order.")
@click.option("--queues", is_flag=True, help="Endpoints, what waits, and subscriptions.")
@click.option("--workers", is_flag=True, help="Processes at work in the last minute.")
@click.option("--routes", is_flag=True, help="Message types, where to, and who handles them.")
@click.option("--dead", is_flag=True, help="Messages that were given up, newest first.")
@click.option("--timers", is_flag=True, help="Messages that wait for a time, soonest first.")
@click.option("--limit", type=click.IntRange(1), metavar="N", default=1000, show_default=True, help="The most rows.")
@click.option("--cursor", default="", help="Where a list of sagas that was cut goes on.")
@json_option
def command(
    app: str,
    name: str | None,
    lifecycle: str | None,
    siblings: bool,
    older_than: timedelta | None,
    prefix: str,
    limit: int,
    cursor: str,
    as_json: bool,
    **flags: bool,
) -> None:
    """List the sagas of APP: live ones, oldest first; then completed ones, newest first within a class.

    \b
      sagabus list shop.app:bus --saga Order --lifecycle live --older-than 2h
      sagabus list shop.app:bus --queues --dead --json
    """
    asked = Asked(name, lifecycle, siblings, older_than, prefix, cursor)
    wanted = [kind for kind in _KINDS if flags[kind]]
    with opened(app) as bus:
        if asked or not wanted:
            _list_sagas(bus, asked, limit, as_json)
        for kind in wanted:
            rows, more = _LISTS[kind](bus, limit)
            if as_json:
                for row in rows:
                    emit({"kind": kind} | row)
            else:
                _print(kind, rows)
            if more:
                click.echo(f"only the first {limit} {kind} are shown; there are more (--limit)", err=True)


def _list_sagas(bus: Bus, asked: Asked, limit: int, as_json: bool) -> None:
    found = find(bus, asked, limit)
    if as_json:
        for row in found.rows:
            emit({"kind": "sagas"} | row)
    else:
        _print("sagas", shown(found.rows))
    if found.cursor:
        if as_json:
            emit({"kind": "cursor", "cursor": found.cursor})
        click.echo(
            f"only the first {limit} sagas are shown; there are more (--limit, --cursor {found.cursor})", err=True
        )
    if found.unreadable:
        raise found.unreadable[0]


def _print(kind: str, rows: Rows) -> None:
    if not rows:
        click.echo(f"no {_NAMES[kind]}", err=True)
        return
    columns = [column for column in rows[0] if column not in ("traceback", "body")]
    print_table(console(), columns, [[_text(row[column]) for column in columns] for row in rows])
    click.echo()


def _text(value: Any) -> object:
    if value is None:
        return ""
    return ", ".join(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


_NAMES: Final = {
    "sagas": "sagas",
    "queues": "queues",
    "workers": "workers",
    "routes": "messages",
    "dead": "dead letters",
    "timers": "timers",
}


def _queues(bus: Bus, limit: int) -> tuple[Rows, bool]:
    queues = bus.transport.queues()
    now_ms, _ = bus.store.next_due_ms()
    paused = bus.store.presence.paused()
    rows: Rows = [
        {
            "endpoint": queue.endpoint,
            "depth": queue.depth,
            "oldest_s": None if queue.oldest_ms is None else max(now_ms - queue.oldest_ms, 0) / 1000,
            "partitions": queue.partitions,
            "paused": said_of(paused[queue.endpoint]) if queue.endpoint in paused else "",
            "subscriptions": list(queue.subscriptions),
        }
        for queue in queues[:limit]
    ]
    return rows, len(queues) > limit


def _workers(bus: Bus, limit: int) -> tuple[Rows, bool]:
    from sagabus.envelope import rfc3339

    roster = bus.store.presence.cards()
    rows: Rows = []
    for card in roster.cards[:limit]:
        counts = card.counts.values()
        rows.append(
            {
                "worker": card.worker,
                "host": card.host,
                "pid": card.pid,
                "endpoints": list(card.endpoints),
                "state": card.state,
                "seen_s": max(roster.now_ms - card.seen_ms, 0) / 1000,
                "per_s": card.handled_per_s,
                "handled": sum(each.handled for each in counts),
                "failed": sum(each.failed for each in counts),
                "dead": sum(each.dead for each in counts),
                "started": rfc3339(card.started_ms),
            }
        )
    return rows, len(roster.cards) > limit


def _routes(bus: Bus, limit: int) -> tuple[Rows, bool]:
    from sagabus.messages import registry

    handled = {name: endpoint.handled_types() for name, endpoint in bus.endpoints.items()}
    kinds = [kind for kind in registry.all() if not kind.name.startswith("sagabus.")]
    rows: Rows = [
        {
            "type": kind.name,
            "version": kind.version,
            "route": bus.routes.get(kind.name, ""),
            "handled_by": [name for name, types in handled.items() if kind.name in types],
        }
        for kind in kinds[:limit]
    ]
    return rows, len(kinds) > limit


def _dead(bus: Bus, limit: int) -> tuple[Rows, bool]:
    from sagabus.cli.dead import row

    letters = bus.store.dead(limit + 1)
    rows: Rows = [
        row(letter) | {"traceback": letter.traceback, "body": letter.body.decode(errors="replace")}
        for letter in letters[:limit]
    ]
    return rows, len(letters) > limit


def _timers(bus: Bus, limit: int) -> tuple[Rows, bool]:
    from sagabus.cli.timers import rows_of

    return rows_of(bus, limit)


_LISTS: Final[dict[str, Callable[[Bus, int], tuple[Rows, bool]]]] = {
    "queues": _queues,
    "workers": _workers,
    "routes": _routes,
    "dead": _dead,
    "timers": _timers,
}
