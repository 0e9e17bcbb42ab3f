"""`sagabus inspect`: one saga, its siblings, what it waits for, and how it got there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from sagabus.cli.output import console, emit, json_option
from sagabus.cli.session import opened

if TYPE_CHECKING:
    from sagabus.commit import HistoryEntry, Snapshot
    from sagabus.observe.waits_for import Wait
    from sagabus.outgoing import Outgoing


@click.command("inspect", short_help="Show one saga: state, siblings, version graph.")
@click.argument("app")
@click.argument("saga", metavar="NAME/ID")
@click.option("--graph", is_flag=True, help="The version graph alone.")
@click.option("--at", metavar="VERSION", help="The state at one version, and what it changed.")
@click.option("--diff", nargs=2, metavar="FROM TO", help="Where the states at two versions differ.")
@json_option
def command(app: str, saga: str, graph: bool, at: str | None, diff: tuple[str, str] | None, as_json: bool) -> None:
    """Show one saga: state, or siblings side by side; what it waits for, with what is overdue; its version graph.

    In the graph lanes are siblings, and merges join them. VERSION is as there: actor:3, or 3 alone. Past states are
    made again by this app's code; where that is not what was stored, it says so.

    \b
      sagabus inspect examples.credit_check.app:bus CreditCheck/42
      sagabus inspect shop.app:bus Order/17 --diff 3 5
    """
    from sagabus.envelope import SagaKey
    from sagabus.observe.record import look
    from sagabus.observe.waits_for import gather

    if sum((graph, at is not None, diff is not None)) > 1:
        raise click.UsageError("--graph, --at and --diff show one thing each; take one of them")
    key = SagaKey.parse(saga)
    with opened(app) as bus:
        seen = look(bus.store, key, app, whole=False)
        if at is not None or diff is not None:
            from sagabus.cli.inspect_versions import show_at, show_diff

            show_at(bus, seen, at, as_json) if at is not None else show_diff(bus, seen, diff, as_json)
            return
        history = seen.recorded.history
        waits = () if graph else gather(bus.store, bus.saga(key.name), seen, endpoints=bus.endpoints)
    if graph:
        _show_graph(saga, history, as_json)
        return
    found = _described(seen.snapshot, waits, history)
    if as_json:
        emit(found)
    else:
        _print(found, history)


def _show_graph(saga: str, history: Sequence[HistoryEntry], as_json: bool) -> None:
    from sagabus.cli.drawing import print_graph

    if as_json:
        emit({"saga": saga, "history": [entry_row(entry) for entry in history]})
    else:
        print_graph(console(), history)


def _described(snapshot: Snapshot, waits: Sequence[Wait], history: Sequence[HistoryEntry]) -> dict[str, Any]:
    from sagabus.codec import shown_state
    from sagabus.envelope import rfc3339

    due = {wait.id: wait.due_ms for wait in waits if wait.due_ms is not None}
    return {
        "saga": str(snapshot.key),
        "lifecycle": snapshot.lifecycle.value,
        "life": snapshot.life,
        "started_by": _starter(snapshot.starter),
        "cancelled": _cancelled(snapshot, history),
        "versions": [
            {"version": str(version.dot), "context": dict(version.context), "state": shown_state(version.state)}
            for version in snapshot.versions
        ],
        "pending_merge": snapshot.pending_merge or None,
        "timers": [
            {"timer": name, "id": id_, "due": rfc3339(due[id_]) if id_ in due else None}
            for name, id_ in sorted(snapshot.timers.items())
        ],
        "undispatched": _undispatched(snapshot),
        "waits_for": [wait_row(wait, snapshot.now_ms) for wait in waits],
        "history": [entry_row(entry) for entry in history],
    }


def wait_row(wait: Wait, now_ms: int) -> dict[str, Any]:
    """Return what a saga waits for as plain data."""
    from sagabus.envelope import rfc3339

    return {
        "for": wait.kind.value,
        "name": wait.name,
        "to": wait.to or None,
        "id": wait.id or None,
        "since": None if wait.since_ms is None else rfc3339(wait.since_ms),
        "due": None if wait.due_ms is None else rfc3339(wait.due_ms),
        "age_s": round(wait.age_ms(now_ms) / 1000, 3),
        "overdue": wait.overdue,
        "remark": wait.remark or None,
    }


def _outbox(snapshot: Snapshot) -> Iterator[tuple[str, tuple[Sequence[Outgoing], bool, str]]]:
    """Yield consumed ids, and what each has left there: messages, whether a merge, and what is wrong with it."""
    from sagabus.errors import CodecError
    from sagabus.outgoing import from_lines

    for cause, lines in snapshot.consumed.items():
        try:
            yield cause, (*from_lines(lines), "")
        except CodecError as error:
            yield cause, ((), False, str(error))


def _starter(stored: bytes) -> Any:
    """Return who started a saga, plain; where that is damaged, an object that says so."""
    import msgspec

    try:
        return msgspec.json.decode(stored) if stored else None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return {"id": "unreadable", "source": str(error)}


def _cancelled(snapshot: Snapshot, history: Sequence[HistoryEntry]) -> dict[str, Any] | None:
    """Return who has ended this life of a saga, and why; None where nobody has."""
    import msgspec

    from sagabus.ending import read_cancellation
    from sagabus.envelope import rfc3339
    from sagabus.observe.graph import is_cancellation

    for entry in reversed(history):
        if entry.completed and entry.life == snapshot.life and is_cancellation(entry):
            try:
                said = read_cancellation(entry.messages[0])
            except (msgspec.MsgspecError, ValueError):
                return {"by": entry.by, "why": "unreadable", "at": rfc3339(entry.at_ms)}
            return {"by": said.by, "why": said.why, "at": rfc3339(entry.at_ms)}
    return None


def _undispatched(snapshot: Snapshot) -> list[dict[str, Any]]:
    from sagabus.messages import MERGE
    from sagabus.observe.waits_for import type_name

    rows: list[dict[str, Any]] = []
    for cause, (messages, merge, damage) in _outbox(snapshot):
        if damage:
            rows.append({"id": None, "type": f"unreadable: {damage}", "to": None, "cause": cause})
        rows += [
            {"id": message.id, "type": type_name(message.body), "to": message.to, "cause": cause}
            for message in messages
        ]
        if merge:
            rows.append({"id": snapshot.pending_merge, "type": MERGE, "to": "itself", "cause": cause})
    return rows


def entry_row(entry: HistoryEntry) -> dict[str, Any]:
    """Return one entry of a history as plain data."""
    from sagabus.envelope import rfc3339

    return {
        "version": str(entry.dot) if entry.dot else None,
        "outcome": entry.outcome.value,
        "at": rfc3339(entry.at_ms),
        "parents": [str(dot) for dot in entry.parents],
        "by": entry.by,
        "messages": [{"id": message.id, "type": message.type} for message in entry.messages],
        "completed": entry.completed,
        "dropped_decision": entry.dropped_decision,
        "life": entry.life,
    }


def _print(found: dict[str, Any], history: Sequence[HistoryEntry]) -> None:
    from rich.text import Text

    from sagabus.cli.drawing import print_graph, print_states

    out = console()
    versions = found["versions"]
    siblings = len(versions)
    facts = [found["lifecycle"]]
    if siblings > 1:
        facts.append(f"{siblings} siblings")
    if found["life"] > 1:
        facts.append(f"life {found['life']}")
    if found["pending_merge"]:
        facts.append(f"MergeSagaState under way ({found['pending_merge']})")
    out.print(Text.assemble((found["saga"], "bold"), "  ", ", ".join(facts)), soft_wrap=True)
    starter = found["started_by"]
    if isinstance(starter, dict):
        who, where = starter.get("id"), starter.get("source")
        out.print(Text(f"started by {who} from {where}", "dim"), soft_wrap=True)
    if found["cancelled"]:
        out.print(Text("cancelled by {by} at {at}: {why}".format(**found["cancelled"]), "bold"), soft_wrap=True)
    _head(out, "siblings" if siblings > 1 else f"state {versions[0]['version']}" if versions else "state")
    print_states(out, {version["version"]: version["state"] for version in versions})
    for name, rows, line in (
        ("timers", found["timers"], "{timer}  due {due}  {id}"),
        ("not dispatched yet", found["undispatched"], "{type} to {to}  {id}  (from {cause})"),
    ):
        if rows:
            _head(out, name)
            for row in rows:
                known = {field: "unknown" if value is None else value for field, value in row.items()}
                out.print(Text(line.format(**known)), soft_wrap=True)
    # Timers and what is not dispatched stand above.
    waited = [wait for wait in found["waits_for"] if wait["for"] in ("answer", "merge") or wait["overdue"]]
    if waited:
        _head(out, "waits for")
        for wait in waited:
            out.print(Text(_waited(wait), "bold red" if wait["overdue"] else ""), soft_wrap=True)
    _head(out, "history")
    print_graph(out, history)


def _waited(wait: dict[str, Any]) -> str:
    """Return what a saga waits for, in a line."""
    to = f" from {wait['to']}" if wait["for"] == "answer" else f" to {wait['to']}" if wait["to"] else ""
    late = f"overdue by {_span(wait['age_s'])}" if wait["for"] == "timer" else f"overdue, {_span(wait['age_s'])} old"
    age = late if wait["overdue"] else f"{_span(wait['age_s'])} old"
    words = [f"{wait['for']} {wait['name']}{to}".strip(), age, wait["id"] or "", wait["remark"] or ""]
    return "  ".join(filter(None, words))


def _span(seconds: float) -> str:
    """Return a span of time as people say it: 12 s, 5 min, 3 h, 2 d."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def _head(out: Any, text: str) -> None:
    out.print()
    out.print(text, style="bold underline", markup=False)
