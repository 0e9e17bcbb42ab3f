"""What became of everything, counted where it is decided, and checked against what the server itself has counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import structlog
from attrs import define, field

from sagabus.commit import Commit, Outcome, Result
from sagabus.outgoing import OutgoingKind
from sagabus.runtime.dispatch import Dispatcher
from sagabus.runtime.outbound import Outbound
from sagabus.runtime.recovery import Recovery
from sagabus.runtime.saga_runner import SagaRunner
from sagabus.runtime.ticket import Ticket
from sagabus.runtime.timers import TimerPump
from sagabus.store.protocol import Scheduled
from sagabus.transport import Delivery, ParcelKind


@define
class Books:
    """Counts of one run.

    Attributes:
        injected: envelopes that were put into queues from outside.
        sent: commands and events that handlers sent, by kind, the undeliverable ones included.
        homeless: of these, commands to endpoints that are not there.
        concluded: deliveries by what became of them: `through`, `retried`, `dead-lettered`.
        outcomes: handled messages by what the store, or the consumer, made of them.
        reasons: dead letters by reason.
        again: names under which messages of this round wait for another try; those of one id are one.
        pumped: messages whose time had come.
        letters: names of the dead letters of this round.
    """

    injected: int = 0
    sent: Counter[str] = field(factory=Counter)
    homeless: int = 0
    concluded: Counter[str] = field(factory=Counter)
    outcomes: Counter[str] = field(factory=Counter)
    reasons: Counter[str] = field(factory=Counter)
    again: set[str] = field(factory=set, repr=False)
    pumped: int = 0
    letters: set[str] = field(factory=set, repr=False)
    _pumped_before: int = field(default=0, repr=False)

    def begin_round(self, envelopes: int) -> None:
        """Note that so many *envelopes* are about to be put into queues."""
        self.injected += envelopes
        self._pumped_before = self.pumped
        self.again.clear()
        self.letters.clear()

    def note(self, _logger: Any, _method: str, event: dict[str, Any]) -> Any:
        """Count a log line and drop it; a processor for structlog."""
        match event["event"]:
            case "handled":
                self.outcomes[event["outcome"]] += 1
            case "dead-lettered":
                self.reasons[event["reason"]] += 1
                self.homeless += event["reason"] == "no-endpoint"
            case "thread-failed" | "waiting-for-server" | "corrupt-record" | "unmergeable" | "timers-waiting" as alarm:
                raise AssertionError(f"{alarm}: {event}")
        raise structlog.DropEvent

    def check(self, entries_added: int) -> None:
        """Make sure that nothing came from nowhere, and nothing went there.

        Args:
            entries_added: how many entries the server says were ever put into the queues.
        """
        into_queues = self.injected + sum(self.sent.values()) - self.homeless + self.pumped
        assert entries_added == into_queues, f"{entries_added} entries were queued, {into_queues} were sent: {self}"
        through = sum(self.concluded.values())
        assert through == entries_added, f"{entries_added} entries were queued, {through} are through: {self}"
        # Two messages of one id wait as one, for a saga would take only one of them.
        assert len(self.again) <= self.pumped - self._pumped_before, str(self)
        assert self.pumped <= self.concluded["retried"], str(self)
        buried = sum(self.reasons.values()) - self.homeless
        assert buried == self.concluded["dead-lettered"], f"{buried} letters were written: {self}"
        # Copies of one id in one batch share a run.
        assert self.outcomes.total() <= self.concluded["through"], str(self)

    def row(self) -> dict[str, int]:
        """Return everything that was counted, flat."""
        counts = {"injected": self.injected, "sent by handlers": sum(self.sent.values())}
        counts |= {f"concluded: {what}": n for what, n in sorted(self.concluded.items())}
        counts |= {f"handled: {what}": n for what, n in sorted(self.outcomes.items())}
        counts["copies of one id that shared a run"] = self.concluded["through"] - self.outcomes.total()
        counts["copies of one id that shared a retry"] = self.concluded["retried"] - self.pumped
        return counts | {f"letter: {reason}": n for reason, n in sorted(self.reasons.items())}


@contextmanager
def kept(books: Books) -> Iterator[Books]:
    """Have everything that lanes of this process conclude and send noted in *books*."""
    conclude, exchange, send, commit = Recovery.conclude, Dispatcher.exchange, TimerPump._send, SagaRunner.commit

    def concluding(self: Recovery, ticket: Ticket, outbound: Outbound, now_ms: int) -> None:
        buried, scheduled, parcels = len(outbound.buried), len(outbound.scheduled), len(outbound.parcels)
        conclude(self, ticket, outbound, now_ms)
        assert len(outbound.parcels) == parcels
        if len(outbound.buried) > buried:
            books.concluded["dead-lettered"] += 1
            books.letters.add(outbound.buried[-1].name)
        elif len(outbound.scheduled) > scheduled:
            books.concluded["retried"] += 1
            books.again.add(outbound.scheduled[-1].id)
        else:
            books.concluded["through"] += 1

    def exchanging(self: Dispatcher, outbound: Outbound, *args: Any) -> list[Delivery]:
        books.sent["commands"] += sum(parcel.kind is ParcelKind.COMMAND for parcel in outbound.parcels)
        books.sent["events"] += sum(parcel.kind is ParcelKind.EVENT for parcel in outbound.parcels)
        return exchange(self, outbound, *args)

    def committing(self: SagaRunner, commits: Sequence[Commit]) -> list[Result]:
        results = commit(self, commits)
        for made, result in zip(commits, results, strict=True):
            # What went straight into its queue.
            decided = result.outcome is Outcome.STORED and made.decision is not None
            for half in (made.facts, made.decision) if decided else (made.facts,):
                assert half is not None
                for id_ in result.sent:
                    for message in half.outgoing.get(id_, ()):
                        books.sent["events" if message.kind is OutgoingKind.EVENT else "commands"] += 1
        return results

    def sending(self: TimerPump, due: list[Scheduled]) -> tuple[list[Scheduled], list[Scheduled]]:
        through, homeless = send(self, due)
        books.pumped += len(through) - len(homeless)
        return through, homeless

    Recovery.conclude, Dispatcher.exchange, TimerPump._send = concluding, exchanging, sending  # type: ignore[method-assign,assignment]
    SagaRunner.commit = committing  # type: ignore[method-assign]
    structlog.configure(
        processors=[books.note],
        wrapper_class=structlog.make_filtering_bound_logger(0),
        cache_logger_on_first_use=False,
    )
    try:
        yield books
    finally:
        Recovery.conclude, Dispatcher.exchange, TimerPump._send = conclude, exchange, send  # type: ignore[method-assign]
        SagaRunner.commit = commit  # type: ignore[method-assign]
        structlog.reset_defaults()
