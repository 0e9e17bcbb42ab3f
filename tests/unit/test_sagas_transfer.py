"""Transfers of money: the rules of coins, what the bank writes, what the saga asks for, and what the audit sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from attrs import define, field, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from sagabus import Bus, Context, DocumentKey, Documents
from sagabus.errors import CodecError, ConcurrencyError, ConfigurationError, CorruptDocumentError
from sagabus.messages import type_of
from sagabus.testing import SagaHarness
from sagabus.testing.harness.released import Deferred, Published, Replied, Sent
from sagas.transfer import (
    Account,
    Bank,
    Books,
    BooksError,
    Coin,
    Leg,
    MoneyTransferred,
    Moved,
    Order,
    Reason,
    Stage,
    Transfer,
    TransferMoney,
    TransferRefused,
    TransferState,
    TransferTakenError,
    Withdrawal,
    audit_bank,
    deposit,
    examine,
    leg_key,
    move,
    open_bank,
    withdraw,
)
from sagas.transfer.account import Coins, confirm, release, reserve, split, worth
from sagas.transfer.bank import TRIES
from sagas.transfer.messages import (
    ConfirmTransfer,
    DepositMoney,
    DepositRefused,
    MoneyDeposited,
    MoneyMoved,
    MoneyReleased,
    MoneyReserved,
    MoveMoney,
    MoveRefused,
    ReleaseMoney,
    ReservationRefused,
    ReserveMoney,
    TransferConfirmed,
    TransferDeadline,
)
from tests.changes import evolve
from tests.integration.apps import Clock, memory_parts

ALICE, BOB = DocumentKey("alice", "north"), DocumentKey("bob", "north")
CAROL = DocumentKey("carol", "south")
GROUPS = ("north", "south")
HOME = Order("t", ALICE, BOB, 70)
AWAY = Order("t", ALICE, CAROL, 70)

coin_values = st.builds(Coin, st.integers(1, 60), st.booleans())
purses = st.dictionaries(st.sampled_from("abcdefgh"), coin_values, max_size=8)
accounts = st.builds(Account, coins=purses)


def origins(coins: Coins) -> Counter[str]:
    """Return id of a coin as minted -> what is there of it."""
    there: Counter[str] = Counter()
    for id_, coin in coins.items():
        there[coin.minted_as or id_] += coin.cents
    return there


def clean(account: Account) -> int:
    """Return what an account could spend."""
    return sum(coin.cents for coin in account.coins.values() if not coin.tainted)


def with_what_it_can_pay(account: Account) -> st.SearchStrategy[tuple[Account, int]]:
    return st.tuples(st.just(account), st.integers(1, clean(account)))


payable = st.builds(
    lambda purse, coin: Account(coins={**purse, "z": coin}), purses, st.builds(Coin, st.integers(1, 60))
).flatmap(with_what_it_can_pay)
"""An account, and an amount that it can pay."""


# -- the rules of coins ------------------------------------------------------------------------------------------


@given(accounts, st.integers(1, 200))
def test_withdraw_takes_exactly_what_is_asked_or_says_why_not(account: Account, cents: int) -> None:
    """Coins worth the amount leave and nothing is made or lost, of any coin; or all stays, for a reason."""
    taken = withdraw(account, cents, "t")
    if not isinstance(taken, Withdrawal):
        assert clean(account) < cents
        assert taken is (Reason.TAINTED if account.cents >= cents else Reason.NOT_ENOUGH)
        return
    assert worth(taken.coins) == cents
    assert not taken.coins.keys() & taken.account.coins.keys()
    assert origins(taken.coins) + origins(taken.account.coins) == origins(account.coins)


@given(payable)
def test_withdraw_splits_one_coin_at_most_and_touches_no_tainted_one(asked: tuple[Account, int]) -> None:
    """Two new coins at most, children of one; every other coin is as it was, and all tainted ones stay."""
    account, cents = asked
    taken = withdraw(account, cents, "t")
    assert isinstance(taken, Withdrawal)
    after = {**taken.coins, **taken.account.coins}
    new = after.keys() - account.coins.keys()
    gone = account.coins.keys() - after.keys()
    assert (len(new), len(gone)) in ((0, 0), (2, 1))
    assert all(after[id_] == coin for id_, coin in account.coins.items() if id_ not in gone)
    assert not any(coin.tainted for coin in taken.coins.values())
    tainted = {id_: coin for id_, coin in account.coins.items() if coin.tainted}
    assert tainted.items() <= taken.account.coins.items()


@given(accounts, st.integers(1, 200))
def test_withdraw_from_equal_accounts_takes_equal_coins(account: Account, cents: int) -> None:
    """Neither the order in which coins are stored nor chance decides, so a copy of a transfer comes out alike."""
    other = evolve(account, coins=dict(reversed(account.coins.items())))
    assert withdraw(account, cents, "t") == withdraw(other, cents, "t")


@given(st.lists(st.tuples(st.sampled_from([1, 5, 10, 50, 100]), st.booleans()), min_size=1, max_size=9))
def test_withdraw_of_coins_that_divide_each_other_splits_none_in_vain(coins: list[tuple[int, bool]]) -> None:
    """With coins of which each is a multiple of the next smaller, none is split where some come out even."""
    account = Account.of(*(cents for cents, _ in coins), prefix="c")
    wanted = sum(cents for cents, asked in coins if asked) or coins[0][0]
    taken = withdraw(account, wanted, "t")
    assert isinstance(taken, Withdrawal)
    assert taken.coins.keys() <= account.coins.keys()


@given(st.integers(1, 60), st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=7))
def test_withdraw_of_what_one_coin_is_worth_splits_none_larger(cents: int, others: list[tuple[int, bool]]) -> None:
    """A coin that is worth precisely what is asked, with none smaller about, leaves whole."""
    rest = {f"c{n}": Coin(worth, tainted) for n, (worth, tainted) in enumerate(others) if tainted or worth > cents}
    account = Account(coins={"exact": Coin(cents), **rest})
    assert withdraw(account, cents, "t") == Withdrawal(Account(coins=rest), {"exact": Coin(cents)})


def test_withdraw_splits_the_smallest_coin_that_is_left() -> None:
    """The largest coins that fit go first; then the smallest of the others is split, and its change stays."""
    account = Account.of(100, 80, 50, 20, prefix="c")
    taken = withdraw(account, 90, "t")
    assert isinstance(taken, Withdrawal)
    paid, change = split("c3", Coin(20), 10, "t")
    assert taken.coins == {"c1": Coin(80), **paid}
    assert taken.account.coins == {"c0": Coin(100), "c2": Coin(50), **change}


def test_split_gives_ids_by_coin_and_transfer_and_remembers_what_was_minted() -> None:
    """No two splits of the bank give one id; a child of a child knows the coin that was minted."""
    children = [split(id_, Coin(3), 1, transfer) for id_ in ("a", "b") for transfer in ("t", "u")]
    ids = [id_ for paid, change in children for id_ in (*paid, *change)]
    assert len(set(ids)) == 8
    ((child, coin),) = children[0][1].items()
    (grandchild,) = split(child, coin, 1, "v")[0].values()
    assert (coin, grandchild) == (Coin(2, False, "a"), Coin(1, False, "a"))


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        (Account.of(100, prefix="c", blocked=True), Account({}), Reason.SOURCE_BLOCKED),
        (Account.of(100, prefix="c"), Account({}, blocked=True), Reason.TARGET_BLOCKED),
        (Account.of(69, prefix="c"), Account({}), Reason.NOT_ENOUGH),
        (Account.of(69, prefix="c", tainted=[1]), Account({}), Reason.TAINTED),
        (Account({}, reservations={"u": {"c": Coin(100)}}), Account({}), Reason.NOT_ENOUGH),
    ],
)
def test_move_against_a_rule_is_refused_with_its_reason(source: Account, target: Account, reason: Reason) -> None:
    """Neither account blocked, enough funds that are neither tainted nor reserved: else a reason, and no new values."""
    assert move(source, target, 70, "t") is reason


@given(payable, accounts)
def test_move_conserves_every_coin(asked: tuple[Account, int], target: Account) -> None:
    """What left the source is what came to the target, and both together have what they had."""
    source, cents = asked
    target = evolve(target, coins={f"other-{id_}": coin for id_, coin in target.coins.items()})
    after = move(source, target, cents, "t")
    assert isinstance(after, Moved)
    assert after.target.cents - target.cents == source.cents - after.source.cents == cents
    assert origins(after.source.coins) + origins(after.target.coins) == origins(source.coins) + origins(target.coins)
    assert not after.source.coins.keys() & after.target.coins.keys()


@given(payable)
def test_release_after_reserve_gives_the_same_coins_back(asked: tuple[Account, int]) -> None:
    """All that was set aside comes back as it is: a coin that was split stays split, and none is merged."""
    account, cents = asked
    reserved = reserve(account, cents, "t")
    assert isinstance(reserved, Withdrawal)
    assert reserved.account.reservations == {"t": reserved.coins}
    released = release(reserved.account, "t")
    assert released == Account(coins={**reserved.account.coins, **reserved.coins})
    assert confirm(reserved.account, "t") == Account(coins=reserved.account.coins)


def test_confirm_and_release_of_nothing_say_that_the_books_are_wrong() -> None:
    """A reservation that is not there is neither dropped nor given back in silence."""
    for end in (confirm, release):
        with pytest.raises(BooksError, match=r"nothing is reserved for transfer 't'.*audit_bank.*dead letter"):
            end(Account({}), "t")


def test_deposit_of_a_coin_that_is_there_says_that_the_books_are_wrong() -> None:
    """A coin has one id in the whole bank; a second one of that id is never taken for the first."""
    with pytest.raises(BooksError, match="coin c0 arrives where it is already"):
        deposit(Account.of(5, prefix="c"), {"c0": Coin(5)})


@pytest.mark.parametrize("cents", [0, -1])
def test_withdraw_of_nothing_is_a_mistake(cents: int) -> None:
    """There is no transfer of nothing, and none backwards."""
    with pytest.raises(ValueError, match="move 1 or more"):
        withdraw(Account.of(5, prefix="c"), cents, "t")


# -- what is no order --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cents": 0}, "0 is no amount"),
        ({"cents": 1.5}, "1.5 is no amount; amounts are whole cents"),
        ({"transfer": ""}, "Length"),
        ({"transfer": "t" * 401}, "Length"),
        ({"source": "alice"}, r"write DocumentKey\(name, group\)"),
        ({"target": DocumentKey("bob")}, "bob stands alone; accounts are documents of a group"),
        ({"target": DocumentKey("transfer/x", "north")}, "begin it otherwise than with 'transfer/'"),
        ({"within_s": 0}, "give seconds over 0, or None"),
    ],
)
def test_order_that_cannot_be_is_refused_when_it_is_made(change: dict[str, Any], said: str) -> None:
    """Who makes it hears of it, and not a dead letter."""
    with pytest.raises((ValueError, TypeError), match=said):
        TransferMoney(**{"transfer": "t", "source": ALICE, "target": BOB, "cents": 1} | change)


# -- the bank, on a store in memory --------------------------------------------------------------------------------


@define
class Town:
    """A bank with Alice and Bob in the north and Carol in the south; all that it answers is heard by `client`.

    Attributes:
        bus: in memory, with a clock that stands still.
        heard: what came to the client, and what was published.
    """

    clock: Clock
    bus: Bus
    heard: list[Any] = field(factory=list)

    @property
    def documents(self) -> Documents:
        return self.bus.documents

    def put(self, key: DocumentKey, account: Account) -> None:
        self.documents.overwrite(key, account)

    def account(self, key: DocumentKey) -> Account:
        return self.documents.load(key, Account).value

    def leg(self, group: str, transfer: str = "t") -> Leg | None:
        found = self.documents.load(leg_key(transfer, group), Leg)
        return found.value if found.exists else None

    def ask(self, *commands: Any) -> list[Any]:
        """Have the bank handle commands one by one, and return what it answers."""
        before = len(self.heard)
        for command in commands:
            self.bus.send(command, to="bank", reply_to="client")
            self.run()
        return self.heard[before:]

    def transfer(self, *orders: TransferMoney, reply_to: str = "") -> list[Any]:
        """Have them all under way at once, and return what was announced."""
        before = len(self.heard)
        self.bus.send_many(orders, to="transfers", reply_to=reply_to)
        self.run()
        return self.heard[before:]

    def run(self) -> None:
        self.bus.worker().run_until_idle()

    def dead(self) -> list[str]:
        return [letter.error for letter in self.bus.store.dead(10)]


ANSWERS = (
    MoneyMoved,
    MoveRefused,
    MoneyReserved,
    ReservationRefused,
    MoneyDeposited,
    DepositRefused,
    TransferConfirmed,
    MoneyReleased,
    MoneyTransferred,
    TransferRefused,
)


def opened(**options: Any) -> Town:
    clock = Clock()
    bus = Bus(*memory_parts(clock), claim_s=86_400.0)
    town = Town(clock, bus)
    bus.endpoint("transfers", Transfer)
    open_bank(bus, **options)

    def hear(m: Any) -> None:
        town.heard.append(m)

    bus.endpoint("client").consumer(*ANSWERS)(hear)
    town.put(ALICE, Account.of(100, 50, prefix="a", tainted=[7]))
    town.put(BOB, Account.of(100, prefix="b"))
    town.put(CAROL, Account({}))
    return town


@pytest.fixture
def town() -> Iterator[Town]:
    town = opened()
    with town.bus:
        yield town


def test_move_within_a_group_changes_both_accounts_and_writes_a_leg(town: Town) -> None:
    """The money is at the target, and the leg names the coins."""
    assert town.ask(MoveMoney(HOME)) == [MoneyMoved("t")]
    assert (town.account(ALICE).cents, town.account(BOB).cents) == (87, 170)
    leg = town.leg("north")
    assert leg is not None
    assert (leg.stage, worth(leg.coins)) == (Stage.MOVED, 70)
    assert leg.coins.items() <= town.account(BOB).coins.items()


@pytest.mark.parametrize("cents", [70, 1000], ids=["moved", "refused"])
def test_move_asked_again_answers_the_same_whatever_has_changed(town: Town, cents: int) -> None:
    """The leg says what was decided; nothing is decided twice."""
    order = evolve(HOME, cents=cents)
    first = town.ask(MoveMoney(order))
    town.put(ALICE, Account.of(5000, prefix="new", blocked=cents == 70))
    before = town.account(ALICE)
    assert town.ask(MoveMoney(order)) == first
    assert town.account(ALICE) == before


@pytest.mark.parametrize(
    ("source", "target", "answer"),
    [
        (DocumentKey("nobody", "north"), BOB, Reason.NO_SOURCE),
        (ALICE, DocumentKey("nobody", "north"), Reason.NO_TARGET),
    ],
)
def test_move_of_an_account_that_is_not_there_is_refused(
    town: Town, source: DocumentKey, target: DocumentKey, answer: Reason
) -> None:
    """Who pays or receives must exist; no account is made by the way."""
    assert town.ask(MoveMoney(Order("t", source, target, 5))) == [MoveRefused("t", answer)]


def test_reserve_deposit_confirm_moves_money_between_groups(town: Town) -> None:
    """Set aside, arrived, dropped: at each step the money is in one place, and two legs say which."""
    assert town.ask(ReserveMoney(AWAY)) == [MoneyReserved("t")]
    assert (town.account(ALICE).cents, worth(town.account(ALICE).reservations["t"])) == (87, 70)
    assert audit_bank(town.documents, GROUPS).under_way == ("t",)
    assert town.ask(DepositMoney(AWAY)) == [MoneyDeposited("t")]
    assert town.account(CAROL).cents == 70
    assert audit_bank(town.documents, GROUPS).cents == 257
    assert town.ask(ConfirmTransfer(AWAY)) == [TransferConfirmed("t")]
    assert town.account(ALICE).reservations == {}
    assert [leg.stage for leg in (town.leg("north"), town.leg("south")) if leg] == [Stage.CONFIRMED, Stage.DEPOSITED]


@pytest.mark.parametrize(
    "commands",
    [
        [ReserveMoney(AWAY)],
        [ReserveMoney(AWAY), DepositMoney(AWAY)],
        [ReserveMoney(AWAY), DepositMoney(AWAY), ConfirmTransfer(AWAY)],
        [ReserveMoney(AWAY), ReleaseMoney(AWAY, Reason.OVERDUE)],
        [ReleaseMoney(AWAY, Reason.OVERDUE)],
        [ReserveMoney(evolve(AWAY, cents=1000))],
        [ReserveMoney(evolve(AWAY, cents=1000)), ReleaseMoney(evolve(AWAY, cents=1000), Reason.OVERDUE)],
    ],
    ids=["reserve", "deposit", "confirm", "release", "release-first", "refused", "release-of-nothing"],
)
def test_step_between_groups_asked_again_answers_the_same_and_writes_nothing(town: Town, commands: list[Any]) -> None:
    """Copies of a command, however late, find the leg."""
    (answer,) = town.ask(*commands)[-1:]
    before = Books.read(town.documents, GROUPS)
    assert town.ask(commands[-1], commands[-1]) == [answer, answer]
    assert Books.read(town.documents, GROUPS) == before


def test_release_that_overtakes_its_reserve_has_it_refused(town: Town) -> None:
    """A leg that says released is there first; nothing is ever set aside for this transfer."""
    before = town.account(ALICE)
    assert town.ask(ReleaseMoney(AWAY, Reason.OVERDUE)) == [MoneyReleased("t")]
    assert town.ask(ReserveMoney(AWAY)) == [ReservationRefused("t", Reason.OVERDUE)]
    assert town.account(ALICE) == before


def test_release_gives_money_back_to_an_account_blocked_meanwhile(town: Town) -> None:
    """It was the source's all the time; blocking an account takes nothing from it."""
    before = town.account(ALICE).cents
    town.ask(ReserveMoney(AWAY))
    town.put(ALICE, evolve(town.account(ALICE), blocked=True))
    assert town.ask(ReleaseMoney(AWAY, Reason.OVERDUE)) == [MoneyReleased("t")]
    assert (town.account(ALICE).cents, town.account(ALICE).reservations) == (before, {})


