"""One after the other: the states that some serial order of messages gives, to which a race has to come as well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from attrs import define, field, frozen

from sagabus.testing.simulator.records import Kept
from sagabus.testing.simulator.runs import Fault
from sagabus.testing.simulator.sagas import SagaTables
from sagabus.testing.simulator.wording import say
from sagabus.testing.simulator.world import Tale
from sagabus.versions import Dot

_MOST_STATES: Final = 5_000
_DOT: Final = Dot("serial", 1)

CalledOff = frozenset[tuple[str, str]]
"""Timers that messages have cancelled, as (name, ""), or replaced, as (name, id of the new one)."""
Stand = tuple[bytes | None, CalledOff]
"""A state, and what has been called off on the way there."""


@define(eq=False)
class _Orders:
    """The states that the messages of one tale give in some order, as far as they were looked for.

    Attributes:
        tale: the tale.
        states: those that were found.
        todo: where to go on: which messages were handled, as bits, and what that gave.
        passed: all that was ever to do.
        too_many: whether that is more than is looked at.
    """

    tale: Tale
    states: set[bytes] = field(factory=set)
    todo: list[tuple[int, Stand]] = field(init=False)
    passed: set[tuple[int, Stand]] = field(factory=set)
    too_many: bool = False

    def __attrs_post_init__(self) -> None:
        self.todo = []
        self.go_on(0, (self.tale.opening, frozenset()))

    def go_on(self, mask: int, stand: Stand) -> None:
        """Note what messages have given, unless others gave the same."""
        if (mask, stand) not in self.passed:
            self.passed.add((mask, stand))
            self.todo.append((mask, stand))
            self.too_many = len(self.passed) > _MOST_STATES


@frozen(eq=False)
class SerialOrders:
    """Compares settled sagas with what their messages would have done one after the other.

    Of each run both are kept: the state with its decision and, as after a fork, without. Batches and decisions that a
    fork discards are then serial orders too. Of all orders only so many are tried as it takes to find the state.
    """

    _orders: dict[Any, _Orders] = field(factory=dict, init=False)
    _steps: dict[Any, tuple[Stand, ...]] = field(factory=dict, init=False)

    def check(self, table: SagaTables, kept: Kept, tale: Tale) -> Fault | None:
        """Return what was lost, or done twice, since the saga was last settled."""
        if tale.told or table.mail.clocked or not tale.handled or kept.record is None:
            return None
        (state,), life = kept.states, kept.record.life
        if state in self._in_order(table, tale, life):
            return None
        orders = self._orders.setdefault((table.key, tale, life), _Orders(tale))
        if state in orders.states or self._reach(table, tale, life, orders, state) or orders.too_many:
            return None
        decode = table.definition.codec.decode
        handled = " and ".join(say(table.mail.items[item].sketch.message) for item in tale.handled)
        others = " or ".join(sorted({say(decode(other)) for other in orders.states})[:3])
        return Fault(
            "lost-effect",
            f"{table.key} has handled {handled}. One after the other they make {others}, and it stands at "
            f"{say(decode(state))}: what a message did was lost, or done twice. If siblings may merge into what no "
            f"order gives, say serial_merges=False",
        )

    def _in_order(self, table: SagaTables, tale: Tale, life: int) -> set[bytes | None]:
        """Return the states that the messages give in the order in which they are numbered: mostly that is enough."""
        reached: set[Stand] = {(tale.opening, frozenset())}
        for item in tale.handled:
            reached = {after for stand in reached for after in self._step(table, tale, life, stand, item)}
        return {state for state, _ in reached}

    def _reach(self, table: SagaTables, tale: Tale, life: int, orders: _Orders, state: bytes) -> bool:
        """Go on through the orders, deepest first, until one gives *state*; return whether one does."""
        items = tale.handled
        while orders.todo and not orders.too_many:
            mask, stand = orders.todo.pop()
            missing = [number for number in range(len(items)) if not mask >> number & 1]
            if not missing:
                if stand[0] is not None:
                    orders.states.add(stand[0])
                    if stand[0] == state:
                        return True
                continue
            for number in missing:
                for after in self._step(table, tale, life, stand, items[number]):
                    orders.go_on(mask | 1 << number, after)
        return False

    def _step(self, table: SagaTables, tale: Tale, life: int, stand: Stand, item: int) -> Sequence[Stand]:
        known = table.key, stand, tale.starter, life, item
        if known not in self._steps:
            state, called_off = stand
            after = [(found, called_off | more) for found, more in self._handled(table, tale, life, state, item)]
            envelope = table.mail.items[item].incoming.envelope
            if any(name == envelope.timer and id_ != envelope.id for name, id_ in called_off):
                after.append(stand)  # it came in one run with what calls it off
            self._steps[known] = tuple(after)
        return self._steps[known]

    @staticmethod
    def _handled(table: SagaTables, tale: Tale, life: int, state: bytes | None, item: int) -> list[Stand]:
        commit = table.runs.alone(life, state, tale.starter if state is not None else b"", item)
        if not commit.ids or commit.facts.state is None:
            return []
        called_off = frozenset({*((name, "") for name in commit.facts.cancelled), *commit.facts.timers.items()})
        if commit.decision is None or commit.decision.state is None:
            return [(commit.facts.state, called_off)]
        return [(commit.facts.state, called_off), (commit.decision.state, called_off)]
