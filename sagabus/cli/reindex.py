"""`sagabus reindex`: bring the index of sagas in line with what is stored."""

from __future__ import annotations

import click

from sagabus.cli.output import emit, json_option
from sagabus.cli.session import opened


@click.command("reindex", short_help="Bring the index of sagas in line with their records.")
@click.argument("app")
@json_option
def command(app: str, as_json: bool) -> None:
    """Look at every saga of APP, put into the index what it lacks, remove what is stored no more.

    `sagabus list`, `doctor` and the dashboard find sagas by the index, which is written with them. This is for a
    store that an older sagabus has written, or that has lost keys: `sagabus doctor` says so. Workers may go on. It
    reads every record once, one to three minutes a million; where it was broken off it may be begun again.

    With --json one object: sagas, added, removed, unreadable.

    \b
      sagabus reindex shop.app:bus
    """
    from sagabus.cli.progress import progress_bar
    from sagabus.index.part import index_of

    with opened(app) as bus, progress_bar("sagas") as tell:
        rebuilt = index_of(bus.store).rebuild(tell)
    if as_json:
        emit(
            {
                "kind": "reindexed",
                "sagas": rebuilt.sagas,
                "added": rebuilt.added,
                "removed": rebuilt.removed,
                "unreadable": [error.key for error in rebuilt.unreadable],
            }
        )
    else:
        click.echo(f"{rebuilt.sagas} sagas: {rebuilt.added} entries added or mended, {rebuilt.removed} removed")
    if rebuilt.unreadable:
        raise rebuilt.unreadable[0]