def test_release_of_what_the_target_has_goes_forward(town: Town) -> None:
    """As after a failover that lost what the saga had decided: the deposit stands, and is confirmed."""
    town.ask(ReserveMoney(AWAY), DepositMoney(AWAY))
    assert town.ask(ReleaseMoney(AWAY, Reason.OVERDUE)) == [MoneyDeposited("t")]
    assert town.ask(ConfirmTransfer(AWAY), ReleaseMoney(AWAY, Reason.OVERDUE))[1:] == [MoneyDeposited("t")]
    assert (town.account(ALICE).reservations, town.account(CAROL).cents) == ({}, 70)


def test_deposit_that_comes_after_the_release_is_refused(town: Town) -> None:
    """Likewise: what has been given back is not deposited as well."""
    town.ask(ReserveMoney(AWAY), ReleaseMoney(AWAY, Reason.OVERDUE))
    assert town.ask(DepositMoney(AWAY)) == [DepositRefused("t", Reason.OVERDUE)]
    assert (town.account(ALICE).cents, town.account(CAROL).cents) == (157, 0)


@pytest.mark.parametrize(
    ("account", "reason"), [(Account({}, blocked=True), Reason.TARGET_BLOCKED), (None, Reason.NO_TARGET)]
)
def test_deposit_refused_stays_refused(town: Town, account: Account | None, reason: Reason) -> None:
    """Once said, also where the target could take it later: the source may have its money back by then."""
    if account is None:
        town.documents.delete(CAROL, town.documents.load(CAROL, Account).etag or "")
    else:
        town.put(CAROL, account)
    town.ask(ReserveMoney(AWAY))
    assert town.ask(DepositMoney(AWAY)) == [DepositRefused("t", reason)]
    town.put(CAROL, Account({}))
    town.ask(ReleaseMoney(AWAY, reason))
    assert town.ask(DepositMoney(AWAY)) == [DepositRefused("t", reason)]
    assert town.account(CAROL) == Account({})


