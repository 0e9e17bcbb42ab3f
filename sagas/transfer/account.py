"""Accounts, coins, and the rules by which coins leave and arrive. Pure: values in, new values out.

A coin has one id in the whole bank. Coins can be split and never merged; a tainted coin stays where it is.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Final

from attrs import evolve, field, frozen

from sagas.transfer.errors import BooksError

_ID_LENGTH: Final = 20


class Reason(enum.StrEnum):
    """Why money was not moved."""

    SAME_ACCOUNT = "same-account"
    NO_SOURCE = "no-source"
    NO_TARGET = "no-target"
    SOURCE_BLOCKED = "source-blocked"
    TARGET_BLOCKED = "target-blocked"
    NOT_ENOUGH = "not-enough"
    TAINTED = "tainted"
    """There would be enough, if tainted coins could move."""
    OVERDUE = "overdue"
    """The time given was over before the money was on its way."""


def an_amount(instance: object, attribute: object, cents: Any) -> None:
    """Refuse what is no amount in cents. One call: it runs for every coin of every account that is read."""
    if type(cents) is not int or cents < 1:
        raise ValueError(f"{cents!r} is no amount; amounts are whole cents, 1 or more")


@frozen
class Coin:
    """One coin.

    Attributes:
        cents: what it is worth.
        tainted: whether it must stay where it is.
        minted_as: the id of the coin that it was split off in the first place; empty for a coin as it was minted.
    """

    cents: int = field(validator=an_amount)
    tainted: bool = False
    minted_as: str = ""


Coins = Mapping[str, Coin]
"""Id -> coin."""


@frozen
class Account:
    """One account, as its document holds it.

    Attributes:
        coins: what can be spent. It has no default, so that a document of another kind is not taken for an account.
        blocked: whether no money may leave it or arrive.
        reservations: transfer -> the coins set aside for it. They are this account's until they arrive elsewhere.
    """

    coins: Mapping[str, Coin]
    blocked: bool = False
    reservations: Mapping[str, Mapping[str, Coin]] = field(factory=dict)

    @classmethod
    def of(cls, *cents: int, prefix: str, tainted: Iterable[int] = (), blocked: bool = False) -> Account:
        """Return an account with freshly minted coins called *prefix*0, *prefix*1, ..., the *tainted* ones last."""
        tainted = tuple(tainted)
        coins = [Coin(worth) for worth in cents] + [Coin(worth, tainted=True) for worth in tainted]
        return cls({f"{prefix}{number}": coin for number, coin in enumerate(coins)}, blocked)

    @property
    def cents(self) -> int:
        """Return what its coins are worth, tainted ones included and reservations not."""
        return worth(self.coins)


@frozen
class Withdrawal:
    """What leaves an account, and the account as it is then.

    Attributes:
        account: without the coins.
        coins: worth exactly what was asked for.
    """

    account: Account
    coins: Mapping[str, Coin]


@frozen
class Moved:
    """Two accounts after money went from one to the other.

    Attributes:
        coins: those that moved.
    """

    source: Account
    target: Account
    coins: Mapping[str, Coin]


def worth(coins: Coins) -> int:
    """Return what *coins* are worth together, in cents."""
    return sum(coin.cents for coin in coins.values())


def withdraw(account: Account, cents: int, transfer: str) -> Withdrawal | Reason:
    """Take untainted coins worth exactly *cents* out of an account, or say why not.

    Takes the largest coin that still fits, again and again. If something is missing then, it splits one coin, the
    smallest of those left; so at most one is split, and none where a coin is worth precisely what is asked. Equal
    accounts give equal coins with equal ids.

    Args:
        cents: at least 1.
        transfer: what it is for. Ids of split coins derive from it, so each transfer needs one of its own.

    Raises:
        ValueError: *cents* is less.
    """
    if cents < 1:
        raise ValueError(f"{cents} cents cannot be moved; move 1 or more")
    if account.blocked:
        return Reason.SOURCE_BLOCKED
    usable = {id_: coin for id_, coin in account.coins.items() if not coin.tainted}
    if worth(usable) < cents:
        return Reason.NOT_ENOUGH if account.cents < cents else Reason.TAINTED
    taken: dict[str, Coin] = {}
    missing = cents
    for id_ in sorted(usable, key=lambda id_: (-usable[id_].cents, id_)):
        if usable[id_].cents <= missing:
            taken[id_] = usable[id_]
            missing -= usable[id_].cents
    left = {id_: coin for id_, coin in account.coins.items() if id_ not in taken}
    if missing:
        smallest = min(usable.keys() - taken.keys(), key=lambda id_: (usable[id_].cents, id_))
        paid, change = split(smallest, left.pop(smallest), missing, transfer)
        taken |= paid
        left |= change
    return Withdrawal(evolve(account, coins=left), taken)


def split(id_: str, coin: Coin, cents: int, transfer: str) -> tuple[dict[str, Coin], dict[str, Coin]]:
    """Split a coin for a transfer; return a coin worth *cents*, and one worth the rest, each under its id.

    The ids are digests of the coin's own id and the transfer: the same for whoever does it, however often.
    """
    minted_as = coin.minted_as or id_
    paid = {_child(id_, transfer, "paid"): Coin(cents, coin.tainted, minted_as)}
    change = {_child(id_, transfer, "change"): Coin(coin.cents - cents, coin.tainted, minted_as)}
    return paid, change


def deposit(account: Account, coins: Coins) -> Account | Reason:
    """Put coins into an account, each under the id that it has, or say why not.

    Raises:
        BooksError: a coin is there already.
    """
    if account.blocked:
        return Reason.TARGET_BLOCKED
    return _with(account, coins)


def move(source: Account, target: Account, cents: int, transfer: str) -> Moved | Reason:
    """Move *cents* from one account to another, or say why not."""
    taken = withdraw(source, cents, transfer)
    if isinstance(taken, Reason):
        return taken
    received = deposit(target, taken.coins)
    if isinstance(received, Reason):
        return received
    return Moved(taken.account, received, taken.coins)


def reserve(account: Account, cents: int, transfer: str) -> Withdrawal | Reason:
    """Set coins worth *cents* aside for a transfer, or say why not."""
    taken = withdraw(account, cents, transfer)
    if isinstance(taken, Reason):
        return taken
    reservations = {**account.reservations, transfer: taken.coins}
    return Withdrawal(evolve(taken.account, reservations=reservations), taken.coins)


def confirm(account: Account, transfer: str) -> Account:
    """Drop what is reserved for a transfer: it has arrived elsewhere.

    Raises:
        BooksError: nothing is.
    """
    _, others = _reserved(account, transfer)
    return evolve(account, reservations=others)


def release(account: Account, transfer: str) -> Account:
    """Put what is reserved for a transfer back among the coins, also where the account has been blocked meanwhile.

    Raises:
        BooksError: nothing is.
    """
    coins, others = _reserved(account, transfer)
    return evolve(_with(account, coins), reservations=others)


def _child(id_: str, transfer: str, part: str) -> str:
    return sha256(f"{id_}\0{transfer}\0{part}".encode()).hexdigest()[:_ID_LENGTH]


def _with(account: Account, coins: Coins) -> Account:
    twice = account.coins.keys() & coins.keys()
    if twice:
        raise BooksError(f"coin {min(twice)} arrives where it is already")
    return evolve(account, coins={**account.coins, **coins})


def _reserved(account: Account, transfer: str) -> tuple[Coins, dict[str, Coins]]:
    if transfer not in account.reservations:
        raise BooksError(f"nothing is reserved for transfer {transfer!r}, though its leg says so")
    return account.reservations[transfer], {t: coins for t, coins in account.reservations.items() if t != transfer}
