"""One call of a merger, as the runtime makes it: on fresh copies, its result stored and read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import field, frozen

from sagabus.codec import StateCodec
from sagabus.errors import UnmergeableStateError
from sagabus.testing.laws.refutation import Law, Refutation, Result

ANCESTOR: Final = "ancestor"
"""The name of the state that siblings come from."""


@frozen
class Term:
    """A state, and how it came about.

    Attributes:
        call: its name, or the call that made it.
        state: its stored bytes; None where the merger refused.
        leaves: the states that it was made of, by name.
        refusal: why there is none.
    """

    call: str
    state: bytes | None
    leaves: Mapping[str, bytes] = field(factory=dict)
    refusal: str = ""

    @property
    def refused(self) -> bool:
        """Return whether the merger had no value for it."""
        return self.state is None


class BrokenCallError(Exception):
    """A single call broke a law; ends the trial."""

    def __init__(self, refutation: Refutation) -> None:
        super().__init__(refutation.problem)
        self.refutation = refutation


class MergeTrial:
    """Calls a merger on stored states, and notices what it does to them."""

    def __init__(self, merger: Any, codec: StateCodec[Any]) -> None:
        self._merger, self._codec = merger, codec

    def term(self, name: str, state: Any) -> Term:
        """Return *state* under *name*."""
        data = self._stored(state)
        return Term(name, data, {name: data})

    def merge(self, *terms: Term) -> Term:
        """Return `merge([...])` of *terms*, none of which is refused."""
        call = f"merge([{', '.join(term.call for term in terms)}])"
        return self._call(call, terms, as_list=True)

    def merge_from(self, a: Term, b: Term, ancestor: Term) -> Term:
        """Return `merge(a, b, ancestor)`."""
        call = f"merge({a.call}, {b.call}, {ancestor.call})"
        return self._call(call, (a, b, ancestor), as_list=False)

    def replayed(self, serial: Any, changed: Term, ancestor: Term, onto: Term) -> Term:
        """Return what *serial* makes of *onto*; refused where it has nothing for it."""
        call = f"{changed.call} after {onto.call}"
        leaves = {**changed.leaves, **ancestor.leaves, **onto.leaves}
        try:
            return Term(call, self._stored(serial(*map(self._decoded, (changed, ancestor, onto)))), leaves)
        except Exception as error:
            if not is_refusal(error):
                raise
            return Term(call, None, leaves, f"refused, {type(error).__name__}: {error}")

    def refutation(self, law: Law, *terms: Term) -> Refutation:
        """Return that *law* is broken, for *terms* should have been equal."""
        return self._refutation(law, terms, tuple(self._shown(term) for term in terms))

    def _call(self, call: str, terms: Sequence[Term], *, as_list: bool) -> Term:
        copies = [self._decoded(term) for term in terms]
        given = list(copies)
        leaves = {name: data for term in terms for name, data in term.leaves.items()}
        try:
            answer = self._merger(given) if as_list else self._merger(*given)
        except Exception as error:
            if not is_refusal(error):
                raised = Result(call, error=f"{type(error).__name__}: {error}")
                raise BrokenCallError(self._refutation(Law.ANSWERS, terms, (raised,))) from error
            self._check_input(call, terms, copies, given)
            return Term(call, None, leaves, f"refused, {type(error).__name__}: {error}")
        self._check_input(call, terms, copies, given)
        try:
            return Term(call, self._stored(answer), leaves)
        except Exception as error:  # validators are the user's, and may raise anything
            lost = Result(call, error=f"{answer!r}, which cannot be stored and read again: {error}")
            raise BrokenCallError(self._refutation(Law.STORABLE, terms, (lost,))) from error

    def _check_input(self, call: str, terms: Sequence[Term], copies: Sequence[Any], given: Sequence[Any]) -> None:
        """Notice a merger that changed its input.

        Raises:
            BrokenCallError: it did.
        """
        for term, copy in zip(terms, copies, strict=True):
            if self._changed(term, copy):
                results = (self._shown(term), Result(f"{term.call} after {call}", copy))
                raise BrokenCallError(self._refutation(Law.MUTATES_NOTHING, terms, results))
        if list(map(id, given)) != list(map(id, copies)):
            now = Result(f"the list after {call}", error=f"a list of {len(given)} siblings, or in another order")
            raise BrokenCallError(self._refutation(Law.MUTATES_NOTHING, terms, (now,)))

    def _changed(self, term: Term, copy: Any) -> bool:
        try:
            return self._codec.encode(copy) != term.state
        except (TypeError, ValueError, OverflowError):  # it was made into something that cannot be written
            return True

    def _stored(self, state: Any) -> bytes:
        """Return the bytes that *state* has once it was stored and read again."""
        return self._codec.encode(self._codec.decode(self._codec.encode(state)))

    def _decoded(self, term: Term) -> Any:
        assert term.state is not None  # what was refused is given to no merge
        return self._codec.decode(term.state)

    def _shown(self, term: Term) -> Result:
        return Result(term.call, error=term.refusal) if term.refused else Result(term.call, self._decoded(term))

    def _refutation(self, law: Law, terms: Sequence[Term], results: tuple[Result, ...]) -> Refutation:
        leaves = {name: data for term in terms for name, data in term.leaves.items()}
        states = {name: self._codec.decode(leaves[name]) for name in sorted(leaves, key=_place)}
        return Refutation(law, merger_name(self._merger), states, results)


def is_refusal(error: Exception) -> bool:
    """Return whether a merger says by *error* that no value can stand for all siblings.

    Mergers that know nothing of sagabus, as the ready-made ones, say it by an error that has the `values` which
    contradict each other, and the `reason`.
    """
    return isinstance(error, UnmergeableStateError) or (hasattr(error, "values") and hasattr(error, "reason"))


def merger_name(merger: Any) -> str:
    """Return what to call *merger* in a sentence."""
    name = getattr(merger, "__qualname__", None)
    if isinstance(name, str):
        return name.rpartition("<locals>.")[2]
    state_type = getattr(merger, "state_type", None)
    made_for = f" of {state_type.__qualname__}" if isinstance(state_type, type) else ""
    return f"{type(merger).__qualname__}{made_for}"


def _place(name: str) -> tuple[bool, int, str]:
    """Return what sorts the names of states: a to z, then numbered ones, the ancestor last."""
    return name == ANCESTOR, len(name), name
