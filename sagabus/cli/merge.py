"""`sagabus merge`: what a merge of siblings would give, and having one merged now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sagabus.cli.output import console, emit, json_option
from sagabus.cli.session import opened

if TYPE_CHECKING:
    from sagabus.observe.what_if import WhatIf


@click.command("merge", short_help="Merge siblings now; --dry-run shows what that gives.")
@click.argument("app")
@click.argument("saga", metavar="NAME/ID")
@click.option("--dry-run", is_flag=True, help="Write nothing: this app's merger, in every order, and what follows.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of random orders, for over 5 siblings.")
@json_option
def command(app: str, saga: str, dry_run: bool, seed: int, as_json: bool) -> None:
    """Have a worker merge the siblings of a saga now, as with a mended merger.

    Its MergeSagaState is sent once more under its own id; a second merge is a duplicate. With --dry-run nothing is
    written, and a merger that gives different results in different orders, or raises, ends with exit code 1.

    \b
      sagabus merge shop.app:bus Order/17 --dry-run
    """
    from sagabus.envelope import SagaKey
    from sagabus.operations.merge import BrokenMergerError, MergerRefusesError, foresee, request_merge

    key = SagaKey.parse(saga)
    with opened(app) as bus:
        if not dry_run:
            asked = request_merge(bus, key)
            if as_json:
                siblings = list(asked.siblings)
                emit({"kind": "merge", "saga": saga, "id": asked.id, "to": asked.endpoint, "siblings": siblings})
            else:
                click.echo(f"sent MergeSagaState {asked.id} to {asked.endpoint}: {' + '.join(asked.siblings)}")
            return
        found = foresee(bus, key, seed=seed)
    if as_json:
        emit(what_if_row(found))
    else:
        _print(found)
    if found.broken:
        raise BrokenMergerError(saga, found.broken)
    if found.refused:
        raise MergerRefusesError(saga, found.refused)


def what_if_row(found: WhatIf) -> dict[str, Any]:
    """Return a what-if as plain data."""
    from sagabus.codec import shown_state
    from sagabus.observe.changes import rows

    step = found.next
    return {
        "kind": "what-if",
        "saga": str(found.key),
        "siblings": [{"version": str(v.dot), "state": shown_state(v.state)} for v in found.siblings],
        "answers": [
            {
                "state": answer.plain,
                "error": answer.error or None,
                "orders": [
                    {"order": [str(dot) for dot in trial.order], "swapped": trial.swapped} for trial in answer.trials
                ],
                "differs": rows(answer.differs),
            }
            for answer in found.answers
        ],
        "tried": found.tried,
        "all_orders": found.all_orders,
        "seed": found.seed,
        "mutates": found.mutates,
        "unstable": found.unstable,
        "broken": found.broken or None,
        "next": {
            "state": step.plain,
            "facts": [effect.row() for effect in step.facts],
            "decision": [effect.row() for effect in step.decision],
            "completes": step.completes,
            "error": step.error or None,
        },
    }


def _print(found: WhatIf) -> None:
    from rich.text import Text

    from sagabus.cli.drawing import pretty, print_states
    from sagabus.codec import shown_state

    out = console()
    out.print(Text(f"{found.key}: {len(found.siblings)} siblings", "bold"), soft_wrap=True)
    print_states(out, {str(v.dot): shown_state(v.state) for v in found.siblings})
    for answer in found.answers:
        first = answer.trials[0]
        more = f", and {len(answer.trials) - 1} more orders" if len(answer.trials) > 1 else ""
        out.print(Text(f"\nmerged as {first}{more}", "bold underline"), soft_wrap=True)
        if answer.error:
            out.print(Text(f"raises {answer.error}", "red"), soft_wrap=True)
        else:
            out.print(pretty(answer.plain), markup=False, soft_wrap=True)
        for change in answer.differs:
            out.print(Text(f"differs: {change}", "yellow"), soft_wrap=True)
    how = "all their orders" if found.all_orders else f"{found.tried} orders (seed {found.seed})"
    said, style = (found.broken, "bold red") if found.broken else (f"one result in {how}", "green")
    if not found.refused or found.broken:
        out.print(Text(f"\n{said}", style), soft_wrap=True)
    out.print(Text("\nwhat would be committed now", "bold underline"))
    step = found.next
    if step.error:
        out.print(Text(f"nothing: {step.error}", "red"), soft_wrap=True)
        return
    out.print(pretty(step.plain), markup=False, soft_wrap=True)
    for name, effects in (("fact", step.facts), ("decision", step.decision)):
        for effect in effects:
            out.print(Text(f"{name}: {effect}"), soft_wrap=True)
    if step.completes:
        out.print(Text("the saga would complete", "bold green"))
