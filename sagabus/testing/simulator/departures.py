"""What has left an exploration's sagas and consumers, each such sum known by a small number."""

from __future__ import annotations

from typing import Any, Final

from attrs import field, frozen

from sagabus.testing.simulator.mail import Sketch

NOTHING: Final = 0
"""The number that stands for nothing having left yet."""
_MANY: Final = 4
"""Of messages that say the same, so many that have left are counted; more count as so many."""

Left = tuple[tuple[int, ...], ...]


@frozen(eq=False)
class Departures:
    """All sums that an exploration has met."""

    _sums: list[Left] = field(factory=lambda: [((), (), ())], init=False)
    _number_of: dict[Left, int] = field(factory=lambda: {((), (), ()): NOTHING}, init=False)
    _more: dict[Any, int] = field(factory=dict, init=False)

    def __getitem__(self, number: int) -> Left:
        """Return the sketches that facts have sent away, that decisions have sent, and that facts have sent to
        somebody in the exploration; of each at most four.
        """
        return self._sums[number]

    def add(
        self, number: int, gone: tuple[Sketch, ...], decided: tuple[Sketch, ...] = (), inside: tuple[Sketch, ...] = ()
    ) -> int:
        """Return the sum after more has left; the three are those of what `[]` returns."""
        if not gone and not decided and not inside:
            return number
        said = tuple(tuple(sketch.says for sketch in sketches) for sketches in (gone, decided, inside))
        known = number, said
        found = self._more.get(known)
        if found is None:
            total = tuple(map(_counted, self._sums[number], said))
            found = self._number_of.get(total)
            if found is None:
                found = self._number_of[total] = len(self._sums)
                self._sums.append(total)
            self._more[known] = found
        return found


def _counted(before: tuple[int, ...], more: tuple[int, ...]) -> tuple[int, ...]:
    kept = sorted((*before, *more))
    return tuple(number for place, number in enumerate(kept) if kept[max(place - _MANY, 0)] != number or place < _MANY)
