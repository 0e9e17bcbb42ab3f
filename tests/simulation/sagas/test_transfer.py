"""Transfers in every order: races for one account, copies, workers that die anywhere, deadlines, refusals.

Sizes, in states that the search looks at, each plainly, with a crash, with a second delivery, and with both.
Within a group: there and back 82, 334, 1,354, 8,500; twice beyond the funds 82, 322, 1,228, 6,744. Between groups:
one with a deadline 147, 499, 3,600, 20,517; to a blocked account 147, 499, 3,537, 20,247; two beyond the funds 376,
1,362, 11,032, 59,776; there and back 1,255, 4,601, 80,344, 464,315. One of each kind: 229, 842, 6,130, 33,260.
With a failover of the store: 544, with a deadline 13,666.
`SAGABUS_RULES=whole` (`make rules`) adds, between groups, the last of two beyond the funds and the last two of there
and back (a quarter of a minute in all).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

import pytest

from sagabus import Bus, Context, DocumentKey, Documents
from sagabus.testing import Exploration, Moment, explore
from sagas.transfer import (
    Account,
    Bank,
    Books,
    Leg,
    MoneyTransferred,
    Moved,
    Stage,
    Transfer,
    TransferMoney,
    audit_bank,
    deposit,
    examine,
    move,
    open_bank,
)
from sagas.transfer.account import release
from sagas.transfer.messages import (
    ConfirmTransfer,
    DepositMoney,
    MoneyDeposited,
    MoneyMoved,
    MoneyReleased,
    MoveMoney,
    ReleaseMoney,
    ReserveMoney,
)

WHOLE: Final = os.environ.get("SAGABUS_RULES") == "whole"
ALICE, BOB = DocumentKey("alice", "north"), DocumentKey("bob", "north")
CAROL = DocumentKey("carol", "south")
GROUPS: Final = ("north", "south")
RICH: Final = {ALICE: Account.of(100, prefix="a", tainted=[9]), BOB: Account.of(100, prefix="b"), CAROL: Account({})}
POOR: Final = {**RICH, ALICE: Account.of(60, 40, prefix="a")}
MISHAPS: Final = [{}, {"crashes": 1}, {"duplicates": 1}, {"crashes": 1, "duplicates": 1}]

Outcome = tuple[str, ...]
"""What became of each transfer, in the order in which they were asked for: a reason, or `ok`."""


def opened(bank: Bank | None = None) -> Bus:
    """Return a bus with transfers and the bank, or with *bank* in its place."""
    bus = Bus(store="memory:")
    bus.endpoint("transfers", Transfer)
    if bank is None:
        open_bank(bus)
        return bus
    endpoint = bus.endpoint("bank")
    for consumer in (bank.move, bank.reserve, bank.deposit, bank.confirm, bank.release):
        endpoint.consumer(consumer)
    for kind in (MoveMoney, ReserveMoney, DepositMoney, ConfirmTransfer, ReleaseMoney):
        bus.route(kind, to="bank")
    return bus


def documents_of(moment: Moment) -> Documents:
    """Return the documents as they are at a moment."""
    store = moment.documents
    assert store is not None
    return Documents(lambda: store)


def outcome_of(wishes: list[TransferMoney]) -> Callable[[Moment], Outcome]:
    """Return what says what became of *wishes*."""

    def outcome(moment: Moment) -> Outcome:
        said = {m.transfer: "ok" if isinstance(m, MoneyTransferred) else str(m.reason) for m in moment.decisions}
        return tuple(said[wish.transfer] for wish in wishes)

    return outcome


def explored(
    wishes: list[TransferMoney],
    accounts: Mapping[DocumentKey, Account],
    *outcomes: Outcome,
    bank: Bank | None = None,
    **options: Any,
) -> Exploration:
    """Return what becomes of some transfers, in every order and with every mishap of *options*.

    At every moment money is conserved and no coin is in two places; in the end every transfer has one outcome, no
    reservation is left, and each balance is what the outcomes come to.
    """
    before = examine(Books(accounts))

    def conserves_every_coin_in_one_place(moment: Moment) -> None:
        found = audit_bank(documents_of(moment), GROUPS)
        assert found.problems == ()
        assert found.conserves(before)

    def moves_no_tainted_coin(moment: Moment) -> bool:
        tainted = {id_ for account in accounts.values() for id_, coin in account.coins.items() if coin.tainted}
        at = Books.read(documents_of(moment), GROUPS).accounts
        return all(tainted & accounts[key].coins.keys() == tainted & at[key].coins.keys() for key in accounts)

    def ends_each_transfer_once(moment: Moment) -> None:
        assert sorted(m.transfer for m in moment.decisions) == sorted(wish.transfer for wish in wishes)
        assert not moment.dead

    def leaves_no_reservation(moment: Moment) -> None:
        books = Books.read(documents_of(moment), GROUPS)
        assert examine(books).under_way == ()
        balances = {key: account.cents for key, account in accounts.items()}
        for m in moment.decisions:
            if isinstance(m, MoneyTransferred):
                balances[m.source] -= m.cents
                balances[m.target] += m.cents
        assert balances == {key: account.cents for key, account in books.accounts.items()}

    return explore(
        opened(bank),
        start=wishes,
        documents=dict(accounts),
        always=[conserves_every_coin_in_one_place, moves_no_tainted_coin],
        finally_=[ends_each_transfer_once, leaves_no_reservation],
        outcome=outcome_of(wishes),
        outcomes=list(outcomes),
        mode="exhaustive",
        max_states=600_000,
        **options,
    )


def checked(result: Exploration, *outcomes: Outcome) -> None:
    """Assert that nothing is broken, that nothing was left out, and that each outcome really occurs."""
    result.assert_ok()
    assert result.complete
    assert set(result.outcomes) == set(outcomes)


def named(mishaps: Mapping[str, int]) -> str:
    return "+".join(mishaps) or "plain"


# -- within a group --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mishaps", MISHAPS, ids=named)
def test_transfers_there_and_back_at_once_both_move_their_money(mishaps: dict[str, int]) -> None:
    """Two that race for the same two accounts, each the other's source: neither is lost, and no coin doubled."""
    wishes = [TransferMoney("t1", ALICE, BOB, 60), TransferMoney("t2", BOB, ALICE, 60)]
    checked(explored(wishes, RICH, ("ok", "ok"), **mishaps), ("ok", "ok"))


