"""Dotted version vector sets against a naive model: sets of all the writes that a writer had seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import define, field, frozen
from hypothesis import given
from hypothesis import strategies as st

from sagabus.versions import Dot, VersionSet, covers, includes, join

ACTORS = ("a", "b", "c")


@frozen
class Model:
    """A replica as a set of writes; each write is known with all that its writer had seen."""

    known: frozenset[int] = frozenset()


@define
class World:
    """Some replicas, each as a version set and as a model, and the reads that clients made of them."""

    sets: list[VersionSet[int]] = field(factory=lambda: [VersionSet() for _ in ACTORS])
    models: list[Model] = field(factory=lambda: [Model() for _ in ACTORS])
    seen_by: dict[int, frozenset[int]] = field(factory=dict)
    reads: list[tuple[Any, frozenset[int]]] = field(factory=lambda: [({}, frozenset())])

    def write(self, replica: int, read: int) -> None:
        """Write what was computed from an earlier read, of this replica or of another."""
        context, seen = self.reads[read % len(self.reads)]
        value = len(self.seen_by)
        self.sets[replica], dot = self.sets[replica].put(context, ACTORS[replica], value)
        assert dot.actor == ACTORS[replica]
        assert self.sets[replica].live[dot] == value
        self.seen_by[value] = seen
        self.models[replica] = Model(self.models[replica].known | seen | {value})

    def read(self, replica: int) -> None:
        """Read a replica, for a later write."""
        self.reads.append((self.sets[replica].clock, self.models[replica].known))

    def sync(self, into: int, other: int) -> None:
        """Bring one replica up to date with another."""
        self.sets[into] = self.sets[into].sync(self.sets[other])
        self.models[into] = Model(self.models[into].known | self.models[other].known)

    def siblings(self, replica: int) -> set[int]:
        """Return the writes that none other known to the replica had seen."""
        known = self.models[replica].known
        return {value for value in known if not any(value in self.seen_by[other] for other in known)}


replicas = st.integers(0, len(ACTORS) - 1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), replicas, st.integers(0, 1000)),
        st.tuples(st.just("read"), replicas, st.just(0)),
        st.tuples(st.just("sync"), replicas, replicas),
    ),
    max_size=40,
)


def play(history: Sequence[tuple[str, int, int]]) -> World:
    """Return the world after *history*."""
    world = World()
    for step, a, b in history:
        if step == "write":
            world.write(a, b)
        elif step == "read":
            world.read(a)
        else:
            world.sync(a, b)
    return world


@given(steps)
def test_siblings_are_exactly_the_causally_maximal_writes(history: list[tuple[str, int, int]]) -> None:
    """Whatever was written, read and synchronised: what is live is what no other known write had seen."""
    world = play(history)
    for replica in range(len(ACTORS)):
        assert set(world.sets[replica].live.values()) == world.siblings(replica)
        assert all(covers(world.sets[replica].clock, dot) for dot in world.sets[replica].live)


@given(steps)
def test_sync_is_commutative_associative_and_idempotent(history: list[tuple[str, int, int]]) -> None:
    """Order, grouping and repetition of synchronisation never matter."""
    a, b, c = play(history).sets
    assert a.sync(b) == b.sync(a)
    assert a.sync(b).sync(c) == a.sync(b.sync(c))
    assert a.sync(a) == a
    assert a.sync(b).sync(b) == a.sync(b)


@given(steps)
def test_replicas_that_have_all_synced_are_equal(history: list[tuple[str, int, int]]) -> None:
    """Synchronised all ways, replicas agree."""
    world = play(history)
    for into in range(len(ACTORS)):
        for other in range(len(ACTORS)):
            world.sync(into, other)
    for into in reversed(range(len(ACTORS))):
        world.sync(into, len(ACTORS) - 1)
    assert all(versions == world.sets[-1] for versions in world.sets)


@given(steps, replicas)
def test_put_from_the_present_read_leaves_one_version(history: list[tuple[str, int, int]], replica: int) -> None:
    """Who has seen everything supersedes everything."""
    versions = play(history).sets[replica]
    after, dot = versions.put(versions.clock, ACTORS[replica], -1)
    assert dict(after.live) == {dot: -1}
    assert after.clock == join(versions.clock, {dot.actor: dot.counter})


def test_two_parentless_first_writes_are_siblings() -> None:
    """Neither had seen the other, so both stay."""
    first, one = VersionSet[str]().put({}, "a", "x")
    both, two = first.put({}, "a", "y")
    assert dict(both.live) == {one: "x", two: "y"}


def test_put_with_some_parents_leaves_the_other() -> None:
    """A write that had seen one of two siblings supersedes that one only."""
    first, one = VersionSet[str]().put({}, "a", "x")
    both, two = first.put({}, "a", "y")
    after, three = both.put({"a": one.counter}, "a", "x2")
    assert dict(after.live) == {two: "y", three: "x2"}


def test_put_after_a_lost_write_does_not_swallow_it() -> None:
    """A new actor after a failover cannot reuse a dot: a counter that was counted before names another write."""
    lost, _ = VersionSet[str]().put({}, "epoch-1", "lost")
    regained, dot = VersionSet[str]().put({}, "epoch-2", "new")
    assert set(regained.sync(lost).live.values()) == {"lost", "new"}
    assert dot == Dot("epoch-2", 1)
    reused, _ = VersionSet[str]().put({}, "epoch-1", "swallowed")
    assert set(reused.sync(lost).live.values()) != {"lost", "swallowed"}


def test_sync_drops_what_the_other_has_superseded() -> None:
    """A replica that still holds the parent takes the child alone."""
    old, _ = VersionSet[str]().put({}, "a", "x")
    new, dot = old.put(old.clock, "a", "y")
    assert dict(old.sync(new).live) == {dot: "y"}


vectors = st.dictionaries(st.sampled_from(ACTORS), st.integers(0, 5))


@given(vectors, vectors)
def test_join_is_the_least_context_that_includes_both(a: dict[str, int], b: dict[str, int]) -> None:
    """It has seen what either has, and no more; a counter of zero is the same as none."""
    joined = join(a, b)
    assert includes(joined, a)
    assert includes(joined, b)
    for actor in ACTORS:
        assert joined.get(actor, 0) == max(a.get(actor, 0), b.get(actor, 0))
        for counter in range(1, 7):
            dot = Dot(actor, counter)
            assert covers(joined, dot) == (covers(a, dot) or covers(b, dot))


def test_dot_reads_as_actor_and_counter() -> None:
    """People see dots in graphs and logs."""
    assert str(Dot("a1b2", 3)) == "a1b2:3"
