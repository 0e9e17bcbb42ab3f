"""`sagabus siblings`: which sagas have siblings, and what those of one know and would lose."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from sagabus.cli.output import console, emit, json_option
from sagabus.cli.session import opened

if TYPE_CHECKING:
    from rich.console import Console

    from sagabus.bus import Bus
    from sagabus.index.query import SagaSummary
    from sagabus.observe.merge_view import MergeView


@click.command("siblings", short_help="Which sagas have siblings, and what a merge ignores.")
@click.argument("app")
@click.argument("saga", metavar="[NAME[/ID]]", default="")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="The most sagas of a list.")
@click.option("--check", is_flag=True, help="Try this app's merger on each; exit code 1 where one is not merged.")
@json_option
def command(app: str, saga: str, limit: int, check: bool, as_json: bool) -> None:
    """List the sagas of APP, or of the class NAME, that have siblings, those forked longest first.

    Of one saga: its siblings side by side with what they come from, what this app's merger makes of them, and which of
    their changes it ignores. With --check a merger is tried on all of them before it is deployed: in every order, and
    nothing is written.

    \b
      sagabus siblings shop.app:bus --check
      sagabus siblings shop.app:bus Order/17
    """
    if check and "/" in saga:
        raise click.UsageError("--check is for a list; of one saga, sagabus merge --dry-run shows more")
    with opened(app) as bus:
        if "/" in saga:
            _one(bus, app, saga, as_json)
        else:
            _list(bus, saga, limit, check, as_json)


def _list(bus: Bus, name: str, limit: int, check: bool, as_json: bool) -> None:
    from itertools import islice

    from sagabus.cli.dead import show_rows
    from sagabus.cli.progress import watched
    from sagabus.envelope import rfc3339
    from sagabus.operations.merge import UnmergedSagasError, problem_of

    found = list(islice(_forked(bus, name), limit + 1))
    shown = found[:limit]
    rows: list[dict[str, Any]] = [
        {
            "saga": str(forked.key),
            "siblings": forked.siblings,
            "since": rfc3339(forked.forked_since_ms) if forked.forked_since_ms is not None else None,
            "versions": forked.versions,
        }
        for forked in shown
    ]
    if check:
        tried = watched((problem_of(bus, forked.key) for forked in shown), len(shown), "tried")
        for row, problem in zip(rows, tried, strict=True):
            row["merges"] = not problem
            row["problem"] = problem or None
    show_rows("siblings", rows, as_json, "no siblings")
    if len(found) > limit:
        click.echo(f"only {limit} are shown; there are more (--limit)", err=True)
    unmerged = [row["saga"] for row in rows if check and not row["merges"]]
    if unmerged:
        raise UnmergedSagasError(unmerged)


def _forked(bus: Bus, name: str) -> Iterator[SagaSummary]:
    """Yield the sagas that have siblings, those of one class where it is named, forked longest first."""
    from sagabus.index.part import index_of
    from sagabus.index.query import SagaQuery

    cursor = ""
    while True:
        page = index_of(bus.store).find(SagaQuery(name=name or None, forked=True), cursor=cursor)
        yield from page.rows
        cursor = page.cursor
        if not cursor:
            return


def _one(bus: Bus, app: str, saga: str, as_json: bool) -> None:
    from sagabus.envelope import SagaKey
    from sagabus.observe.merge_view import view_siblings
    from sagabus.observe.record import look
    from sagabus.operations.cancel import saga_definition

    key = SagaKey.parse(saga)
    seen = look(bus.store, key, app, whole=False)
    view = view_siblings(saga_definition(bus, key), seen.snapshot, seen.recorded)
    if as_json:
        emit({"kind": "merge-view"} | merge_view_row(view))
    else:
        out = console()
        out.print(f"{key}  {len(view.sides)} siblings", style="bold", markup=False, soft_wrap=True)
        print_merge_view(out, view)


def merge_view_row(view: MergeView) -> dict[str, Any]:
    """Return a merge view as plain data."""
    from sagabus.observe.changes import rows

    return {
        "saga": str(view.key),
        "version": str(view.at.dot) if view.at else None,
        "ancestor": str(view.ancestor.dot) if view.ancestor else None,
        "ancestor_state": view.ancestor_state,
        "sides": [
            {
                "version": str(side.version.dot),
                "state": side.version.plain,
                "proof": side.version.proof.value,
                "changed": rows(side.changed),
                "ignored": [one.row() for one in side.ignored],
            }
            for side in view.sides
        ],
        "result": view.result,
        "error": view.error or None,
        "written": view.written.plain if view.written else None,
        "remarks": list(view.remarks),
    }


def print_merge_view(out: Console, view: MergeView) -> None:
    """Print a merge: ancestor, sides and result side by side, then what was ignored, and what is not sure."""
    from rich.text import Text

    from sagabus.cli.drawing import print_states

    states: dict[str, Any] = {}
    if view.ancestor_state is not None:
        states[f"from {view.ancestor.dot}" if view.ancestor else "from the beginning"] = view.ancestor_state
    states |= {str(side.version.dot): side.version.plain for side in view.sides if side.version.plain is not None}
    if not view.error:
        states["merged"] = view.result
    print_states(out, states)
    if view.error:
        out.print(Text(f"not merged: {view.error}", "red"), soft_wrap=True)
    elif not view.ignored:
        out.print(Text("the merger ignores nothing", "green"))
    for dot, one in view.ignored:
        out.print(Text.assemble((f"ignored of {dot}: ", "bold yellow"), str(one)), soft_wrap=True)
    for remark in view.remarks:
        out.print(Text(f"note: {remark}", "dim"), soft_wrap=True)