@pytest.mark.parametrize("mishaps", MISHAPS, ids=named)
def test_transfers_beyond_the_funds_at_once_move_the_money_of_one(mishaps: dict[str, int]) -> None:
    """One of the two is refused; which, is a race."""
    wishes = [TransferMoney("t1", ALICE, BOB, 60), TransferMoney("t2", ALICE, BOB, 60)]
    outcomes = [("ok", "not-enough"), ("not-enough", "ok")]
    checked(explored(wishes, POOR, *outcomes, **mishaps), *outcomes)


# -- between groups --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mishaps", MISHAPS, ids=named)
def test_transfer_with_a_deadline_ends_one_way_or_the_other(mishaps: dict[str, int]) -> None:
    """The timer may fire at any time, the release overtake its reserve, a copy of either come late: one outcome."""
    outcomes = [("ok",), ("overdue",)]
    result = explored([TransferMoney("t1", ALICE, CAROL, 60, within_s=5)], RICH, *outcomes, **mishaps)
    checked(result, *outcomes)


@pytest.mark.parametrize("mishaps", MISHAPS, ids=named)
def test_transfer_that_nobody_can_pay_ends_refused_for_one_reason(mishaps: dict[str, int]) -> None:
    """The refusal races with the deadline; a release finds that nothing was set aside."""
    outcomes = [("not-enough",), ("overdue",)]
    result = explored([TransferMoney("t1", ALICE, CAROL, 600, within_s=5)], RICH, *outcomes, **mishaps)
    checked(result, *outcomes)


@pytest.mark.parametrize("mishaps", MISHAPS, ids=named)
def test_transfer_to_a_blocked_account_gives_the_money_back(mishaps: dict[str, int]) -> None:
    """Reserved, refused by the target, released; or overdue before it came so far."""
    accounts = {**RICH, CAROL: Account({}, blocked=True)}
    outcomes = [("target-blocked",), ("overdue",)]
    result = explored([TransferMoney("t1", ALICE, CAROL, 60, within_s=5)], accounts, *outcomes, **mishaps)
    checked(result, *outcomes)


