"""`sagabus inspect`: one saga, its siblings, what it waits for, and how it got there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from sagabus.cli.output import console, emit, json_option
from sagabus.cli.session import opened

if TYPE_CHECKING:
    from sagabus.commit import HistoryEntry, Snapshot
    from sagabus.outgoing import Outgoing
    from sagabus.store.protocol import Store


@click.command("inspect", short_help="Show one saga: state, siblings, version graph.")
@click.argument("app")
@click.argument("saga", metavar="NAME/ID")
@json_option
def command(app: str, saga: str, as_json: bool) -> None:
    """Show one saga: its state, or its siblings side by side; timers, what was not dispatched yet, and its history.

    The history is the version graph: lanes are siblings, merges join them. A saga that has completed can be looked at
    until its retention ends.

    \b
      sagabus inspect examples.credit_check.app:bus CreditCheck/42
      sagabus inspect shop.app:bus Order/17 --json | jq .versions
    """
    from sagabus.commit import Lifecycle, Want
    from sagabus.envelope import SagaKey
    from sagabus.errors import SagaNotFoundError

    key = SagaKey.parse(saga)
    with opened(app) as bus:
        history = bus.store.history(key)
        ids = tuple(dict.fromkeys(message.id for entry in history for message in entry.messages))
        (snapshot,) = bus.store.load([Want(key, ids)])
        if snapshot.lifecycle is Lifecycle.ABSENT:
            raise SagaNotFoundError(saga)
        found = _described(snapshot, _due(bus.store, snapshot), history)
    if as_json:
        emit(found)
    else:
        _print(found, history)


def _due(store: Store, snapshot: Snapshot) -> dict[str, int]:
    """Return when the timers of *snapshot* are due, by message id.

    Those are known that are not dispatched yet, or among the next thousand of the store.
    """
    if not snapshot.timers:
        return {}
    undispatched = [message for _, (messages, _, _) in _outbox(snapshot) for message in messages]
    return {message.id: message.due_ms for message in undispatched} | {i.id: i.due_ms for i in store.scheduled()}


def _described(snapshot: Snapshot, due: Mapping[str, int], history: Sequence[HistoryEntry]) -> dict[str, Any]:
    from sagabus.codec import shown_state
    from sagabus.envelope import rfc3339

    return {
        "saga": str(snapshot.key),
        "lifecycle": snapshot.lifecycle.value,
        "life": snapshot.life,
        "started_by": _starter(snapshot.starter),
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
        "history": [entry_row(entry) for entry in history],
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


def _undispatched(snapshot: Snapshot) -> list[dict[str, Any]]:
    from sagabus.messages import MERGE
    from sagabus.observe.replay import type_of_outgoing

    rows: list[dict[str, Any]] = []
    for cause, (messages, merge, damage) in _outbox(snapshot):
        if damage:
            rows.append({"id": None, "type": f"unreadable: {damage}", "to": None, "cause": cause})
        rows += [
            {"id": message.id, "type": type_of_outgoing(message), "to": message.to, "cause": cause}
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
    _head(out, "history")
    print_graph(out, history)


def _head(out: Any, text: str) -> None:
    out.print()
    out.print(text, style="bold underline", markup=False)
