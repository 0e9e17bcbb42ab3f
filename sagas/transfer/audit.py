"""The audit: whether money is conserved, and every coin is in one place. For operators, tests and examples.

Each coin is in exactly one place: among an account's coins, or in a reservation of its source whose deposit has not
happened yet. A reserved coin whose deposit leg is there counts as moved: it is the target's, and may have gone on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeVar

from attrs import field, frozen

from sagabus import DocumentKey, Documents
from sagas.transfer.account import Account, Coin, Coins, worth
from sagas.transfer.leg import Leg, Stage, is_leg, leg_key

T = TypeVar("T")

_PAID: Final = (Stage.MOVED, Stage.RESERVED, Stage.CONFIRMED, Stage.DEPOSITED)


@frozen
class Books:
    """The accounts and the legs of some groups.

    Attributes:
        accounts: those of these groups.
        legs: those of these groups, and those beyond them that say what became of a reservation in them.
    """

    accounts: Mapping[DocumentKey, Account] = field(factory=dict)
    legs: Mapping[DocumentKey, Leg] = field(factory=dict)

    @classmethod
    def read(cls, documents: Documents, groups: Iterable[str]) -> Books:
        """Load all accounts and legs of *groups*, which hold nothing else, one group after the other.

        While transfers are under way, what is read may never have been there together.

        Raises:
            CorruptDocumentError: one of their documents is neither.
            SiblingsError: an account or a leg has several values: it was written by others than the bank.
        """
        accounts: dict[DocumentKey, Account] = {}
        legs: dict[DocumentKey, Leg] = {}
        for group in dict.fromkeys(groups):
            keys = sorted(documents.group(group).keys())
            legs |= _loaded(documents, filter(is_leg, keys), Leg)
            accounts |= _loaded(documents, (key for key in keys if not is_leg(key)), Account)
        elsewhere = {legs[ours].order.target_leg for _, _, ours in _reservations(accounts) if ours in legs}
        legs |= _loaded(documents, sorted(elsewhere - legs.keys()), Leg)
        return cls(accounts, legs)


@frozen
class Audit:
    """What an audit says.

    Attributes:
        accounts: how many there are.
        cents: what all coins are worth, each counted in its one place.
        minted: id of a coin as it was minted -> what is there of it, in cents: the same for ever, since coins are
            neither made nor merged.
        coins: how many coins there are.
        under_way: the transfers for which money is set aside at a source, sorted; none when all is quiet.
        problems: what is wrong, a line each; none where all is well.
    """

    accounts: int
    cents: int
    minted: Mapping[str, int]
    coins: int
    under_way: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Return whether nothing is wrong."""
        return not self.problems

    def conserves(self, before: Audit) -> bool:
        """Return whether the money is that of an audit *before*, to the cent and of every coin minted."""
        return dict(self.minted) == dict(before.minted)


def audit_bank(documents: Documents, groups: Iterable[str]) -> Audit:
    """Load the books of *groups* and examine them. It is exact while none of their transfers is under way.

    Raises:
        CorruptDocumentError, SiblingsError: as `Books.read`.
    """
    return examine(Books.read(documents, groups))


def examine(books: Books) -> Audit:
    """Return what is to be said of books as they were at one moment. Pure."""
    places = list(_places(books))
    count = Counter(id_ for _, id_, _ in places)
    where = {id_: [place for place, its, _ in places if its == id_] for id_, number in count.items() if number > 1}
    minted: Counter[str] = Counter()
    for _, id_, coin in places:
        minted[coin.minted_as or id_] += coin.cents
    problems = [f"coin {id_} is in {len(its)} places: {', '.join(its)}" for id_, its in sorted(where.items())]
    problems += _wrong_reservations(books)
    problems += _wrong_legs(books)
    under_way = {transfer for account in books.accounts.values() for transfer in account.reservations}
    return Audit(
        accounts=len(books.accounts),
        cents=sum(minted.values()),
        minted=dict(minted),
        coins=len(count),
        under_way=tuple(sorted(under_way)),
        problems=tuple(problems),
    )


def _loaded(documents: Documents, keys: Iterable[DocumentKey], kind: type[T]) -> dict[DocumentKey, T]:
    found = documents.load_many(list(keys), kind)
    return {document.key: document.value for document in found if document.exists}


def _reservations(accounts: Mapping[DocumentKey, Account]) -> Iterator[tuple[DocumentKey, Coins, DocumentKey]]:
    """Yield every reservation: whose it is, its coins, and where its leg must be."""
    for key, account in accounts.items():
        for transfer, coins in account.reservations.items():
            yield key, coins, leg_key(transfer, key.group)


def _arrived(books: Books, ours: DocumentKey) -> bool:
    """Return whether the reservation whose leg is under *ours* has been deposited."""
    leg = books.legs.get(ours)
    theirs = books.legs.get(leg.order.target_leg) if leg else None
    return theirs is not None and theirs.stage is Stage.DEPOSITED


def _places(books: Books) -> Iterator[tuple[str, str, Coin]]:
    """Yield every place in which a coin counts, with the coin."""
    for key, account in books.accounts.items():
        yield from ((str(key), id_, coin) for id_, coin in account.coins.items())
    for key, coins, ours in _reservations(books.accounts):
        if not _arrived(books, ours):
            yield from ((f"{ours.name} at {key}", id_, coin) for id_, coin in coins.items())


def _wrong_reservations(books: Books) -> Iterator[str]:
    """Yield what is wrong with reservations: each has a leg of the same coins."""
    for key, coins, ours in _reservations(books.accounts):
        leg = books.legs.get(ours)
        if leg is None or leg.stage is not Stage.RESERVED or leg.order.source != key:
            said = f"leg {ours} says {leg.stage}" if leg else f"there is no leg {ours}"
            yield f"account {key} has money set aside, and {said}"
        elif dict(leg.coins) != dict(coins):
            yield f"account {key} has other coins set aside than leg {ours} names"
        if any(coin.tainted for coin in coins.values()):
            yield f"account {key} has tainted coins set aside for {ours}"


def _wrong_legs(books: Books) -> Iterator[str]:
    """Yield what is wrong with legs: they agree with each other and with their accounts."""
    for key, leg in books.legs.items():
        order = leg.order
        if leg.stage in _PAID and worth(leg.coins) != order.cents:
            yield f"leg {key} names coins worth {worth(leg.coins)} cents for a transfer of {order.cents}"
        if any(coin.tainted for coin in leg.coins.values()):
            yield f"leg {key} names tainted coins"
        source = books.accounts.get(order.source)
        if leg.stage is Stage.RESERVED and source and order.transfer not in source.reservations:
            yield f"leg {key} says reserved, and account {order.source} has nothing set aside for it"
        theirs = books.legs.get(order.target_leg)
        if leg.stage is Stage.RELEASED and theirs and theirs.stage is Stage.DEPOSITED:
            yield f"leg {key} says released, and leg {order.target_leg} says deposited"
        if leg.stage is Stage.CONFIRMED and theirs and theirs.stage is not Stage.DEPOSITED:
            yield f"leg {key} says confirmed, and leg {order.target_leg} says {theirs.stage}"
