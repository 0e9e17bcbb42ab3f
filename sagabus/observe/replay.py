"""Replay a recorded race, step by step, with the real functional core over a clean store in memory.

A recording is a file of JSON lines. Empty lines, and lines that begin with `#`, say nothing.

The first line is the head:

    {"sagabus-replay": 1, "app": "examples.credit_check.app:bus", "saga": "CreditCheck/42"}

`app` names the bus as `sagabus worker` takes it, and `saga` one saga on it. Nothing is connected. `title` (text to
print) and `at` (the store's time at the start, RFC 3339; by default the time of the first message that has one, else
2026-01-01T00:00:00Z) may be there too.

Every other line is a step of one worker:

    {"worker": "A", "do": "load", "messages": [...]}
        The worker receives these messages and loads the saga; what it read is its snapshot, and `advance` is run on it.
        It holds the result until it commits. Each message is one of
          - an envelope: a CloudEvents object as on the wire; `id` and `type` are needed, `specversion` ("1.0") and
            `source` ("/client") may be left out, `data` is the body: {"id": "m1", "type": "cc.check", "data": {...}}
          - "merge": the MergeSagaState that the store has posted last
          - "timer:NAME": the message of the timer that the saga has set under that name
    {"worker": "A", "do": "commit", "expect": ...}
        The worker commits what it holds. What the outcome releases is shown, and counts as dispatched.
    {"worker": "A", "do": "crash"}
        The worker loses what it holds. Its messages come again when a later step loads them.

Any step may have `note` (text to print with it) and `at` (the store's time; one millisecond later than the step before
where it has none). `expect` may stand with a commit: an outcome, or an object in which every member may be left out:

    "expect": "forked"
    "expect": {"outcome": "stored", "reason": "", "siblings": 1, "state": {...}, "released": ["cc.dec"],
               "dropped": [], "merge": false, "completed": true}

outcome    `stored`, `forked`, `again`, `duplicate`, `late`; `nothing` where the run had nothing to commit
reason     why `again`: `consumed`, `completed`, `life`, `clock`, `merged`, `settle`, `siblings`
siblings   how many versions are live afterwards
state      the state that was written, or the one live state where nothing was: its members that are named here
released   wire names of what left: sent, published, replied and deferred, facts before decision, in order
dropped    wire names of what a decision that was discarded would have released, in order
merge      whether a MergeSagaState was posted
completed  whether the saga has ended
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from attrs import evolve, frozen

from sagabus.advance import advance
from sagabus.codec import plain_state
from sagabus.commit import Commit, Half, HistoryEntry, Lifecycle, Outcome, Result, Snapshot, Want
from sagabus.definition import SagaDefinition
from sagabus.ending import CANCEL, ended
from sagabus.envelope import Envelope, Incoming, SagaKey
from sagabus.errors import CodecError, SagabusError
from sagabus.messages import MERGE
from sagabus.observe.recording import NOTHING, RecordingError, Step
from sagabus.outgoing import Outgoing, OutgoingKind, posted_merge
from sagabus.store.memory import MemoryStore, Record
from sagabus.store.protocol import Bookkeeping


class UnmetExpectationError(SagabusError):
    """A step had another result than the recording expects.

    Attributes:
        line: of the step, from 1.
        differences: what was expected and what came, a line each.
    """

    def __init__(self, line: int, differences: Sequence[str]) -> None:
        super().__init__(
            f"line {line} of the recording did not come out as expected: {'; '.join(differences)}. "
            f"Either the saga has changed since, or the recording is wrong"
        )
        self.line, self.differences = line, tuple(differences)


@frozen
class Happened:
    """What one step did.

    Attributes:
        step: the step.
        at_ms: the store's time, ms since 1970.
        snapshot: what the worker had loaded.
        commit: what its run on that asks for.
        result: what the store did; None where there was nothing to commit.
        outcome: of a commit, as `expect` says it; empty for other steps.
        lifecycle: where the saga stands afterwards.
        states: the live states afterwards, as plain data, in dot order; of a completed saga its last.
        written: the state that this step wrote, as plain data; None where it wrote none.
        released: what left.
        dropped: what a discarded decision would have released.
        history: the record's, afterwards.
        differences: what was expected and did not come; empty where all is as expected.
    """

    step: Step
    at_ms: int
    snapshot: Snapshot
    commit: Commit
    result: Result | None
    outcome: str
    lifecycle: Lifecycle
    states: tuple[Any, ...]
    written: Any
    released: tuple[Outgoing, ...]
    dropped: tuple[Outgoing, ...]
    history: tuple[HistoryEntry, ...]
    differences: tuple[str, ...] = ()


class Replay:
    """Plays the steps of one recording.

    Args:
        definition: the saga's, as its bus has it.
        key: which saga.
        start_ms: the store's time at the start, ms since 1970.
        life: which life begins first; of those before, only that they are over is known.

    Raises:
        RecordingError: by `play`: a step cannot be done.
    """

    def __init__(self, definition: SagaDefinition, key: SagaKey, start_ms: int, *, life: int = 1) -> None:
        # What is to be loaded together is run together, also of an exclusive saga.
        self._definition = evolve(definition, exclusive=False)
        self._key, self._now_ms = key, start_ms
        records = {key: Record(life=life - 1, completed=True)} if life > 1 else {}
        self._store = MemoryStore(now_ms=lambda: self._now_ms, records=records)
        self._held: dict[str, tuple[Snapshot, Commit]] = {}
        self._merge: Envelope | None = None
        self._timers: dict[str, Envelope] = {}

    def play(self, step: Step) -> Happened:
        """Do one step and return what happened; what was expected is compared, and not insisted on."""
        self._now_ms = self._now_ms + 1 if step.at_ms is None else step.at_ms
        result: Result | None = None
        if step.do == "load":
            held = self._load(step)
        elif step.worker not in self._held:
            raise RecordingError(step.line, f"worker {step.worker} holds nothing to {step.do}; have it load first")
        else:
            held = self._held.pop(step.worker)
            if step.do == "commit" and held[1].ids:
                (result,) = self._store.commit([held[1]], by=step.worker)
        return self._happened(step, *held, result)

    def _load(self, step: Step) -> tuple[Snapshot, Commit]:
        envelopes = [self._envelope(step, item) for item in step.messages]
        incoming = [Incoming(envelope) for envelope in envelopes]
        for message in incoming:
            self._check_addressed(step, message)
        (snapshot,) = self._store.load([Want(self._key, tuple(message.id for message in incoming))])
        cancelled = [envelope.type for envelope in envelopes] == [CANCEL]
        run = ended(self._definition, snapshot, envelopes[0]) if cancelled else None
        held = self._held[step.worker] = snapshot, run or advance(self._definition, snapshot, incoming)
        return held

    def _envelope(self, step: Step, item: Envelope | str) -> Envelope:
        if isinstance(item, Envelope):
            return item
        found = self._merge if item == "merge" else self._timers.get(item.removeprefix("timer:"))
        if found is None:
            raise RecordingError(step.line, f"there is no {item!r} yet; only what a commit has posted can be loaded")
        return found

    def _check_addressed(self, step: Step, message: Incoming) -> None:
        definition = self._definition
        if message.envelope.type in (MERGE, CANCEL):
            return
        if message.envelope.type not in definition.handlers:
            known = ", ".join(sorted(set(definition.handlers) - {MERGE}))
            raise RecordingError(
                step.line, f"{definition.name} does not handle {message.envelope.type!r}; it handles {known}"
            )
        try:
            found = definition.locate(message)
        except CodecError as error:
            raise RecordingError(step.line, str(error)) from error
        if found != self._key.id:
            whose = f"{definition.name}/{found}" if found is not None else "no saga that could be told"
            raise RecordingError(
                step.line, f'message {message.id} is for {whose}, not {self._key}; add "saga": "{self._key}" to it'
            )

    def _happened(self, step: Step, snapshot: Snapshot, commit: Commit, result: Result | None) -> Happened:
        outcome = "" if step.do != "commit" else NOTHING if result is None else result.outcome.value
        halves, discarded = _halves(commit, result)
        released = [message for half in halves for message in _sent(half)]
        if result is not None:
            released += self._note(commit, result, released)
        (after,) = self._store.load([Want(self._key)])
        states = tuple(_plain(version.state) for version in after.versions)
        written = halves[-1].state if result is not None and result.dot is not None else None
        happened = Happened(
            step=step,
            at_ms=self._now_ms,
            snapshot=snapshot,
            commit=commit,
            result=result,
            outcome=outcome,
            lifecycle=after.lifecycle,
            states=states,
            written=None if written is None else _plain(written),
            released=tuple(released),
            dropped=_sent(discarded) if discarded else (),
            history=tuple(self._store.history(self._key)),
        )
        return evolve(happened, differences=_differences(happened))

    def _note(self, commit: Commit, result: Result, released: Sequence[Outgoing]) -> list[Outgoing]:
        """Take what was released for dispatched, keep what later steps may load, and return a posted merge."""
        self._store.note(Bookkeeping(dispatched={commit.key: commit.ids}))
        for message in released:
            if message.kind is OutgoingKind.TIMER:
                envelope = msgspec.json.decode(message.body, type=Envelope)
                self._timers[envelope.timer] = envelope
        if not result.posted_merge:
            return []
        posted = posted_merge(commit.key, commit.life, commit.ids[-1], self._definition.endpoint, self._now_ms)
        self._merge = msgspec.json.decode(posted.body, type=Envelope)
        return [posted]


def _halves(commit: Commit, result: Result | None) -> tuple[list[Half], Half | None]:
    """Return the halves of *commit* that were kept, and the decision that was discarded, if one was."""
    if result is None or result.outcome not in (Outcome.STORED, Outcome.FORKED, Outcome.LATE):
        return [], None
    if commit.decision is None:
        return [commit.facts], None
    if result.outcome is Outcome.STORED:
        return [commit.facts, commit.decision], None
    return [commit.facts], commit.decision


def _sent(half: Half) -> tuple[Outgoing, ...]:
    return tuple(message for messages in half.outgoing.values() for message in messages)


def _plain(state: bytes) -> Any:
    """Return a stored state as the plain data that a recording can name: what JSON has, sets sorted."""
    return msgspec.json.decode(msgspec.json.encode(plain_state(state)))


def type_of_outgoing(message: Outgoing) -> str:
    """Return the wire name of an outgoing message."""
    return msgspec.json.decode(message.body, type=Envelope).type


def body_of_outgoing(message: Outgoing) -> Any:
    """Return the body of an outgoing message as plain data."""
    return msgspec.json.decode(msgspec.json.decode(message.body, type=Envelope).data)


def _differences(happened: Happened) -> tuple[str, ...]:
    expect = happened.step.expect
    if not expect:
        return ()
    result, ended = happened.result, happened.lifecycle is Lifecycle.COMPLETED
    states = happened.states
    state = happened.written if happened.written is not None else states[0] if len(states) == 1 else None
    actual: dict[str, Any] = {
        "outcome": happened.outcome,
        "reason": result.reason if result else "",
        "siblings": len(states),
        "released": [type_of_outgoing(m) for m in happened.released if type_of_outgoing(m) != MERGE],
        "dropped": [type_of_outgoing(m) for m in happened.dropped],
        "merge": bool(result and result.posted_merge),
        "completed": ended,
    }
    found = [
        f"{name} {actual[name]!r} instead of {expect[name]!r}"
        for name in actual
        if name in expect and expect[name] != actual[name]
    ]
    wanted = expect.get("state", {})
    if not isinstance(state, dict):
        return (*found, f"no state instead of {wanted!r}") if wanted else tuple(found)
    missing = object()
    for name, value in wanted.items():
        if state.get(name, missing) != value:
            found.append(f"state.{name} {state.get(name)!r} instead of {value!r}")
    return tuple(found)
