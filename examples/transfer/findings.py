"""What was found at the end of a run: every promise, and whether it was kept. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from attrs import frozen

from examples.transfer.ledger import Outcome
from examples.transfer.town import Town
from sagabus import DocumentKey
from sagas.transfer import Account, Books, Coin, MoneyTransferred, examine

_SHOWN: Final = 3


@frozen
class Finding:
    """One promise.

    Attributes:
        promise: what should be.
        broken: where it is not, a line each; none where it was kept.
    """

    promise: str
    broken: tuple[str, ...]

    @property
    def kept(self) -> bool:
        """Return whether it was."""
        return not self.broken

    def __str__(self) -> str:
        shown = "; ".join(self.broken[:_SHOWN])
        more = f"; and {len(self.broken) - _SHOWN} more" if len(self.broken) > _SHOWN else ""
        return f"{'ok    ' if self.kept else 'BROKEN'}  {self.promise}{': ' if shown else ''}{shown}{more}"


def findings(town: Town, books: Books, outcomes: Mapping[str, Sequence[Outcome]]) -> list[Finding]:
    """Return what became of each promise.

    Args:
        town: what there was at the beginning, and what was wanted.
        books: all accounts and legs at the end.
        outcomes: transfer -> what the ledger has heard of it.
    """
    before, after = examine(Books(town.accounts)), examine(books)
    wanted = {wish.transfer for wish in town.wishes}
    return [
        _finding("every transfer has one outcome", _outcomes(wanted, outcomes)),
        _finding("money is conserved to the cent, coin by coin", _differences(before.minted, after.minted, _cents)),
        _finding("no coin is in two places, and books agree", after.problems),
        _finding("no reservation is left", after.under_way),
        _finding("every balance is what the outcomes come to", _balances(town, books.accounts, outcomes)),
        _finding("no tainted coin has moved", _tainted(town.accounts, books.accounts)),
        _finding("no coin was merged", _merged(town.accounts, books.accounts)),
        _finding("blocked accounts are untouched", _blocked(town.accounts, books.accounts)),
    ]


def _finding(promise: str, broken: Iterable[str]) -> Finding:
    return Finding(promise, tuple(broken))


def _cents(key: object, was: int, is_: int) -> str:
    return f"{key} was {was} and is {is_} cents"


def _differences(
    before: Mapping[str, int], after: Mapping[str, int], say: Callable[[object, int, int], str]
) -> Iterator[str]:
    for key in sorted(before.keys() | after.keys()):
        if before.get(key, 0) != after.get(key, 0):
            yield say(key, before.get(key, 0), after.get(key, 0))


def _outcomes(wanted: set[str], outcomes: Mapping[str, Sequence[Outcome]]) -> Iterator[str]:
    for transfer in sorted(wanted | outcomes.keys()):
        many = len(outcomes.get(transfer, ()))
        if many != (transfer in wanted):
            yield f"{transfer} has {many}"


def _balances(
    town: Town, accounts: Mapping[DocumentKey, Account], outcomes: Mapping[str, Sequence[Outcome]]
) -> Iterator[str]:
    expected = Counter({str(key): account.cents for key, account in town.accounts.items()})
    for heard in outcomes.values():
        for outcome in heard[:1]:
            if isinstance(outcome, MoneyTransferred):
                expected[str(outcome.source)] -= outcome.cents
                expected[str(outcome.target)] += outcome.cents
    yield from _differences(expected, {str(key): account.cents for key, account in accounts.items()}, _cents)


def _tainted(before: Mapping[DocumentKey, Account], after: Mapping[DocumentKey, Account]) -> Iterator[str]:
    def of(account: Account) -> dict[str, Coin]:
        return {id_: coin for id_, coin in account.coins.items() if coin.tainted}

    for key, account in before.items():
        if of(account) != of(after.get(key, Account({}))):
            yield f"{key} has others than at the beginning"


def _merged(before: Mapping[DocumentKey, Account], after: Mapping[DocumentKey, Account]) -> Iterator[str]:
    """Yield coins worth more than what they were minted as, and those that came out of nowhere."""
    minted = {id_: coin.cents for account in before.values() for id_, coin in account.coins.items()}
    for account in after.values():
        for id_, coin in account.coins.items():
            if coin.cents > minted.get(coin.minted_as or id_, 0):
                yield f"{id_} is worth {coin.cents} cents"


def _blocked(before: Mapping[DocumentKey, Account], after: Mapping[DocumentKey, Account]) -> Iterator[str]:
    for key, account in before.items():
        if account.blocked and after.get(key) != account:
            yield f"{key} has changed"
