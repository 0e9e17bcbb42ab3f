"""What only a server can do wrong with documents and leases, and what a failover does to them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pytest
from redis.crc import key_slot

from sagabus.documents.key import DocumentKey, etag_of
from sagabus.documents.write import Change, StoredDocument, Write
from sagabus.errors import CorruptDocumentError, StoreFullError
from sagabus.leases.grant import KEPT_MS, Fence
from sagabus.link import Command
from sagabus.store.memory import MemoryStore
from sagabus.store.redis import RedisStore
from sagabus.testing.document_contract import (
    DOCUMENT,
    FOR_EVER_MS,
    LEFT,
    RIGHT,
    change,
    exactly,
    look,
    made,
    make,
    values,
)
from sagabus.testing.lease_contract import LEASE
from sagabus.versions import Dot
from tests import servers
from tests.contract.acted_link import ActedLink

BROKEN: Final[Mapping[str, Sequence[tuple[str, ...] | tuple[str, str, bytes]]]] = {
    "no MessagePack": [("HSET", "m", b"\xc1")],
    "another value": [("HSET", "m", b"\x01")],
    "no meta": [("HDEL", "m")],
    "no version": [("HSET", "m", b"\x95\x01\x92\xa1a\x01\x90\x00\x90")],
    "a clock of odd length": [("HSET", "m", b"\x95\x01\x91\xa1a\x92\xa1a\x01\x00\x90")],
    "a foreign value": [("DEL",), ("SET", "foreign")],
}
NEWER: Final = b"\x95\x02\x92\xa1a\x01\x92\xa1a\x01\x00\x90"


@pytest.fixture(params=["valkey_url", "redis7_url", "cluster_url"])
def store(request: pytest.FixtureRequest, namespace: str) -> Iterator[RedisStore]:
    """Yield an empty store on each kind of server; the test says its epoch."""
    url = request.getfixturevalue(request.param)
    store = RedisStore(url, namespace=namespace, link=ActedLink(url))
    store.open()
    yield store
    store.close()


def raw(store: RedisStore, key: str, name: str, *args: Any) -> Any:
    """Run one command on one key."""
    return store.link.round([Command((name, key, *args), key)])[0]


def dump(store: RedisStore, key: DocumentKey = DOCUMENT) -> Any:
    """Return all that is stored of a document."""
    return raw(store, store._keys.document(key), "DUMP")


def broken(store: RedisStore, how: str) -> None:
    """Store a document and damage it."""
    made(store.documents, change(b"v"))
    for name, *args in BROKEN[how]:
        raw(store, store._keys.document(DOCUMENT), name, *args)


# -- records that cannot be read -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", BROKEN)
def test_corrupt_document_is_named_and_left_as_it_is(store: RedisStore, how: str) -> None:
    """Whoever reads or writes it hears which it is; nothing is lost by that, and others are none the worse."""
    other = made(store.documents, change(b"other", key=DocumentKey("other")))
    broken(store, how)
    before = dump(store)
    with pytest.raises(CorruptDocumentError, match=r"account/42.*replace it with overwrite\(\)") as caught:
        store.documents.read([other.key, DOCUMENT])
    assert caught.value.key == str(DOCUMENT)
    for refused in (change(b"x"), exactly(StoredDocument(DOCUMENT), b"x"), exactly(StoredDocument(DOCUMENT), None)):
        with pytest.raises(CorruptDocumentError, match="account/42"):
            make(store.documents, refused)
    assert dump(store) == before
    assert look(store.documents, other.key) == other


@pytest.mark.parametrize("how", BROKEN)
def test_corrupt_document_is_replaced_by_overwriting(store: RedisStore, how: str) -> None:
    """As its error says; the new document has nothing of the old one."""
    broken(store, how)
    written = made(store.documents, Change(DOCUMENT, b"mended", None))
    assert look(store.documents) == written
    assert values(written) == [b"mended"]
    assert made(store.documents, exactly(written, None)) == StoredDocument(DOCUMENT)


def test_document_that_lost_the_value_of_a_sibling_is_not_written_to(store: RedisStore) -> None:
    """A fork would have to show that sibling, so it is refused before anything is written."""
    found = made(store.documents, change(b"v"))
    (dot,) = found.values
    raw(store, store._keys.document(DOCUMENT), "HDEL", f"v{dot}")
    before = dump(store)
    with pytest.raises(CorruptDocumentError, match=f"the value of v{dot} is missing"):
        make(store.documents, change(b"fork"))
    with pytest.raises(CorruptDocumentError):
        look(store.documents)
    assert dump(store) == before
    assert values(made(store.documents, exactly(found, b"mended"))) == [b"mended"]


def test_one_corrupt_document_refuses_the_changes_of_its_group_together(store: RedisStore) -> None:
    """All or nothing also where one of them cannot be read; it is the one that is named."""
    left = made(store.documents, change(b"l", key=LEFT), change(b"r", key=RIGHT))
    raw(store, store._keys.document(RIGHT), "HSET", "m", b"\xc1")
    with pytest.raises(CorruptDocumentError) as caught:
        make(store.documents, exactly(left, b"l2"), change(b"r2", key=RIGHT))
    assert caught.value.key == "pair/right"
    assert look(store.documents, LEFT) == left


def test_document_of_a_newer_format_is_left_to_newer_code(store: RedisStore) -> None:
    """While a newer version is being rolled out, old code writes over nothing that it cannot read, in no way."""
    made(store.documents, change(b"v"))
    raw(store, store._keys.document(DOCUMENT), "HSET", "m", NEWER)
    before = dump(store)
    for refused in (change(b"x"), Change(DOCUMENT, b"x", None), Change(DOCUMENT, None, None)):
        with pytest.raises(CorruptDocumentError, match=r"format 2 is newer .* deploy the newer code"):
            make(store.documents, refused)
    with pytest.raises(CorruptDocumentError, match=r"format 2 is newer .* deploy the newer code"):
        look(store.documents)
    assert dump(store) == before


def test_documents_and_leases_of_format_1_stay_readable(store: RedisStore, namespace: str) -> None:
    """What this version has written, key by key and byte by byte, every later one reads."""
    left, alone = DocumentKey("le/ft", "pa{ir}"), DocumentKey("x}:y")
    names = {left: f"{namespace}:documents:{{{namespace}:pa%7Bir%7D}}:le/ft"}
    names[alone] = f"{namespace}:documents:{{{namespace}:=x%7D%3Ay}}:x}}:y"
    meta = b"\x95\x01\x92\xa2e1\x03\x94\xa2e1\x02\xa2e1\x03\xcf\x00\x00\x03\xbb\x2c\xc3\xd8\x00\x92\xa4lock\x07"
    for name in names.values():
        raw(store, name, "HSET", "m", meta, "ve1:2", "two", "ve1:3", "three")
    for key, found in zip(names, store.documents.read(list(names)), strict=True):
        assert found == StoredDocument(key, {"e1": 3}, {Dot("e1", 2): b"two", Dot("e1", 3): b"three"}, 4102444800000)
        assert make(store.documents, Change(key, b"x", None), fence=Fence("lock", 6, FOR_EVER_MS)).fenced
        assert values(made(store.documents, exactly(found, b"four"))) == [b"four"]
    assert set(store.documents.keys()) == set(names)
    lease = f"{namespace}:leases:{{{namespace}:a%2Fb}}"
    raw(store, lease, "HSET", "holder", "me", "token", "1795368010780965", "ends", "4102444800000")
    (last,) = store.leases.read(["a/b"])
    assert last is not None
    assert (last.holder, last.token, last.until_ms, last.running) == ("me", 1795368010780965, 4102444800000, True)
    assert store.leases.renew({"a/b": last}, 1000)["a/b"] is not None


# -- servers -------------------------------------------------------------------------------------------------------


def test_documents_of_a_group_share_a_slot_and_groups_are_spread(store: RedisStore) -> None:
    """So one write changes a whole group on a cluster, and a cluster serves many groups at once."""
    keys = store._keys
    for group in ("pair", "{x}", "a}b", "="):
        names = [keys.document(DocumentKey(name, group)) for name in ("a", "{b}", "c}d")]
        names.append(keys.document_write(DocumentKey("a", group), "id"))
        assert len({key_slot(name.encode()) for name in names}) == 1
    assert len({key_slot(keys.document(DocumentKey("a", str(n))).encode()) for n in range(64)}) > 40
    assert len({key_slot(keys.document(DocumentKey(str(n))).encode()) for n in range(64)}) > 40


def test_documents_and_leases_take_one_round_trip_a_call(store: RedisStore) -> None:
    """However many keys; reading a group, writing it, and each word to a lease."""
    documents, leases = store.documents, store.leases
    pairs = [DocumentKey(side, f"pair {n}") for n in range(8) for side in ("left", "right")]
    for trips in (None, 6):  # the first time each node is told the scripts
        before = store.link.round_trips
        documents.read(pairs)
        make(documents, Change(pairs[0], b"l", None), Change(pairs[1], b"r", None))
        grant = leases.grant(LEASE, "holder", 60_000)
        leases.renew({LEASE: grant, "other": grant}, 60_000)
        leases.release({LEASE: grant})
        leases.read([LEASE, "other"])
        assert trips in (None, store.link.round_trips - before)


def test_namespaces_do_not_see_each_others_documents_and_leases(store: RedisStore, namespace: str) -> None:
    """Buses with different namespaces on one server share nothing, not even by names that look like keys."""
    made(store.documents, change(b"v"), fence=Fence(LEASE, 1, FOR_EVER_MS))
    store.leases.grant(LEASE, "holder", 60_000)
    for name in (f"{namespace}2", namespace[:-1], f"{namespace}:documents"):
        other = RedisStore("", namespace=name, link=store.link)
        assert look(other.documents) == StoredDocument(DOCUMENT)
        assert list(other.documents.keys()) == []
        assert other.leases.read([LEASE]) == [None]
        assert other.leases.grant(LEASE, "me", 60_000).holder == "me"
        made(other.documents, exactly(StoredDocument(DOCUMENT), b"theirs"))
    assert values(look(store.documents)) == [b"v"]
    assert list(store.documents.keys()) == [DOCUMENT]


def test_flushed_scripts_are_not_noticed_by_documents_and_leases(store: RedisStore) -> None:
    """Scripts are not kept by servers; what has forgotten them is told them again."""
    found = made(store.documents, change(b"v"))
    grant = store.leases.grant(LEASE, "holder", 60_000)
    for node in store.link.node_keys():
        store.link.on_node(node, "SCRIPT", "FLUSH")
    assert store.leases.renew({LEASE: grant}, 60_000)[LEASE] is not None
    assert look(store.documents) == found
    assert values(made(store.documents, exactly(found, b"w"))) == [b"w"]


def test_full_server_refuses_a_write_whole(namespace: str) -> None:
    """Out of memory nothing changes, and what was stored can still be read."""
    with servers.valkey() as url:
        store = RedisStore(url, namespace=namespace)
        found = made(store.documents, change(b"l", key=LEFT), change(b"r", key=RIGHT))
        store.link.on_node("", "CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreFullError, match="out of memory"):
            make(store.documents, exactly(found, b"l2"), Change(RIGHT, None, None))
        assert [values(one) for one in store.documents.read([LEFT, RIGHT])] == [[b"l"], [b"r"]]
        store.close()


# -- memory of tokens, and what is lost ------------------------------------------------------------------------------


def test_tokens_of_leases_that_are_long_over_are_forgotten(store: RedisStore) -> None:
    """A document written under ever new leases does not grow for ever; tokens that could still matter are kept."""
    now_us = time.time_ns() // 1000
    old, recent = now_us - (KEPT_MS + 60_000) * 1000, now_us - (KEPT_MS - 60_000) * 1000
    for store_or_memory in (store, MemoryStore()):
        documents = store_or_memory.documents
        for lease, token in (("old", old), ("recent", recent), ("new", now_us)):
            made(documents, Change(DOCUMENT, b"v", None), fence=Fence(lease, token, FOR_EVER_MS))
        asked = [("old", old - 1, ""), ("recent", recent - 1, "superseded"), ("new", now_us - 1, "superseded")]
        for lease, token, refused in asked:
            write = make(documents, Change(DOCUMENT, b"w", None), fence=Fence(lease, token, FOR_EVER_MS))
            assert write.fenced == refused


def test_lease_whose_record_was_lost_gives_a_higher_token(store: RedisStore) -> None:
    """A failover lost the last grant, or nobody remembers it: time keeps tokens growing, however many there were."""
    grant = store.leases.grant(LEASE, "holder 0", 60_000)
    for n in range(1, 200):
        store.leases.release({LEASE: grant})
        grant = store.leases.grant(LEASE, f"holder {n}", 60_000)
    raw(store, store._keys.lease(LEASE), "DEL")
    again = store.leases.grant(LEASE, "after", 60_000)
    assert again.holder == "after"
    assert again.token > grant.token
    assert store.leases.renew({LEASE: grant}, 60_000) == {LEASE: None}
    assert store.leases.release({LEASE: grant}) == {LEASE}


def test_token_grows_on_a_server_whose_clock_was_set_back(store: RedisStore) -> None:
    """The last token counts as well as the time."""
    grant = store.leases.grant(LEASE, "holder", 60_000)
    store.leases.release({LEASE: grant})
    ahead = grant.token + 3_600_000_000
    raw(store, store._keys.lease(LEASE), "HSET", "token", ahead)
    assert store.leases.grant(LEASE, "next", 60_000).token == ahead + 1


def test_lease_is_forgotten_long_after_its_end(store: RedisStore) -> None:
    """Leases that nobody asks for any more take no room for ever."""
    grant = store.leases.grant(LEASE, "holder", 60_000)
    for end_ms in (KEPT_MS + 60_000, KEPT_MS):
        left_ms = raw(store, store._keys.lease(LEASE), "PTTL")
        assert end_ms - 10_000 < left_ms <= end_ms
        store.leases.release({LEASE: grant})


def test_remembered_writes_are_forgotten(store: RedisStore) -> None:
    """What became of a write is kept for as long as it could be sent again, and no longer."""
    make(store.documents, change(b"v"), id_="w")
    left_ms = raw(store, store._keys.document_write(DOCUMENT, "w"), "PTTL")
    assert 60_000 < left_ms <= 120_000


def test_new_actor_never_reuses_the_name_of_a_version(store: RedisStore) -> None:
    """After a failover that lost writes no etag that anybody holds is that of another state, and no sibling is lost."""
    documents, name = store.documents, store._keys.document(DOCUMENT)
    first = made(documents, change(b"first"))
    copy = raw(store, name, "DUMP")
    lost = made(documents, exactly(first, b"lost"))
    raw(store, name, "RESTORE", 0, copy, "REPLACE")
    store.link.actor = "e2"  # type: ignore[attr-defined]
    assert look(documents) == first
    after = made(documents, exactly(first, b"after"))
    assert etag_of(after.clock) not in (etag_of(first.clock), etag_of(lost.clock))
    assert make(documents, exactly(lost, b"x")).conflicts == {0: after.clock}
    both = made(documents, Change(DOCUMENT, b"of who saw what was lost", lost.clock))
    assert set(values(both)) == {b"after", b"of who saw what was lost"}
    assert values(made(documents, exactly(both, b"merged"))) == [b"merged"]


# -- the memory store's own clock ------------------------------------------------------------------------------------


def test_memory_store_whose_clock_stands_still_repeats_no_etag() -> None:
    """A test's clock does not go on; a document created anew is another one all the same."""
    documents = MemoryStore(now_ms=lambda: 1).documents
    etags = []
    for _ in range(10):
        created = made(documents, exactly(StoredDocument(DOCUMENT), b"v"))
        etags += [etag_of(created.clock), etag_of(made(documents, exactly(created, b"w")).clock)]
        made(documents, Change(DOCUMENT, None, None))
    assert len(set(etags)) == 20


