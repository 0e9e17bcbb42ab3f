"""What the part of every store that keeps documents must do; `StoreContract` inherits it.

Values are opaque to a store, so these laws need no classes.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from sagabus.documents.key import DocumentKey, etag_of
from sagabus.documents.write import SIBLING_LIMIT, Change, DocumentStore, StoredDocument, Write, Written
from sagabus.leases.grant import Fence
from sagabus.store.protocol import Store

DOCUMENT: Final = DocumentKey("account/42")
LEFT, RIGHT = DocumentKey("left", "pair"), DocumentKey("right", "pair")
AWKWARD: Final = (
    "a/b",
    "{a}",
    "a}:b",
    "%7B",
    "%",
    "=",
    "=first",
    "a\nb",
    "*?[x]\\",
    " ",
    "\x00",
    "é\u2028🂡",
    ":",
    "x" * 500,
    "é" * 500,
)
FOR_EVER_MS: Final = 2**52
LONG_MS: Final = 60_000
SOON_S: Final = 5.0
"""How long a time limit of a few milliseconds may take to pass on a busy machine."""


def look(documents: DocumentStore, key: DocumentKey = DOCUMENT) -> StoredDocument:
    """Return one document."""
    (found,) = documents.read([key])
    return found


def values(document: StoredDocument) -> list[bytes]:
    """Return the values of the live versions, in dot order."""
    return list(document.values.values())


def change(value: bytes | None, *, key: DocumentKey = DOCUMENT, ttl_ms: int | None = None) -> Change:
    """Return the change of somebody who has seen nothing."""
    return Change(key, value, {}, ttl_ms=ttl_ms)


def exactly(found: StoredDocument, value: bytes | None, *, ttl_ms: int | None = None) -> Change:
    """Return the change of somebody who wants to find the document as *found*."""
    return Change(found.key, value, found.clock, exact=True, ttl_ms=ttl_ms)


def make(documents: DocumentStore, *changes: Change, fence: Fence | None = None, id_: str | None = None) -> Written:
    """Make changes together."""
    return documents.write(Write(id_ or uuid.uuid4().hex, changes, fence))


def made(documents: DocumentStore, *changes: Change, fence: Fence | None = None) -> StoredDocument:
    """Make changes that nothing stands against, and return the first document."""
    written = make(documents, *changes, fence=fence)
    assert (written.conflicts, written.full, written.fenced) == ({}, (), "")
    return written.documents[0]


def poll(condition: Callable[[], bool]) -> None:
    """Return as soon as *condition* holds: for times of a few milliseconds that the store's own clock must pass."""
    give_up_at = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < give_up_at, f"did not happen within {SOON_S:g} s"
        time.sleep(0.001)


