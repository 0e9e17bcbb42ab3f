"""`sagabus cancel`: end a saga that hangs for good."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from sagabus.cli.output import emit, json_option
from sagabus.cli.session import opened

if TYPE_CHECKING:
    from sagabus.commit import Snapshot


@click.command("cancel", short_help="End a saga that hangs for good.")
@click.argument("app")
@click.argument("saga", metavar="NAME/ID")
@click.option("--why", metavar="TEXT", required=True, help="For its history and the audit trail.")
@click.option("--keep", metavar="VERSION", default="", help="Of siblings that cannot be merged: whose state is kept.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def command(app: str, saga: str, why: str, keep: str, yes: bool, as_json: bool) -> None:
    """End a saga of APP: it completes without a decision; its timers end, and what still comes for it is late.

    Nothing leaves it, and its starter gets no answer: compensate by hand. Siblings are merged first. Where the merger
    refuses, --keep names the version whose state stays; what only others know is lost.

    \b
      sagabus cancel shop.app:bus Order/17 --why "paid twice, refunded by hand"
    """
    from sagabus.commit import Want
    from sagabus.envelope import SagaKey
    from sagabus.operations.cancel import cancel, foresee, saga_definition

    if not why.strip():
        raise click.UsageError("--why is empty; say why, whoever reads the history will want to know")
    key = SagaKey.parse(saga)
    with opened(app) as bus:
        (snapshot,) = bus.store.load([Want(key)])
        foresee(saga_definition(bus, key), snapshot, keep=keep)
        if not yes:
            _confirm(snapshot, keep)
        done = cancel(bus, key, why=why, keep=keep)
    if as_json:
        emit(
            {
                "kind": "cancelled",
                "saga": str(done.key),
                "id": done.id,
                "life": done.life,
                "merged": list(done.merged),
                "kept": done.kept or None,
                "timers": list(done.timers),
                "state": done.state,
            }
        )
        return
    how = f", having merged {' + '.join(done.merged)}" if done.merged else ""
    how += f", having kept {done.kept} alone" if done.kept else ""
    how += f"; ended its timers {', '.join(done.timers)}" if done.timers else ""
    click.echo(f"cancelled {done.key}{how}")


def _confirm(snapshot: Snapshot, keep: str) -> None:
    """Ask whoever sits at a terminal.

    Raises:
        click.Abort: they would rather not.
        click.UsageError: nobody sits there.
    """
    siblings = len(snapshot.versions)
    facts = []
    if siblings > 1:
        facts.append(f"{siblings} siblings, {f'of which {keep} is kept' if keep else 'merged first'}")
    facts += [f"{len(snapshot.timers)} timer{'s' if len(snapshot.timers) > 1 else ''}"] if snapshot.timers else []
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise click.UsageError("nobody is there to be asked; say --yes to end the saga")
    what = f" ({', '.join(facts)})" if facts else ""
    click.confirm(f"End {snapshot.key}{what} for good?", abort=True, err=True)