@frozen
class Customer:
    name: str


def test_document_that_is_no_account_is_neither_paid_nor_overwritten(town: Town) -> None:
    """Where a key was mistaken, the error names the document, and what is in it stays."""
    dora = DocumentKey("dora", "north")
    town.documents.create(dora, Customer("Dora"))
    with pytest.raises(CorruptDocumentError, match="north/dora"):
        told(MoveMoney(Order("t", ALICE, dora, 5)), town.documents)
    assert town.documents.load(dora, Customer).value == Customer("Dora")


def told(command: Any, documents: Documents) -> None:
    """Call the bank's consumer of *command* as a worker does."""
    bank = Bank()
    {
        DepositMoney: bank.deposit,
        ConfirmTransfer: bank.confirm,
        ReleaseMoney: bank.release,
        MoveMoney: bank.move,
        ReserveMoney: bank.reserve,
    }[type(command)](command, Context("bank", None, 0, documents))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "wrong", "problem"),
    [
        ([], DepositMoney(AWAY), "money that is not reserved"),
        ([ReleaseMoney(AWAY, Reason.OVERDUE)], DepositMoney(AWAY), "money that is not reserved"),
        ([], ConfirmTransfer(AWAY), "nothing is reserved for it"),
        ([ReserveMoney(AWAY)], ConfirmTransfer(AWAY), "its target does not have the money"),
    ],
)
def test_step_that_the_books_contradict_writes_nothing_and_says_so(
    town: Town, before: list[Any], wrong: Any, problem: str
) -> None:
    """As after a failover that lost a write: better a dead letter than money made or lost."""
    town.ask(*before)
    books = Books.read(town.documents, GROUPS)
    with pytest.raises(BooksError, match=problem):
        told(wrong, town.documents)
    assert Books.read(town.documents, GROUPS) == books


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (MoveMoney(HOME), MoveMoney(evolve(HOME, cents=71))),
        (ReserveMoney(AWAY), ReserveMoney(evolve(AWAY, cents=71))),
        (ReserveMoney(AWAY), DepositMoney(evolve(AWAY, cents=71))),
        (ReserveMoney(AWAY), ConfirmTransfer(evolve(AWAY, cents=71))),
        (ReserveMoney(AWAY), ReleaseMoney(evolve(AWAY, cents=71), Reason.OVERDUE)),
    ],
)
def test_transfer_with_an_id_that_is_taken_is_nobodys(town: Town, first: Any, second: Any) -> None:
    """Another order under the same id is no copy: nothing is moved, and the error names both."""
    town.ask(first)
    books = Books.read(town.documents, GROUPS)
    with pytest.raises(TransferTakenError, match=r"70 cents from north/alice.* 71 cents .*an id of its own"):
        told(second, town.documents)
    assert Books.read(town.documents, GROUPS) == books