@pytest.mark.parametrize("wish", [TransferMoney("t1", ALICE, BOB, 60), TransferMoney("t1", ALICE, CAROL, 60)])
def test_transfer_whose_legs_will_expire_ends_like_any_other(wish: TransferMoney) -> None:
    """That legs are written once more, to expire, makes no difference to copies and to workers that die."""
    bank = Bank(keep=timedelta(days=30))
    checked(explored([wish], RICH, ("ok",), bank=bank, **MISHAPS[3]), ("ok",))


@pytest.mark.parametrize("mishaps", MISHAPS if WHOLE else MISHAPS[:3], ids=named)
def test_transfers_between_groups_beyond_the_funds_move_the_money_of_one(mishaps: dict[str, int]) -> None:
    """What one has reserved, the other cannot have."""
    wishes = [TransferMoney("t1", ALICE, CAROL, 60), TransferMoney("t2", ALICE, CAROL, 60)]
    outcomes = [("ok", "not-enough"), ("not-enough", "ok")]
    checked(explored(wishes, POOR, *outcomes, **mishaps), *outcomes)


@pytest.mark.parametrize("mishaps", MISHAPS if WHOLE else MISHAPS[:2], ids=named)
def test_transfers_there_and_back_between_groups_at_once_both_end(mishaps: dict[str, int]) -> None:
    """Each account is the source of one and the target of the other; none waits for the other for ever."""
    accounts = {**RICH, CAROL: Account.of(100, prefix="c")}
    wishes = [TransferMoney("t1", ALICE, CAROL, 60), TransferMoney("t2", CAROL, ALICE, 60)]
    checked(explored(wishes, accounts, ("ok", "ok"), **mishaps), ("ok", "ok"))


@pytest.mark.parametrize("mishaps", MISHAPS, ids=named)
def test_transfers_both_ways_of_one_account_move_the_money_of_one(mishaps: dict[str, int]) -> None:
    """One within the group and one beyond it, and funds for one of them."""
    wishes = [TransferMoney("t1", ALICE, BOB, 60), TransferMoney("t2", ALICE, CAROL, 60)]
    outcomes = [("ok", "not-enough"), ("not-enough", "ok")]
    checked(explored(wishes, POOR, *outcomes, **mishaps), *outcomes)


# -- failovers ------------------------------------------------------------------------------------------------------


def forgetting(bank: Bank | None, within_s: float | None) -> Exploration:
    """Return what becomes of a transfer between groups where the store fails over and loses a commit of its saga."""
    before = examine(Books(RICH))

    def conserves_every_coin_in_one_place(moment: Moment) -> None:
        found = audit_bank(documents_of(moment), GROUPS)
        assert found.problems == ()
        assert found.conserves(before)

    def ends_one_way(moment: Moment) -> bool:
        return len({type(m) for m in moment.decisions}) <= 1

    return explore(
        opened(bank),
        start=[TransferMoney("t1", ALICE, CAROL, 60, within_s=within_s)],
        documents=dict(RICH),
        rollbacks=1,
        always=[conserves_every_coin_in_one_place, ends_one_way],
        outcome=lambda moment: "ended",
        outcomes=["ended"],
        must_end=False,  # a saga whose very start was lost does not know what the answers are about
        dead_letters=True,
        mode="exhaustive",
    )


@pytest.mark.parametrize("within_s", [None, 5.0], ids=["no-deadline", "deadline"])
def test_transfer_whose_saga_forgets_its_last_step_makes_no_money(within_s: float | None) -> None:
    """A commit may be lost of which all messages have left: a deposit and a release are then both on their way.

    Money is conserved, and the target's leg says which of them counts; an outcome may be announced again, and is never
    another one.
    """
    assert forgetting(None, within_s).assert_ok().complete


# -- banks that are wrong --------------------------------------------------------------------------------------------


class PutsOneByOne(Bank):
    """Writes the two accounts one after the other, each safely."""

    def move(self, m: MoveMoney, context: Context) -> None:
        documents, order = context.documents, m.order
        source, target = documents.load_many([order.source, order.target], Account)
        after = move(source.value, target.value, order.cents, order.transfer)
        assert isinstance(after, Moved)
        documents.put(order.source, after.source, etag=source.etag)
        documents.put(order.target, after.target, etag=target.etag)
        context.reply(MoneyMoved(order.transfer))


