"""Small sagas that many tests of `explore` share: some words are collected, and said when there are enough."""

from __future__ import annotations

from typing import Annotated, Any

from attrs import define, field

from mergers import fieldwise, highest, union
from sagabus import Saga, handles, message, starts
from sagabus.errors import UnmergeableStateError


@message("small.begin")
class Begin:
    order: str = "1"
    want: int = 2


@message("small.add")
class Add:
    """Names no saga: it goes to the one that was started."""

    word: str


@message("small.note")
class Note:
    """Names its saga."""

    order: str
    word: str


@message("small.heard")
class Heard:
    word: str


@message("small.collected")
class Collected:
    order: str
    words: list[str]


@define
class Words:
    want: Annotated[int, highest] = 0
    words: Annotated[set[str], union] = field(factory=set)


class Collect(Saga[Words], key="order", merger=fieldwise(Words)):
    """Says which words there are as soon as there are as many as it wants."""

    @starts
    def begun(self, m: Begin) -> None:
        self.state.want = m.want

    @handles
    def added(self, m: Add) -> None:
        self.state.words.add(m.word)

    @handles
    def noted(self, m: Note) -> None:
        self.state.words.add(m.word)

    def decide(self) -> None:
        if self.state.want and len(self.state.words) >= self.state.want:
            self.publish(Collected(self.id, sorted(self.state.words)))
            self.complete()


class Exact(Collect, key="order", merger=fieldwise(Words)):
    """Decides on just as many words as it wants, and is stuck where a merge brings more."""

    def decide(self) -> None:
        if self.state.want and len(self.state.words) == self.state.want:
            self.publish(Collected(self.id, sorted(self.state.words)))
            self.complete()


class Echo(Collect, key="order", merger=fieldwise(Words)):
    """Repeats every word at once, as a fact."""

    @handles
    def added(self, m: Add) -> None:
        self.state.words.add(m.word)
        self.send(Heard(m.word), to="listeners")


def one_side(siblings: list[Words]) -> Words:
    """Keep the sibling with the most words, and forget the others: lawful, and lossy."""
    return max(siblings, key=lambda state: (state.want, len(state.words), sorted(state.words)))


class Forgets(Collect, key="order", merger=one_side):
    """Forgets what the other sibling knew."""


def refuses(siblings: list[Words]) -> Words:
    """Merge nothing."""
    raise UnmergeableStateError("these two do not go together")


class Unmergeable(Collect, key="order", merger=refuses):
    """Its siblings stay siblings."""


class Fails(Collect, key="order", merger=fieldwise(Words)):
    """Raises for a word that it does not like."""

    @handles
    def noted(self, m: Note) -> None:
        raise ValueError(f"no {m.word}")


def words_of(*words: str, order: str = "1") -> list[Any]:
    """Return the decisions of a saga that has collected *words*."""
    return [Collected(order, sorted(words))]
