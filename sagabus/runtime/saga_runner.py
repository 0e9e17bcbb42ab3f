"""Load, run, commit: what happens to a batch's sagas, and again where somebody else was faster, or holds the lease."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen
from msgspec.structs import replace

from sagabus.advance import advance
from sagabus.commit import Commit, Half, Outcome, Result, Snapshot
from sagabus.envelope import Incoming, SagaKey
from sagabus.errors import CodecError, CorruptRecordError
from sagabus.merging import Guard
from sagabus.observe.log import says_all
from sagabus.outgoing import Outgoing, OutgoingKind, from_lines, posted_merge
from sagabus.printable import said
from sagabus.runtime.intake import SagaWork
from sagabus.runtime.leases import LeasesInHand
from sagabus.runtime.outbound import Outbound
from sagabus.runtime.pause import race_pause_s
from sagabus.runtime.ticket import Ticket, Trouble
from sagabus.runtime.watchdog import Watch, name_of
from sagabus.store.protocol import Bookkeeping, Store
from sagabus.telemetry.counters import Counters
from sagabus.transport import Outlet

if TYPE_CHECKING:
    from sagabus.tracing.lane_tracer import LaneTracer

_MAX_STALLS: Final = 24
"""After so many rounds in a row in which a saga came no further, its messages are parked."""
_MAX_LOOKS: Final = 14
"""How often a lease that somebody else holds is asked for; meanwhile nothing of the batch is dispatched."""
_JITTER_FROM_STALL: Final = 2


@frozen
class HandledSaga:
    """What a handler, a merger or `decide()` of a saga is at work on.

    Attributes:
        work: what the saga has to handle.
        snapshot: the saga as it was.
        message: the message handled; None where no single one is to blame: for a merge, and for what is decided after
            several.
    """

    work: SagaWork
    snapshot: Snapshot
    message: Incoming | None


Finish = Callable[[Ticket, Trouble | None], None]
"""Told of each ticket that one saga is through with, and what went wrong, if anything did."""


class SagaRunner:
    """Runs sagas against a store.

    Args:
        store: where they are.
        by: who runs them, for history.
        leases: those of exclusive sagas.
        jitter: returns a number in [0, 1); spreads the re-runs of writers that keep colliding.
        log: a structlog logger.
        watch: what their handlers run under.
        outlet: returns how the store may put messages into queues, where it can.
        counters: count what they do.
        tracer: makes spans of it; None where nothing is traced.
    """

    def __init__(
        self,
        store: Store,
        *,
        by: str,
        leases: LeasesInHand,
        jitter: Callable[[], float],
        log: Any,
        watch: Watch,
        outlet: Callable[[], Outlet | None] = lambda: None,
        counters: Counters | None = None,
        tracer: LaneTracer | None = None,
    ) -> None:
        self.store, self.by, self.leases, self.jitter, self.log = store, by, leases, jitter, log
        self.watch = watch
        self.counters = counters or Counters({})
        self.now_ms = 0
        self._logs: dict[str, Any] = {}
        self._outlet = outlet
        self.tracer = tracer

    def commit(self, commits: Sequence[Commit]) -> list[Result]:
        """Commit, and have messages go straight into their queues where they lie on the store's own server."""
        outlet = self._outlet()
        if outlet is None:
            return self.store.commit(commits, by=self.by)
        more: dict[str, Any] = {"outlet": outlet}
        return self.store.commit(commits, by=self.by, **more)

    def log_of(self, work: SagaWork) -> Any:
        """Return the logger for a saga, which says the endpoint."""
        endpoint = work.definition.endpoint
        log = self._logs.get(endpoint)
        if log is None:
            log = self._logs[endpoint] = self.log.bind(endpoint=endpoint)
        return log

    def run(
        self, works: Iterable[SagaWork], outbound: Outbound, finish: Finish, noting: Bookkeeping | None = None
    ) -> None:
        """Have every saga in *works* handle its messages.

        One load and one commit, and another of each for those sagas where somebody else was faster, or that have
        messages left over. Those that come no further for a while are parked. Leases are given back with the commit
        that leaves nothing over, else at the end. May be called again with the same works after an error: what is
        through is not run again.

        Args:
            outbound: takes what leaves.
            finish: is told of each ticket that a saga is through with.
            noting: what the store is to note with the first load.
        """
        todo = {work.key: work for work in works if work.incoming}
        batch = _Batch(self, outbound, finish)
        stalls = dict.fromkeys(todo, 0)
        stalled: dict[SagaKey, SagaWork] = {}
        while todo or stalled:
            if not todo:
                # All that can come further has: what is left gets in somebody's way.
                time.sleep(race_pause_s(min(stalls[key] for key in stalled) - _JITTER_FROM_STALL, self.jitter))
                todo, stalled = stalled, {}
            before = {key: len(work.incoming) for key, work in todo.items()}
            left, todo = batch.round(todo, noting), {}
            noting = None
            for key, work in left.items():
                stalls[key] = 0 if len(work.incoming) < before[key] else stalls[key] + 1
                if stalls[key] >= (_MAX_LOOKS if key in batch.held else _MAX_STALLS):
                    batch.park(work)
                elif stalls[key] >= _JITTER_FROM_STALL:
                    stalled[key] = work
                else:
                    todo[key] = work
        self.leases.give_back()


