"""Looks at each new run of a saga class: is it pure, and does its merger keep the laws on the siblings it was given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import field, frozen

from sagabus.commit import Commit, Snapshot
from sagabus.definition import SagaDefinition
from sagabus.envelope import Incoming
from sagabus.testing.laws.merge_trial import Answers
from sagabus.testing.laws.merger_laws import refute
from sagabus.testing.simulator.purity import Purity
from sagabus.testing.simulator.sagas import Fault


@frozen(eq=False)
class Examiner:
    """Examines runs.

    Attributes:
        definition: of the saga class.
        clocked: whether it is known that time matters.
        merger_laws: whether the merger must keep the laws.
    """

    definition: SagaDefinition
    clocked: bool
    merger_laws: bool = True
    _purity: Purity = field(init=False)
    _tried: dict[Any, Fault | None] = field(factory=dict, init=False)
    _watched: dict[Any, Fault | None] = field(factory=dict, init=False)
    _answers: Answers = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_purity", Purity(self.definition, self.clocked))

    def examine(self, snapshot: Snapshot, incoming: Sequence[Incoming], commit: Commit) -> Fault | None:
        """Return what is wrong with a run.

        Raises:
            ClockMattersError: it depends on the time.
        """
        if self.merger_laws and len(snapshot.versions) > 1 and self.definition.merger is not None:
            siblings = tuple(version.state for version in snapshot.versions)
            parents = tuple(version.parent for version in snapshot.versions)
            if (siblings, parents) not in self._tried:
                self._tried[siblings, parents] = self._try_laws(siblings, parents)
            fault = self._tried[siblings, parents]
            if fault is not None:
                return fault
        known = self._known(snapshot, incoming)
        if known not in self._watched:
            self._watched[known] = self._purity.examine(snapshot, incoming, commit)
        return self._watched[known]

    def _known(self, snapshot: Snapshot, incoming: Sequence[Incoming]) -> Any:
        """Return what all that a run depends on amounts to: it is not made twice for siblings that merge alike."""
        opening: Any = tuple(version.state for version in snapshot.versions)
        if len(opening) > 1 and not self.definition.ancestral and self.definition.merger is not None:
            codec = self.definition.codec
            try:
                opening = codec.encode(self.definition.merger([codec.decode(state) for state in opening])), True
            except Exception:
                # What the merger raises, the run has raised too, and tells: `Commit.unmergeable`.
                return object()
        return (
            snapshot.lifecycle,
            snapshot.life,
            snapshot.now_ms,
            opening,
            snapshot.starter,
            tuple(snapshot.timers.items()),
            tuple(snapshot.consumed),
            tuple(message.id for message in incoming),
        )

    def _try_laws(self, siblings: tuple[bytes, ...], parents: tuple[bytes | None, ...]) -> Fault | None:
        codec, merger = self.definition.codec, self.definition.merger
        assert merger is not None
        states = [codec.decode(state) for state in siblings]
        if not self.definition.ancestral:
            refuted = refute(merger, states, codec, answers=self._answers)
        else:
            # Siblings of one parent are what a binary merger is for; a fold over others has no laws to try.
            if len(set(parents)) > 1:
                return None
            ancestor = codec.decode(parents[0]) if parents[0] is not None else codec.state_type()
            refuted = refute(merger, states, codec, ancestor=ancestor, answers=self._answers)
        return None if refuted is None else Fault("merger", refuted.text)