def test_release_of_what_is_confirmed_without_a_deposit_says_that_the_books_are_wrong(town: Town) -> None:
    """Money that was dropped at the source is not made again."""
    town.documents.create(AWAY.source_leg, Leg(AWAY, Stage.CONFIRMED, {"c": Coin(70)}))
    with pytest.raises(BooksError, match="is confirmed without a deposit"):
        told(ReleaseMoney(AWAY, Reason.OVERDUE), town.documents)


def test_account_that_is_gone_with_a_reservation_is_missed(town: Town) -> None:
    """Money set aside is not dropped with the account that somebody deleted."""
    town.ask(ReserveMoney(AWAY), DepositMoney(AWAY))
    town.documents.delete(ALICE, town.documents.load(ALICE, Account).etag or "")
    with pytest.raises(BooksError, match="no such account any more"):
        told(ConfirmTransfer(AWAY), town.documents)


@define
class Outrun(Documents):
    """Documents of which somebody else changes one just before each of the next writes."""

    inner: Documents
    meddle: Callable[[], None]
    times: int

    def load(self, key: Any, kind: Any) -> Any:
        return self.inner.load(key, kind)

    def load_many(self, keys: Any, kind: Any) -> Any:
        return self.inner.load_many(keys, kind)

    def compare_exchange(self, changes: Any, **options: Any) -> Any:
        if self.times:
            self.times -= 1
            self.meddle()
        return self.inner.compare_exchange(changes, **options)


