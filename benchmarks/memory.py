"""What a saga, a timer, a document and their kin take in the store's memory. `python -m benchmarks.memory`."""

from __future__ import annotations

import datetime
import tempfile
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import click
from attrs import frozen

from benchmarks.__main__ import machine, progress
from benchmarks.concurrency.page import NoPlaceError, rewrite
from benchmarks.soak.app import Alarm, Ticks, report
from benchmarks.soak.messages import SetAlarm, Tick
from examples.credit_check.messages import CheckCredit, CreditDecided
from examples.credit_check.saga import BUREAUS, CreditCheck, CreditState
from mergers import fieldwise
from sagabus import Bus, Context, SagabusError
from sagabus.advance import advance
from sagabus.commit import Snapshot, Want
from sagabus.definition import SagaDefinition, definition_of
from sagabus.envelope import Incoming, SagaKey, decode, encode, wrap
from sagabus.observe.log import configure
from sagabus.outgoing import Outgoing, OutgoingKind
from sagabus.store.protocol import Bookkeeping, Scheduled, Store

PART: Final = "memory"
_WAVE: Final = 500
_USABLE: Final = 0.5
_MACHINES: Final = ((3, 16), (6, 32))
_BUREAUS: Final = BUREAUS


class PatientCheck(CreditCheck, key="customer", merger=fieldwise(CreditState)):
    """A credit check that waits for all three bureaus, and so is live when it has two scores."""

    def decide(self) -> None:
        """Decide on nothing less than all."""
        if len(self.state.scores) == len(_BUREAUS):
            super().decide()


class ForgetfulCheck(CreditCheck, key="customer", merger=fieldwise(CreditState), history=1):
    """A credit check that remembers its last commit only."""


@frozen
class Row:
    """What one kind of thing takes.

    Attributes:
        name: what it is.
        bytes_each: of the server's used memory, its tables included.
        keys_each: how many keys it is.
    """

    name: str
    bytes_each: float
    keys_each: float


# -- what is made ------------------------------------------------------------------------------------------------


def handle(store: Store, definition: SagaDefinition, batches: Mapping[SagaKey, Sequence[Incoming]]) -> list[Outgoing]:
    """Handle messages of many sagas as a lane does, mark what they send as dispatched, and return that."""
    released: list[Outgoing] = []
    keys = list(batches)
    for first in range(0, len(keys), _WAVE):
        part = keys[first : first + _WAVE]
        snapshots = store.load([Want(key, tuple(m.id for m in batches[key])) for key in part])
        commits = [advance(definition, snapshot, batches[snapshot.key]) for snapshot in snapshots]
        store.commit(commits, by="memory-0")
        for commit in commits:
            for half in (commit.facts, commit.decision):
                released += [o for messages in (half.outgoing.values() if half else ()) for o in messages]
        store.note(Bookkeeping(dispatched={commit.key: commit.ids for commit in commits}))
    return released


def started(
    store: Store, definition: SagaDefinition, message_of: Callable[[str], Any], count: int
) -> tuple[list[SagaKey], list[Outgoing]]:
    """Start *count* sagas by messages from outside; return their keys and what they sent."""
    now_ms, _ = store.next_due_ms()
    keys = [SagaKey(definition.name, f"C{number:09}") for number in range(count)]
    first = {key: [_arrived(message_of(key.id), now_ms)] for key in keys}
    return keys, handle(store, definition, first)


def checks(store: Store, definition: SagaDefinition, count: int, scores: int) -> None:
    """Have *count* credit checks get so many scores, one commit each, as bureaus that race would report them."""
    _, requests = started(store, definition, lambda key: CheckCredit(customer=key), count)
    now_ms, _ = store.next_due_ms()
    for bureau in _BUREAUS[:scores]:
        answers: dict[SagaKey, list[Incoming]] = {}
        for request in requests:
            if request.kind is OutgoingKind.COMMAND and request.to == bureau:
                context = Context(bureau, decode(request.body), now_ms, None)  # type: ignore[arg-type]
                report(Incoming(context.envelope).message, context)
                (reply,) = context.outgoing("report", {}, now_ms, 1_000_000)
                incoming = Incoming(decode(reply.body))
                answers[SagaKey.parse(incoming.envelope.saga)] = [incoming]
        handle(store, definition, answers)


