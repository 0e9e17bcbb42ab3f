"""Row 25: RabbitMQ is stopped, or killed, and started again on its data."""

from __future__ import annotations

from typing import Final

from tests.chaos.arena import Arena
from tests.chaos.lab.rabbit import Rabbit
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict

_BETWEEN: Final = 10


def run(arena: Arena) -> Verdict:
    """End the broker under load: in good order, then with SIGKILL, in turn."""
    broker = arena.use(Rabbit(arena.folder / "rabbit"))
    server = arena.server()
    load = arena.load(server.url, broker.url, held=broker.messages)
    load.send(at_least=arena.size)
    for nth in range(arena.faults):
        load.await_done(load.finished() + _BETWEEN)
        if nth % 2:
            broker.kill()
        else:
            broker.stop()
        broker.start()
    verdict = load.finish()
    return verdict.with_faults(broker.starts - 1, f"{load.sent_again} sends were made again, with the same id")


ROW = Row(
    25,
    fault="broker restart",
    holds="confirms hold; nothing lost",
    run=run,
    errands=300,
    faults=4,
    slow="RabbitMQ takes some ten seconds to start, each time",
)