def blocked_meanwhile(town: Town, times: int) -> Documents:
    """Return documents in which Alice's account changes before each of the next writes, and is blocked at last."""
    return Outrun(town.documents, lambda: town.put(ALICE, evolve(town.account(ALICE), blocked=True)), times)


@pytest.mark.parametrize(("command", "group"), [(MoveMoney(HOME), "north"), (ReserveMoney(AWAY), "north")])
def test_write_that_others_outran_is_decided_again_on_what_is_there(town: Town, command: Any, group: str) -> None:
    """The account was blocked between load and write: the second try sees that and refuses."""
    told(command, blocked_meanwhile(town, 1))
    leg = town.leg(group)
    assert leg is not None
    assert (leg.stage, leg.reason) == (Stage.REFUSED, Reason.SOURCE_BLOCKED)


def test_write_that_others_outrun_every_time_is_left_to_a_later_try(town: Town) -> None:
    """The bank does not try for ever: the runtime retries the message, with a delay."""

    def touch() -> None:
        town.put(ALICE, town.account(ALICE))

    with pytest.raises(ConcurrencyError):
        told(MoveMoney(HOME), Outrun(town.documents, touch, TRIES))
    told(MoveMoney(HOME), Outrun(town.documents, touch, TRIES - 1))
    assert town.account(BOB).cents == 170


# -- the whole bank ------------------------------------------------------------------------------------------------


def test_transfer_both_ways_announces_one_outcome_each(town: Town) -> None:
    """Within a group and between groups, in time and refused: one event each, and the books are closed."""
    town.put(DocumentKey("dora", "south"), Account({}, blocked=True))
    before = audit_bank(town.documents, GROUPS)
    orders = [
        TransferMoney("home", ALICE, BOB, 70),
        TransferMoney("away", BOB, CAROL, 60, within_s=60),
        TransferMoney("blocked", BOB, DocumentKey("dora", "south"), 1),
        TransferMoney("too-much", CAROL, ALICE, 5000),
        TransferMoney("circle", ALICE, ALICE, 1),
    ]
    heard = {m.transfer: m for m in town.transfer(*orders)}
    assert heard == {
        "home": MoneyTransferred("home", ALICE, BOB, 70),
        "away": MoneyTransferred("away", BOB, CAROL, 60),
        "blocked": TransferRefused("blocked", BOB, DocumentKey("dora", "south"), 1, Reason.TARGET_BLOCKED),
        "too-much": TransferRefused("too-much", CAROL, ALICE, 5000, Reason.NOT_ENOUGH),
        "circle": TransferRefused("circle", ALICE, ALICE, 1, Reason.SAME_ACCOUNT),
    }
    assert len(town.heard) == len(orders)
    after = audit_bank(town.documents, GROUPS)
    assert (after.ok, after.under_way, after.conserves(before)) == (True, (), True)
    assert [town.account(key).cents for key in (ALICE, BOB, CAROL)] == [87, 110, 60]


