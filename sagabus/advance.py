"""The functional core: what a saga does with a batch of messages. Pure: no I/O, no clock, no randomness.

The worker, the simulator, the replayer and the dashboard all call `advance`; nothing else runs a handler.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from sagabus import effects
from sagabus.commit import Commit, Failure, Half, Lifecycle, Snapshot, StoredVersion
from sagabus.definition import SagaDefinition
from sagabus.envelope import Envelope, Incoming, id_of, joined
from sagabus.errors import HandlerMisuseError
from sagabus.merging import Guard, merge_order, merged, unguarded
from sagabus.messages import MERGE, MergeSagaState, type_of
from sagabus.observe.handling import Handling, handling
from sagabus.origin import Origin, ReplyAddress
from sagabus.outgoing import Outgoing
from sagabus.plan import Plan, plan_run, start_first, starts_saga
from sagabus.records import Entry
from sagabus.saga import Saga, utc


class _Starter(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who started a saga, as its record keeps it."""

    id: str
    source: str
    replyto: str = ""
    replysaga: str = ""
    replylife: int = 0
    correlationid: str = ""


def advance(
    definition: SagaDefinition, snapshot: Snapshot, envelopes: Sequence[Incoming], *, guard: Guard = unguarded
) -> Commit:
    """Return what *envelopes*, handled in order on what *snapshot* says, ask of the store.

    Ids that the snapshot has consumed, and second copies, are passed over. Siblings are merged first. A handler that
    raises leaves no trace: the run is made again without its message, which the commit lists as a failure. The commit
    has no `ids` where there is nothing to store. An exclusive saga handles one message, and the others are left over.
    What users wrote is called through *guard*.
    """
    fresh: Sequence[Incoming] = envelopes
    if len(envelopes) > 1 or snapshot.consumed:
        fresh = [m for m in {m.id: m for m in envelopes}.values() if m.id not in snapshot.consumed]
    plan = plan_run(definition, snapshot, fresh)
    if plan.late:
        return _late(definition, snapshot, plan, guard)
    if not plan.batch:
        return Commit(key=snapshot.key, early=plan.early, stale=plan.stale, leftover=plan.leftover)
    if definition.exclusive:
        # A batch in which one message fails is run again without it, and the others' handlers with it.
        plan = replace(plan, batch=plan.batch[:1], leftover=(*plan.batch[1:], *plan.leftover))
    batch, leftover = list(plan.batch), list(plan.leftover)
    failures: list[Failure] = []
    while batch:
        try:
            commit = _Run(definition, snapshot, plan.life, plan.begins, guard).commit(batch)
        except _MessageError as failed:
            batch.remove(failed.incoming)
            failures.append(Failure(failed.incoming, failed.error))
            if plan.begins and starts_saga(definition, failed.incoming):
                batch, orphans = start_first(definition, batch)
                if snapshot.lifecycle is Lifecycle.ABSENT:
                    plan = replace(plan, early=tuple(orphans))
                else:
                    leftover += orphans
        except _MergeError as failed:
            return Commit(
                key=snapshot.key,
                unmergeable=failed.error,
                leftover=(*batch, *leftover),
                failures=tuple(failures),
                early=plan.early,
                stale=plan.stale,
            )
        except _RunError as failed:
            # Whose fault it is shows only when each message is run alone.
            if len(batch) == 1:
                failures.append(Failure(batch.pop(), failed.error))
            else:
                leftover = [*batch[1:], *leftover]
                del batch[1:]
        else:
            if not (failures or leftover or plan.early or plan.stale):
                return commit
            return replace(
                commit,
                failures=tuple(failures),
                leftover=(*commit.leftover, *leftover),
                early=plan.early,
                stale=plan.stale,
            )
    return Commit(
        key=snapshot.key, failures=tuple(failures), leftover=tuple(leftover), early=plan.early, stale=plan.stale
    )


# -- one run -----------------------------------------------------------------------------------------------------


class _MessageError(Exception):
    def __init__(self, incoming: Incoming, error: Exception) -> None:
        self.incoming, self.error = incoming, error


