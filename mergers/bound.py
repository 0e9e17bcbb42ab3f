"""What a rule is once it is bound to a place: values folded, or one side's change replayed on the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import attrs

Fold: TypeAlias = Callable[[Sequence[Any]], Any]
"""Folds one or more values, none of them None, into one; order, grouping and repetition never change the result."""


class Bound:
    """A rule at its place. Siblings are folded; where a rule needs the ancestor, two sides are put into an order.

    Two sides are merged as if their messages had been handled one after the other: `order` says which goes first, the
    same for both ways to name them, and `replay` makes the change of the other to it as well.

    Attributes:
        needs_ancestor: whether siblings cannot be folded without it, here or anywhere inside.
    """

    needs_ancestor: bool = False

    def fold(self, values: Sequence[Any]) -> Any:
        """Return what stands for all *values*. Never called where `needs_ancestor`.

        Raises:
            UnmergeableError: nothing can.
        """
        raise NotImplementedError(f"{type(self).__name__} needs the ancestor")

    def replay(self, onto: Any, changed: Any, ancestor: Any) -> Any:
        """Return *onto* with what changed from *ancestor* (None: nothing was said) to *changed* made to it as well.

        Raises:
            UnmergeableError: that cannot be.
        """
        raise NotImplementedError

    def order(self, a: Any, b: Any, ancestor: Any) -> int:
        """Return -1 where *a* goes first, 1 where *b* does, 0 where the result is the same.

        Raises:
            UnmergeableError: they have no order.
        """
        return 0


@attrs.frozen
class Folded(Bound):
    """A rule that needs no ancestor: the change of the other side is made by folding both values."""

    folded: Fold

    def fold(self, values: Sequence[Any]) -> Any:
        return self.folded(values)

    def replay(self, onto: Any, changed: Any, ancestor: Any) -> Any:
        return self.folded([onto, changed])


@attrs.frozen
class Spoken(Bound):
    """Passes on what is said: None says nothing, and leaves what the other side says as it is."""

    inner: Bound

    @property
    def needs_ancestor(self) -> bool:  # type: ignore[override]  # asked when all fields are bound
        return self.inner.needs_ancestor

    def fold(self, values: Sequence[Any]) -> Any:
        present = [value for value in values if value is not None]
        return self.inner.fold(present) if present else None

    def replay(self, onto: Any, changed: Any, ancestor: Any) -> Any:
        if onto is not None and changed is not None:
            return self.inner.replay(onto, changed, ancestor)
        said = onto if changed is None else changed
        # Replayed although nothing changed: so what the rule refuses is refused, and the result shares nothing with it.
        return None if said is None else self.inner.replay(said, said, said)

    def order(self, a: Any, b: Any, ancestor: Any) -> int:
        return 0 if a is None or b is None else self.inner.order(a, b, ancestor)
