"""Hypothesis strategies for what a merger is given: siblings that share some of their past, and their ancestor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from sagabus.testing.laws.strategies import strategies

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

S = TypeVar("S")


def siblings_of(states: SearchStrategy[S], *, most: int = 4) -> SearchStrategy[tuple[S, ...]]:
    """Return a strategy for two to *most* siblings.

    Each is a state of its own, or a state that they share with one field changed, or that state.
    """
    st = strategies()

    @st.composite  # type: ignore[untyped-decorator]  # Hypothesis is imported late, so it has no types here
    def siblings(draw: Any) -> tuple[S, ...]:
        shared = draw(states)
        return tuple(draw(st.lists(_descendants(st, states, shared), min_size=2, max_size=most)))

    drawn: SearchStrategy[tuple[S, ...]] = siblings()
    return drawn


def forks_of(states: SearchStrategy[S], ancestors: SearchStrategy[S]) -> SearchStrategy[tuple[S, S, S]]:
    """Return a strategy for two siblings and, last, their ancestor.

    Each sibling is a state of its own, or the ancestor with one field changed, or the ancestor.
    """
    st = strategies()

    @st.composite  # type: ignore[untyped-decorator]
    def fork(draw: Any) -> tuple[S, S, S]:
        ancestor = draw(ancestors)
        descendants = _descendants(st, states, ancestor)
        return draw(descendants), draw(descendants), ancestor

    drawn: SearchStrategy[tuple[S, S, S]] = fork()
    return drawn


def _descendants(st: Any, states: SearchStrategy[S], shared: S) -> Any:
    fields = attrs.fields(type(shared))  # type: ignore[arg-type]  # every state is an attrs object
    kinds = [states, st.just(shared)]
    if len(fields) > 1:  # the other state, where there is but one
        kinds.append(st.builds(_changed, st.just(shared), st.sampled_from(fields), states))
    return st.one_of(kinds)


def _changed(shared: S, changed: attrs.Attribute[Any], other: S) -> S:
    """Return *shared* with one field as *other* has it; *shared* where its validators refuse the two together."""
    try:
        return attrs.evolve(shared, **{str(changed.alias): getattr(other, changed.name)})  # type: ignore[misc]
    except Exception:  # validators are the user's, and may raise anything
        return shared
