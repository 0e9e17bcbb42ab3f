"""In every order in which workers could handle concurrent messages, `additions` comes to the right count."""

from __future__ import annotations

from typing import Annotated

from attrs import define, field

from mergers import additions, fieldwise, highest
from sagabus import Saga, handles, message, starts
from sagabus.testing import Moment, explore


@message("mergers.opened")
class Opened:
    till: str = "1"


@message("mergers.sold")
class Sold:
    """Names no till: it goes to the one that was opened."""

    item: str
    number: int


@define
class Till:
    count: Annotated[int, additions] = 0
    items: Annotated[list[str], additions] = field(factory=list)


class Counts(Saga[Till], key="till", merger=fieldwise(Till)):
    @starts
    def opened(self, m: Opened) -> None:
        pass

    @handles
    def sold(self, m: Sold) -> None:
        self.state.count += m.number
        self.state.items += [m.item] * m.number


class Forgets(Counts, key="till", merger=fieldwise(Till, count=highest)):
    """The same, but that the count is merged as if it were a highest value."""


SALES = [Sold("apple", 2), Sold("pear", 1), Sold("plum", 3)]


def counted(moment: Moment) -> tuple[int, tuple[str, ...]]:
    state = moment.saga(Counts).state
    return state.count, tuple(sorted(state.items))


def test_additions_under_every_schedule_come_to_the_right_count() -> None:
    """Three messages at once, one delivered twice: every end has all of them once, as in some order of them."""
    found = explore(
        Counts, start=[Opened()], messages=SALES, workers=3, duplicates=1, must_end=False, outcome=counted
    ).assert_ok()
    assert found.complete
    assert list(found.outcomes) == [(6, ("apple", "apple", "pear", "plum", "plum", "plum"))]


def test_highest_in_the_place_of_additions_is_found_to_lose_a_message() -> None:
    """A count that is merged as a highest value forgets what the other side has counted."""
    found = explore(Forgets, start=[Opened()], messages=SALES, workers=3, duplicates=1, must_end=False)
    assert found.failure is not None
    assert found.failure.kind == "lost-effect"