class MovesWithoutLeg(Bank):
    """Writes both accounts together, and nothing that says so."""

    def move(self, m: MoveMoney, context: Context) -> None:
        documents, order = context.documents, m.order
        source, target = documents.load_many([order.source, order.target], Account)
        after = move(source.value, target.value, order.cents, order.transfer)
        assert isinstance(after, Moved)
        documents.compare_exchange(
            {order.source: (source.etag, after.source), order.target: (target.etag, after.target)}
        )
        context.reply(MoneyMoved(order.transfer))


class DepositsWithoutLeg(Bank):
    """Puts the money into the target, and the leg beside it afterwards."""

    def deposit(self, m: DepositMoney, context: Context) -> None:
        documents, order = context.documents, m.order
        reserved = documents.load(order.source_leg, Leg).value
        target = documents.load(order.target, Account)
        if not reserved.coins.keys() <= target.value.coins.keys():
            after = deposit(target.value, reserved.coins)
            assert isinstance(after, Account)
            documents.put(order.target, after, etag=target.etag)
        documents.overwrite(order.target_leg, Leg(order, Stage.DEPOSITED, reserved.coins))
        context.reply(MoneyDeposited(order.transfer))


class ReleasesAlone(Bank):
    """Gives back what is reserved, without a word to the target."""

    def release(self, m: ReleaseMoney, context: Context) -> None:
        documents, order = context.documents, m.order
        leg, source = documents.load(order.source_leg, Leg), documents.load(order.source, Account)
        over = Leg(order, Stage.RELEASED, reason=m.reason)
        if not leg.exists:
            documents.create(order.source_leg, over)
        elif order.transfer in source.value.reservations:
            changes = {order.source: (source.etag, release(source.value, order.transfer))}
            documents.compare_exchange({order.source_leg: (leg.etag, over), **changes})
        context.reply(MoneyReleased(order.transfer))


class ForgetsWhatItReleased(Bank):
    """Gives back what is reserved, and writes nothing where nothing is."""

    def release(self, m: ReleaseMoney, context: Context) -> None:
        if context.documents.load(m.order.source_leg, Leg).exists:
            super().release(m, context)
        else:
            context.reply(MoneyReleased(m.order.transfer))


@pytest.mark.parametrize(
    ("bank", "wish", "mishaps", "found"),
    [
        (PutsOneByOne(), TransferMoney("t1", ALICE, BOB, 60), {}, "conserves_every_coin_in_one_place"),
        (MovesWithoutLeg(), TransferMoney("t1", ALICE, BOB, 20), {"crashes": 1}, "leaves_no_reservation"),
        (DepositsWithoutLeg(), TransferMoney("t1", ALICE, CAROL, 60), {}, "conserves_every_coin_in_one_place"),
        (ForgetsWhatItReleased(), TransferMoney("t1", ALICE, CAROL, 60, within_s=5), {}, "leaves_no_reservation"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Bank) else "",
)
def test_bank_that_leaves_out_one_precaution_is_found_out(
    bank: Bank, wish: TransferMoney, mishaps: dict[str, int], found: str
) -> None:
    """Each precaution is needed: without it there is a schedule that makes, loses or strands money."""
    result = explored([wish], RICH, ("ok",), ("overdue",), bank=bank, **mishaps)
    assert result.failure is not None
    assert result.failure.kind in ("invariant", "finally")
    assert found in result.failure.report


def test_bank_that_releases_alone_makes_money_after_a_failover() -> None:
    """What the target's leg is written for when money is given back: nothing else would stop the deposit."""
    result = forgetting(ReleasesAlone(), 5.0)
    assert result.failure is not None
    assert "coin e1ed11ce7dda1ca9cfdc is in 2 places" in result.failure.report


def test_bank_explored_is_the_one_that_is_opened() -> None:
    """The broken banks are put in the place of the very consumers that `open_bank` adds."""
    ours, theirs = (opened(bank).endpoints["bank"].consumers for bank in (None, Bank()))
    assert [consumer.name for consumer in ours] == [consumer.name for consumer in theirs]
