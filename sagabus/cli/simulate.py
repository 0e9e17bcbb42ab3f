"""`sagabus simulate`: every order in which a saga could meet some messages, from the shell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from sagabus.cli.output import json_option
from sagabus.errors import SagabusError

if TYPE_CHECKING:
    from sagabus.bus import Bus
    from sagabus.definition import SagaDefinition


MODES: Final = ("auto", "exhaustive", "random")


class SimulationError(SagabusError):
    """A schedule breaks a saga, and the report stands on stdout; or not all were looked at that were to be.

    Attributes:
        kind: what it breaks, as `sagabus.testing.simulator.report.Failure` has it, or `cut off`.
    """

    def __init__(self, saga: str, kind: str) -> None:
        mend = "the report says by which schedule, and how to see it again"
        if kind == "cut off":
            mend = "nothing was broken so far; raise --max-states, or say --mode auto to go on at random"
        super().__init__(f"{saga}: {kind}; {mend}")
        self.kind = kind


@click.command("simulate", short_help="Explore every order a saga could meet.")
@click.argument("app")
@click.argument("saga", metavar="SAGA")
@click.argument("file", metavar="MESSAGES.jsonl", type=click.File(encoding="utf-8"))
@click.option("--workers", type=click.IntRange(1), default=2, metavar="N", help="How many may hold a saga at once: 2.")
@click.option("--batch", type=click.IntRange(1, 2), default=1, metavar="N", help="The most messages of a load: 1.")
@click.option("--duplicates", type=click.IntRange(0), default=0, metavar="N", help="Deliveries that happen once more.")
@click.option("--resends", type=click.IntRange(0), default=0, metavar="N", help="Messages sent again under a new id.")
@click.option("--rollbacks", type=click.IntRange(0), default=0, metavar="N", help="Failovers that lose a commit.")
@click.option("--no-timeouts", is_flag=True, help="No timer fires; else any may, from when it is set.")
@click.option("--may-wait", is_flag=True, help="A saga may be left waiting in the end.")
@click.option("--one-outcome", is_flag=True, help="Every schedule must end alike.")
@click.option("--mode", type=click.Choice(MODES), default="auto", metavar="MODE", help="auto, exhaustive or random.")
@click.option("--max-states", type=click.IntRange(1), metavar="N", help="Then auto goes on at random: 200000.")
@click.option("--runs", type=click.IntRange(1), default=2_000, metavar="N", help="Random schedules: 2000.")
@click.option("--seed", type=int, metavar="N", help="Of random schedules: 0.")
@click.option("--replay", metavar="TOKEN", help="Tell the one schedule of a failure or an outcome.")
@click.option("--with-consumers", is_flag=True, help="All of APP takes part. Consumers do real I/O, often!")
@json_option
def command(
    app: str,
    saga: str,
    file: TextIO,
    no_timeouts: bool,
    may_wait: bool,
    one_outcome: bool,
    with_consumers: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Try every order in which workers could handle the messages of a file: lines
    {"type": "wire.name", "data": {...}, "start": true}. Nothing is connected.

    \b
      sagabus simulate examples.credit_check.app:bus CreditCheck replies.jsonl
    """
    from unittest.mock import ANY

    from sagabus.app import load_app
    from sagabus.cli.explored import emit_explored, print_explored
    from sagabus.cli.message_lines import read
    from sagabus.observe.log import configure
    from sagabus.testing.exploration import explore

    configure(level="WARNING")
    bus = load_app(app)
    definition = _definition(bus, app, saga)
    given = read(file, {name for name, handler in definition.handlers.items() if handler.starts})
    asked: dict[str, Any] = {"start": given.start, "messages": given.messages}
    asked |= {"timeouts": not no_timeouts, "must_end": not may_wait}
    if not one_outcome:
        asked["outcomes"] = [ANY]
    subject = bus if with_consumers else definition.cls
    with _watched():
        result = explore(subject, **asked, **settings)
    show = emit_explored if as_json else print_explored
    show(result)
    if not result.ok:
        raise SimulationError(definition.name, result.failure.kind if result.failure else "cut off")


def _definition(bus: Bus, app: str, name: str) -> SagaDefinition:
    """Return the saga called *name*.

    Raises:
        ConfigurationError: there is none on the bus.
    """
    from sagabus.errors import ConfigurationError

    found = bus.saga(name)
    if found is None:
        known = ", ".join(d.name for endpoint in bus.endpoints.values() for d in endpoint.sagas)
        raise ConfigurationError(f"no saga {name!r} on {app}; it has {known or 'none: give one to bus.endpoint'}")
    return found


@contextmanager
def _watched() -> Iterator[None]:
    """Draw a progress bar on stderr where that is a terminal and the exploration takes its time."""
    from sagabus.testing.bar import watched
    from sagabus.testing.session import Defaults, Session, opened

    with opened(Session(Defaults(), lambda: watched(nullcontext))):
        yield
