"""Tales: what a saga has handled since it was last settled, for the comparison with serial orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import field, frozen

from sagabus.testing.simulator.mail import Mail
from sagabus.testing.simulator.records import Kept
from sagabus.testing.simulator.runs import Fault, Run
from sagabus.testing.simulator.sagas import SagaTables
from sagabus.testing.simulator.world import Tale

_MOST_HANDLED: Final = 7
"""A tale with more messages than so many is not compared with their serial orders any more."""


@frozen(eq=False)
class Tales:
    """All tales that an exploration has met, each known by a small number; 0 is that of a saga that is absent.

    Attributes:
        mail: the messages.
        check: looks at a settled saga: (its table, its record, its tale) -> what is wrong.
    """

    mail: Mail
    check: Callable[[SagaTables, Kept, Tale], Fault | None]
    _tales: list[Tale] = field(factory=lambda: [Tale()], init=False)
    _number_of: dict[Tale, int] = field(factory=lambda: {Tale(): 0}, init=False)

    def told(self, story: int, run: Run) -> int:
        """Return the tale of a saga after a run was stored."""
        tale = self._tales[story]
        if run.commit.life != tale.life:
            tale = Tale(life=run.commit.life)
        handled = [item for item in run.items if not self.mail.items[item].is_merge]
        if self.mail.exact:
            handled = [item for item in handled if item not in tale.handled]
        together = tuple(sorted((*tale.handled, *handled)))
        if tale.told or run.told or len(together) > _MOST_HANDLED:
            return self._number(Tale(told=True, life=tale.life))
        return self._number(tale._replace(handled=together))

    def settled(self, story: int, table: SagaTables, kept: Kept) -> tuple[int, Fault | None]:
        """Return the tale that begins with a settled record, and what is wrong with the one that ends."""
        fault = self.check(table, kept, self._tales[story])
        assert kept.record is not None
        life = kept.record.life
        opening = Tale() if kept.ended else Tale(kept.states[0], kept.record.starter, life=life)
        return self._number(opening), fault

    def _number(self, tale: Tale) -> int:
        number = self._number_of.get(tale)
        if number is None:
            number = self._number_of[tale] = len(self._tales)
            self._tales.append(tale)
        return number
