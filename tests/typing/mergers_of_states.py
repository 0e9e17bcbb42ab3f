"""Mergers as users make and pass them; run through mypy --strict with the rest."""

from __future__ import annotations

from typing import Annotated

from attrs import define, field

from mergers import (
    AncestralMerger,
    FieldwiseMerger,
    StateMerger,
    add_wins,
    additions,
    fieldwise,
    remove_wins,
    rule_with_ancestor,
    union,
)
from sagabus import Saga, message, starts


@message("typing.sold")
class Sold:
    item: str


@rule_with_ancestor
def capped(a: int, b: int, ancestor: int | None) -> int:
    return min(a + b - (ancestor or 0), 10)


@define
class Till:
    cents: Annotated[int, additions] = 0
    points: Annotated[int, capped] = 0
    cashiers: Annotated[set[str], add_wins] = field(factory=set)
    owners: Annotated[set[str], remove_wins(removed="gone")] = field(factory=set)
    gone: Annotated[set[str], union] = field(factory=set)


class Sales(Saga[Till], merger=fieldwise(Till)):
    @starts
    def sold(self, m: Sold) -> None:
        self.state.cents += len(m.item)


merger: StateMerger[Till] = fieldwise(Till)


def merged() -> int:
    """Either kind returns the state; which arguments it takes is known once it is asked what it is."""
    loose: Till = merger(Till(3), Till(5), Till(1))
    assert isinstance(merger, AncestralMerger)
    strict: Till = merger(Till(3), Till(5), Till(1))
    return loose.cents + strict.cents


def refused(binary: AncestralMerger[Till], plain: FieldwiseMerger[Till]) -> None:
    """Once it is known which kind it is, the other kind's arguments are an error."""
    binary([Till(3), Till(5)])  # type: ignore[call-arg, arg-type]
    plain(Till(3), Till(5), Till(1))  # type: ignore[call-arg, arg-type]
