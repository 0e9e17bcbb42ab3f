"""The judge: holds what the ledger and the store say against what was accepted. Baseline B, clause by clause."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from attrs import define, field

from sagabus import Bus
from sagabus.commit import Lifecycle
from sagabus.envelope import SagaKey, decode, derive_id
from sagabus.link import Command, Link
from sagabus.messages import MERGE
from sagabus.outgoing import merge_id
from sagabus.store.layout import Keys
from sagabus.store.protocol import Store
from tests.chaos.ledger import EFFECT, Line
from tests.chaos.load.errand import Effect, Errand
from tests.chaos.verdict import Verdict

_BELL_TYPES = (MERGE, "chaos.bell", "chaos.never")


@define
class Findings:
    """What is wrong, collected.

    Attributes:
        stale_timers: timers of completed sagas that are in the store until they are due. Nobody hears them then; but
            there they are.
    """

    counts: Counter[str] = field(factory=Counter)
    texts: list[str] = field(factory=list)
    stale_timers: int = 0

    def add(self, what: str, text: str) -> None:
        """Note one thing that is wrong; *what* is a count of the verdict."""
        self.counts[what] += 1
        self.texts.append(f"{what}: {text}")


def judge(
    bus: Bus,
    errands: Iterable[Errand],
    lines: Iterable[Line],
    *,
    problems: Sequence[str] = (),
    seconds: float = 0.0,
    forgotten: Collection[SagaKey] = (),
) -> Verdict:
    """Return the verdict on a run whose queues have drained.

    Args:
        bus: on the same namespace, with the store as it is now; no failpoints.
        errands: those all of whose messages were accepted.
        lines: of the ledger, all of them.
        problems: what kept the queues from draining.
        seconds: how long it took.
        forgotten: sagas that had completed, which the store then forgot because its data were taken from it: they
            complete once more, perhaps with another result that is allowed too.
    """
    errands = list(errands)
    found = Findings()
    for problem in problems:
        found.add("left_over", problem)
    effects = [line for line in lines if line["what"] == EFFECT]
    ids: dict[Effect, list[Line]] = defaultdict(list)
    for line in effects:
        ids[line["kind"], line["key"]].append(line)
    _effects_once(errands, ids, {saga.id for saga in forgotten}, found)
    _nothing_left(bus, found)
    _sagas_completed(bus.store, errands, found)
    _ids_consumed(bus, errands, effects, found)
    repeats = sum(len(entries) - len({line["id"] for line in entries}) for entries in ids.values())
    messages = sum(len(errand.sendings) + len(errand.effects) for errand in errands)
    return Verdict(
        messages,
        repeats=repeats,
        stale_timers=found.stale_timers,
        seconds=seconds,
        texts=tuple(found.texts),
        **found.counts,
    )


def undispatched(bus: Bus) -> Iterator[str]:
    """Yield the keys under which committed effects wait to be sent."""
    for page in _link(bus).scan(Keys(bus.namespace).record_pattern(None).removesuffix("r") + "o"):
        yield from (str(name) for name in page)


def _effects_once(
    errands: Sequence[Errand], ids: dict[Effect, list[Line]], forgotten: Collection[str], found: Findings
) -> None:
    """Every accepted message had its effect; no effect twice; every result is allowed."""
    values = {effect: entries[0]["value"] for effect, entries in ids.items()}
    wanted = {effect for errand in errands for effect in errand.effects}
    for effect in wanted - ids.keys():
        found.add("lost", f"{effect} did not happen")
    for effect, entries in ids.items():
        if effect not in wanted:
            found.add("contradictory", f"{effect} happened, and nobody asked for it")
        if effect[1] in forgotten:
            continue
        if len({line["id"] for line in entries}) > 1:
            found.add("twice", f"{effect} happened under the ids {sorted({line['id'] for line in entries})}")
        if any(line["value"] != entries[0]["value"] for line in entries):
            found.add("contradictory", f"{effect} came to {[line['value'] for line in entries]}")
    for errand in errands:
        if errand.last in values and (objection := errand.objection(values)):
            found.add("contradictory", f"{errand.saga} {objection}")


def _sagas_completed(store: Store, errands: Sequence[Errand], found: Findings) -> None:
    """Every saga that should have completed did, once, and has one version."""
    rows = {row.key: row for row in store.sagas()}
    for errand in errands:
        row = rows.get(errand.saga)
        if row is None or row.lifecycle is not Lifecycle.COMPLETED:
            found.add("lost", f"{errand.saga} is {row.lifecycle.value if row else 'not there'}, not completed")
    for row in rows.values():
        if row.siblings > 1:
            found.add("left_over", f"{row.key} has {row.siblings} siblings")
        if row.life > 1:
            found.add("twice", f"{row.key} was begun {row.life} times")


def _nothing_left(bus: Bus, found: Findings) -> None:
    """No waiting or unacked messages, no dead letters, no undispatched effects, no timers."""
    for queue in bus.transport.queues():
        if queue.depth > 0:
            found.add("left_over", f"{queue.depth} messages in the queue of {queue.endpoint}")
    for letter in bus.store.dead():
        found.add("left_over", f"a dead letter at {letter.endpoint}: {letter.reason}: {letter.error} ({letter.id})")
    completed = {str(row.key) for row in bus.store.sagas() if row.lifecycle is Lifecycle.COMPLETED}
    for item in bus.store.scheduled():
        envelope = decode(item.body)
        if envelope.timer and envelope.saga in completed:
            found.stale_timers += 1
        else:
            found.add("left_over", f"{envelope.type} {envelope.timer} for {envelope.saga or item.endpoint}: {item.id}")
    for name in undispatched(bus):
        found.add("left_over", f"undispatched effects in {name}")


def _ids_consumed(bus: Bus, errands: Sequence[Errand], effects: Sequence[Line], found: Findings) -> None:
    """What the sagas consumed are the ids of what was sent to them, and of the effects that were for them."""
    wanted: dict[SagaKey, set[str]] = {errand.saga: {sending.id for sending in errand.sendings} for errand in errands}
    owner = {errand.saga.id: errand.saga for errand in errands}
    for line in effects:
        saga = owner.get(line["key"].partition("/")[0])
        if line["consumer"] and saga is not None:
            endpoint, _, name = line["consumer"].partition(" ")
            wanted[saga].add(derive_id(endpoint, name, line["id"], 0))
    keys, link = Keys(bus.namespace), _link(bus)
    names = [f"{keys.saga(saga)}i" for saga in wanted]
    replies = link.round([Command(("ZRANGE", name, 0, -1), name) for name in names])
    for (saga, sent), reply in zip(wanted.items(), replies, strict=True):
        consumed = {id_.decode() for id_ in reply}
        for id_ in sorted(sent - consumed):
            found.add("unaccounted", f"{saga} did not consume {id_}")
        if unknown := consumed - sent:
            posted = {merge_id(saga, 1, id_) for id_ in consumed}
            _own_messages(bus.store, saga, unknown - posted, found)


def _own_messages(store: Store, saga: SagaKey, unknown: set[str], found: Findings) -> None:
    """Nobody sent *unknown*: it must be the saga's own timers, or merges of another life, as its history tells."""
    types = {message.id: message.type for entry in store.history(saga) for message in entry.messages}
    for id_ in sorted(unknown):
        if types.get(id_) not in _BELL_TYPES:
            found.add("unaccounted", f"{saga} consumed {id_}, a {types.get(id_, 'message not in its history')}")


def _link(bus: Bus) -> Link:
    store: Any = bus.store
    link: Link = store.link
    return link