def test_transfer_sent_again_under_another_message_id_moves_money_once(town: Town) -> None:
    """The transfer's id counts, and not the message's; an event is not announced again."""
    order = TransferMoney("t", ALICE, BOB, 70)
    assert len(town.transfer(order, order)) == 1
    assert town.transfer(order) == []
    assert town.transfer(order, reply_to="client") == []
    assert (town.account(BOB).cents, town.dead()) == (170, [])


def test_transfer_with_reply_answers_its_sender_alone_also_when_asked_again(town: Town) -> None:
    """Nothing is published; who asks again when it is over is told again."""
    order = TransferMoney("t", ALICE, CAROL, 70, reply=True)
    assert town.transfer(order, reply_to="client") == [MoneyTransferred("t", ALICE, CAROL, 70)]
    assert town.transfer(order, reply_to="client") == [MoneyTransferred("t", ALICE, CAROL, 70)]
    assert town.account(CAROL).cents == 70


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(*[st.sampled_from([ALICE, BOB, CAROL, DocumentKey("dora", "south")])] * 2, st.integers(1, 90)),
        max_size=12,
    )
)
def test_transfers_at_random_conserve_every_coin(orders: list[tuple[DocumentKey, DocumentKey, int]]) -> None:
    """Whatever goes where: money is conserved, each coin is in one place, and each transfer has one outcome."""
    town = opened()
    with town.bus:
        town.put(DocumentKey("dora", "south"), Account.of(30, 40, prefix="d", tainted=[500]))
        before = audit_bank(town.documents, GROUPS)
        heard = town.transfer(*(TransferMoney(f"t{n}", *order) for n, order in enumerate(orders)))
        after = audit_bank(town.documents, GROUPS)
    assert after.problems == ()
    assert (after.under_way, after.conserves(before)) == ((), True)
    assert sorted(m.transfer for m in heard) == sorted(f"t{n}" for n in range(len(orders)))


# -- legs that expire ----------------------------------------------------------------------------------------------


def test_bank_that_keeps_legs_for_a_time_forgets_those_of_transfers_that_are_over() -> None:
    """The legs of what is over go after that time; the leg of a reservation stays as long as it."""
    town = opened(keep=timedelta(days=30))
    with town.bus:
        town.transfer(
            TransferMoney("home", ALICE, BOB, 10),
            TransferMoney("away", ALICE, CAROL, 10),
            TransferMoney("refused", ALICE, CAROL, 5000),
        )
        town.ask(ReserveMoney(AWAY))
        names = {"home": 1, "away": 2, "refused": 1, "t": 1}
        assert Counter(key.name.split("/")[1] for key in Books.read(town.documents, GROUPS).legs) == names
        town.clock.advance(30 * 86_400 + 1)
        assert set(Books.read(town.documents, GROUPS).legs) == {leg_key("t", "north")}
        assert audit_bank(town.documents, GROUPS).ok


def test_copy_of_a_command_keeps_legs_no_longer() -> None:
    """The time runs from the end of the transfer, and not from when somebody asked about it last."""
    town = opened(keep=timedelta(days=30))
    with town.bus:
        town.transfer(TransferMoney("t", ALICE, CAROL, 70))
        town.clock.advance(20 * 86_400)
        assert town.ask(ConfirmTransfer(AWAY)) == [TransferConfirmed("t")]
        town.clock.advance(11 * 86_400)
        assert Books.read(town.documents, GROUPS).legs == {}


def test_deposit_copied_after_the_legs_are_forgotten_makes_no_money() -> None:
    """Its reservation is not there any more, and the bank says so."""
    town = opened(keep=timedelta(days=30))
    with town.bus:
        town.transfer(TransferMoney("t", ALICE, CAROL, 70))
        town.clock.advance(30 * 86_400 + 1)
        with pytest.raises(BooksError, match="money that is not reserved"):
            told(DepositMoney(AWAY), town.documents)
        assert town.account(CAROL).cents == 70


def test_bank_that_forgets_sooner_than_messages_may_come_is_refused() -> None:
    """A copy of a command must find its leg for as long as there may be copies."""
    with Bus(store="memory:", transport="memory:") as bus:
        with pytest.raises(ConfigurationError, match="keep legs at least that long, or for ever"):
            open_bank(bus, keep=timedelta(days=1))
        assert open_bank(bus, "vault", concurrency=2).name == "vault"


@pytest.mark.parametrize("name", ["bank", "vault"])
def test_second_bank_on_a_bus_is_refused_and_leaves_the_first(name: str) -> None:
    """It would take all commands of the first one; both may have a bus of their own."""
    with Bus(store="memory:", transport="memory:") as bus, Bus(store="memory:", transport="memory:") as other:
        open_bank(bus)
        before = dict(bus.routes)
        with pytest.raises(ConfigurationError, match=r"goes to endpoint 'bank' already.* a bus of its own"):
            open_bank(bus, name)
        assert (bus.routes, list(bus.endpoints)) == (before, ["bank"])
        assert open_bank(other, name).name == name


