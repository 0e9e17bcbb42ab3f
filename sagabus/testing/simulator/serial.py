"""One after the other: the states that some serial order of messages gives, to which a race has to come as well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from attrs import field, frozen

from sagabus.advance import advance
from sagabus.commit import Lifecycle, Snapshot, StoredVersion
from sagabus.envelope import Incoming
from sagabus.testing.simulator.records import Kept
from sagabus.testing.simulator.sagas import Fault, SagaTables
from sagabus.testing.simulator.scene import START_MS
from sagabus.testing.simulator.wording import say
from sagabus.testing.simulator.world import Tale
from sagabus.versions import Dot

_MOST_STATES: Final = 5_000
_DOT: Final = Dot("serial", 1)

CalledOff = frozenset[tuple[str, str]]
"""Timers that messages have cancelled, as (name, ""), or replaced, as (name, id of the new one)."""
Stand = tuple[bytes | None, CalledOff]
"""A state, and what has been called off on the way there."""


@frozen(eq=False)
class SerialOrders:
    """Compares settled sagas with what their messages would have done one after the other.

    Of each run both are kept: the state with its decision and, as after a fork, without. Batches and decisions that a
    fork discards are then serial orders too.
    """

    _states: dict[Any, frozenset[bytes] | None] = field(factory=dict, init=False)
    _steps: dict[Any, tuple[Stand, ...]] = field(factory=dict, init=False)

    def check(self, table: SagaTables, kept: Kept, tale: Tale) -> Fault | None:
        """Return what was lost, or done twice, since the saga was last settled."""
        if tale.told or table.mail.clocked or not tale.handled or kept.record is None:
            return None
        (state,) = table.records.states(kept.number)
        if state in self._in_order(table, tale, kept.record.life):
            return None
        possible = self.states(table, tale, kept.record.life)
        if possible is None or state in possible:
            return None
        decode = table.definition.codec.decode
        handled = " and ".join(say(table.mail.items[item].sketch.message) for item in tale.handled)
        orders = " or ".join(sorted({say(decode(other)) for other in possible})[:3])
        return Fault(
            "lost-effect",
            f"{table.key} has handled {handled}. One after the other they make {orders}, and it stands at "
            f"{say(decode(state))}: what a message did was lost, or done twice. If siblings may merge into what no "
            f"order gives, say serial_merges=False",
        )

    def _in_order(self, table: SagaTables, tale: Tale, life: int) -> set[bytes | None]:
        """Return the states that the messages give in the order in which they are numbered: mostly that is enough."""
        reached: set[Stand] = {(tale.opening, frozenset())}
        for item in tale.handled:
            reached = {after for stand in reached for after in self._step(table, tale, life, stand, item)}
        return {state for state, _ in reached}

    def states(self, table: SagaTables, tale: Tale, life: int) -> frozenset[bytes] | None:
        """Return the states that the messages of *tale* give in some order; None where there are too many orders."""
        known = table.key, tale, life
        if known not in self._states:
            self._states[known] = self._reach(table, tale, life)
        return self._states[known]

    def _reach(self, table: SagaTables, tale: Tale, life: int) -> frozenset[bytes] | None:
        items = tale.handled
        reached: dict[int, set[Stand]] = {0: {(tale.opening, frozenset())}}
        total = 0
        for mask in range(1 << len(items)):
            for number, item in enumerate(items):
                if not mask >> number & 1:
                    after = reached.setdefault(mask | 1 << number, set())
                    for stand in reached.get(mask, ()):
                        after.update(self._step(table, tale, life, stand, item))
            total += len(reached.get(mask, ()))
            if total > _MOST_STATES:
                return None
        return frozenset(state for state, _ in reached[(1 << len(items)) - 1] if state is not None)

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
        incoming = Incoming(table.mail.items[item].incoming.envelope)
        envelope = incoming.envelope
        timers = {envelope.timer: envelope.id} if envelope.timer else {}
        if state is None:
            snapshot = Snapshot(table.key, START_MS, life=life - 1)
        else:
            version = StoredVersion(_DOT, {}, state)
            snapshot = Snapshot(
                table.key,
                START_MS,
                Lifecycle.LIVE,
                life,
                {_DOT.actor: 1},
                (version,),
                timers=timers,
                starter=tale.starter,
            )
        commit = advance(table.definition, snapshot, [incoming])
        if not commit.ids or commit.facts.state is None:
            return []
        called_off = frozenset({*((name, "") for name in commit.facts.cancelled), *commit.facts.timers.items()})
        if commit.decision is None or commit.decision.state is None:
            return [(commit.facts.state, called_off)]
        return [(commit.facts.state, called_off), (commit.decision.state, called_off)]
