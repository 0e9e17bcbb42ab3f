"""Small sagas and messages that many tests share, and a hand that drives them without a worker."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar

from attrs import define, field, frozen

from sagabus.advance import advance
from sagabus.commit import Commit, Outcome, Result, Snapshot, Want
from sagabus.definition import SagaDefinition, definition_of
from sagabus.envelope import Incoming, SagaKey, decode, encode, wrap
from sagabus.messages import MergeSagaState, message
from sagabus.outgoing import Outgoing, from_lines, posted_merge
from sagabus.saga import Saga, handles, starts
from sagabus.store.protocol import Bookkeeping, Store

NOW_MS = 1_700_000_000_000


@message("test.check-credit")
class CheckCredit:
    customer: str


@message("test.request-score")
class RequestScore:
    customer: str


@message("test.score-reported")
class ScoreReported:
    bureau: str
    score: int


@message("test.credit-decided")
class CreditDecided:
    customer: str
    total: int


@message("test.nudge")
class Nudge:
    """Changes nothing."""


@message("test.fail")
class Fail:
    """Its handler sends something, changes the state, and raises."""


@message("test.end")
class End:
    """Its handler completes the saga."""


@message("test.remind")
class Remind:
    """Sets or cancels a timer, or is one."""

    after_s: float = 0.0
    name: str = ""


@message("test.note")
class Note:
    text: str


@define
class CreditState:
    scores: dict[str, int] = field(factory=dict)
    decisions: int = 0
    merges: int = 0


def all_scores(siblings: Sequence[CreditState]) -> CreditState:
    """Keep every score of every sibling, and the most of what was counted."""
    scores: dict[str, int] = {}
    for sibling in siblings:
        for bureau, score in sibling.scores.items():
            scores[bureau] = max(score, scores.get(bureau, score))
    return CreditState(scores, max(s.decisions for s in siblings), max(s.merges for s in siblings))


class CreditCheck(Saga[CreditState], key="customer", merger=all_scores):
    """Asks three bureaus and decides when all have answered."""

    @starts
    def requested(self, m: CheckCredit) -> None:
        for bureau in ("a", "b", "c"):
            self.send(RequestScore(m.customer), to=bureau)

    @handles
    def scored(self, m: ScoreReported) -> None:
        self.state.scores[m.bureau] = m.score

    @handles
    def nudged(self, m: Nudge) -> None:
        self.send(Note(f"nudged {len(self.state.scores)}"), to="notes")

    @handles
    def failing(self, m: Fail) -> None:
        self.send(Note("must not leave"), to="notes")
        self.state.scores["failed"] = 1
        raise ValueError("as asked")

    @handles
    def ended(self, m: End) -> None:
        self.state.scores["end"] = 0
        self.complete()

    @handles
    def reminded(self, m: Remind) -> None:
        if self.message.after_s > 0:
            self.defer(Remind(), after=timedelta(seconds=m.after_s), name=m.name)
        elif m.name:
            self.cancel(m.name)

    @handles
    def merged(self, m: MergeSagaState) -> None:
        self.state.merges += 1
        self.send(Note("merged"), to="notes")

    def on_late(self, message: Any) -> None:
        if isinstance(message, ScoreReported):
            self.send(Note(f"late {message.bureau}"), to="notes")

    def decide(self) -> None:
        self.state.decisions += 1
        if len(self.state.scores) >= 3:
            self.publish(CreditDecided(self.id, sum(self.state.scores.values())))
            self.complete()


class SerialCheck(CreditCheck, key="customer"):
    """The same without a merger: every run must settle."""


class Announcing(Saga[CreditState]):
    """A base for sagas that does something of its own when it is subclassed."""

    announced: ClassVar[list[str]] = []

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.announced.append(cls.__name__)


@define
class TallyState:
    count: int = 0
    notes: list[str] = field(factory=list)


def both_changes(a: TallyState, b: TallyState, ancestor: TallyState) -> TallyState:
    """Apply what either changed to the ancestor."""
    return TallyState(a.count + b.count - ancestor.count, sorted({*a.notes, *b.notes}))


class Tally(Saga[TallyState], merger=both_changes, restartable=True):
    """Counts; may begin anew. Has no key: only replies, and whoever knows its id, find it."""

    @starts
    def noted(self, m: Note) -> None:
        self.state.count += 1
        self.state.notes = sorted({*self.state.notes, m.text})

    @handles
    def ended(self, m: End) -> None:
        self.complete()

    def on_late(self, message: Any) -> None:
        self.reply(Note("too late"))


def bound(saga: type[Saga[Any]], *, endpoint: str = "credit", **routes: str) -> SagaDefinition:
    """Return the definition of *saga* as a bus would run it."""
    return definition_of(saga).bound(endpoint, routes, dedupe_window_s=600.0, retention_s=600.0, max_bytes=100_000)


def incoming(body: Any, id: str, **attributes: Any) -> Incoming:
    """Return a message as it comes off the wire."""
    return Incoming(decode(encode(wrap(body, id=id, source="/client", now_ms=NOW_MS, **attributes))))


def merge_message(snapshot: Snapshot, last_id: str) -> Incoming:
    """Return the MergeSagaState that the commit whose last message was *last_id* posted."""
    return Incoming(decode(posted_merge(snapshot.key, snapshot.life, last_id, "credit", NOW_MS).body))


@frozen
class Hand:
    """Drives one saga on one store, step by step, as a worker would."""

    store: Store
    definition: SagaDefinition = field(factory=lambda: bound(CreditCheck))
    id: str = "42"

    @property
    def key(self) -> SagaKey:
        return SagaKey(self.definition.name, self.id)

    def load(self, *ids: str) -> Snapshot:
        """Return what the store knows."""
        (snapshot,) = self.store.load([Want(self.key, ids)])
        return snapshot

    def run(self, snapshot: Snapshot, *messages: Incoming) -> Commit:
        """Return what *messages* ask for on *snapshot*."""
        return advance(self.definition, snapshot, messages)

    def put(self, commit: Commit, by: str = "worker-1") -> Result:
        """Commit."""
        (result,) = self.store.commit([commit], by=by)
        return result

    def handle(self, *messages: Incoming) -> tuple[Commit, Result]:
        """Load, run and commit."""
        commit = self.run(self.load(*(m.id for m in messages)), *messages)
        return commit, self.put(commit)

    def start(self) -> Snapshot:
        """Start the saga with CheckCredit `start` and return what it then is."""
        _, result = self.handle(incoming(CheckCredit(self.id), "start", replyto="client"))
        assert result.outcome is Outcome.STORED
        return self.load()

    def fork(self, left: Incoming, right: Incoming) -> Snapshot:
        """Let two workers handle two messages at once, and return the siblings."""
        snapshot = self.load()
        runs = [self.run(snapshot, left), self.run(snapshot, right)]
        assert [self.put(run).outcome for run in runs] == [Outcome.STORED, Outcome.FORKED]
        return self.load()

    def states(self) -> list[Any]:
        """Return the live states, in dot order."""
        return [self.definition.codec.decode(version.state) for version in self.load().versions]

    def sent(self, id_: str) -> list[Outgoing]:
        """Return what *id_* left undispatched."""
        return from_lines(self.load(id_).consumed[id_])[0]

    def bodies(self, id_: str) -> list[Any]:
        """Return the messages that *id_* left undispatched."""
        return [Incoming(decode(outgoing.body)).message for outgoing in self.sent(id_)]

    def dispatch(self, *ids: str) -> None:
        """Mark what *ids* left as dispatched."""
        self.store.note(Bookkeeping(dispatched={self.key: ids}))


def score(bureau: str, value: int = 700, id: str = "", **attributes: Any) -> Incoming:
    """Return a score of one bureau; its id is the bureau's name unless another is given."""
    return incoming(ScoreReported(bureau, value), id or bureau, **attributes)
