"""The sagas of the differential test: together they use everything that a saga can ask for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from attrs import define, field

from sagabus import MergeSagaState, Saga, handles, message, starts


@message("differing.open")
class Open:
    """Starts a saga."""

    order: str


@message("differing.word")
class Word:
    """One more thing to know."""

    text: str


@message("differing.end")
class End:
    """Ends a saga in a message handler, so its run must settle."""


@message("differing.overdue")
class Overdue:
    """A timer."""

    which: str


@message("differing.told")
class Told:
    """What is sent to where nobody of the case listens."""

    text: str


@message("differing.all-known")
class AllKnown:
    """A decision."""

    order: str
    words: list[str]


@message("differing.deliver")
class Deliver:
    """Starts the other saga."""

    parcel: str


@message("differing.weigh")
class Weigh:
    """Asks a consumer."""

    word: str


@define
class Words:
    """What is known; a fold keeps it all."""

    words: list[str] = field(factory=list)
    merges: int = 0


def together(siblings: Sequence[Words]) -> Words:
    """Keep every word of every sibling."""
    return Words(sorted({w for s in siblings for w in s.words}), max(s.merges for s in siblings))


class Waiting(Saga[Words], key="order", merger=together):
    """Waits for words, with a timer of one name that is set anew, one without, and one that a decision cancels."""

    @starts
    def opened(self, m: Open) -> None:
        self.defer(Overdue("named"), after=timedelta(minutes=5), name="overdue")
        self.defer(Overdue("nameless"), after=timedelta(minutes=1))

    @handles
    def said(self, m: Word) -> None:
        self.state.words = sorted({*self.state.words, m.text})
        self.defer(Overdue("anew"), after=timedelta(minutes=9), name="overdue")

    @handles
    def overdue(self, m: Overdue) -> None:
        self.state.words = sorted({*self.state.words, f"overdue {m.which}"})
        self.send(Told(f"overdue with {len(self.state.words)}"), to="ledger")

    def decide(self) -> None:
        if len(self.state.words) == 1:
            self.defer(Overdue("decided"), after=2.0, name="decided")
        if len(self.state.words) == 2:
            self.cancel("decided")
        if len(self.state.words) > 2:
            self.publish(AllKnown(self.id, self.state.words))
            self.complete()


class Serial(Saga[Words], key="order"):
    """Without a merger: every run must settle."""

    @starts
    def opened(self, m: Open) -> None:
        self.state.words.append("opened")

    @handles
    def said(self, m: Word) -> None:
        self.state.words.append(m.text)
        self.send(Told(f"{m.text} is number {len(self.state.words)}"), to="ledger")


class Late(Saga[Words], key="order", merger=together):
    """Ends with the second word; what comes after it is answered."""

    @starts
    def opened(self, m: Open) -> None:
        self.reply(Told("welcome"))

    @handles
    def said(self, m: Word) -> None:
        self.state.words = sorted({*self.state.words, m.text})

    @handles
    def ended(self, m: End) -> None:
        self.state.words = [*self.state.words, "end"]
        self.send(Told("ended on demand"), to="ledger")
        self.complete()

    def on_late(self, message: Any) -> None:
        self.reply(Told("too late"))
        self.publish(Told(f"late after {len(self.state.words)}"))

    def decide(self) -> None:
        if len(self.state.words) > 1:
            self.reply_to_starter(AllKnown(self.id, self.state.words))
            self.complete()


class Restarted(Late, key="order", merger=together, restartable=True):
    """The same, but a start after the end begins a new life."""


def both(a: Words, b: Words, ancestor: Words) -> Words:
    """Return what both branches added to what they had in common, and how often either merged."""
    words = list(ancestor.words)
    for branch in (a, b):
        more = list(branch.words)
        for word in ancestor.words:
            if word in more:
                more.remove(word)
        words += more
    return Words(sorted(words), a.merges + b.merges - ancestor.merges)


class Tally(Saga[Words], key="order", merger=both):
    """Counts, which only a merger with an ancestor can merge."""

    @starts
    def opened(self, m: Open) -> None:
        self.state.words = ["opened"]

    @handles
    def said(self, m: Word) -> None:
        self.state.words = sorted([*self.state.words, m.text])

    @handles
    def merged(self, m: MergeSagaState) -> None:
        self.state.merges += 1
        self.send(Told(f"merged to {len(self.state.words)}"), to="ledger")

    def decide(self) -> None:
        if len(self.state.words) == 4:
            self.publish(AllKnown(self.id, self.state.words))


class Shop(Saga[Words], key="order", merger=together):
    """Has each word weighed by a consumer and starts a delivery with the second; the delivery reports back."""

    @starts
    def opened(self, m: Open) -> None:
        for word in ("cup", "pot"):
            self.send(Weigh(word), to="scales")

    @handles
    def said(self, m: Word) -> None:
        self.state.words = sorted({*self.state.words, m.text})

    def decide(self) -> None:
        if len(self.state.words) == 2:
            self.send(Deliver(f"parcel of {self.id}"), to="delivery")
        if len(self.state.words) == 4:
            self.publish(AllKnown(self.id, self.state.words))
            self.complete()


class Delivery(Saga[Words], key="parcel", merger=together):
    """Has two answers for who started it."""

    @starts
    def asked(self, m: Deliver) -> None:
        self.reply(Word("sent"))
        self.reply_to_starter(Word("arrived"))
        self.complete()
