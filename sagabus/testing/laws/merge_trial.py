"""One call of a merger, as the runtime makes it: on fresh copies, its result stored and read again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from operator import is_
from typing import Any, Final, NamedTuple

from attrs import field, frozen

from sagabus.codec import StateCodec
from sagabus.errors import UnmergeableStateError
from sagabus.testing.laws.refutation import Law, Refutation, Result

ANCESTOR: Final = "ancestor"
"""The name of the state that siblings come from."""


class Term(NamedTuple):
    """A state, and how it came about.

    Attributes:
        form: its name; of what a call made, how the call is written, with `{}` for each of what it was given.
        state: its stored bytes; None where the merger refused.
        of: what the call was given.
        beside: what else it was made of, that its name does not say.
        refusal: why there is none.
    """

    form: str
    state: bytes | None
    of: tuple[Term, ...] = ()
    beside: tuple[Term, ...] = ()
    refusal: str = ""

    @property
    def call(self) -> str:
        """Return its name, or the call that made it. Put together when asked for: few are ever shown."""
        return self.form.format(*(term.call for term in self.of)) if self.of else self.form

    @property
    def leaves(self) -> dict[str, bytes]:
        """Return the states that it was made of, by name."""
        if not self.of and self.state is not None:
            return {self.form: self.state}
        return {name: data for term in (*self.of, *self.beside) for name, data in term.leaves.items()}

    @property
    def refused(self) -> bool:
        """Return whether the merger had no value for it."""
        return self.state is None


@frozen(eq=False)
class Answers:
    """What a merger has answered, and how states are read again, so that neither is looked at twice.

    Attributes:
        of: what the merger was given, in order -> what it made of it; or, for None, why it refused.
        read: a stored state -> the same, once it was read and stored again.
    """

    of: dict[tuple[bytes | None, ...], tuple[bytes | None, str]] = field(factory=dict)
    read: dict[bytes, bytes] = field(factory=dict)


class BrokenCallError(Exception):
    """A single call broke a law; ends the trial."""

    def __init__(self, refutation: Refutation) -> None:
        super().__init__(refutation.problem)
        self.refutation = refutation


class MergeTrial:
    """Calls a merger on stored states, and notices what it does to them.

    Args:
        merger: the merger.
        codec: writes its states.
        answers: what it has answered before; it is not asked that once more, but by `again`. None where each call is
            made.
    """

    def __init__(self, merger: Any, codec: StateCodec[Any], answers: Answers | None = None) -> None:
        self._merger, self._codec, self._answers = merger, codec, answers

    def term(self, name: str, state: Any) -> Term:
        """Return *state* under *name*."""
        return Term(name, self._stored(state))

    def merge(self, *terms: Term) -> Term:
        """Return `merge([...])` of *terms*, none of which is refused."""
        if self._answers is None:
            return self._call(_list_form(len(terms)), terms)
        answer = self._answers.of.get(tuple([term[1] for term in terms]))
        if answer is None:
            return self._noted(_list_form(len(terms)), terms)
        term: Term = _new_term((_list_form(len(terms)), answer[0], terms, (), answer[1]))
        return term

    def merge_from(self, a: Term, b: Term, ancestor: Term) -> Term:
        """Return `merge(a, b, ancestor)`."""
        terms = (a, b, ancestor)
        if self._answers is None:
            return self._call(_FROM_ANCESTOR, terms)
        answer = self._answers.of.get((a.state, b.state, ancestor.state))
        return (
            self._noted(_FROM_ANCESTOR, terms)
            if answer is None
            else Term(_FROM_ANCESTOR, answer[0], terms, (), answer[1])
        )

    def again(self, term: Term) -> Term:
        """Return what the call that made *term* makes now."""
        return self._call(term.form, term.of)

    def replayed(self, serial: Any, changed: Term, ancestor: Term, onto: Term) -> Term:
        """Return what *serial* makes of *onto*; refused where it has nothing for it."""
        try:
            state = self._stored(serial(*map(self._decoded, (changed, ancestor, onto))))
        except Exception as error:
            if not is_refusal(error):
                raise
            return Term(_AFTER, None, (changed, onto), (ancestor,), _refused(error))
        return Term(_AFTER, state, (changed, onto), (ancestor,))

    def refutation(self, law: Law, *terms: Term) -> Refutation:
        """Return that *law* is broken, for *terms* should have been equal."""
        return self._refutation(law, terms, tuple(self._shown(term) for term in terms))

    def _noted(self, form: str, terms: tuple[Term, ...]) -> Term:
        made = self._call(form, terms)
        if self._answers is not None:
            self._answers.of[tuple([term.state for term in terms])] = made.state, made.refusal
        return made

    def _call(self, form: str, terms: tuple[Term, ...]) -> Term:
        decode = self._codec.decode
        copies = [decode(term[1]) for term in terms if term[1] is not None]  # what was refused is given to no merge
        given = list(copies)
        try:
            answer = self._merger(*given) if form is _FROM_ANCESTOR else self._merger(given)
        except Exception as error:
            if not is_refusal(error):
                raised = Result(Term(form, None, terms).call, error=f"{type(error).__name__}: {error}")
                raise BrokenCallError(self._refutation(Law.ANSWERS, terms, (raised,))) from error
            self._check_input(form, terms, copies, given)
            return Term(form, None, terms, (), _refused(error))
        self._check_input(form, terms, copies, given)
        try:
            return Term(form, self._stored(answer), terms)
        except Exception as error:  # validators are the user's, and may raise anything
            call = Term(form, None, terms).call
            lost = Result(call, error=f"{answer!r}, which cannot be stored and read again: {error}")
            raise BrokenCallError(self._refutation(Law.STORABLE, terms, (lost,))) from error

    def _check_input(self, form: str, terms: tuple[Term, ...], copies: Sequence[Any], given: Sequence[Any]) -> None:
        """Notice a merger that changed its input.

        Raises:
            BrokenCallError: it did.
        """
        encode, kept = self._codec.encode, len(given) == len(copies) and all(map(is_, given, copies))
        try:
            if kept and [encode(copy) for copy in copies] == [term[1] for term in terms]:
                return
        except (TypeError, ValueError, OverflowError):
            pass  # one was made into something that cannot be written, and is looked for now
        for term, copy in zip(terms, copies, strict=True):
            if self._changed(term, copy):
                call = Term(form, None, terms).call
                results = (self._shown(term), Result(f"{term.call} after {call}", copy))
                raise BrokenCallError(self._refutation(Law.MUTATES_NOTHING, terms, results))
        if not kept:
            call = Term(form, None, terms).call
            now = Result(f"the list after {call}", error=f"a list of {len(given)} siblings, or in another order")
            raise BrokenCallError(self._refutation(Law.MUTATES_NOTHING, terms, (now,)))

    def _changed(self, term: Term, copy: Any) -> bool:
        try:
            return self._codec.encode(copy) != term.state
        except (TypeError, ValueError, OverflowError):  # it was made into something that cannot be written
            return True

    def _stored(self, state: Any) -> bytes:
        """Return the bytes that *state* has once it was stored and read again."""
        data = self._codec.encode(state)
        if self._answers is None:
            return self._codec.encode(self._codec.decode(data))
        found = self._answers.read.get(data)
        if found is None:
            found = self._answers.read[data] = self._codec.encode(self._codec.decode(data))
        return found

    def _decoded(self, term: Term) -> Any:
        assert term.state is not None  # what was refused is given to no merge
        return self._codec.decode(term.state)

    def _shown(self, term: Term) -> Result:
        return Result(term.call, error=term.refusal) if term.refused else Result(term.call, self._decoded(term))

    def _refutation(self, law: Law, terms: Sequence[Term], results: tuple[Result, ...]) -> Refutation:
        leaves = {name: data for term in terms for name, data in term.leaves.items()}
        states = {name: self._codec.decode(leaves[name]) for name in sorted(leaves, key=_place)}
        return Refutation(law, merger_name(self._merger), states, results)


_new_term: Final = partial(tuple.__new__, Term)
_FROM_ANCESTOR: Final = "merge({}, {}, {})"
_AFTER: Final = "{} after {}"


@lru_cache
def _list_form(size: int) -> str:
    return f"merge([{', '.join(['{}'] * size)}])"


def _refused(error: Exception) -> str:
    return f"refused, {type(error).__name__}: {error}"


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
