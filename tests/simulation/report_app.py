"""What the tests of reports explore: messages with all that bodies hold, a saga with sets, and a bus."""

from __future__ import annotations

import datetime
import enum
import sys
from decimal import Decimal
from typing import Annotated
from unittest.mock import ANY
from uuid import UUID

from attrs import define, field, frozen

from mergers import fieldwise, union
from sagabus import Bus, Context, Saga, handles, message, starts
from sagabus.testing import Moment, explore


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@frozen
class Place:
    street: str
    floors: tuple[int, ...] = ()


@message("report.paint")
class Paint:
    house: str
    colour: Colour
    at: datetime.datetime
    place: Place
    price: Decimal
    number: UUID
    within: datetime.timedelta
    rooms: dict[str, int] = field(factory=dict)
    tags: frozenset[str] = frozenset()
    nothing: None = None


@message("report.painted")
class Painted:
    words: set[str]


@message("report.brush")
class Brush:
    house: str


@define
class House:
    words: Annotated[set[str], union] = field(factory=set)


class Painting(Saga[House], key="house", merger=fieldwise(House)):
    """Ends on just four words, and a merge may bring a fifth."""

    @starts
    def painted(self, m: Paint) -> None:
        self.state.words |= m.tags
        self.send(Brush(m.house), to="brushes")

    @handles
    def brushed(self, m: Painted) -> None:
        self.state.words |= m.words

    def decide(self) -> None:
        if len(self.state.words) == 4:
            self.publish(Painted(set(self.state.words)))
            self.complete()


def brushes(m: Brush, context: Context) -> None:
    """Answer three times."""
    for word in ("x", "y", "z"):
        context.reply(Painted({word}))


bus = Bus(store="memory:", transport="memory:")
bus.endpoint("houses", Painting)
bus.endpoint("brushes").consumer(brushes)

PAINT = Paint(
    "1",
    Colour.BLUE,
    datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    Place("High Street", (1, 2)),
    Decimal("9.50"),
    UUID(int=7),
    datetime.timedelta(days=1),
    {"kitchen": 1},
    frozenset({"alpha", "beta"}),
)


def never_five(moment: Moment) -> None:
    """Keep to four words."""
    if any(len(state.words) > 4 for state in moment.states):
        raise AssertionError(f"too many of {sorted(moment.state.words)}")


if __name__ == "__main__":
    report = explore(bus, start=[PAINT], always=[never_five], outcomes=[ANY]).failure
    sys.stdout.write(report.report if report else "all is well")
