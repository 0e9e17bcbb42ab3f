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
from sagabus.testing.simulator.records import Kept
from sagabus.testing.simulator.runs import Examination, Fault


@frozen(eq=False)
class Examiner(Examination):
    """Examines all sagas of one class.

    Attributes:
        definition: the class.
        clocked: whether it is known that time matters.
        merger_laws: whether the merger must keep the laws.
    """

    definition: SagaDefinition
    clocked: bool
    merger_laws: bool = True
    _purity: Purity = field(init=False)
    _tried: dict[Any, Fault | None] = field(factory=dict, init=False)
    _answers: Answers = field(factory=Answers, init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_purity", Purity(self.definition, self.clocked))

    def siblings(self, kept: Kept) -> Fault | None:
        """Return which law of merging is broken on the siblings of a record."""
        if not self.merger_laws or len(kept.states) < 2 or self.definition.merger is None:
            return None
        known = kept.states, kept.parents
        if known not in self._tried:
            self._tried[known] = self._try_laws(*known)
        return self._tried[known]

    def run(self, snapshot: Snapshot, incoming: Sequence[Incoming], commit: Commit) -> Fault | None:
        """Return in which way a run is impure.

        Raises:
            ClockMattersError: it depends on the time.
        """
        return self._purity.examine(snapshot, incoming, commit)

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
