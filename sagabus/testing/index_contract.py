"""What the part of every store that indexes sagas must do; `StoreContract` inherits it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from attrs import evolve
from msgspec.structs import replace

from sagabus.commit import Commit, Half, Lifecycle, Outcome, Result, Snapshot, Want
from sagabus.definition import Limits
from sagabus.envelope import SagaKey
from sagabus.errors import ConfigurationError
from sagabus.index.query import SagaCount, SagaPage, SagaQuery, SagaSummary
from sagabus.store.protocol import Bookkeeping, Store

ANY = SagaQuery()
LIVE = SagaQuery(lifecycle=Lifecycle.LIVE)
COMPLETED = SagaQuery(lifecycle=Lifecycle.COMPLETED)
FORKED = SagaQuery(forked=True)


def committed(store: Store, *commits: Commit) -> list[Result]:
    """Commit, and have the store note what its index lacks, as a worker does before it acks."""
    results = store.commit(commits, by="worker-1")
    notes = {c.key: r.index_note for c, r in zip(commits, results, strict=True) if r.index_note is not None}
    store.note(Bookkeeping(indexed=notes))
    return results


def wrote(store: Store, snapshot: Snapshot, state: bytes, id_: str, *, ends: bool = False, **limits: Any) -> Outcome:
    """Write one version from *snapshot*."""
    begins = snapshot.lifecycle is not Lifecycle.LIVE
    commit = Commit(
        key=snapshot.key,
        ids=(id_,),
        life=snapshot.life + begins,
        begins_life=begins,
        context=dict(snapshot.clock),
        parents=() if begins else tuple(version.dot for version in snapshot.versions),
        facts=Half(state),
        starter=b"s" if begins else b"",
        completes=ends,
        limits=evolve(Limits(), **limits),
    )
    return committed(store, commit)[0].outcome


def look(store: Store, key: SagaKey) -> Snapshot:
    """Return one saga as it is."""
    return store.load([Want(key)])[0]


def begun(store: Store, *ids: str, name: str = "Order") -> list[SagaKey]:
    """Begin sagas, one after the other."""
    keys = [SagaKey(name, id_) for id_ in ids]
    for key in keys:
        assert wrote(store, look(store, key), b"s", "start") is Outcome.STORED
    return keys


def ended(store: Store, *keys: SagaKey, **limits: Any) -> None:
    """Complete sagas, one after the other."""
    for key in keys:
        assert wrote(store, look(store, key), b"end", "end", ends=True, **limits) is Outcome.STORED


def split(store: Store, key: SagaKey, id_: str = "fork") -> None:
    """Give a saga siblings."""
    base = look(store, key)
    assert wrote(store, base, b"left", f"{id_}-l") is Outcome.STORED
    assert wrote(store, base, b"right", f"{id_}-r") is Outcome.FORKED


def every(store: Store, query: SagaQuery = ANY, limit: int = 2) -> list[SagaSummary]:
    """Return the rows of all pages."""
    rows: list[SagaSummary] = []
    cursor = ""
    while True:
        page = store.index.find(query, limit, cursor)
        assert len(page.rows) <= limit
        rows += page.rows
        cursor = page.cursor
        if not cursor:
            return rows


def found(store: Store, query: SagaQuery = ANY, limit: int = 2) -> list[str]:
    """Return the ids of all pages."""
    return [row.key.id for row in every(store, query, limit)]


class IndexContract:
    """The laws of `sagabus.index.part.SagaIndex`. Inherit it and give it `store`."""

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        """Yield an open store in which nothing is stored yet."""
        raise NotImplementedError("override the store fixture")

    def test_index_of_nothing_is_empty(self, store: Store) -> None:
        """No classes, no rows, no cursor."""
        for query in (ANY, LIVE, COMPLETED, FORKED, SagaQuery(id_prefix="a"), SagaQuery(id="a"), SagaQuery("Order")):
            assert store.index.find(query) == SagaPage()
        assert store.index.counts() == []
        assert (store.index.forked().count, store.index.forked().oldest_ms) == (0, None)
        assert store.index.trim() == 0

    def test_live_sagas_come_oldest_first_and_completed_ones_behind_them_newest_first(self, store: Store) -> None:
        """However small the pages; one lifecycle alone where it is asked for."""
        keys = begun(store, "a", "b", "c", "d", "e")
        ended(store, keys[0], retention_s=1000.0)
        ended(store, keys[3], retention_s=2000.0)
        for limit in (1, 2, 3, 50):
            assert found(store, ANY, limit) == ["b", "c", "e", "d", "a"]
            assert found(store, LIVE, limit) == ["b", "c", "e"]
            assert found(store, COMPLETED, limit) == ["d", "a"]
        assert store.index.counts() == [SagaCount("Order", 3, 2)]

    def test_row_says_what_the_record_says(self, store: Store) -> None:
        """Lifecycle, siblings, life, versions, and since when."""
        before = look(store, SagaKey("Order", "a")).now_ms
        (key,) = begun(store, "a")
        split(store, key)
        (row,) = every(store)
        after = look(store, key).now_ms
        assert (row.key, row.lifecycle, row.siblings, row.life, row.versions) == (key, Lifecycle.LIVE, 2, 1, 3)
        assert before <= row.started_ms <= (row.forked_since_ms or 0) <= after
        assert row.completed_ms is None
        wrote(store, look(store, key), b"both", "merge")
        ended(store, key)
        (row,) = every(store)
        assert (row.lifecycle, row.siblings, row.forked_since_ms) == (Lifecycle.COMPLETED, 1, None)
        assert before <= row.started_ms <= after <= (row.completed_ms or 0) <= look(store, key).now_ms

    def test_sagas_with_siblings_are_found_while_they_have_them(self, store: Store) -> None:
        """Who has had them for longest first; a third sibling changes nothing, a merge ends it."""
        keys = begun(store, "a", "b", "c", "d")
        for key in (keys[2], keys[0], keys[3]):
            split(store, key)
        rows = every(store, FORKED)
        assert {row.key.id for row in rows} == set("acd")
        assert rows == sorted(rows, key=lambda row: (row.forked_since_ms or 0, row.key))
        first = store.index.forked()
        assert (first.count, first.oldest_ms) == (3, rows[0].forked_since_ms)
        third = look(store, keys[3])
        assert wrote(store, replace(third, versions=(), clock={}), b"third", "third") is Outcome.FORKED
        assert every(store, FORKED) == [evolve(r, siblings=3, versions=4) if r.key == keys[3] else r for r in rows]
        for key in (keys[0], keys[2]):
            assert wrote(store, look(store, key), b"both", "merge") is Outcome.STORED
        assert (store.index.forked().count, found(store, FORKED)) == (1, ["d"])

    def test_classes_are_merged_by_age(self, store: Store) -> None:
        """All of them, some of them, or one."""
        for nth, name in enumerate(("Order", "Parcel", "Order", "Bill", "Parcel")):
            begun(store, str(nth), name=name)
        rows = every(store)
        assert sorted(row.key.id for row in rows) == ["0", "1", "2", "3", "4"]
        assert rows == sorted(rows, key=lambda row: (row.started_ms, row.key))
        assert found(store, SagaQuery("Order")) == ["0", "2"]
        some = [row.key.id for row in rows if row.key.name != "Order"]
        assert found(store, SagaQuery(("Parcel", "Bill"))) == some
        assert found(store, SagaQuery("Nothing")) == []
        assert store.index.counts() == [SagaCount("Bill", 1, 0), SagaCount("Order", 2, 0), SagaCount("Parcel", 2, 0)]

    def test_sagas_begun_before_a_moment_are_found(self, store: Store) -> None:
        """The moment itself does not count; completed ones are told by when they began, too."""
        keys = begun(store, "a", "b", "c")
        rows = {row.key.id: row for row in every(store)}
        ended(store, keys[0])
        moment = rows["b"].started_ms
        older = [id_ for id_ in "abc" if rows[id_].started_ms < moment]
        assert sorted(found(store, SagaQuery(started_before_ms=moment))) == older
        assert sorted(found(store, SagaQuery(started_before_ms=moment + 1))) == sorted(
            id_ for id_ in "abc" if rows[id_].started_ms <= moment
        )
        assert found(store, SagaQuery(started_before_ms=1)) == []
        assert len(found(store, SagaQuery(started_before_ms=2**52))) == 3

    @pytest.mark.parametrize("special", ["*", "?", "[a", "\\", "é", "a/", "{", "^"])
    def test_sagas_are_found_by_their_id_or_what_it_begins_with(self, store: Store, special: str) -> None:
        """Any text is text, and no pattern."""
        ids = [f"{special}1", f"{special}2", "other", f"x{special}1"]
        keys = begun(store, *ids)
        begun(store, f"{special}3", name="Parcel")
        ended(store, keys[1])
        assert sorted(found(store, SagaQuery(id_prefix=special))) == [f"{special}{n}" for n in (1, 2, 3)]
        assert sorted(found(store, SagaQuery("Order", id_prefix=special), 1)) == [f"{special}{n}" for n in (1, 2)]
        assert found(store, SagaQuery(id_prefix=special, lifecycle=Lifecycle.COMPLETED)) == [f"{special}2"]
        assert found(store, SagaQuery(id=f"{special}1")) == [f"{special}1"]
        assert found(store, SagaQuery(id=special)) == []
        split(store, keys[0])
        assert found(store, SagaQuery(id_prefix=special, forked=True)) == [f"{special}1"]

    def test_many_of_one_prefix_are_found_page_by_page(self, store: Store) -> None:
        """Each once, as long as nobody writes."""
        keys = [SagaKey("Order", f"{kind}{n:03}") for kind in "ab" for n in range(150)]
        snapshots = store.load([Want(key) for key in keys])
        committed(store, *(Commit(s.key, ("m",), begins_life=True, facts=Half(b"s"), starter=b"s") for s in snapshots))
        assert sorted(found(store, SagaQuery(id_prefix="b"), 7)) == [f"b{n:03}" for n in range(150)]
        assert sorted(found(store, ANY, 40)) == sorted(key.id for key in keys)

    def test_saga_that_goes_between_two_pages_hides_no_other(self, store: Store) -> None:
        """A cursor is a place in the order, not a number of rows; and not the saga that it came from."""
        keys = begun(store, *"abcdef")
        page = store.index.find(LIVE, 3)
        assert [row.key.id for row in page.rows] == ["a", "b", "c"]
        ended(store, keys[0], keys[2])
        begun(store, "g")
        rest = store.index.find(LIVE, 50, page.cursor)
        assert [row.key.id for row in rest.rows] == ["d", "e", "f", "g"]
        assert rest.cursor == ""

    def test_saga_that_is_begun_anew_is_live_again(self, store: Store) -> None:
        """As old as its new life."""
        first, _ = begun(store, "a", "b")
        ended(store, first)
        began_ms = every(store, LIVE)[0].started_ms
        assert wrote(store, look(store, first), b"anew", "again") is Outcome.STORED
        assert sorted(found(store, LIVE)) == ["a", "b"]
        row = next(row for row in every(store, LIVE) if row.key == first)
        assert (row.life, row.completed_ms) == (2, None)
        assert row.started_ms >= began_ms
        assert found(store, COMPLETED) == []

    def test_refused_commits_leave_the_index_alone(self, store: Store) -> None:
        """Duplicates, late messages, and runs that must be made again."""
        (key,) = begun(store, "a")
        base = look(store, key)
        ended(store, key)
        before = every(store), store.index.counts()
        assert wrote(store, base, b"x", "start") is Outcome.DUPLICATE
        assert wrote(store, base, b"x", "more") is Outcome.AGAIN
        tomb = look(store, key)
        late = Commit(key, ("late",), tomb.life, context=dict(tomb.clock), late=True)
        assert committed(store, late)[0].outcome is Outcome.LATE
        assert (every(store), store.index.counts()) == before

    def test_tombstone_that_has_expired_is_neither_found_nor_counted_and_trimmed(self, store: Store) -> None:
        """The index keeps nothing for longer than the record is kept."""
        kept, gone = begun(store, "kept", "gone")
        ended(store, kept)
        ended(store, gone, retention_s=0.0, dedupe_window_s=0.0)
        assert found(store) == ["kept"]
        assert store.index.counts() == [SagaCount("Order", 0, 1)]
        assert store.index.trim() == 1
        assert store.index.trim() == 0
        assert store.index.missing([kept, gone]) == [gone]

    def test_trim_is_bounded(self, store: Store) -> None:
        """What has expired together goes in parts, so that nobody is held up."""
        begun(store, "live")
        for n in range(6):
            ended(store, *begun(store, str(n)), retention_s=0.0, dedupe_window_s=0.0)
        gone = [store.index.trim(2)]
        while gone[-1]:
            gone.append(store.index.trim(2))
        assert sum(gone) == 6
        assert store.index.missing([SagaKey("Order", str(n)) for n in range(6)]) != []

    def test_rebuild_of_what_is_true_changes_nothing(self, store: Store) -> None:
        """And tells how far it is."""
        keys = begun(store, "a", "b", "c")
        split(store, keys[1])
        ended(store, keys[2])
        before = every(store), store.index.counts(), store.index.forked()
        told: list[tuple[int, int]] = []
        rebuilt = store.index.rebuild(lambda done, total: told.append((done, total)))
        assert (rebuilt.sagas, rebuilt.added, rebuilt.removed, rebuilt.unreadable) == (3, 0, 0, ())
        assert told[-1][0] == told[-1][1] > 0
        assert (every(store), store.index.counts(), store.index.forked()) == before

    @pytest.mark.parametrize("cursor", ["x", "====", "gaR4", "é"])
    def test_cursor_of_somebody_else_is_refused(self, store: Store, cursor: str) -> None:
        """With what to do instead."""
        begun(store, "a", "b")
        with pytest.raises(ConfigurationError, match="page before"):
            store.index.find(ANY, 1, cursor)
        ours = store.index.find(LIVE, 1).cursor
        assert ours
        with pytest.raises(ConfigurationError, match="same filters"):
            store.index.find(FORKED, 1, ours)
