"""The store contract, on every store that sagabus ships, and what only a server can do wrong."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
import redis

from sagabus.commit import Half, Lifecycle, Outcome, Want
from sagabus.dead_letters.audit import AuditLine
from sagabus.dead_letters.part import Removal
from sagabus.dead_letters.sought import Sought
from sagabus.envelope import SagaKey
from sagabus.errors import CorruptRecordError, StoreFullError, StoreRefusedError
from sagabus.index.query import SagaCount, SagaQuery
from sagabus.leases.grant import LeaseRequest
from sagabus.link import Command, Link
from sagabus.link.node import read as read_reply
from sagabus.store.memory import MemoryStore
from sagabus.store.protocol import Bookkeeping, DeadLetter, Scheduled
from sagabus.store.redis import RedisStore
from sagabus.telemetry.card import KEPT_MS
from sagabus.testing.index_contract import ANY, FORKED, begun, ended, every, found, look, split, wrote
from sagabus.testing.presence_contract import worker_card
from sagabus.testing.store_contract import (
    KEY,
    StoreContract,
    completed,
    late,
    left,
    letter,
    put,
    read,
    sent,
    started,
    states,
    writing,
)
from sagabus.testing.waiting_contract import FAR_MS, scheduled
from sagabus.waiting.message import Waiting
from tests import servers
from tests.changes import evolve
from tests.servers import until

FULL = Bookkeeping(
    scheduled=(Scheduled("i", "credit", b"{}", 1),),
    unscheduled=("j",),
    buried=(letter("x", 1),),
    dispatched={KEY: ("start",)},
)


class TestMemory(StoreContract):
    """The rules in Python."""

    @pytest.fixture
    def store(self) -> MemoryStore:
        store = MemoryStore()
        store.open()
        return store

    def test_memory_store_is_nobody_elses_server(self, store: MemoryStore) -> None:
        """No transport can share an atomic write with it, so it says no and has no commands."""
        assert (store.url, store.server) == ("memory:", None)
        with pytest.raises(NotImplementedError, match=r"call note\(\)"):
            store.note_commands(FULL)
        store.close()

    def test_card_that_is_not_renewed_goes(self) -> None:
        """After a minute, by the store's clock; a worker that renews its own stays."""
        clock = [1000]
        presence = MemoryStore(now_ms=lambda: clock[0]).presence
        for worker in ("gone", "there"):
            presence.show(worker_card(worker))
        clock[0] += KEPT_MS - 1
        presence.show(worker_card("there"))
        assert len(presence.cards().cards) == 2
        clock[0] += 1
        assert [(card.worker, card.seen_ms) for card in presence.cards().cards] == [("there", 1000 + KEPT_MS - 1)]
        presence.show(worker_card("there"))
        assert [card.worker for card in presence.cards().cards] == ["there"]