# -- the saga, message by message ------------------------------------------------------------------------------------


@pytest.fixture
def transfer(saga_harness: Callable[..., SagaHarness[TransferState]]) -> SagaHarness[TransferState]:
    """Return a transfer between groups that has asked for a reservation, and may take a minute for it."""
    harness = saga_harness(Transfer)
    asked, timer = harness.give(TransferMoney("t", ALICE, CAROL, 70, within_s=60))
    assert isinstance(asked, Sent)
    assert asked.message == ReserveMoney(AWAY)
    assert isinstance(timer, Deferred)
    return harness


def messages_of(released: list[Any]) -> list[Any]:
    return [release.message for release in released if not isinstance(release, Deferred)]


def test_transfer_overdue_before_it_hears_of_the_reservation_gives_back_what_may_be_reserved(
    transfer: SagaHarness[TransferState],
) -> None:
    """The deadline cancels; that the reservation was made after all changes nothing, and is no news."""
    assert messages_of(transfer.advance(60)) == [ReleaseMoney(AWAY, Reason.OVERDUE)]
    assert transfer.give(MoneyReserved("t")) == []
    assert transfer.give(MoneyReleased("t")) == [Published(TransferRefused("t", ALICE, CAROL, 70, Reason.OVERDUE))]
    assert transfer.completed
    assert transfer.give(ReservationRefused("t", Reason.OVERDUE)) == []


def test_transfer_that_has_asked_for_the_deposit_knows_no_deadline(transfer: SagaHarness[TransferState]) -> None:
    """From there it goes forward only, however long it takes; also where the timer fired already."""
    assert set(transfer.timers) == {"deadline"}
    assert messages_of(transfer.give(MoneyReserved("t"))) == [DepositMoney(AWAY)]
    assert transfer.timers == {}
    assert transfer.advance(3600) == []
    assert transfer.give(TransferDeadline(), saga="t") == []
    assert messages_of(transfer.give(MoneyDeposited("t"))) == [ConfirmTransfer(AWAY)]
    assert transfer.give(TransferConfirmed("t")) == [Published(MoneyTransferred("t", ALICE, CAROL, 70))]
    assert transfer.completed


def test_transfer_that_finds_its_money_deposited_while_it_gives_back_goes_forward(
    transfer: SagaHarness[TransferState],
) -> None:
    """Only a failover brings it there; the outcome is then what the books say."""
    transfer.advance(60)
    assert messages_of(transfer.give(MoneyDeposited("t"))) == [ConfirmTransfer(AWAY)]
    assert transfer.give(TransferConfirmed("t")) == [Published(MoneyTransferred("t", ALICE, CAROL, 70))]


def test_transfer_whose_target_refuses_gives_the_money_back(transfer: SagaHarness[TransferState]) -> None:
    """With the target's reason, which is the outcome."""
    transfer.give(MoneyReserved("t"))
    asked = transfer.give(DepositRefused("t", Reason.TARGET_BLOCKED))
    assert messages_of(asked) == [ReleaseMoney(AWAY, Reason.TARGET_BLOCKED)]
    outcome = TransferRefused("t", ALICE, CAROL, 70, Reason.TARGET_BLOCKED)
    assert transfer.give(MoneyReleased("t")) == [Published(outcome)]


@pytest.mark.parametrize(
    "answers",
    [
        [],
        [MoneyReserved("t")],
        [MoneyReserved("t"), MoneyDeposited("t")],
        [MoneyReserved("t"), DepositRefused("t", Reason.TARGET_BLOCKED)],
    ],
    ids=["reserving", "depositing", "confirming", "releasing"],
)
def test_transfer_told_what_it_does_not_wait_for_does_nothing(
    transfer: SagaHarness[TransferState], answers: list[Any]
) -> None:
    """Every answer but the one to what was asked last is old news."""
    for answer in answers:
        transfer.give(answer)
    state = transfer.state
    awaited: dict[str, tuple[type, ...]] = {
        "reserving": (MoneyReserved, ReservationRefused),
        "depositing": (MoneyDeposited, DepositRefused),
        "confirming": (TransferConfirmed,),
        "releasing": (MoneyReleased, MoneyDeposited),
    }
    others = [
        MoneyMoved("t"),
        MoveRefused("t", Reason.TAINTED),
        MoneyReserved("t"),
        ReservationRefused("t", Reason.TAINTED),
        MoneyDeposited("t"),
        DepositRefused("t", Reason.TAINTED),
        TransferConfirmed("t"),
        MoneyReleased("t"),
        TransferMoney("t", ALICE, CAROL, 70),
    ]
    for other in others:
        if not isinstance(other, awaited[state.phase]):
            assert transfer.give(other) == []
            assert transfer.state == state


@pytest.mark.parametrize("over", [False, True])
def test_transfer_asked_for_again_as_another_says_that_the_id_is_taken(
    transfer: SagaHarness[TransferState], over: bool
) -> None:
    """Under way or over, an id is one order's."""
    if over:
        transfer.give(ReservationRefused("t", Reason.TAINTED))
    with pytest.raises(TransferTakenError, match="give each transfer an id of its own"):
        transfer.give(TransferMoney("t", ALICE, BOB, 70))


