"""What has left an exploration's sagas and consumers, each such sum known by a small number."""

from __future__ import annotations

from typing import Final

from attrs import field, frozen

from sagabus.testing.simulator.mail import Sketch

NOTHING: Final = 0
"""The number that stands for nothing having left yet."""
_MANY: Final = 4
"""Of messages that say the same, so many that have left are counted; more count as so many."""

Left = tuple[tuple[int, ...], ...]


@frozen(eq=False)
class Sums:
    """What leaves at once.

    Attributes:
        said: by what it says, as `Departures` has it.
        after: sum before -> sum afterwards, as far as it was asked for.
    """

    said: Left = ((), (), ())
    after: dict[int, int] = field(factory=dict)


@frozen(eq=False)
class Departures:
    """All sums that an exploration has met."""

    _sums: list[Left] = field(factory=lambda: [((), (), ())], init=False)
    _number_of: dict[Left, int] = field(factory=lambda: {((), (), ()): NOTHING}, init=False)
    _more: dict[Left, Sums] = field(factory=dict, init=False)

    def __getitem__(self, number: int) -> Left:
        """Return the sketches that facts have sent away, that decisions have sent, and that facts have sent to
        somebody in the exploration; of each at most four.
        """
        return self._sums[number]

    def sums(self, gone: tuple[Sketch, ...], decided: tuple[Sketch, ...] = (), inside: tuple[Sketch, ...] = ()) -> Sums:
        """Return what `add` adds; the three are those of what `[]` returns."""
        said = tuple(tuple(sketch.says for sketch in sketches) for sketches in (gone, decided, inside))
        return self._more.setdefault(said, Sums(said))

    def add(self, number: int, sums: Sums) -> int:
        """Return the sum after more has left."""
        found = sums.after.get(number)
        if found is None:
            found = sums.after[number] = self._add(number, sums.said) if any(sums.said) else number
        return found

    def _add(self, number: int, said: Left) -> int:
        total = tuple(map(_counted, self._sums[number], said))
        found = self._number_of.get(total)
        if found is None:
            found = self._number_of[total] = len(self._sums)
            self._sums.append(total)
        return found


def _counted(before: tuple[int, ...], more: tuple[int, ...]) -> tuple[int, ...]:
    kept = sorted((*before, *more))
    return tuple(number for place, number in enumerate(kept) if kept[max(place - _MANY, 0)] != number or place < _MANY)