class _MergeError(Exception):
    """The stored versions cannot be opened: the merger raised, or a state cannot be read by this code."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _RunError(Exception):
    def __init__(self, error: Exception) -> None:
        self.error = error


class _Effects(Entry):
    """What the handlers of one half asked for."""

    outgoing: dict[str, list[Outgoing]] = msgspec.field(default_factory=dict)
    timers: dict[str, str] = msgspec.field(default_factory=dict)
    cancelled: list[str] = msgspec.field(default_factory=list)

    def half(self, state: bytes | None) -> Half:
        return Half(state, {k: tuple(v) for k, v in self.outgoing.items()}, self.timers, tuple(self.cancelled))

    def calls_off(self, envelope: Envelope) -> bool:
        """Return whether *envelope* is a timer that an earlier message of the same run has cancelled or replaced."""
        name = envelope.timer
        return bool(name) and (name in self.cancelled or self.timers.get(name, envelope.id) != envelope.id)


class _Run:
    """One pass of a batch over a fresh copy of the state. Also what `self.send` and its kin of a saga talk to."""

    def __init__(self, definition: SagaDefinition, snapshot: Snapshot, life: int, begins: bool, guard: Guard) -> None:
        self._definition, self._snapshot = definition, snapshot
        self._life, self._begins, self._guard = life, begins, guard
        self._origin = Origin(
            endpoint=definition.endpoint,
            routes=definition.routes,
            saga=str(snapshot.key),
            life=life,
            partition_key=snapshot.key.id,
            max_bytes=definition.max_bytes,
            signing=definition.signing,
        )
        self.now_ms = snapshot.now_ms
        self._asked: list[effects.Effect] = []
        self._completed = False
        self._starter: _Starter | None = None

    # What a saga calls while a handler of its runs.

    def add(self, effect: effects.Effect) -> None:
        self._asked.append(effect)

    def complete(self) -> None:
        self._completed = True

    @property
    def starter_waits(self) -> bool:
        return self._starter is not None and bool(self._starter.replyto)

    # The pass.

    def commit(self, batch: Sequence[Incoming]) -> Commit:
        definition, snapshot = self._definition, self._snapshot
        versions = () if self._begins else snapshot.versions
        facts = _Effects()
        saga: Saga[Any] = definition.cls()
        saga.id, saga.now, saga._run = snapshot.key.id, utc(self.now_ms), self
        saga.state, parent = self._opening(versions)
        starter = self._begin(batch[0].envelope) if self._begins else b""
        if len(versions) > 1:
            self._merged(saga, batch[0], facts)
        handled: list[Incoming] = []
        for incoming in batch:
            handled.append(incoming)
            if incoming.envelope.type != MERGE and not facts.calls_off(incoming.envelope):
                self._handle(saga, incoming, facts)
            if self._completed:
                break
        must_settle = definition.serial or self._completed
        changed = len(versions) > 1 or any(m.envelope.type != MERGE for m in handled)
        facts_state = self._encode(saga) if changed else None
        decision = self._decide(saga, handled, facts_state) if changed and not self._completed else None
        return Commit(
            key=snapshot.key,
            ids=tuple(m.id for m in handled),
            life=self._life,
            begins_life=self._begins,
            context=snapshot.clock,
            parents=tuple(v.dot for v in versions),
            parent=parent if definition.ancestral else None,
            facts=facts.half(facts_state),
            decision=decision,
            completes=self._completed,
            must_settle=must_settle,
            fired={m.envelope.timer: m.id for m in handled if m.envelope.timer},
            starter=starter,
            messages=tuple(m.envelope for m in handled),
            loaded_ms=snapshot.now_ms,
            limits=definition.limits,
            leftover=tuple(batch[len(handled) :]),
        )

    def _opening(self, versions: Sequence[StoredVersion]) -> tuple[Any, bytes | None]:
        """Return the state that the run begins with, and the state kept as parent of the version it writes."""
        codec = self._definition.codec
        if not versions:
            return codec.state_type(), None
        try:
            self._recall_starter()
            if len(versions) == 1:
                return codec.decode(versions[0].state), versions[0].state
            ordered = merge_order(self._definition, versions)
            return merged(self._definition, ordered, self._guard), ordered[0].parent
        except Exception as error:
            raise _MergeError(error) from error

    def _recall_starter(self) -> None:
        if self._snapshot.starter:
            self._starter = msgspec.json.decode(self._snapshot.starter, type=_Starter)

    def _begin(self, envelope: Envelope) -> bytes:
        """Return who starts the saga, as its record keeps it."""
        self._starter = _Starter(
            id=envelope.id,
            source=envelope.source,
            replyto=envelope.replyto,
            replysaga=envelope.replysaga,
            replylife=envelope.replylife,
            correlationid=envelope.correlationid,
        )
        return msgspec.json.encode(self._starter)

    def _merged(self, saga: Saga[Any], cause: Incoming, into: _Effects) -> None:
        handler = self._definition.handlers.get(MERGE)
        if handler is None:
            return
        saga.message = MergeSagaState()
        try:
            self._call(None, cause.envelope, getattr(saga, handler.method), saga.message)
            self._collect(into, cause.envelope, "merge")
        except Exception as error:
            raise _MergeError(error) from error
        finally:
            saga.message = None

    def _handle(self, saga: Saga[Any], incoming: Incoming, into: _Effects) -> None:
        envelope = incoming.envelope
        try:
            saga.message = incoming.message
            handler = self._definition.handlers[envelope.type]
            self._call(incoming, envelope, getattr(saga, handler.method), saga.message)
            self._collect(into, envelope, "")
        except Exception as error:
            raise _MessageError(incoming, error) from error
        finally:
            saga.message = None

    def _call(self, blamed: Incoming | None, cause: Envelope, method: Callable[..., object], *args: Any) -> None:
        """Run a method of the user's, with *cause* bound to whatever it logs."""
        token = handling.set(Handling(self._origin.saga, cause.id, cause.type, self._origin.endpoint))
        try:
            answer = self._guard(blamed, method, *args)
        finally:
            handling.reset(token)
        if answer is not None and (inspect.isawaitable(answer) or inspect.isgenerator(answer)):
            raise HandlerMisuseError(
                f"{method.__qualname__} returned a {type(answer).__name__}, whose code never ran; "
                f"saga handlers are plain functions that return nothing"
            )

    def _decide(self, saga: Saga[Any], handled: list[Incoming], facts_state: bytes | None) -> Half | None:
        """Have the saga decide, and return what it decided; None where it changed nothing and asked for nothing."""
        if self._definition.cls.decide is Saga.decide:
            return None
        asked, last = _Effects(), handled[-1]
        try:
            self._call(last if len(handled) == 1 else None, last.envelope, saga.decide)
            self._collect(asked, last.envelope, "decision")
        except Exception as error:
            raise _RunError(error) from error
        decision = asked.half(self._encode(saga, facts_state))
        idle = not (self._completed or decision.outgoing or decision.timers or decision.cancelled)
        return None if idle and decision.state == facts_state else decision

    def on_late(self, incoming: Incoming, last_state: bytes | None, into: _Effects) -> None:
        """Ask the saga what it sends for a message that came too late."""
        codec = self._definition.codec
        saga: Saga[Any] = self._definition.cls()
        saga.id, saga.now, saga._run = self._snapshot.key.id, utc(self.now_ms), self
        saga.state = codec.decode(last_state) if last_state is not None else codec.state_type()
        if self._life == self._snapshot.life:
            self._recall_starter()
        saga.message = incoming.message
        self._call(incoming, incoming.envelope, saga.on_late, saga.message)
        if any(isinstance(effect, effects.Defer | effects.Cancel) for effect in self._asked) or self._completed:
            raise HandlerMisuseError("on_late() can send, publish and reply; the saga has ended, so it has no timers")
        self._collect(into, incoming.envelope, "late")

    def _encode(self, saga: Saga[Any], known: bytes | None = None) -> bytes:
        """Return the state as it is stored, having made sure that it can be read again; *known* is such a state."""
        try:
            state = self._definition.codec.encode(saga.state)
            if state != known:
                self._definition.codec.decode(state)
        except Exception as error:
            raise _RunError(error) from error
        return state

    # Effects become outgoing messages.

    def _collect(self, into: _Effects, cause: Envelope, half: str) -> None:
        if not self._asked:
            return
        parts = joined(self._snapshot.key, self._life, cause.id, half, "")
        for ordinal, effect in enumerate(self._asked):
            if isinstance(effect, effects.Cancel):
                into.cancelled.append(effect.name)
                into.timers.pop(effect.name, None)
                continue
            id_ = id_of(f"{parts}{ordinal}")
            if isinstance(effect, effects.Defer):
                self._check_timer(effect)
                into.timers[effect.name or id_] = id_
            starter = self._starter_address() if isinstance(effect, effects.ReplyToStarter) else None
            message = self._origin.outgoing(effect, id_, self.now_ms, cause=cause, starter=starter)
            into.outgoing.setdefault(cause.id, []).append(message)
        self._asked.clear()

    def _check_timer(self, effect: effects.Defer) -> None:
        name = type_of(effect.message).name
        if name not in self._definition.handlers:
            raise HandlerMisuseError(
                f"{self._definition.name} defers {name} to itself but has no handler for it; add one"
            )

    def _starter_address(self) -> ReplyAddress | None:
        starter = self._starter
        return ReplyAddress(starter.replyto, starter.replysaga, starter.replylife) if starter else None


