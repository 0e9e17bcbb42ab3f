"""What the part of every store that grants leases must do; `StoreContract` inherits it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest
from attrs import evolve

from sagabus.envelope import SagaKey
from sagabus.leases.grant import Grant, LeaseKey, LeaseStore
from sagabus.store.protocol import Store
from sagabus.testing.document_contract import AWKWARD, LONG_MS, poll

LEASE: Final = "nightly-report"
SHORT_MS: Final = 20


def latest(leases: LeaseStore, key: LeaseKey = LEASE) -> Grant:
    """Return the last grant of a lease that was granted before."""
    (last,) = leases.read([key])
    assert last is not None
    return last


class LeaseStoreContract:
    """The laws of `sagabus.leases.grant.LeaseStore`. Inherit it and give it `store`, or `leases`."""

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        """Yield an open store in which nothing is stored yet."""
        raise NotImplementedError("override the store fixture")

    @pytest.fixture
    def leases(self, store: Store) -> LeaseStore:
        """Return the part of the store that is looked at."""
        return store.leases

    def test_lease_is_granted_to_one_of_many(self, leases: LeaseStore) -> None:
        """Whoever asks at the same moment: one holds it, and all hear who."""
        start = threading.Barrier(8)

        def ask(n: int) -> Grant:
            start.wait()
            return leases.grant(LEASE, f"holder {n}", LONG_MS)

        with ThreadPoolExecutor(8) as pool:
            grants = list(pool.map(ask, range(8)))
        assert len({(grant.holder, grant.token, grant.until_ms) for grant in grants}) == 1
        assert all(grant.running for grant in grants)
        last = latest(leases)
        assert (last.holder, last.token, last.running) == (grants[0].holder, grants[0].token, True)

    def test_lease_ends_when_its_time_is_over(self, leases: LeaseStore) -> None:
        """Others wait for the store's clock and for nothing else; then the next is granted, with a higher token."""
        first = leases.grant(LEASE, "first", SHORT_MS)
        assert SHORT_MS - 5 <= first.until_ms - first.now_ms <= SHORT_MS
        poll(lambda: not latest(leases).running)
        second = leases.grant(LEASE, "second", LONG_MS)
        assert second.holder == "second"
        assert second.token > first.token
        assert second.now_ms >= first.until_ms

    def test_token_grows_with_every_grant(self, leases: LeaseStore) -> None:
        """To whomever, however soon; each lease has its own."""
        tokens = []
        for n in range(20):
            grant = leases.grant(LEASE, f"holder {n % 2}", LONG_MS)
            assert grant.holder == f"holder {n % 2}"
            tokens.append(grant.token)
            assert leases.release({LEASE: grant}) == set()
        assert tokens == sorted(set(tokens))

    def test_grant_asked_for_again_is_the_same(self, leases: LeaseStore) -> None:
        """A reply got lost and the holder asks again: it has the grant that it had, and no longer than that."""
        first = leases.grant(LEASE, "holder", LONG_MS)
        again = leases.grant(LEASE, "holder", 10 * LONG_MS)
        assert (again.holder, again.token, again.until_ms) == (first.holder, first.token, first.until_ms)

    def test_renewed_lease_ends_later_with_the_same_token(self, leases: LeaseStore) -> None:
        """From now on, not from when it would have ended."""
        first = leases.grant(LEASE, "holder", LONG_MS)
        renewed = leases.renew({LEASE: first}, 2 * LONG_MS)[LEASE]
        assert renewed is not None
        assert (renewed.holder, renewed.token) == (first.holder, first.token)
        assert 2 * LONG_MS - 5 <= renewed.until_ms - renewed.now_ms <= 2 * LONG_MS
        assert latest(leases).until_ms == renewed.until_ms
        assert leases.grant(LEASE, "other", LONG_MS).holder == "holder"

    def test_renewal_that_comes_too_late_is_refused(self, leases: LeaseStore) -> None:
        """What has ended stays ended: by time, by release, taken by others or never granted."""
        ended = leases.grant(LEASE, "holder", SHORT_MS)
        poll(lambda: not latest(leases).running)
        assert leases.renew({LEASE: ended}, LONG_MS) == {LEASE: None}
        taken = leases.grant(LEASE, "other", LONG_MS)
        assert leases.renew({LEASE: ended}, LONG_MS) == {LEASE: None}
        assert leases.renew({LEASE: evolve(taken, token=taken.token - 1)}, LONG_MS) == {LEASE: None}
        assert leases.renew({LEASE: evolve(taken, holder="holder")}, LONG_MS) == {LEASE: None}
        leases.release({LEASE: taken})
        assert leases.renew({LEASE: taken, "never": taken}, LONG_MS) == {LEASE: None, "never": None}
        assert not latest(leases).running
        assert leases.read(["never"]) == [None]

    def test_released_lease_is_free_at_once(self, leases: LeaseStore) -> None:
        """Nobody waits for the end of what was given back."""
        first = leases.grant(LEASE, "first", LONG_MS)
        assert leases.release({LEASE: first}) == set()
        assert not latest(leases).running
        second = leases.grant(LEASE, "second", LONG_MS)
        assert (second.holder, second.token > first.token) == ("second", True)

    def test_release_that_comes_too_late_harms_nobody_and_says_so(self, leases: LeaseStore) -> None:
        """Whoever holds the lease now keeps it; the one who was late hears that it had ended."""
        first = leases.grant(LEASE, "first", SHORT_MS)
        poll(lambda: not latest(leases).running)
        assert leases.release({LEASE: first}) == {LEASE}
        second = leases.grant(LEASE, "second", LONG_MS)
        assert leases.release({LEASE: first, "never": first}) == {LEASE, "never"}
        last = latest(leases)
        assert (last.holder, last.token, last.running) == ("second", second.token, True)

    def test_release_sent_again_was_in_time(self, leases: LeaseStore) -> None:
        """A reply got lost: the holder had the lease to the end, and is not told otherwise."""
        first = leases.grant(LEASE, "first", LONG_MS)
        assert leases.release({LEASE: first}) == set()
        assert leases.release({LEASE: first}) == set()

    def test_leases_of_one_call_do_not_concern_each_other(self, leases: LeaseStore) -> None:
        """Some are renewed and some have ended; some are released and some were; each is answered by its key."""
        a, b = (leases.grant(key, "holder", LONG_MS) for key in "ab")
        leases.release({"a": a})
        renewed = leases.renew({"a": a, "b": b}, LONG_MS)
        assert renewed["a"] is None
        assert renewed["b"] is not None
        leases.grant("a", "other", LONG_MS)
        assert leases.release({"a": a, "b": b}) == {"a"}
        assert [last is not None and last.running for last in leases.read(["a", "b", "c"])] == [True, False, False]

    @pytest.mark.parametrize("name", AWKWARD, ids=range(len(AWKWARD)))
    def test_leases_of_any_name_are_kept_apart(self, leases: LeaseStore, name: str) -> None:
        """Whatever a lease is called; the lease of a saga is another than one that is called like it."""
        keys: list[LeaseKey] = [name, f"{name}2"[-500:], SagaKey("Order", name), f"Order/{name}"[:500]]
        for key in keys:
            assert leases.grant(key, f"holder of {key}", LONG_MS).holder == f"holder of {key}"
        assert [last and last.holder for last in leases.read(keys)] == [f"holder of {key}" for key in keys]

    def test_nothing_asked_for_is_nothing_done(self, leases: LeaseStore) -> None:
        """Of no leases."""
        assert (leases.read([]), leases.renew({}, LONG_MS), leases.release({})) == ([], {}, set())