class DocumentStoreContract:
    """The laws of `sagabus.documents.write.DocumentStore`. Inherit it and give it `store`, or `documents`."""

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        """Yield an open store in which nothing is stored yet."""
        raise NotImplementedError("override the store fixture")

    @pytest.fixture
    def documents(self, store: Store) -> DocumentStore:
        """Return the part of the store that is looked at."""
        return store.documents

    # -- reading -------------------------------------------------------------------------------------------------

    def test_documents_that_were_never_written_are_not_there(self, documents: DocumentStore) -> None:
        """No clock, no value, no end; and reading nothing answers nothing."""
        assert look(documents) == StoredDocument(DOCUMENT)
        assert documents.read([]) == []

    def test_documents_are_read_in_the_order_asked_for(self, documents: DocumentStore) -> None:
        """Of groups and of none, there or not, also one asked for twice."""
        alone = made(documents, change(b"alone"))
        left = made(documents, change(b"left", key=LEFT), change(b"right", key=RIGHT))
        found = documents.read([RIGHT, DOCUMENT, DocumentKey("none"), LEFT, DOCUMENT])
        assert [values(one) for one in found] == [[b"right"], [b"alone"], [], [b"left"], [b"alone"]]
        assert (found[1], found[3]) == (alone, left)

    def test_documents_of_any_bytes_come_back_exactly(self, documents: DocumentStore) -> None:
        """A store does not look inside a value."""
        for value in (b"", b"\x00\xff", b"\x93\x00[]", b"x" * 100_000):
            made(documents, Change(DOCUMENT, value, None))
            assert values(look(documents)) == [value]

    @pytest.mark.parametrize("name", AWKWARD, ids=range(len(AWKWARD)))
    def test_documents_of_any_name_are_kept_apart_and_listed(self, documents: DocumentStore, name: str) -> None:
        """Whatever a document or its group is called, it is that one and no other, in every listing too."""
        keys = [DocumentKey(name), DocumentKey("x", name), DocumentKey(name, "x"), DocumentKey(name, name)]
        for n, key in enumerate(keys):
            assert made(documents, change(b"%d" % n, key=key)).key == key
        assert [values(found) for found in documents.read(keys)] == [[b"0"], [b"1"], [b"2"], [b"3"]]
        assert sorted(documents.keys()) == sorted(keys)
        assert list(documents.keys("")) == keys[:1]
        assert set(documents.keys(name)) == {keys[1], keys[3]}
        assert list(documents.keys("x")) == keys[2:3]

    def test_documents_are_listed_past_one_page(self, documents: DocumentStore) -> None:
        """Every document of a group is listed, however many there are; those that are gone are not."""
        keys = [DocumentKey(str(n), "many") for n in range(1500)]
        made(documents, *(change(b"v", key=key) for key in keys))
        made(documents, *(Change(key, None, None) for key in keys[1200:]))
        assert set(documents.keys("many")) == set(documents.keys()) == set(keys[:1200])

    # -- writing: forks ------------------------------------------------------------------------------------------

    def test_put_of_who_has_seen_nothing_forks(self, documents: DocumentStore) -> None:
        """A value is never overwritten by somebody who does not know of it: both are kept, in dot order."""
        first = made(documents, change(b"first"))
        assert values(first) == [b"first"]
        second = made(documents, change(b"second"))
        assert values(second) == [b"first", b"second"]
        assert look(documents) == second

    def test_put_supersedes_only_what_was_seen(self, documents: DocumentStore) -> None:
        """Of three siblings, the one that the writer knows goes, and the others stay."""
        seen = made(documents, change(b"seen"))
        for value in (b"unseen 1", b"unseen 2"):
            made(documents, change(value))
        written = made(documents, Change(DOCUMENT, b"new", seen.clock))
        assert values(written) == [b"unseen 1", b"unseen 2", b"new"]
        assert look(documents) == written

    def test_put_of_who_has_seen_everything_settles(self, documents: DocumentStore) -> None:
        """Siblings that a writer has seen are all replaced."""
        for value in (b"a", b"b", b"c"):
            made(documents, change(value))
        written = made(documents, Change(DOCUMENT, b"merged", look(documents).clock))
        assert values(written) == [b"merged"]

    def test_overwrite_replaces_whatever_there_is(self, documents: DocumentStore) -> None:
        """The last writer wins, over siblings and over nothing."""
        assert values(made(documents, Change(DOCUMENT, b"over nothing", None))) == [b"over nothing"]
        made(documents, change(b"sibling"))
        assert values(made(documents, Change(DOCUMENT, b"over all", None))) == [b"over all"]
        assert values(look(documents)) == [b"over all"]

    def test_siblings_past_the_limit_are_refused(self, documents: DocumentStore) -> None:
        """Where nobody folds them, siblings do not grow for ever; who has seen one of them may still write."""
        written = [made(documents, change(b"%d" % n)) for n in range(SIBLING_LIMIT)]
        refused = make(documents, change(b"one too many"))
        assert (refused.full, refused.conflicts, refused.documents) == ((0,), {}, ())
        assert look(documents) == written[-1]
        assert len(made(documents, Change(DOCUMENT, b"instead", written[0].clock)).values) == SIBLING_LIMIT
        assert values(made(documents, exactly(look(documents), b"folded"))) == [b"folded"]

    # -- writing: optimistic -------------------------------------------------------------------------------------

    def test_create_by_many_at_once_succeeds_once(self, documents: DocumentStore) -> None:
        """Of any number of writers who want to be first, one is; the others hear what is there."""
        start = threading.Barrier(8)

        def create(n: int) -> Written:
            start.wait()
            return make(documents, exactly(StoredDocument(DOCUMENT), b"%d" % n))

        with ThreadPoolExecutor(8) as pool:
            written = list(pool.map(create, range(8)))
        (winner,) = (n for n, one in enumerate(written) if not one.conflicts)
        assert values(look(documents)) == [b"%d" % winner]
        assert all(one.conflicts == {0: look(documents).clock} for n, one in enumerate(written) if n != winner)

    def test_exact_put_replaces_that_state_and_no_other(self, documents: DocumentStore) -> None:
        """Who knows the present state writes; who knows an older one changes nothing and hears the present one."""
        old = made(documents, change(b"old"))
        new = made(documents, exactly(old, b"new"))
        refused = make(documents, exactly(old, b"lost update"))
        assert (refused.conflicts, refused.documents) == ({0: new.clock}, ())
        assert look(documents) == new

    def test_exact_put_of_merged_siblings_settles(self, documents: DocumentStore) -> None:
        """The state that an etag names has all siblings in it; one more is another state."""
        made(documents, change(b"a"))
        both = made(documents, change(b"b"))
        third = made(documents, change(b"c"))
        assert make(documents, exactly(both, b"ab")).conflicts == {0: third.clock}
        assert values(made(documents, exactly(third, b"abc"))) == [b"abc"]

    def test_delete_takes_that_state_and_no_other(self, documents: DocumentStore) -> None:
        """A document that changed meanwhile is not deleted; one that is gone cannot be deleted again."""
        old = made(documents, change(b"old"))
        new = made(documents, exactly(old, b"new"))
        assert make(documents, exactly(old, None)).conflicts == {0: new.clock}
        assert made(documents, exactly(new, None)) == StoredDocument(DOCUMENT)
        assert look(documents) == StoredDocument(DOCUMENT)
        assert make(documents, exactly(new, None)).conflicts == {0: {}}
        assert list(documents.keys()) == []

    def test_etag_of_a_deleted_document_never_comes_again(self, documents: DocumentStore) -> None:
        """A writer who has slept through a deletion and a creation is refused: the new document is another one."""
        etags = []
        for life in range(30):
            found = made(documents, exactly(StoredDocument(DOCUMENT), b"created"))
            etags.append(etag_of(found.clock))
            for _ in range(life % 3):
                found = made(documents, exactly(found, b"changed"))
                etags.append(etag_of(found.clock))
            made(documents, exactly(found, None))
        assert len(set(etags)) == len(etags)

    # -- several together ----------------------------------------------------------------------------------------

    def test_changes_of_a_group_are_made_together(self, documents: DocumentStore) -> None:
        """One is created, one changed and one deleted, in one write."""
        right = made(documents, change(b"r", key=RIGHT))
        gone = made(documents, change(b"g", key=DocumentKey("gone", "pair")))
        written = make(documents, exactly(StoredDocument(LEFT), b"l"), exactly(right, b"r2"), exactly(gone, None))
        assert list(written.documents) == documents.read([LEFT, RIGHT, gone.key])
        assert [values(one) for one in written.documents] == [[b"l"], [b"r2"], []]

    @pytest.mark.parametrize("stale", ["create", "change", "delete"])
    def test_changes_of_a_group_are_refused_together(self, documents: DocumentStore, stale: str) -> None:
        """Where one is not as it was expected to be, none is made, and every one that is not is named."""
        keys = {name: DocumentKey(name, "pair") for name in ("create", "change", "delete")}
        found = {name: made(documents, change(b"v", key=key)) for name, key in keys.items()}
        made(documents, exactly(found["create"], None))
        expected: Mapping[str, StoredDocument] = {**found, "create": StoredDocument(keys["create"])}
        made(documents, Change(keys[stale], b"meanwhile", None))
        before = documents.read(list(keys.values()))
        asked = [exactly(one, None if name == "delete" else b"new") for name, one in expected.items()]
        refused = make(documents, *asked)
        assert refused.conflicts == {list(keys).index(stale): look(documents, keys[stale]).clock}
        assert documents.read(list(keys.values())) == before

    # -- sent again ----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", ["put", "create", "overwrite", "delete", "exchange"])
    def test_write_that_comes_again_is_made_once_and_answered_alike(self, documents: DocumentStore, kind: str) -> None:
        """A reply got lost and the write is sent again: nothing happens twice, whatever others did meanwhile."""
        there = made(documents, change(b"sibling", key=RIGHT), change(b"v", key=LEFT))
        asked: dict[str, tuple[Change, ...]] = {
            "put": (change(b"new", key=RIGHT, ttl_ms=LONG_MS),),
            "create": (exactly(StoredDocument(DOCUMENT), b"new"),),
            "overwrite": (Change(RIGHT, b"new", None),),
            "delete": (exactly(look(documents, LEFT), None),),
            "exchange": (exactly(there, b"new"), exactly(look(documents, LEFT), None)),
        }
        write = Write("w" + uuid.uuid4().hex, asked[kind])
        first = documents.write(write)
        assert first.documents
        keys = [one.key for one in asked[kind]]
        assert documents.write(write) == first
        assert documents.read(keys) == list(first.documents)
        meanwhile = made(documents, *(Change(key, b"meanwhile", None) for key in keys))
        assert documents.write(write) == first
        assert look(documents, keys[0]) == meanwhile

    def test_write_that_was_refused_may_come_again(self, documents: DocumentStore) -> None:
        """A refusal changed nothing and is not remembered: what stood in the way may be gone."""
        there = made(documents, change(b"there"))
        create = exactly(StoredDocument(DOCUMENT), b"new")
        assert make(documents, create, id_="again").conflicts
        made(documents, exactly(there, None))
        assert values(make(documents, create, id_="again").documents[0]) == [b"new"]

    # -- the end of a document -----------------------------------------------------------------------------------

    def test_document_is_gone_when_its_time_is_over(self, documents: DocumentStore) -> None:
        """It ends by the store's clock, alone and within a group, and then can be created anew with another etag."""
        for key in (DOCUMENT, LEFT):
            ended = made(documents, change(b"short", key=key, ttl_ms=20))
            assert ended.expires_ms is not None
            poll(lambda key=key: look(documents, key) == StoredDocument(key))  # type: ignore[misc]
            assert key not in set(documents.keys())
            again = made(documents, exactly(StoredDocument(key), b"new"))
            assert again.expires_ms is None
            assert etag_of(again.clock) != etag_of(ended.clock)

    def test_replaced_document_ends_as_its_last_write_says(self, documents: DocumentStore) -> None:
        """Sooner, later or never."""
        long = made(documents, change(b"v", ttl_ms=LONG_MS))
        longer = made(documents, exactly(long, b"v", ttl_ms=10 * LONG_MS))
        never = made(documents, exactly(longer, b"v"))
        sooner = made(documents, Change(DOCUMENT, b"v", None, ttl_ms=LONG_MS))
        assert long.expires_ms is not None
        assert longer.expires_ms is not None
        assert sooner.expires_ms is not None
        assert longer.expires_ms >= long.expires_ms + 9 * LONG_MS
        assert never.expires_ms is None
        assert sooner.expires_ms < longer.expires_ms

    def test_document_told_to_stay_outlives_its_first_end(self, documents: DocumentStore) -> None:
        """Whether its end was put off for a while or for ever; the one that was brought forward is gone."""
        keys = [DocumentKey(name, "pair") for name in ("never", "later", "sooner")]
        for key, first_ms, then_ms in zip(keys, (500, 500, LONG_MS), (None, LONG_MS, 501), strict=True):
            found = made(documents, exactly(StoredDocument(key), b"v", ttl_ms=first_ms))
            made(documents, exactly(found, b"w", ttl_ms=then_ms))
        poll(lambda: not look(documents, keys[2]).values)
        assert [values(found) for found in documents.read(keys)] == [[b"w"], [b"w"], []]

    @pytest.mark.parametrize(("first_ms", "second_ms"), [(LONG_MS, 10), (10, LONG_MS), (None, 10), (10, None)])
    def test_fork_never_shortens_a_document(
        self, documents: DocumentStore, first_ms: int | None, second_ms: int | None
    ) -> None:
        """What the writer of a sibling was promised still holds; a later end, or none, holds for all."""
        margin_ms = 10_000  # so that the first does not end before the second comes
        first = made(documents, change(b"first", ttl_ms=first_ms and first_ms + margin_ms))
        fork = made(documents, change(b"second", ttl_ms=second_ms and second_ms + margin_ms))
        assert len(fork.values) == 2
        if first.expires_ms is None or second_ms is None:
            assert fork.expires_ms is None
        else:
            assert fork.expires_ms is not None
            assert fork.expires_ms - first.expires_ms >= max(0, second_ms - (first_ms or 0))
        assert look(documents) == fork

    # -- fences --------------------------------------------------------------------------------------------------

    def test_fence_of_a_running_lease_lets_writes_through(self, documents: DocumentStore) -> None:
        """Puts, changes together and deletions, again and again by the same token and by higher ones."""
        found = made(documents, change(b"v"), fence=Fence("lock", 7, FOR_EVER_MS))
        found = made(documents, exactly(found, b"w"), fence=Fence("lock", 7, FOR_EVER_MS))
        found = made(documents, exactly(found, b"x"), fence=Fence("lock", 9, FOR_EVER_MS))
        made(documents, exactly(found, None), fence=Fence("lock", 9, FOR_EVER_MS))

    def test_fence_of_a_lease_that_is_over_is_refused(self, documents: DocumentStore) -> None:
        """The store's clock decides, whatever the writer believes; nothing is written."""
        refused = make(documents, change(b"v"), fence=Fence("lock", 7, 1000))
        assert (refused.fenced, refused.documents) == ("expired", ())
        assert look(documents) == StoredDocument(DOCUMENT)

    def test_fence_below_a_token_seen_before_is_refused(self, documents: DocumentStore) -> None:
        """A document never takes a lower token of a lease after a higher one, in whichever of a group it was seen."""
        made(documents, change(b"l", key=LEFT), fence=Fence("lock", 8, FOR_EVER_MS))
        right = made(documents, change(b"r", key=RIGHT), fence=Fence("lock", 7, FOR_EVER_MS))
        both = (Change(RIGHT, b"r2", None), Change(LEFT, b"l2", None))
        refused = make(documents, *both, fence=Fence("lock", 7, FOR_EVER_MS))
        assert (refused.fenced, refused.documents) == ("superseded", ())
        assert look(documents, RIGHT) == right
        made(documents, both[0], fence=Fence("lock", 7, FOR_EVER_MS))

    def test_fences_of_several_leases_do_not_concern_each_other(self, documents: DocumentStore) -> None:
        """Each lease has its own highest token; a write without a fence asks for none, and forgets none."""
        now_us = time.time_ns() // 1000
        made(documents, change(b"v"), fence=Fence("one", now_us + 8, FOR_EVER_MS))
        made(documents, Change(DOCUMENT, b"w", None), fence=Fence("other", now_us + 3, FOR_EVER_MS))
        made(documents, Change(DOCUMENT, b"x", None))
        for lease, token in (("one", now_us + 7), ("other", now_us + 2)):
            refused = make(documents, Change(DOCUMENT, b"y", None), fence=Fence(lease, token, FOR_EVER_MS))
            assert refused.fenced == "superseded"
        assert values(look(documents)) == [b"x"]

    def test_fence_is_judged_before_anything_else(self, documents: DocumentStore) -> None:
        """A writer whose lease is over hears that, not that others were faster."""
        made(documents, change(b"v"), fence=Fence("lock", 8, FOR_EVER_MS))
        create = exactly(StoredDocument(DOCUMENT), b"new")
        assert make(documents, create, fence=Fence("lock", 7, FOR_EVER_MS)).fenced == "superseded"
        assert make(documents, create, fence=Fence("lock", 9, 1000)).fenced == "expired"
        assert make(documents, create, fence=Fence("lock", 9, FOR_EVER_MS)).conflicts

    # -- many at once --------------------------------------------------------------------------------------------

    def test_many_who_put_with_what_they_saw_lose_nothing(self, documents: DocumentStore) -> None:
        """Threads that add to a set, folding what siblings they find: every addition is there in the end."""
        start = threading.Barrier(4)

        def add(writer: int) -> None:
            start.wait()
            for n in range(10):
                found: Any = look(documents)
                known = {item for value in values(found) for item in value.split(b",") if item}
                made(documents, Change(DOCUMENT, b",".join(sorted(known | {b"%d-%d" % (writer, n)})), found.clock))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(add, range(4)))
        items = {item for value in values(look(documents)) for item in value.split(b",")}
        assert items == {b"%d-%d" % (writer, n) for writer in range(4) for n in range(10)}
