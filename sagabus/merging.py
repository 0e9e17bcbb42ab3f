"""How siblings become one state by a saga's merger, in the order of the runtime or in another one. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sagabus.commit import StoredVersion
from sagabus.definition import SagaDefinition
from sagabus.envelope import Incoming

Guard = Callable[..., Any]
"""Calls what its second argument names with all that follow, for a message, or for None: for no single one."""


def unguarded(_message: Incoming | None, function: Callable[..., Any], *args: Any) -> Any:
    """Call *function*, for as long as it takes; a `Guard`."""
    return function(*args)


def merge_order(definition: SagaDefinition, versions: Sequence[StoredVersion]) -> Sequence[StoredVersion]:
    """Return *versions*, which are in dot order, as the runtime merges them.

    A binary merger folds from the largest context down: what one sibling has changed since its parent can only be added
    to a state that has seen that parent.
    """
    if not definition.ancestral:
        return versions
    return sorted(versions, key=lambda v: (-sum(v.context.values()), v.dot.counter, v.dot.actor))


def merged(
    definition: SagaDefinition, ordered: Sequence[StoredVersion], guard: Guard = unguarded, *, swapped: bool = False
) -> Any:
    """Return the state that the merger makes of two or more siblings in that order, as it is read again once stored.

    Args:
        swapped: whether a binary merger gets its two sides the other way round, which must make no difference.

    Raises:
        CodecError: a state cannot be read, or not be stored.
        Exception: what the merger raised.
    """
    codec = definition.codec
    if not definition.ancestral:
        siblings = [codec.decode(version.state) for version in ordered]
        return codec.decode(codec.encode(guard(None, definition.merger, siblings)))
    state = codec.decode(ordered[0].state)
    for version in ordered[1:]:
        ancestor = codec.decode(version.parent) if version.parent is not None else codec.state_type()
        other = codec.decode(version.state)
        sides = (other, state) if swapped else (state, other)
        state = codec.decode(codec.encode(guard(None, definition.merger, *sides, ancestor)))
    return state