def test_memory_store_grants_to_the_moment() -> None:
    """On a clock that the test moves: held until the very end, and renewed from then on."""
    now = [1000]
    leases = MemoryStore(now_ms=lambda: now[0]).leases
    first = leases.grant(LEASE, "first", 100)
    now[0] = first.until_ms - 1
    assert leases.grant(LEASE, "second", 100).holder == "first"
    renewed = leases.renew({LEASE: first}, 100)[LEASE]
    assert renewed is not None
    assert renewed.until_ms == first.until_ms + 99
    now[0] = renewed.until_ms
    assert leases.renew({LEASE: renewed}, 100) == {LEASE: None}
    assert leases.grant(LEASE, "second", 100).token > first.token


def test_memory_store_lets_documents_end_to_the_moment() -> None:
    """There until then, gone from then on; and a fence is good until then, and not then."""
    now = [1000]
    documents = MemoryStore(now_ms=lambda: now[0]).documents
    written = made(documents, change(b"v", ttl_ms=50))
    assert written.expires_ms == 1050
    now[0] = 1049
    assert look(documents) == written
    assert documents.write(Write("w", (change(b"x", key=LEFT),), Fence("lock", 1, 1050))).fenced == ""
    now[0] = 1050
    assert look(documents) == StoredDocument(DOCUMENT)
    assert documents.write(Write("x", (change(b"x", key=LEFT),), Fence("lock", 1, 1050))).fenced == "expired"
