"""What `sagabus simulate` shows of an exploration: its outcomes, or the schedule that breaks something."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from sagabus.cli.output import emit

if TYPE_CHECKING:
    from sagabus.testing.exploration import Exploration
    from sagabus.testing.simulator.report import Failure


def print_explored(result: Exploration) -> None:
    """Show an exploration to people."""
    click.echo(str(result))
    if result.failure is not None:
        _print_failure(result.failure)
    elif result.trace:
        click.echo(f"\n{_numbered(result.trace)}")
    else:
        for outcome, ending in result.outcomes.items():
            click.echo(f"\n{_schedules(ending.schedules)} with {outcome!r}\n  --replay {ending.example}")


def _print_failure(failure: Failure) -> None:
    click.echo(f"\n{failure.kind}: {failure.problem}\n\n{_numbered(failure.trace)}")
    if failure.graph:
        click.echo(f"\nthe versions:\n{textwrap.indent(failure.graph, '  ')}")
    click.echo(f"\nto see it again: --replay {failure.token}")
    click.echo(f"\nas a test:\n\n{textwrap.indent(failure.test, '    ').rstrip()}")


def _numbered(lines: Sequence[str]) -> str:
    return "\n".join(f"{number:>4}  {line}" for number, line in enumerate(lines, 1))


def _schedules(count: float) -> str:
    if count == 1:
        return "1 schedule ends"
    return f"{'endless' if math.isinf(count) else format(int(count), ',')} schedules end"


def emit_explored(result: Exploration) -> None:
    """Show an exploration to programs: a line for the whole, one for each outcome, one for the failure."""
    emit(
        {
            "kind": "exploration",
            "ok": result.ok,
            "mode": result.mode,
            "seed": result.seed,
            "complete": result.complete,
            "states": result.states,
            "transitions": result.transitions,
            "schedules": _number(result.schedules),
            "trace": list(result.trace) or None,
        }
    )
    for outcome, ending in result.outcomes.items():
        emit(
            {
                "kind": "outcome",
                "decisions": [_plain(message) for message in outcome],
                "schedules": _number(ending.schedules),
                "example": ending.example,
            }
        )
    if result.failure is not None:
        failure = result.failure
        emit(
            {
                "kind": "failure",
                "failure": failure.kind,
                "problem": failure.problem,
                "trace": list(failure.trace),
                "graph": failure.graph,
                "token": failure.token,
                "test": failure.test,
            }
        )


def _plain(message: Any) -> dict[str, Any]:
    from sagabus.messages import type_of

    return {"type": type_of(message).name, "data": message}


def _number(count: float) -> int | None:
    """Return a count of schedules; None for endless ones."""
    return None if math.isinf(count) else int(count)
