"""Dotted version vector sets: which stored state has seen which. Pure.

After Almeida, Baquero, Gonçalves, Preguiça, Fonte: "Scalable and Accurate Causality Tracking for Eventually Consistent
Stores" and "Dotted Version Vectors", arXiv:1011.5808.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, NamedTuple, TypeVar

from attrs import field, frozen

V = TypeVar("V")

VersionVector = Mapping[str, int]
"""A context: actor -> the highest counter seen of it. An actor that is missing has counter 0."""


class Dot(NamedTuple):
    """The name of one version: the actor that stored it, and its how-manieth that was (from 1)."""

    actor: str
    counter: int

    def __str__(self) -> str:
        return f"{self.actor}:{self.counter}"


def covers(context: VersionVector, dot: Dot) -> bool:
    """Return whether a reader with *context* has seen *dot*."""
    return context.get(dot.actor, 0) >= dot.counter


def includes(context: VersionVector, other: VersionVector) -> bool:
    """Return whether *context* has seen everything that *other* has."""
    return all(context.get(actor, 0) >= counter for actor, counter in other.items())


def join(a: VersionVector, b: VersionVector) -> dict[str, int]:
    """Return the context that has seen what either has, and no more."""
    joined = dict(a)
    for actor, counter in b.items():
        if joined.get(actor, 0) < counter:
            joined[actor] = counter
    return joined


@frozen
class VersionSet(Generic[V]):
    """The live versions of one key and the clock that covers all that ever were.

    Attributes:
        clock: every dot ever stored here is covered by it.
        live: dot -> value, for the versions that none other has superseded: the siblings.
    """

    clock: VersionVector = field(factory=dict)
    live: Mapping[Dot, V] = field(factory=dict)

    def put(self, context: VersionVector, actor: str, value: V, least_counter: int = 1) -> tuple[VersionSet[V], Dot]:
        """Return the set after a write by *actor* who had seen *context*, and the dot that *value* got.

        Drops the versions that *context* covers and keeps the others as siblings. The counter is the next of that
        actor, and at least *least_counter*.
        """
        dot = Dot(actor, max(self.clock.get(actor, 0) + 1, least_counter))
        live = {d: v for d, v in self.live.items() if not covers(context, d)}
        live[dot] = value
        return VersionSet(join(join(self.clock, context), {actor: dot.counter}), live), dot

    def sync(self, other: VersionSet[V]) -> VersionSet[V]:
        """Return the set that both replicas agree on: what both hold, and what neither has superseded.

        Commutative, associative and idempotent.
        """
        live = {d: v for d, v in self.live.items() if d in other.live or not covers(other.clock, d)}
        live |= {d: v for d, v in other.live.items() if d in self.live or not covers(self.clock, d)}
        return VersionSet(join(self.clock, other.clock), live)
