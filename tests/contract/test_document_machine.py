"""Random writes, on the rules in Python and on a server: whatever is done, both say the same.

Counters come from each store's own time, so the dots and etags differ; what they name must not.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from typing import Any

import pytest
from attrs import frozen
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sagabus.documents import write as rules
from sagabus.documents.key import DocumentKey
from sagabus.documents.write import Change, StoredDocument, Write
from sagabus.leases.grant import Fence
from sagabus.link import Command
from sagabus.store import redis_documents
from sagabus.store.memory import MemoryStore
from sagabus.store.redis import RedisStore
from sagabus.testing.document_contract import FOR_EVER_MS, LONG_MS
from tests.contract.acted_link import ActedLink

KEYS = (DocumentKey("a", "g{1}"), DocumentKey("b", "g{1}"))
LIMIT = 3
namespaces = itertools.count()
met: Counter[str] = Counter()


@frozen
class Seen:
    """One document as it once was: in memory, and on the server."""

    mine: StoredDocument
    theirs: StoredDocument


def told(document: StoredDocument) -> Any:
    """Return what two stores must agree on."""
    return document.key, sorted(document.values.values()), document.expires_ms is not None


changes = st.fixed_dictionaries(
    {
        "value": st.sampled_from([b"1", b"2", b"3", None]),
        "kind": st.sampled_from(["exact", "exact", "fork", "fork", "blind", "all", "none"]),
        "ttl_ms": st.sampled_from([None, None, LONG_MS]),
    }
)
fences = st.none() | st.builds(
    Fence, st.just("lock"), st.integers(1, 3), st.sampled_from([FOR_EVER_MS, FOR_EVER_MS, 1])
)


class TwoStores(RuleBasedStateMachine):
    """Makes every write on both stores and compares what they say."""

    seen = Bundle("seen")

    def __init__(self, url: str) -> None:
        super().__init__()
        self.link = ActedLink(url)
        self.redis = RedisStore(url, namespace=f"machine{next(namespaces)}", link=self.link)
        self.memory = MemoryStore(actor="e1")
        self.saved: tuple[Any, Any] | None = None
        self.last: tuple[Write, Write, Any] | None = None
        self.ids, self.epochs = itertools.count(), 1

    def look(self, key: DocumentKey) -> Seen:
        (mine,), (theirs,) = self.memory.documents.read([key]), self.redis.documents.read([key])
        assert told(mine) == told(theirs)
        assert list(theirs.values) == sorted(theirs.values, key=lambda dot: (dot.counter, dot.actor))
        return Seen(mine, theirs)

    @initialize(target=seen)
    def begin(self) -> Any:
        return multiple(*(self.look(key) for key in KEYS))

    @rule(target=seen, key=st.sampled_from(KEYS))
    def read(self, key: DocumentKey) -> Seen:
        return self.look(key)

    @rule(target=seen, one=seen, asked=changes, fence=fences)
    def write(self, one: Seen, asked: dict[str, Any], fence: Fence | None) -> Seen:
        self.make([(one, asked)], fence)
        return self.look(one.mine.key)

    @rule(one=seen, other=seen, asked=changes, also=changes, fence=fences)
    def exchange(
        self, one: Seen, other: Seen, asked: dict[str, Any], also: dict[str, Any], fence: Fence | None
    ) -> None:
        if one.mine.key != other.mine.key:
            self.make([(one, asked), (other, also)], fence)

    @rule(one=seen, writers=st.sampled_from([2, LIMIT + 2]))
    def race(self, one: Seen, writers: int) -> None:
        """Let several write from one read: a sibling each."""
        for n in range(writers):
            self.make([(one, {"kind": "fork", "value": b"r%d" % n, "ttl_ms": None})], None)

    @rule(one=seen, asked=changes, token=st.integers(2, 4))
    def write_after_others(self, one: Seen, asked: dict[str, Any], token: int) -> None:
        """Let a holder of the lease write, and then one who came to it before, or after."""
        self.make([(one, {"kind": "all", "value": b"held", "ttl_ms": None})], Fence("lock", 3, FOR_EVER_MS))
        self.make([(one, asked)], Fence("lock", token, FOR_EVER_MS))

    def make(self, asked: list[tuple[Seen, dict[str, Any]]], fence: Fence | None) -> None:
        id_ = f"w{next(self.ids)}"
        ours = Write(id_, tuple(_change(one.mine, **how) for one, how in asked), fence)
        others = Write(id_, tuple(_change(one.theirs, **how) for one, how in asked), fence)
        self.last = (ours, others, self.both(ours, others))

    def both(self, ours: Write, others: Write) -> Any:
        """Make one write on both stores; return what they agree on."""
        keys = [change.key for change in ours.changes]
        before = [told(document) for document in self.redis.documents.read(keys)]
        mine, theirs = self.memory.documents.write(ours), self.redis.documents.write(others)
        assert [told(document) for document in mine.documents] == [told(document) for document in theirs.documents]
        assert (set(mine.conflicts), mine.full, mine.fenced) == (set(theirs.conflicts), theirs.full, theirs.fenced)
        for store, written in ((self.memory, mine), (self.redis, theirs)):
            for index, clock in written.conflicts.items():
                assert clock == store.documents.read([keys[index]])[0].clock
        met[mine.fenced or ("conflict" if mine.conflicts else "full" if mine.full else "written")] += 1
        if not mine.documents:
            assert [told(document) for document in self.redis.documents.read(keys)] == before
        return [told(document) for document in mine.documents], sorted(mine.conflicts), mine.full, mine.fenced

    @precondition(lambda self: self.last is not None)
    @rule()
    def send_again(self) -> None:
        assert self.last is not None
        ours, others, answer = self.last
        assert self.both(ours, others) == answer

    @precondition(lambda self: self.saved is None)
    @rule()
    def copy_to_a_replica(self) -> None:
        self.saved = copy.deepcopy(self.memory.documents._records), {name: self.dump(name) for name in self.names()}

    @precondition(lambda self: self.saved is not None)
    @rule()
    def fail_over(self) -> None:
        """Go on with an older copy and a new actor: what was written since is lost, and so is what became of writes."""
        assert self.saved is not None
        self.memory.documents._records, copies = self.saved
        for name, (data, left_ms) in copies.items():
            self.raw(name, "DEL")
            if data is not None:
                self.raw(name, "RESTORE", max(left_ms, 0), data)
        self.saved = self.last = None
        self.epochs += 1
        self.link.actor = self.memory.actor = f"e{self.epochs}"

    @invariant()
    def stores_agree(self) -> None:
        there = [key for key in KEYS if self.look(key).mine.values]
        for store in (self.memory, self.redis):
            assert sorted(store.documents.keys(KEYS[0].group)) == there

    def names(self) -> list[str]:
        return [self.redis._keys.document(key) for key in KEYS]

    def dump(self, name: str) -> tuple[bytes | None, int]:
        return self.raw(name, "DUMP"), self.raw(name, "PTTL")

    def raw(self, name: str, command: str, *args: Any) -> Any:
        return self.link.round([Command((command, name, *args), name)])[0]

    def teardown(self) -> None:
        for name in self.names():
            self.raw(name, "UNLINK")
        self.link.close()


def _change(seen: StoredDocument, kind: str, value: bytes | None, ttl_ms: int | None) -> Change:
    match kind:
        case "exact":
            return Change(seen.key, value, seen.clock, exact=True, ttl_ms=ttl_ms)
        case "none":
            return Change(seen.key, value, {}, exact=True, ttl_ms=ttl_ms)
        case "fork":
            return Change(seen.key, value, seen.clock, ttl_ms=ttl_ms)
        case "blind":
            return Change(seen.key, value, {}, ttl_ms=ttl_ms)
        case _:
            return Change(seen.key, value, None, ttl_ms=ttl_ms)


@pytest.mark.parametrize("server", ["valkey_url", "redis7_url"])
def test_documents_in_memory_and_on_a_server_never_differ(
    server: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is written, in whatever order, sent twice or lost: both give the same answers and documents."""
    for module in (rules, redis_documents):
        monkeypatch.setattr(module, "SIBLING_LIMIT", LIMIT)
    url = request.getfixturevalue(server)
    met.clear()
    chosen = settings(settings.default, max_examples=settings.default.max_examples // 3, stateful_step_count=20)
    run_state_machine_as_test(lambda: TwoStores(url), settings=chosen)
    assert set(met) == {"written", "conflict", "full", "expired", "superseded"}, "some answer was never compared"