def _arrived(message: Any, now_ms: int) -> Incoming:
    return Incoming(decode(encode(wrap(message, id=uuid.uuid4().hex, source="/", now_ms=now_ms))))


def _live(bus: Bus, count: int) -> None:
    checks(bus.store, _definition(bus, PatientCheck), count, 2)


def _completed(bus: Bus, count: int) -> None:
    checks(bus.store, _definition(bus, CreditCheck), count, 3)


def _forgetful(bus: Bus, count: int) -> None:
    checks(bus.store, _definition(bus, ForgetfulCheck), count, 3)


def _timers(bus: Bus, count: int) -> None:
    definition = _definition(bus, Alarm)
    now_ms, _ = bus.store.next_due_ms()
    far_ms = 10_000_000
    items: list[Scheduled] = []
    for number in range(count // 2):
        incoming = _arrived(SetAlarm(f"C{number:09}", far_ms, 0), now_ms)
        absent = Snapshot(SagaKey(definition.name, f"C{number:09}"), now_ms)
        for messages in advance(definition, absent, [incoming]).facts.outgoing.values():
            items += [
                Scheduled(o.id, o.to, o.body, o.due_ms, o.partition_key)
                for o in messages
                if o.kind is OutgoingKind.TIMER
            ]
    bus.store.note(Bookkeeping(scheduled=tuple(items)))


def _consumed(bus: Bus, count: int) -> None:
    definition = _definition(bus, Ticks)
    now_ms, _ = bus.store.next_due_ms()
    key = SagaKey(definition.name, "for-ever")
    for first in range(0, count, _WAVE):
        ticks = [_arrived(Tick(key.id), now_ms) for _ in range(min(_WAVE, count - first))]
        handle(bus.store, definition, {key: ticks})
    # Its history is bounded, and none of the ids'.
    _node(bus, "DEL", f"{bus.namespace}:{{{bus.namespace}:{key.tag()}}}:h")


def _letters(bus: Bus, count: int) -> None:
    bus.send_many([CreditDecided(f"C{n:09}", True, 712.5, {"equifax": 700}) for n in range(count)], to="broken")
    bus.worker(["broken"]).run_until_idle()


def _documents(bus: Bus, count: int) -> None:
    for first in range(0, count, _WAVE):
        many = range(first, min(first + _WAVE, count))
        for number in many:
            bus.documents.put(f"customer/C{number:09}", CreditState({"equifax": 700, "experian": 650}))


def _queued(bus: Bus, count: int) -> None:
    bus.send_many([CheckCredit(customer=f"C{n:09}") for n in range(count)], to="credit")


KINDS: Final[Mapping[str, Callable[[Bus, int], None]]] = {
    "a live saga: a credit check with two of three scores, three commits, default history": _live,
    "a completed saga: the same, decided, with the third score come late; until its retention ends": _completed,
    "the completed one, of a class with `history=1`": _forgetful,
    "a timer of a saga": _timers,
    "a consumed message id, beyond the first hundred of a saga": _consumed,
    "a dead letter, with its error and traceback": _letters,
    "a document with two fields": _documents,
    "a message in a queue": _queued,
}


# -- how it is measured ------------------------------------------------------------------------------------------


def measured(name: str, make: Callable[[Bus, int], None], count: int, settings: Mapping[str, str]) -> Row:
    """Return what one of *count* things takes: what the server uses more when they are there, by their number."""
    with tempfile.TemporaryDirectory(prefix="sagabus-") as folder, _bus(Path(folder)) as bus:
        for setting, value in settings.items():
            _node(bus, "CONFIG", "SET", setting, value)
        make(bus, 200)  # connections, scripts, topology: what is there once
        _flush(bus)
        before, keys_before = _used(bus), int(_node(bus, "DBSIZE"))
        make(bus, count)
        _forget_writes(bus)
        return Row(name, (_used(bus) - before) / count, (int(_node(bus, "DBSIZE")) - keys_before) / count)


@contextmanager
def _bus(folder: Path) -> Any:
    bus = Bus(f"embedded:{folder / 'store'}", namespace="memory", retention=timedelta(days=7))
    bus.endpoint("credit", CreditCheck)
    bus.endpoint("patient", PatientCheck)
    bus.endpoint("forgetful", ForgetfulCheck)
    bus.endpoint("alarms", Alarm)
    bus.endpoint("ticks", Ticks)
    for bureau in _BUREAUS:
        bus.endpoint(bureau)

    def fails(m: CreditDecided) -> None:
        raise ValueError(f"no account of {m.customer}")

    bus.endpoint("broken", max_attempts=1).consumer(fails)
    with bus:
        yield bus


def _definition(bus: Bus, saga: type[Any]) -> SagaDefinition:
    found = bus.saga(definition_of(saga).name)
    assert found is not None
    return found


def _node(bus: Bus, *command: str) -> Any:
    link: Any = bus.store.link  # type: ignore[attr-defined]
    return link.on_node("", *command)


def _used(bus: Bus) -> int:
    _node(bus, "MEMORY", "PURGE")
    info = dict(line.split(":", 1) for line in _node(bus, "INFO", "memory").decode().split("\r\n") if ":" in line)
    # Buffers of clients and of the append-only file come and go.
    return int(info["used_memory"]) - int(info["mem_clients_normal"]) - int(info["mem_aof_buffer"])


def _flush(bus: Bus) -> None:
    link: Any = bus.store.link  # type: ignore[attr-defined]
    for page in link.scan("memory:*"):
        for name in page:
            if name != "memory:topology" and not name.startswith("memory:q:"):
                _node(bus, "DEL", name)
    for queue in ("credit",):
        _node(bus, "XTRIM", f"memory:q:{{{queue}:0}}", "MAXLEN", "0")


def _forget_writes(bus: Bus) -> None:
    """Remove what is kept for a moment, for a write whose reply was lost."""
    link: Any = bus.store.link  # type: ignore[attr-defined]
    for page in link.scan("memory:writes:*"):
        for name in page:
            _node(bus, "DEL", name)


# -- what it says ------------------------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> str:
    """Return the rows, and what clusters hold of each, Markdown."""
    heads = [f"{nodes} x {gigabytes} GB hold" for nodes, gigabytes in _MACHINES]
    lines = [f"| | bytes | keys | {' | '.join(heads)} |", "| --- | ---: | ---: |" + " ---: |" * len(heads)]
    for row in rows:
        holds = [
            f"{nodes * gigabytes * 1e9 * _USABLE / row.bytes_each / 1e6:,.0f} million" for nodes, gigabytes in _MACHINES
        ]
        lines.append(f"| {row.name} | {row.bytes_each:,.0f} | {row.keys_each:.0f} | {' | '.join(holds)} |")
    return "\n".join(lines)


def plan(rows: Sequence[Row]) -> str:
    """Return what ten million checks need."""
    live, completed, _, timer, *_ = rows
    gigabytes = [10e6 * size / 1e9 for size in (live.bytes_each + timer.bytes_each, completed.bytes_each)]
    return (
        f"Ten million live checks with a timer each are {gigabytes[0]:.1f} GB, ten million completed ones that are "
        f"still remembered {gigabytes[1]:.1f} GB: together {sum(gigabytes):.0f} GB of data, so "
        f"{sum(gigabytes) / _USABLE:.0f} GB of memory with headroom."
    )


@click.command()
@click.option("--count", type=click.IntRange(1000), default=10_000, show_default=True, help="Of each kind.")
@click.option("--set", "settings", multiple=True, help="A setting of the server, as NAME=VALUE.")
@click.option("--write", type=click.Path(path_type=Path, file_okay=False, exists=True), help="The docs/ to write into.")
def main(count: int, settings: Iterable[str], write: Path | None) -> None:
    """Measure what the store's memory grows by, with many of each kind made by the runtime itself."""
    configure(level="CRITICAL")
    chosen = dict(setting.split("=", 1) for setting in settings)
    rows = []
    try:
        for name, make in KINDS.items():
            progress(name)
            rows.append(measured(name, make, count, chosen))
        text = f"{table(rows)}\n\n{plan(rows)}"
        click.echo(text)
        if write is not None:
            with tempfile.TemporaryDirectory(prefix="sagabus-") as folder, Bus(f"embedded:{folder}/place") as holder:
                place = machine(holder)
            today = datetime.datetime.now(datetime.UTC).date()
            on = f"{place['server']}, sagabus {place['sagabus']}"
            how = f"`make bench-memory` on {today:%Y-%m-%d}: {count:,} of each, {on}."
            rewrite(write / "capacity.md", PART, f"{how}\n\n{text}")
    except (SagabusError, NoPlaceError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
