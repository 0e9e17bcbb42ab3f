"""The vocabulary of generated sagas: messages, states, what handlers do, and mergers, good ones and bad ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

from sagabus import message

_NAME = "t"


@message("generated.begin")
class Begin:
    """Starts the first saga."""

    saga: str
    name: str
    amount: int


@message("generated.fact")
class Fact:
    """Something to be handled."""

    saga: str
    name: str
    amount: int


@message("generated.again")
class Again:
    """What a saga sends to itself, *hops* times more."""

    saga: str
    name: str
    amount: int
    hops: int


@message("generated.ring")
class Ring:
    """A timer."""

    name: str
    amount: int


@message("generated.ask")
class Ask:
    """Starts the second saga; asked by the first."""

    saga: str
    name: str
    amount: int


@message("generated.answer")
class Answer:
    """What the second saga replies."""

    name: str
    amount: int


@message("generated.news")
class News:
    """An event that sagas may listen to."""

    saga: str
    name: str
    amount: int


@message("generated.told")
class Told:
    """What leaves; nobody handles it."""

    text: str


# -- states ----------------------------------------------------------------------------------------------------------

FIELDS: Mapping[str, tuple[Any, Any]] = {
    "scores": (dict[str, int], field(factory=dict)),
    "names": (set[str], field(factory=set)),
    "total": (int, 0),
    "log": (list[str], field(factory=list)),
    "flag": (bool, False),
}


def state_class(names: Sequence[str]) -> type:
    """Return a state class of those fields."""
    body = {"__annotations__": {name: FIELDS[name][0] for name in names}}
    body |= {name: FIELDS[name][1] for name in names}
    body["__module__"] = __name__
    return define(type("State", (), body))


def _names_of(state: Any) -> list[str]:
    return [name for name in FIELDS if hasattr(state, name)]


def _size(state: Any) -> int:
    values = (getattr(state, name) for name in _names_of(state))
    return sum(int(value) if isinstance(value, int) else len(value) for value in values)


def _digest(state: Any) -> str:
    values = (getattr(state, name) for name in _names_of(state))
    return " ".join(
        str(sorted(v.items()) if isinstance(v, dict) else sorted(v) if isinstance(v, set) else v) for v in values
    )


# -- programs --------------------------------------------------------------------------------------------------------


@frozen
class Do:
    """One instruction: what to do, and for which sizes of the state: from *least* on, odd or even ones only."""

    what: str
    where: str = ""
    least: int = 0
    parity: int | None = None

    def __str__(self) -> str:
        guard = f" if size >= {self.least}" if self.least else ""
        parity = f" if size % 2 == {self.parity}" if self.parity is not None else ""
        return f"{self.what}{' ' if self.where else ''}{self.where}{guard}{parity}"


def perform(saga: Any, program: Sequence[Do], cause: Any) -> None:
    """Do what *program* says, because of the message *cause*; None in `decide`."""
    for do in program:
        size = _size(saga.state)
        if size >= do.least and do.parity in (None, size % 2):
            _perform_one(saga, do, getattr(cause, "name", "none"), getattr(cause, "amount", 1), cause)


def _perform_one(saga: Any, do: Do, name: str, amount: int, cause: Any) -> None:
    match do.what:
        case "change":
            _change(saga.state, do.where, name, amount)
        case "overwrite":
            _overwrite(saga.state, do.where, name, amount)
        case "tell":
            saga.send(Told(name), to="outside")
        case "publish":
            saga.publish(Told(_digest(saga.state)))
        case "again":
            hops = cause.hops if isinstance(cause, Again) else 1
            if hops:
                saga.send(Again(saga.id, name, amount, hops - 1), to=type(saga).__name__)
        case "defer":
            saga.defer(Ring(name, amount), after=amount, name=_NAME)
        case "defer nameless":
            saga.defer(Ring("ring", 1), after=1)
        case "cancel":
            saga.cancel(_NAME)
        case "complete":
            saga.complete()
        case "raise":
            raise ValueError("as drawn")
        case "ask":
            saga.send(Ask(saga.id, name, amount), to=do.where)
        case "news":
            saga.publish(News(saga.id, name, amount))
        case "reply":
            saga.reply(Answer(name, amount))
        case "answer":
            saga.reply_to_starter(Answer(name, amount))
        case other:
            raise AssertionError(other)


def _change(state: Any, where: str, name: str, amount: int) -> None:
    match where:
        case "scores":
            state.scores[name] = amount
        case "names":
            state.names.add(name)
        case "total":
            state.total += amount
        case "log":
            state.log.append(name)
        case "flag":
            state.flag = True


def _overwrite(state: Any, where: str, name: str, amount: int) -> None:
    fresh = {"scores": {name: amount}, "names": {name}, "total": amount, "log": [name], "flag": amount > 1}
    setattr(state, where, fresh[where])


# -- mergers ---------------------------------------------------------------------------------------------------------


def _union(siblings: Sequence[Any]) -> Any:
    merged = type(siblings[0])()
    for name in _names_of(merged):
        values = [getattr(sibling, name) for sibling in siblings]
        if name == "scores":
            keys = {key for value in values for key in value}
            setattr(merged, name, {key: max(value.get(key, 0) for value in values) for key in keys})
        elif name == "names":
            setattr(merged, name, set().union(*values))
        elif name == "log":
            setattr(merged, name, sorted({entry for value in values for entry in value}))
        else:
            setattr(merged, name, max(values))
    return merged


def _keep_first(siblings: Sequence[Any]) -> Any:
    return siblings[0]


def _keep_last(siblings: Sequence[Any]) -> Any:
    return siblings[-1]


def _add_up(siblings: Sequence[Any]) -> Any:
    merged = _union(siblings)
    if hasattr(merged, "total"):
        merged.total = sum(sibling.total for sibling in siblings)
    if hasattr(merged, "log"):
        merged.log = [entry for sibling in siblings for entry in sibling.log]
    return merged


def _raise(siblings: Sequence[Any]) -> Any:
    raise ValueError("as drawn")


def _raise_sometimes(siblings: Sequence[Any]) -> Any:
    if sum(map(_size, siblings)) % 3 == 0:
        raise ValueError("as drawn")
    return _union(siblings)


def _both_changes(a: Any, b: Any, ancestor: Any) -> Any:
    merged = _union([a, b])
    if hasattr(merged, "total"):
        merged.total = a.total + b.total - ancestor.total
    if hasattr(merged, "log"):
        merged.log = a.log + b.log[len(ancestor.log) :]
    return merged


def _against_ancestor(a: Any, b: Any, ancestor: Any) -> Any:
    return a if _size(b) == _size(ancestor) else b


MERGERS: Mapping[str, tuple[Callable[..., Any] | None, int]] = {
    "union": (_union, 6),
    "keep first": (_keep_first, 2),
    "keep last": (_keep_last, 2),
    "add up": (_add_up, 3),
    "raise": (_raise, 1),
    "raise sometimes": (_raise_sometimes, 2),
    "both changes": (_both_changes, 3),
    "against ancestor": (_against_ancestor, 2),
    "serial": (None, 3),
}