class _Batch:
    """One batch on its way through a runner."""

    def __init__(self, runner: SagaRunner, outbound: Outbound, finish: Finish) -> None:
        self._runner, self._outbound, self._finish = runner, outbound, finish
        self._store, self._log_of, self._count = runner.store, runner.log_of, runner.counters.of
        self._leases, self._tracer = runner.leases, runner.tracer
        self._says_all = says_all(runner.log)
        self.held: set[SagaKey] = set()

    def round(self, todo: dict[SagaKey, SagaWork], noting: Bookkeeping | None) -> dict[SagaKey, SagaWork]:
        """Load, run and commit once; return the work that is left."""
        works = list(todo.values())
        try:
            snapshots = self._store.load([work.want(self._leases.request) for work in works], noting)
        except CorruptRecordError as error:
            return self._without(todo, error)
        runs: list[tuple[SagaWork, Snapshot, Commit]] = []
        left: dict[SagaKey, SagaWork] = {}
        self.held.clear()
        for work, snapshot in zip(works, snapshots, strict=True):
            self._runner.now_ms = snapshot.now_ms
            ours = snapshot.grant is None or self._leases.take(work.key, snapshot.grant)
            if snapshot.consumed:
                self._consumed_before(work, snapshot.key, snapshot.life, snapshot.consumed, snapshot.timers)
            if snapshot.index_note is not None:
                self._outbound.note(work.key, snapshot.index_note)
            self._exhausted(work, snapshot)
            if not work.incoming:
                continue
            if not ours:
                self._note_held(work, snapshot)
                left[work.key] = work
                continue
            began_at = time.monotonic()
            commit = self._advanced(work, snapshot)
            counts = self._count(work.definition.endpoint)
            counts.handlers.note(time.monotonic() - began_at)
            if snapshot.versions:
                counts.siblings.note(len(snapshot.versions))
            self._not_handled(work, snapshot, commit)
            if commit.ids:
                runs.append((work, snapshot, self._fenced(work, snapshot, commit)))
            elif work.incoming:
                left[work.key] = work
        if not runs:
            return left
        began_ns = time.time_ns()
        try:
            results = self._runner.commit([commit for _, _, commit in runs])
        except CorruptRecordError as error:
            return self._without({work.key: work for work, _, _ in runs} | left, error)
        if self._tracer is not None:
            self._tracer.committed([(work, commit) for work, _, commit in runs], results, began_ns)
        for (work, snapshot, commit), result in zip(runs, results, strict=True):
            if commit.gives_back:
                self._leases.given_back(work.key)
            self._committed(work, snapshot, commit, result)
            if work.incoming:
                left[work.key] = work
        return left

    def _advanced(self, work: SagaWork, snapshot: Snapshot) -> Commit:
        """Return what the messages of a saga ask of the store."""
        guard = self._guard(work, snapshot)
        if self._tracer is None:
            return advance(work.definition, snapshot, work.incoming, guard=guard)
        run = self._tracer.begin_run(work)
        commit = advance(work.definition, snapshot, work.incoming, guard=self._tracer.guarded(run, guard))
        self._tracer.end_run(run, commit)
        return commit

    def _guard(self, work: SagaWork, snapshot: Snapshot) -> Guard:
        """Return what calls the code of the saga's author, each call for as long as it may take."""
        watch = self._runner.watch
        if watch.timeout_s is None:
            return watch.freely

        def guard(message: Incoming | None, function: Callable[..., Any], *args: Any) -> Any:
            handled = HandledSaga(work, snapshot, message)
            return watch.run(handled, name_of(function), time.monotonic(), function, *args)

        return guard

    def _fenced(self, work: SagaWork, snapshot: Snapshot, commit: Commit) -> Commit:
        """Return *commit* under the lease that its run was made under, if any; the last of all gives that back."""
        if snapshot.grant is None:
            return commit
        last = {message.id for message in work.incoming} <= set(commit.ids)
        return replace(commit, grant=self._leases.latest(work.key), gives_back=last)

    def _note_held(self, work: SagaWork, snapshot: Snapshot) -> None:
        assert snapshot.grant is not None
        self.held.add(snapshot.key)
        self._count(work.definition.endpoint).waited += 1
        self._log_of(work).debug(
            "held",
            saga=str(snapshot.key),
            holder=snapshot.grant.holder,
            for_s=round((snapshot.grant.until_ms - snapshot.grant.now_ms) / 1000, 3),
        )

    # -- what became of messages ---------------------------------------------------------------------------------

    def _committed(self, work: SagaWork, snapshot: Snapshot, commit: Commit, result: Result) -> None:
        self._log_outcome(work, commit, result)
        if result.consumed:
            self._consumed_before(work, commit.key, commit.life, result.consumed, None)
        if result.outcome in (Outcome.AGAIN, Outcome.DUPLICATE):
            return
        if result.index_note is not None:
            self._outbound.note(work.key, result.index_note)
        halves = [commit.facts]
        if result.outcome is Outcome.STORED and commit.decision is not None:
            halves.append(commit.decision)
        ended = result.outcome is Outcome.STORED and commit.completes
        standing = set() if ended else _timers_left(halves)
        for half in halves:
            if half.outgoing or half.timers or half.cancelled:
                self._release(snapshot, half, standing, result.sent)
        if ended:
            self._outbound.unscheduled += snapshot.timers.values()
        last = commit.ids[-1]
        if result.posted_merge:
            endpoint, signing = work.definition.endpoint, work.definition.signing
            traceparent = commit.messages[-1].traceparent
            merge = posted_merge(commit.key, commit.life, last, endpoint, snapshot.now_ms, signing, traceparent)
            self._outbound.add([merge])
        for id_ in commit.ids:
            said = id_ not in result.sent and any(id_ in half.outgoing for half in halves)
            if said or (result.posted_merge and id_ == last):
                self._outbound.mark(commit.key, id_)
        self._all_through(work, commit.ids, None)

    def _release(self, snapshot: Snapshot, half: Half, timers: Collection[str], sent: Collection[str] = ()) -> None:
        for id_, messages in half.outgoing.items():
            if id_ not in sent:
                self._outbound.add(_wanted(messages, timers))
        for name in (*half.cancelled, *half.timers):
            if name in snapshot.timers:
                self._outbound.unscheduled.append(snapshot.timers[name])

    def _consumed_before(
        self, work: SagaWork, key: SagaKey, life: int, consumed: Any, timers: Mapping[str, str] | None
    ) -> None:
        """Dispatch again what messages consumed before have left undispatched, and be done with them.

        Args:
            timers: those of the record, where it was read after the ids were consumed; others are called off by now.
        """
        for id_, lines in consumed.items():
            if id_ not in work.tickets:
                continue
            if lines:
                try:
                    messages, merge = from_lines(lines)
                except CodecError as error:
                    # It stays in the outbox, and the dead letter says so: what cannot be read cannot be sent.
                    self._through(work, id_, Trouble.of(error, key))
                    continue
                self._outbound.add(messages if timers is None else _wanted(messages, timers.values()))
                if merge:
                    endpoint, signing = work.definition.endpoint, work.definition.signing
                    self._outbound.add([posted_merge(key, life, id_, endpoint, self._runner.now_ms, signing)])
                self._outbound.mark(key, id_)
            self._count(work.definition.endpoint).repeated += 1
            self._log_of(work).debug("handled", saga=str(key), message_id=id_, outcome="duplicate")
            self._through(work, id_, None)

    def _exhausted(self, work: SagaWork, snapshot: Snapshot) -> None:
        if not work.exhausted:
            return
        for id_, tickets in list(work.tickets.items()):
            if any(ticket.exhausted for ticket in tickets):
                self._through(work, id_, Trouble("killed-worker", None, work.key, snapshot))

    def _not_handled(self, work: SagaWork, snapshot: Snapshot, commit: Commit) -> None:
        for failure in commit.failures:
            self._through(work, failure.incoming.id, Trouble.of(failure.error, work.key, snapshot))
        for incoming in commit.early:
            self._through(work, incoming.id, Trouble("early", None, work.key, snapshot))
        for incoming in commit.stale:
            self._log_of(work).debug(
                "handled",
                saga=str(work.key),
                message_id=incoming.id,
                message_type=incoming.envelope.type,
                outcome="stale",
            )
            self._through(work, incoming.id, None)
        if commit.unmergeable is not None:
            self._count(work.definition.endpoint).unmergeable += 1
            self._log_of(work).error("unmergeable", saga=str(work.key), error=said(commit.unmergeable))
            for incoming in commit.leftover:
                self._through(work, incoming.id, Trouble("parked", commit.unmergeable, work.key))

    def _without(self, todo: dict[SagaKey, SagaWork], error: CorruptRecordError) -> dict[SagaKey, SagaWork]:
        """Give up on the saga whose record cannot be read, and go on with the others."""
        for key, work in todo.items():
            if str(key) == error.key:
                self._log_of(work).error("corrupt-record", saga=error.key, error=str(error))
                self.give_up(work, Trouble.of(error, key))
        return {key: work for key, work in todo.items() if work.incoming}

    def give_up(self, work: SagaWork, trouble: Trouble) -> None:
        """Be through with all messages of a saga."""
        for message in list(work.incoming):
            self._through(work, message.id, trouble)

    def park(self, work: SagaWork) -> None:
        """Have all messages of a saga come again later, their attempts unchanged."""
        self._count(work.definition.endpoint).parked += len(work.incoming)
        self.give_up(work, Trouble("parked", None, work.key))

    def _through(self, work: SagaWork, id_: str, trouble: Trouble | None) -> None:
        self._all_through(work, (id_,), trouble)

    def _all_through(self, work: SagaWork, ids: Collection[str], trouble: Trouble | None) -> None:
        done = set(ids)
        work.incoming = [m for m in work.incoming if m.id not in done]
        for id_ in ids:
            for ticket in work.tickets.pop(id_, ()):
                self._finish(ticket, trouble)

    def _log_outcome(self, work: SagaWork, commit: Commit, result: Result) -> None:
        counts, log = self._count(work.definition.endpoint), self._log_of(work)
        counts.posted_merges += result.posted_merge
        if result.outcome is Outcome.STORED:
            counts.stored += 1
            if not commit.merged and not self._says_all:
                return
        saga = str(commit.key)
        if result.outcome is Outcome.AGAIN:
            counts.again[result.reason] = counts.again.get(result.reason, 0) + 1
            log.info("again", saga=saga, reason=result.reason, message_ids=commit.ids)
            return
        if result.outcome is Outcome.DUPLICATE:
            counts.duplicate += 1
            return
        merged = len(commit.parents) if commit.merged else 0
        if merged:
            counts.merges += 1
            counts.folded += merged
            log.info("merged", saga=saga, siblings=merged, version=str(result.dot or ""))
        if result.outcome is Outcome.FORKED:
            counts.forked += 1
            counts.dropped_decisions += commit.decision is not None
            log.info(
                "forked",
                saga=saga,
                version=str(result.dot or ""),
                live=result.live,
                dropped_decision=commit.decision is not None,
            )
            if result.live >= commit.limits.siblings // 5:
                log.warning("many-siblings", saga=saga, live=result.live, limit=commit.limits.siblings)
        elif result.outcome is Outcome.LATE:
            counts.late += 1
            log.info("late", saga=saga, message_ids=commit.ids)
        for envelope in commit.messages if self._says_all else ():
            log.debug(
                "handled",
                saga=saga,
                message_id=envelope.id,
                message_type=envelope.type,
                outcome=result.outcome.value,
                forked=result.outcome is Outcome.FORKED,
                merged=merged,
                completed=commit.completes and result.outcome is Outcome.STORED,
            )


def _timers_left(halves: Sequence[Half]) -> set[str]:
    """Return the ids of the timers that one commit sets and does not cancel or replace itself."""
    timers: dict[str, str] = {}
    for half in halves:
        for name in half.cancelled:
            timers.pop(name, None)
        timers.update(half.timers)
    return set(timers.values())


def _wanted(messages: Iterable[Outgoing], timers: Collection[str]) -> Iterator[Outgoing]:
    """Yield *messages* without the timers that are not among *timers*: nobody would hear them."""
    for message in messages:
        if message.kind is not OutgoingKind.TIMER or message.id in timers:
            yield message