class RedisContract(StoreContract):
    """The rules in Lua, and a server's own ways to fail; whatever the server."""

    @pytest.fixture
    def url(self) -> str:
        raise NotImplementedError("override the url fixture")

    @pytest.fixture
    def store(self, url: str, namespace: str) -> Iterator[RedisStore]:
        store = RedisStore(url, namespace=namespace)
        store.open()
        yield store
        store.close()

    def raw(self, store: RedisStore, suffix: str, name: str, *args: Any) -> Any:
        """Run one command on the key of the test's saga that ends with *suffix*."""
        key = f"{store._keys.saga(KEY)}{suffix}"
        return store.link.round([Command((name, key, *args), key)])[0]

    def test_card_that_is_not_renewed_goes(self, store: RedisStore) -> None:
        """After a minute it is not shown, and whoever shows next removes it; on the server's clock."""
        keys = store._keys
        for worker in ("gone", "there"):
            store.presence.show(worker_card(worker))
        (seen_ms,) = store.link.round([Command(("ZSCORE", keys.workers_seen, "gone"), keys.workers_seen)])
        old = ("ZADD", keys.workers_seen, int(float(seen_ms)) - KEPT_MS, "gone")
        store.link.round([Command(old, keys.workers_seen)])
        assert [card.worker for card in store.presence.cards().cards] == ["there"]
        store.presence.show(worker_card("there"))
        fields = store.link.round([Command(("HKEYS", keys.worker_cards), keys.worker_cards)])
        assert fields == [[b"there"]]
        (left_ms,) = store.link.round([Command(("PTTL", keys.worker_cards), keys.worker_cards)])
        assert 0 < left_ms <= KEPT_MS

    def test_card_and_pause_that_cannot_be_read_still_count(self, store: RedisStore) -> None:
        """A worker of another version is there, and an endpoint is paused whatever is said about it."""
        keys = store._keys
        store.presence.show(worker_card())
        store.link.round(
            [
                Command(("HSET", keys.worker_cards, "host-1", b"\xc1"), keys.worker_cards),
                Command(("HSET", keys.paused, "credit", b"\xc1"), keys.paused),
            ]
        )
        assert [card.state for card in store.presence.cards().cards] == ["unreadable"]
        assert store.presence.show(worker_card("other")).paused == {"credit"}
        assert "cannot be read" in store.presence.paused()["credit"].why
        assert store.presence.resume("credit") is not None
        assert store.presence.paused() == {}

    def dump(self, store: RedisStore) -> list[Any]:
        """Return all that is stored of the test's saga."""
        return [
            sorted(zip(*[iter(self.raw(store, "r", "HGETALL"))] * 2, strict=True)),
            self.raw(store, "i", "ZRANGE", 0, -1, "WITHSCORES"),
            self.raw(store, "o", "HGETALL"),
            self.raw(store, "h", "LRANGE", 0, -1),
        ]

    def test_store_opened_twice_checks_once(self, store: RedisStore) -> None:
        """Opening again costs nothing."""
        before = store.link.round_trips
        store.open()
        assert store.link.round_trips == before

    def test_many_sagas_load_and_commit_in_one_round_trip_each(self, store: RedisStore) -> None:
        """A batch costs one trip for all loads, with whatever is noted, and one for all commits."""
        keys = [SagaKey("CreditCheck", str(i)) for i in range(64)]
        loaded = store.load([Want(key, ("m",)) for key in keys])
        store.commit([writing(s, b"s", "m", facts=Half(b"s", {"m": sent("x")})) for s in loaded], by="w")
        before = store.link.round_trips
        loaded = store.load([Want(key, ("m",)) for key in keys], Bookkeeping(dispatched={KEY: ("m",)}))
        assert store.link.round_trips == before + 1
        results = store.commit([writing(s, b"t", "n") for s in loaded], by="w")
        assert store.link.round_trips == before + 2
        assert {result.outcome for result in results} == {Outcome.STORED}

    def test_lease_is_given_back_behind_a_commit_that_brings_its_script_along(
        self, store: RedisStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A server that knows no scripts must not end the lease first: a commit that it refused would come behind."""
        want = Want(KEY, ("start",), LeaseRequest("me", 30_000))
        (snapshot,) = store.load([want])
        commit = writing(snapshot, b"s0", "start", grant=snapshot.grant, gives_back=True)
        for node in store.link.node_keys():
            store.link.on_node(node, "SCRIPT", "FLUSH")
        sent: list[list[str]] = []
        group = store.link.group

        def watched(commands: Sequence[Command], todo: list[int], asked: Any) -> Any:
            sent.append([commands[i].script.name for i in todo if commands[i].script])  # type: ignore[union-attr]
            return group(commands, todo, asked)

        monkeypatch.setattr(store.link, "group", watched)
        assert put(store, commit).outcome is Outcome.STORED
        assert sent[0] == ["commit", "lease"]
        assert all("commit" not in again for again in sent[1:])

    def test_flushed_scripts_are_not_noticed(self, store: RedisStore) -> None:
        """Scripts are not kept by servers; what has forgotten them is told them again."""
        base = started(store)
        for node in store.link.node_keys():
            store.link.on_node(node, "SCRIPT", "FLUSH")
        assert put(store, writing(base, b"s1", "m")).outcome is Outcome.STORED
        assert states(read(store)) == [b"s1"]

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("m", b"\xc1 no MessagePack"),
            ("m", b"\x01"),
            ("m", b"\x96\x01\x01\x00\x90\x91\x93\xa1a\x07\x90\xa0"),  # a version whose state is missing
            ("m", b"\x96\x01\x01\x00\x91\xa1a\x90\xa0"),  # a clock of an odd length
            ("m", b"\x96\x63\x01\x00\x90\x90\xa0"),  # a format of the future
        ],
    )
    def test_corrupt_record_is_named(self, store: RedisStore, field: str, value: bytes) -> None:
        """A record that cannot be read says which saga it is; the sagas beside it are none the worse."""
        started(store)
        other = started(store, key=SagaKey("CreditCheck", "other"))
        self.raw(store, "r", "HSET", field, value)
        with pytest.raises(CorruptRecordError, match=r"CreditCheck/42.*restore its keys from a backup") as caught:
            read(store)
        assert caught.value.key == "CreditCheck/42"
        assert states(read(store, key=other.key)) == [b"s0"]

    def test_listing_goes_on_past_a_corrupt_record_and_names_it_at_the_end(self, store: RedisStore) -> None:
        """One record that cannot be read hides no other from `sagabus list`."""
        started(store)
        other = started(store, key=SagaKey("CreditCheck", "other"))
        self.raw(store, "r", "HSET", "m", b"\xc1")
        rows = store.sagas()
        assert next(rows).key == other.key
        with pytest.raises(CorruptRecordError, match="CreditCheck/42"):
            next(rows)

    def test_record_without_its_meta_is_named(self, store: RedisStore) -> None:
        """A record of which half is missing cannot be read."""
        started(store)
        self.raw(store, "r", "HDEL", "m")
        with pytest.raises(CorruptRecordError, match="CreditCheck/42"):
            read(store)

    def test_corrupt_record_refuses_commits_by_name(self, store: RedisStore) -> None:
        """A commit to a record that became unreadable changes nothing and names the saga."""
        base = started(store)
        self.raw(store, "r", "HSET", "m", b"\x01")
        before = self.dump(store)
        with pytest.raises(CorruptRecordError, match="CreditCheck/42"):
            put(store, writing(base, b"x", "m"))
        assert self.dump(store) == before

    def test_record_of_a_newer_format_refuses_commits(self, store: RedisStore) -> None:
        """While a newer version is being rolled out, old code does not write over what it cannot read."""
        base = started(store)
        meta = self.raw(store, "r", "HGET", "m")
        self.raw(store, "r", "HSET", "m", meta[:1] + b"\x02" + meta[2:])
        before = self.dump(store)
        with pytest.raises(CorruptRecordError, match="format 2"):
            put(store, writing(base, b"x", "m"))
        assert self.dump(store) == before

    def test_corrupt_history_is_named(self, store: RedisStore) -> None:
        """A history that cannot be read says whose it is."""
        started(store)
        self.raw(store, "h", "RPUSH", b"\x01")
        with pytest.raises(CorruptRecordError, match="CreditCheck/42"):
            store.history(KEY)

    @pytest.mark.parametrize("suffix", ["r", "i", "o", "h"])
    @pytest.mark.parametrize("begun", [False, True])
    def test_foreign_value_under_a_key_leaves_nothing_half_written(
        self, store: RedisStore, suffix: str, begun: bool
    ) -> None:
        """A script is no transaction: it fails before its first write, or not at all."""
        base = started(store) if begun else read(store)
        commit = writing(base, b"x", "m", facts=Half(b"x", {"m": sent("1")}, {"t": "2"}))
        quiet = writing(base, b"x", "m")
        self.raw(store, suffix, "DEL")
        self.raw(store, suffix, "SET", "foreign")
        present = {other: self.raw(store, other, "DUMP") for other in "rioh"}
        for refused in (commit, quiet):
            with pytest.raises(CorruptRecordError, match=r"CreditCheck/42.*WRONGTYPE"):
                put(store, refused)
        assert {other: self.raw(store, other, "DUMP") for other in "rioh"} == present

    # -- the index -----------------------------------------------------------------------------------------------

    def index_keys(self, store: RedisStore) -> list[str]:
        """Return the keys of the index, as far as the test's saga is concerned."""
        return [*store._keys.index("Order"), store._keys.index_names]

    def run(self, store: RedisStore, name: str, key: str, *args: Any) -> Any:
        """Run one command on a key."""
        return store.link.round([Command((name, key, *args), key)])[0]

    def test_rebuild_brings_in_what_the_index_lacks_and_removes_what_is_stored_no_more(self, store: RedisStore) -> None:
        """As after an upgrade, or a loss of some keys: all of it as it was, told by the records."""
        keys = begun(store, "a", "b", "c", "d")
        split(store, keys[1])
        ended(store, keys[2])
        before = every(store), store.index.counts(), store.index.forked()
        for name in self.index_keys(store):
            self.run(store, "DEL", name)
        assert store.index.missing(keys) == keys
        assert (every(store), store.index.counts()) == ([], [])
        assert store.index.rebuild().added == 5
        assert (every(store), store.index.counts(), store.index.forked()) == before
        self.run(store, "DEL", f"{store._keys.saga(keys[3])}r")
        self.run(store, "ZADD", store._keys.index("Order").forks, 5, "a")
        rebuilt = store.index.rebuild()
        assert (rebuilt.sagas, rebuilt.added, rebuilt.removed) == (3, 1, 1)
        assert store.index.counts() == [SagaCount("Order", 2, 1)]

    def test_sagas_of_an_older_sagabus_are_dated_by_their_history(self, store: RedisStore) -> None:
        """Their records say no times; each comes into the index with its next commit, or all by a rebuild."""
        keys = begun(store, "a", "b", "c")
        split(store, keys[1])
        ended(store, keys[2])
        rows = every(store)
        for key in keys:
            record = f"{store._keys.saga(key)}r"
            meta = msgspec.msgpack.decode(self.run(store, "HGET", record, "m"))
            self.run(store, "HSET", record, "m", msgspec.msgpack.encode(meta[:6]))
        for name in self.index_keys(store):
            self.run(store, "DEL", name)
        assert found(store, SagaQuery("Order", id="a")) == ["a"]
        assert wrote(store, look(store, keys[0]), b"next", "next") is Outcome.STORED
        assert [row.started_ms for row in every(store)] == [rows[0].started_ms]
        store.index.rebuild()
        after = every(store)
        assert [(r.key, r.lifecycle, r.siblings, r.started_ms) for r in after] == [
            (r.key, r.lifecycle, r.siblings, r.started_ms) for r in rows
        ]
        assert [r.forked_since_ms for r in after] == [r.forked_since_ms for r in rows]
        assert [r.completed_ms for r in after] == [r.completed_ms for r in rows]

    def test_entry_that_is_not_true_is_left_out_and_mended(self, store: RedisStore) -> None:
        """Nobody is told of a saga what its record does not say."""
        keys = begun(store, "a", "b")
        ended(store, keys[1])
        ages, forks = store._keys.index("Order")
        self.run(store, "ZADD", ages, 7, "gone", 8, "b", -(2**52), "a")
        self.run(store, "ZADD", forks, 9, "a", 9, "b")
        assert store.index.counts() == [SagaCount("Order", 2, 1)]
        assert (found(store, FORKED), store.index.forked().count) == ([], 0)
        found(store, ANY)
        assert found(store, ANY) == ["a", "b"]
        assert store.index.counts() == [SagaCount("Order", 1, 1)]

    def test_record_that_cannot_be_read_is_told_beside_the_rows(self, store: RedisStore) -> None:
        """It hides no other."""
        keys = begun(store, "a", "b")
        self.run(store, "HSET", f"{store._keys.saga(keys[0])}r", "m", b"\xc1")
        page = store.index.find(ANY)
        assert [row.key.id for row in page.rows] == ["b"]
        assert [error.key for error in page.unreadable] == ["Order/a"]
        assert [error.key for error in store.index.rebuild().unreadable] == ["Order/a"]

    def test_sagas_are_found_by_prefix_among_many(self, store: RedisStore) -> None:
        """A scan in many steps: one call looks at a bounded part, and the cursor goes on."""
        ages = store._keys.index("Order").ages
        many = [arg for n in range(30_000) for arg in (n + 1, f"m{n}")]
        for at in range(0, len(many), 2000):
            self.run(store, "ZADD", ages, *many[at : at + 2000])
        begun(store, "x1", "x2", "x3")
        assert sorted(found(store, SagaQuery(id_prefix="x"), 2)) == ["x1", "x2", "x3"]

    @pytest.mark.parametrize("suffix", ["r", "i"])
    def test_foreign_value_under_a_key_is_named_by_a_load(self, store: RedisStore, suffix: str) -> None:
        """Whose key it is is said, so that the other sagas of the batch can be loaded without it."""
        started(store)
        self.raw(store, suffix, "DEL")
        self.raw(store, suffix, "SET", "foreign")
        with pytest.raises(CorruptRecordError, match=r"CreditCheck/42.*WRONGTYPE"):
            store.load([Want(SagaKey("CreditCheck", "other")), Want(KEY, ("start",))])

    def test_sagas_beside_a_corrupt_one_are_committed(self, store: RedisStore) -> None:
        """One saga's record refuses its own commit only; the call may be made again without it."""
        base = started(store)
        other = read(store, key=SagaKey("CreditCheck", "other"))
        self.raw(store, "h", "DEL")
        self.raw(store, "h", "SET", "foreign")
        with pytest.raises(CorruptRecordError) as caught:
            store.commit([writing(base, b"x", "m"), writing(other, b"y", "n")], by="w")
        assert caught.value.key == str(KEY)
        assert put(store, writing(other, b"y", "n")).outcome is Outcome.DUPLICATE

    def test_late_message_keeps_a_tombstone_that_lost_its_expiry(self, store: RedisStore) -> None:
        """A tombstone restored from a copy that kept no expiry is not deleted by the first late message."""
        tomb = completed(store)
        self.raw(store, "r", "PERSIST")
        assert put(store, late(tomb, "m")).outcome is Outcome.LATE
        assert read(store).lifecycle is Lifecycle.COMPLETED

    def test_commit_of_thousands_of_messages_is_written_whole(self, store: RedisStore) -> None:
        """However large the batch: what a script can pass to one command is no limit that is met half-way."""
        ids = [f"m{n}" for n in range(5000)]
        facts = Half(b"x", {id_: sent("1") for id_ in ids})
        assert put(store, writing(read(store), b"x", *ids, facts=facts, messages=())).outcome is Outcome.STORED
        snapshot = read(store, *ids)
        assert states(snapshot) == [b"x"]
        assert len([id_ for id_ in ids if snapshot.consumed.get(id_)]) == 5000

    def test_scheduled_id_without_a_body_is_handed_out_as_unreadable(self, store: RedisStore) -> None:
        """What cannot be sent is not lost in silence: it is handed out as what it is, once, until it is noted."""
        store.note(Bookkeeping(scheduled=(Scheduled("i", "credit", b"{}", 1),)))
        names = [store._keys.timer_place(number).bodies for number in range(16)]
        store.link.round([Command(("DEL", name), name) for name in names])
        assert store.scheduled() == []
        assert store.due(5, 60.0) == [Scheduled("i", "", b"", 0, unreadable="it is missing")]
        assert store.due(5, 60.0) == []
        store.note(Bookkeeping(unscheduled=("i",)))
        assert store.next_due_ms()[1] is None

    def test_scheduled_id_that_is_no_text_is_handed_out_and_can_be_forgotten(self, store: RedisStore) -> None:
        """Damaged ids are taken for what they are, and forgotten under their very bytes."""
        whens, bodies = store._keys.timer_place(0)
        store.link.round(
            [Command(("ZADD", whens, 1, b"\xffi"), whens), Command(("HSET", bodies, b"\xffi", b"?"), bodies)]
        )
        (found,) = store.due(5, 60.0)
        assert found.unreadable
        assert found.body == b"?"
        store.note(Bookkeeping(unscheduled=(found.id,)))
        assert store.next_due_ms()[1] is None
        assert store.link.round([Command(("EXISTS", bodies), bodies)]) == [0]

    def test_many_waiting_messages_of_one_moment_are_listed_page_by_page(self, store: RedisStore) -> None:
        """Millions may be due at midnight: no page is read again for the sake of the next."""
        at_ms = store.next_due_ms()[0] + FAR_MS
        store.note(Bookkeeping(scheduled=tuple(Scheduled(f"m{n}", "credit", b"{}", at_ms) for n in range(6000))))
        before = store.link.round_trips
        assert len({waiting.item.id for waiting in store.waiting.find()}) == 6000
        assert store.link.round_trips - before <= 60

    def test_message_is_taken_though_the_reply_was_lost(
        self, store: RedisStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who is told that it is too late counts on somebody sending it: that must never be a message that has gone."""
        (item,) = scheduled(store, "a")
        waiting = Waiting(item, item.due_ms)
        cut = [True]

        def read(conn: Any, timeout_s: float) -> Any:
            reply = read_reply(conn, timeout_s)
            if reply == 1 and cut:
                cut.clear()
                conn.raw.disconnect()
                raise redis.ConnectionError("cut")
            return reply

        monkeypatch.setattr("sagabus.link.round.read", read)
        assert store.waiting.take(waiting)
        assert not cut
        assert not store.waiting.take(waiting)
        assert store.waiting.get("a") is None
        places = store._timers.places_of("a")
        assert [store.link.round([Command(("HLEN", p.bodies), p.bodies)]) for p in places] == [[0]] * len(places)

    def test_damaged_dead_letter_is_shown_counted_and_dropped_as_corrupt(self, store: RedisStore) -> None:
        """A letter that cannot be read hides no other, and can be got rid of."""
        letter = DeadLetter("b", "e", "failed", "", "", 1, 6, b"")
        store.note(Bookkeeping(buried=(DeadLetter("a", "e", "failed", "", "", 1, 5, b""), letter)))
        keys = store._keys
        damage = [("HSET", keys.dead_bodies, letter.name, b"\x93"), ("HSET", keys.dead_heads, letter.name, b"\xc1")]
        store.link.round([Command(args, args[1]) for args in damage])
        assert {letter.id: letter.reason for letter in store.letters.find()} == {"a": "failed", "b": "corrupt"}
        assert store.letters.count().reasons == {"failed": 1, "corrupt": 1}
        (corrupt,) = store.letters.find(Sought(reason="corrupt"))
        assert corrupt.body == b"\x93"
        line = AuditLine("drop", "me@here", "b", "e", "key")
        assert store.letters.remove([Removal(corrupt, line)]) == [True]
        assert [letter.id for letter in store.letters.find()] == ["a"]

    def test_two_namespaces_share_nothing(self, store: RedisStore, url: str, namespace: str) -> None:
        """Buses with different namespaces on one server do not see each other."""
        started(store)
        store.note(FULL)
        other = RedisStore(url, namespace=f"{namespace}2")
        assert read(other).lifecycle is Lifecycle.ABSENT
        assert (list(other.sagas()), other.scheduled(), other.dead()) == ([], [], [])
        other.close()

    def test_search_for_what_is_rare_holds_nobody_up(self, store: RedisStore) -> None:
        """One call looks at so many letters and no more, whether they match or not; the next goes on behind them."""
        store.note(Bookkeeping(buried=tuple(letter(f"{n:04}", 2000) for n in range(2500))))
        store.note(Bookkeeping(buried=(letter("rare", 1000, reason="no-saga"),)))
        sought = Sought(reason="no-saga")
        page, looks = store.letters.page(sought), 1
        assert page.next == (2000, "credit/1500")
        while page.next is not None:
            page, looks = store.letters.page(sought, after=page.next), looks + 1
        assert [found.id for found in page.letters] == ["rare"]
        assert looks == 3

    def test_commands_of_bookkeeping_clear_outboxes_last(self, store: RedisStore) -> None:
        """A transport runs them with its acks; an outbox is cleared after what was in it is safe."""
        commands = store.note_commands(FULL)
        outbox = store._keys.saga(KEY) + "o"
        assert (commands[-1].args[:2], commands[-1].key) == (("HDEL", outbox), outbox)
        assert {command.args[0] for command in commands[:-1]} == {"HSET", "ZADD", "ZREM", "HDEL"}
        assert outbox not in {command.key for command in commands[:-1]}
        started(store, facts=Half(b"s0", {"start": sent("x")}))
        store.link.round(commands)
        assert read(store, "start").consumed == {"start": b""}
        assert [item.id for item in store.scheduled()] == ["i"]
        assert store.dead() == [letter("x", 1)]


class OneServer(RedisContract):
    """What holds where the index lies on the server of the records."""

    @pytest.mark.parametrize("which", [0, 1, 2])
    def test_foreign_value_under_a_key_of_the_index_leaves_nothing_half_written(
        self, store: RedisStore, which: int
    ) -> None:
        """The saga is not to blame, so nothing is given up: the store is refused, with the key, until it is mended."""
        plain, whole = begun(store, "plain", "whole")
        key = self.index_keys(store)[which]
        self.run(store, "DEL", key)
        self.run(store, "SET", key, "foreign")
        commits = [
            writing(read(store, key=SagaKey("Order", "new")), b"x", "m"),
            writing(read(store, key=whole), b"x", "m", completes=True),
            evolve(writing(read(store, key=whole), b"y", "n"), context={}, parents=()),
        ]
        touched = [commits[:2], commits[2:], commits[:1]][which]
        for commit in touched:
            prefix = store._keys.saga(commit.key)
            before = [self.run(store, "DUMP", f"{prefix}{suffix}") for suffix in "rioh"]
            with pytest.raises(StoreRefusedError, match=rf"{re.escape(key)}.*sagabus reindex"):
                put(store, commit)
            assert [self.run(store, "DUMP", f"{prefix}{suffix}") for suffix in "rioh"] == before
        assert put(store, writing(read(store, key=plain), b"x", "m")).outcome is Outcome.STORED, "changes no entry"
        self.run(store, "DEL", key)
        assert [put(store, commit).outcome for commit in touched]
        store.index.rebuild()
        assert store.index.missing([plain, whole]) == []

    def test_index_is_true_without_a_note(self, store: RedisStore) -> None:
        """It is written in the same write as the records."""
        (result,) = store.commit([writing(read(store), b"s", "m")], by="w")
        assert result.index_note is None
        assert found(store) == [KEY.id]


class TestValkey(OneServer):
    """The server that the embedded store runs."""

    @pytest.fixture
    def url(self, valkey_url: str) -> str:
        return valkey_url

    def test_server_identity_is_that_of_the_database(self, store: RedisStore, url: str) -> None:
        """Two stores on one database share one atomic write; another database is another server."""
        other, elsewhere = RedisStore(url), RedisStore(f"{url}?db=1")
        assert store.server is not None
        assert store.server == other.server != elsewhere.server
        other.close()
        elsewhere.close()


class TestRedis(OneServer):
    """The oldest Redis that is supported."""

    @pytest.fixture
    def url(self, redis7_url: str) -> str:
        return redis7_url


class TestCluster(RedisContract):
    """Three nodes, the sagas of a batch spread over them."""

    @pytest.fixture
    def url(self, cluster_url: str) -> str:
        return cluster_url

    def test_cluster_shares_its_writes_with_nobody(self, store: RedisStore) -> None:
        """Queues and sagas lie in different slots, so no transport can mark and ack in one write."""
        assert store.server is None

    def test_crash_before_the_index_is_told_is_mended_by_the_redelivery(self, store: RedisStore) -> None:
        """The messages have not been acked: who gets them again tells the index what is true by then."""
        (result,) = store.commit([writing(read(store), b"s", "start")], by="w")
        assert result.index_note is not None
        assert found(store) == []
        again = read(store, "start")
        assert again.index_note is not None
        store.note(Bookkeeping(indexed={KEY: again.index_note}))
        assert found(store) == [KEY.id]
        base = read(store)
        put(store, writing(base, b"left", "l"))
        put(store, writing(base, b"right", "r"))
        told = read(store, "r").index_note
        assert told is not None
        store.note(Bookkeeping(indexed={KEY: told}))
        assert found(store, FORKED) == [KEY.id]
        put(store, writing(read(store), b"end", "end", completes=True))
        told = read(store, "end").index_note
        assert told is not None
        store.note(Bookkeeping(indexed={KEY: told}))
        assert store.index.counts() == [SagaCount("CreditCheck", 0, 1)]
        assert store.index.forked().count == 0

    def test_notes_that_overtake_each_other_hide_no_saga(self, store: RedisStore) -> None:
        """What is older than what the index says is passed over; what is wrong all the same is mended when listed."""
        base = started(store)
        notes = []
        for commit in (writing(base, b"left", "l"), writing(base, b"right", "r")):
            notes.append(put(store, commit).index_note)
        notes.append(put(store, writing(read(store), b"both", "merge")).index_note)
        forked_again = read(store)
        until(lambda: read(store).now_ms > forked_again.now_ms, "the next millisecond")
        put(store, writing(forked_again, b"left", "l2"))
        notes.append(put(store, writing(forked_again, b"right", "r2")).index_note)
        told = [note for note in notes if note is not None]
        assert len(told) == 3
        for order in itertools.permutations(told):
            self.run(store, "DEL", store._keys.index("CreditCheck").forks)
            for note in order:
                store.note(Bookkeeping(indexed={KEY: note}))
            assert found(store, FORKED) == [KEY.id]

    def test_sagas_are_spread_over_the_nodes(self, store: RedisStore) -> None:
        """Keys go by hash slot: every node holds some sagas."""
        keys = [SagaKey("CreditCheck", str(i)) for i in range(64)]
        store.commit([writing(read(store, key=key), b"s", "m") for key in keys], by="w")
        pattern = store._keys.record_pattern(None)
        counts = [
            len(store.link.on_node(n, "SCAN", 0, "MATCH", pattern, "COUNT", 10_000)[1]) for n in store.link.node_keys()
        ]
        assert sum(counts) == 64
        assert len(counts) == 3
        assert min(counts) > 0


def test_full_server_refuses_a_commit_whole(namespace: str) -> None:
    """Out of memory nothing changes; what was stored can still be read, and marks that free memory still work."""
    with servers.valkey() as url:
        store = RedisStore(url, namespace=namespace)
        base = started(store, facts=Half(b"s0", {"start": sent("x")}))
        store.link.on_node("", "CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreFullError, match="out of memory"):
            put(store, writing(base, b"x", "m"))
        with pytest.raises(StoreFullError):
            store.note(Bookkeeping(scheduled=(Scheduled("i", "credit", b"{}", 1),)))
        snapshot = read(store, "m", "start")
        assert states(snapshot) == [b"s0"]
        assert set(snapshot.consumed) == {"start"}
        store.note(Bookkeeping(dispatched={KEY: ("start",)}))
        assert read(store, "start").consumed == {"start": b""}
        assert len(store.history(KEY)) == 1
        # Who looks for what is wrong sees the workers, and can stop some of them.
        store.presence.pause("credit", "ann@box")
        assert store.presence.show(worker_card()).paused == {"credit"}
        store.link.on_node("", "CONFIG", "SET", "maxmemory", "0")
        assert store.scheduled() == []
        assert put(store, writing(base, b"x", "m")).outcome is Outcome.STORED
        store.close()


def test_full_server_forgets_nothing_that_it_could_not_keep_elsewhere(namespace: str) -> None:
    """It refuses to schedule and to bury, and would forget: then what was in the outbox, or waited, would be gone."""
    with servers.valkey() as url:
        store = RedisStore(url, namespace=namespace)
        started(store, facts=Half(b"s0", {"start": sent("x")}))
        store.note(Bookkeeping(scheduled=(Scheduled("j", "credit", b"{}", 1),)))
        store.link.on_node("", "CONFIG", "SET", "maxmemory", "1")
        for kept in (
            Bookkeeping(scheduled=(Scheduled("i", "credit", b"{}", 1),), dispatched={KEY: ("start",)}),
            Bookkeeping(buried=(letter("j", 1),), unscheduled=("j",)),
            FULL,
        ):
            with pytest.raises(StoreFullError):
                store.note(kept)
            assert left(read(store, "start"), "start") == ["x"]
            assert [item.id for item in store.scheduled()] == ["j"]
        store.link.on_node("", "CONFIG", "SET", "maxmemory", "0")
        store.note(FULL)
        assert read(store, "start").consumed == {"start": b""}
        assert [item.id for item in store.scheduled()] == ["i"]
        assert store.dead() == [letter("x", 1)]
        store.close()


def test_evicting_server_is_refused() -> None:
    """A server that would delete sagas under memory pressure is refused at start-up, with the mend."""
    with servers.valkey(maxmemory="100mb", maxmemory_policy="allkeys-lru") as url:
        store = RedisStore(url)
        with pytest.raises(StoreRefusedError, match=r"allkeys-lru.*CONFIG SET maxmemory-policy noeviction"):
            store.open()
        store.close()


class ToldLink(Link):
    """A link to no server, that answers INFO as told."""

    def __init__(self, **info: str) -> None:
        super().__init__("redis://user:secret@nowhere:1")
        self._told = info

    def on_node(self, node_key: str, *args: Any) -> Any:
        assert args == ("INFO",)
        return "\r\n".join(["# Server", *(f"{name}:{value}" for name, value in self._told.items())]).encode()

    def round(self, commands: Sequence[Command], *, wait_s: float = 0.0) -> list[Any]:
        return [[] for _ in commands]  # no right is missing


@pytest.mark.parametrize(
    ("info", "name"),
    [
        ({"redis_version": "6.2.14"}, "Redis 6.2.14 .* needs Redis 7.0 or newer"),
        ({"redis_version": "7.2.4", "valkey_version": "7.1.0"}, "Valkey 7.1.0 .* needs Valkey 7.2 or newer"),
    ],
)
def test_old_server_is_refused(info: dict[str, str], name: str) -> None:
    """A server whose scripts know too little is refused with both versions, and without its password."""
    with pytest.raises(StoreRefusedError, match=name) as caught:
        RedisStore("redis://nowhere", link=ToldLink(**info)).open()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("info", [{"redis_version": "7.0.0"}, {"redis_version": "7.2.4", "valkey_version": "10.0"}])
def test_server_that_is_new_enough_is_taken(info: dict[str, str]) -> None:
    """The oldest supported and any newer version open."""
    RedisStore("redis://nowhere", link=ToldLink(**info, maxmemory_policy="noeviction")).open()
