"""What `sagabus inspect` shows of single versions: the state at one, and where two differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sagabus.cli.output import console, emit

if TYPE_CHECKING:
    from rich.console import Console

    from sagabus.bus import Bus
    from sagabus.observe.record import Look
    from sagabus.observe.states import PastState, PastStates


def show_at(bus: Bus, seen: Look, name: str, as_json: bool) -> None:
    """Show the state at the version *name*, what it changed, and of a merge what was ignored.

    Raises:
        VersionNotFoundError: the history has no such version.
    """
    from sagabus.cli.siblings import merge_view_row, print_merge_view
    from sagabus.observe.changes import rows
    from sagabus.observe.merge_view import view_merge

    past = _past(bus, seen)
    dot = past.named(name)
    state = past.at(dot)
    definition = bus.saga(past.recorded.key.name)
    merges = state.entry is not None and len(state.entry.parents) > 1
    view = view_merge(definition, past, dot) if merges and definition is not None and definition.merger else None
    parents = past.parents(dot)
    if as_json:
        changed = {str(parent.dot): rows(past.changed(parent.dot, dot)) for parent in parents}
        merge = merge_view_row(view) if view else None
        emit({"saga": str(past.recorded.key)} | state_row(state) | {"changed": changed, "merge": merge})
        return
    out = console()
    _print_states(out, [state])
    for parent in parents:
        _print_changes(out, past, parent, state)
    if view is not None:
        out.print("\nthe merge", style="bold underline")
        print_merge_view(out, view)


def show_diff(bus: Bus, seen: Look, names: tuple[str, str] | None, as_json: bool) -> None:
    """Show where the states at two versions differ.

    Raises:
        VersionNotFoundError: the history has no such version.
        UnknownStateError: the state of one is not known.
    """
    from sagabus.observe.changes import rows
    from sagabus.observe.states import UnknownStateError

    assert names is not None
    past = _past(bus, seen)
    before, after = (past.at(past.named(name)) for name in names)
    for state in (before, after):
        if state.state is None:
            raise UnknownStateError(past.recorded.key, state)
    if as_json:
        row = {"saga": str(past.recorded.key), "from": state_row(before), "to": state_row(after)}
        emit(row | {"changes": rows(past.changed(before.dot, after.dot))})
        return
    out = console()
    _print_changes(out, past, before, after)
    for state in (before, after):
        _print_remark(out, state)


def state_row(state: PastState) -> dict[str, Any]:
    """Return the state of one version as plain data."""
    return {
        "version": str(state.dot),
        "state": state.plain,
        "proof": state.proof.value,
        "remark": state.remark or None,
        "parents": [str(dot) for dot in state.entry.parents] if state.entry else [],
    }


def _past(bus: Bus, seen: Look) -> PastStates:
    from sagabus.observe.states import kept_parents, past_states
    from sagabus.operations.cancel import saga_definition

    definition = saga_definition(bus, seen.snapshot.key)
    return past_states(definition, seen.recorded, kept_parents(seen.snapshot, seen.recorded.history))


def _print_states(out: Console, states: Sequence[PastState]) -> None:
    from rich.text import Text

    from sagabus.cli.drawing import pretty

    for state in states:
        out.print(Text.assemble((str(state.dot), "bold"), f"  {state.proof.value}"), soft_wrap=True)
        _print_remark(out, state)
        if state.state is not None:
            out.print(pretty(state.plain), markup=False, soft_wrap=True)


def _print_remark(out: Console, state: PastState) -> None:
    from rich.text import Text

    if state.remark:
        out.print(Text(f"note: {state.dot}: {state.remark}", "yellow"), soft_wrap=True)


def _print_changes(out: Console, past: PastStates, before: PastState, after: PastState) -> None:
    from rich.text import Text

    out.print(Text(f"\nfrom {before.dot} to {after.dot}", "bold underline"), soft_wrap=True)
    if before.state is None or after.state is None:
        _print_remark(out, before if before.state is None else after)
        return
    changed = past.changed(before.dot, after.dot)
    for change in changed:
        out.print(Text(str(change)), soft_wrap=True)
    if not changed:
        out.print(Text("nothing", "dim"))