# -- late messages -----------------------------------------------------------------------------------------------


def _late(definition: SagaDefinition, snapshot: Snapshot, plan: Plan, guard: Guard) -> Commit:
    """Return the commit that records late messages and what `on_late` sends; the state stays as it is."""
    outgoing: dict[str, tuple[Outgoing, ...]] = {}
    handled: list[Incoming] = []
    failures: list[Failure] = []
    # State and starter of the life that runs now are none of an earlier life's business.
    last = snapshot.versions[-1].state if snapshot.versions and plan.life == snapshot.life else None
    for incoming in plan.late:
        sent = _Effects()
        try:
            _Run(definition, snapshot, plan.life, False, guard).on_late(incoming, last, sent)
        except Exception as error:
            failures.append(Failure(incoming, error))
        else:
            outgoing |= sent.half(None).outgoing
            handled.append(incoming)
    return Commit(
        key=snapshot.key,
        ids=tuple(m.id for m in handled),
        life=plan.life,
        context=snapshot.clock,
        facts=Half(outgoing=outgoing),
        late=True,
        messages=tuple(m.envelope for m in handled),
        loaded_ms=snapshot.now_ms,
        limits=definition.limits,
        failures=tuple(failures),
        stale=plan.stale,
        leftover=plan.leftover,
    )