def test_transfer_that_asks_for_a_reply_tells_its_starter_alone(
    saga_harness: Callable[..., SagaHarness[TransferState]],
) -> None:
    """A saga that orders a transfer is found by the answer; nobody else hears of it."""
    harness = saga_harness(Transfer)
    order = TransferMoney("t", ALICE, ALICE, 70, reply=True)
    outcome = TransferRefused("t", ALICE, ALICE, 70, Reason.SAME_ACCOUNT)
    (answer,) = harness.give(order, reply_to="orders")
    assert isinstance(answer, Replied | Sent)
    assert (answer.message, answer.to) == (outcome, "orders")


# -- the audit -----------------------------------------------------------------------------------------------------

COINS = {"c": Coin(70)}
RESERVING = Account({}, reservations={"t": COINS})
RESERVED, DEPOSITED = Leg(AWAY, Stage.RESERVED, COINS), Leg(AWAY, Stage.DEPOSITED, COINS)
NORTH, SOUTH = leg_key("t", "north"), leg_key("t", "south")


@pytest.mark.parametrize(
    ("accounts", "legs", "problem"),
    [
        ({ALICE: Account(coins=COINS), BOB: Account(coins=COINS)}, {}, "coin c is in 2 places: north/alice, north/bob"),
        ({ALICE: RESERVING, CAROL: Account(coins=COINS)}, {NORTH: RESERVED}, "coin c is in 2 places"),
        ({ALICE: RESERVING}, {}, "has money set aside, and there is no leg north/transfer/t"),
        ({ALICE: RESERVING}, {NORTH: evolve(RESERVED, stage=Stage.RELEASED)}, "leg north/transfer/t says released"),
        ({ALICE: RESERVING}, {NORTH: evolve(RESERVED, coins={"d": Coin(70)})}, "other coins set aside than leg"),
        ({ALICE: Account({})}, {NORTH: RESERVED}, "says reserved, and account north/alice has nothing set aside"),
        ({}, {NORTH: evolve(RESERVED, coins={"c": Coin(69)})}, "coins worth 69 cents for a transfer of 70"),
        ({}, {NORTH: evolve(RESERVED, coins={"c": Coin(70, tainted=True)})}, "names tainted coins"),
        (
            {ALICE: Account({}, reservations={"t": {"c": Coin(70, tainted=True)}})},
            {NORTH: evolve(RESERVED, coins={"c": Coin(70, tainted=True)})},
            "account north/alice has tainted coins set aside",
        ),
        ({}, {NORTH: evolve(RESERVED, stage=Stage.RELEASED), SOUTH: DEPOSITED}, "says released, and leg south"),
        (
            {},
            {NORTH: evolve(RESERVED, stage=Stage.CONFIRMED), SOUTH: evolve(DEPOSITED, stage=Stage.REFUSED)},
            "says confirmed, and leg south/transfer/t says refused",
        ),
    ],
)
def test_audit_of_books_that_are_wrong_names_the_problem(
    accounts: dict[DocumentKey, Account], legs: dict[DocumentKey, Leg], problem: str
) -> None:
    """Each way in which money, coins, reservations and legs can contradict each other is told."""
    found = examine(Books(accounts, legs))
    assert not found.ok
    assert any(problem in line for line in found.problems), found.problems


def test_audit_counts_a_reserved_coin_once_before_and_after_its_deposit() -> None:
    """As the source's until the deposit leg is there, as the target's from then on, wherever it goes."""
    before = examine(Books({ALICE: RESERVING, CAROL: Account({})}, {NORTH: RESERVED}))
    after = examine(Books({ALICE: RESERVING, CAROL: Account(coins=COINS)}, {NORTH: RESERVED, SOUTH: DEPOSITED}))
    gone_on = examine(Books({ALICE: evolve(RESERVING, coins=COINS)}, {NORTH: RESERVED, SOUTH: DEPOSITED}))
    for found in (before, after, gone_on):
        assert (found.problems, found.cents, found.coins, found.under_way) == ((), 70, 1, ("t",))
    assert after.conserves(before)


def test_audit_of_money_lost_or_merged_does_not_conserve() -> None:
    """The sum is not enough: what is there of every coin that was minted must be the same."""
    before = examine(Books({ALICE: Account.of(30, 40, prefix="c")}))
    merged = examine(Books({ALICE: Account(coins={"c0": Coin(70)})}))
    lost = examine(Books({ALICE: Account.of(30, prefix="c")}))
    assert before.cents == merged.cents
    assert not merged.conserves(before)
    assert not lost.conserves(before)


def test_audit_of_one_group_looks_up_what_became_of_its_reservations_elsewhere(town: Town) -> None:
    """A coin that has arrived in a group that is not audited is not counted here."""
    town.ask(ReserveMoney(AWAY))
    assert audit_bank(town.documents, ["north"]).cents == 257
    town.ask(DepositMoney(AWAY))
    assert audit_bank(town.documents, ["north"]).cents == 187


def test_order_from_the_wire_is_held_to_the_same_rules() -> None:
    """What another program sends wrong is a dead letter that says what is wrong, and moves nothing."""
    codec = type_of(TransferMoney("t", ALICE, BOB, 1)).codec
    with pytest.raises(CodecError, match="stands alone"):
        codec.decode(b'{"transfer":"t","source":{"name":"a"},"target":{"name":"b","group":"g"},"cents":1}', 1)
