"""A town made up from a seed: its accounts, and who wants to send whom how much."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Final

from attrs import frozen

from sagabus import DocumentKey
from sagas.transfer import Account, TransferMoney

_ACCOUNTS_A_GROUP: Final = 10
_AT_HOME: Final = 0.5
"""How many transfers stay within a group."""
_BLOCKED: Final = 0.1
_MOSTLY_CENTS: Final = 3_000
_SOMETIMES_CENTS: Final = 120_000
"""More than almost anybody has."""


@frozen
class Town:
    """What there is at the beginning, and what is wanted.

    Attributes:
        accounts: a tenth of them blocked, most with a tainted coin or two.
        wishes: transfers, in the order in which they are sent.
    """

    accounts: Mapping[DocumentKey, Account]
    wishes: Sequence[TransferMoney]

    @property
    def groups(self) -> list[str]:
        """Return the groups of the accounts, sorted."""
        return sorted({key.group for key in self.accounts})


def make_town(accounts: int, transfers: int, seed: int) -> Town:
    """Return the town of a *seed*: always the same.

    Args:
        accounts: how many, at least 4; in groups of about ten, two groups at least.
    """
    chance = random.Random(seed)
    groups = max(2, accounts // _ACCOUNTS_A_GROUP)
    keys = [DocumentKey(f"account-{number:03}", f"street-{number % groups}") for number in range(accounts)]
    neighbours = {key: [other for other in keys if other.group == key.group and other != key] for key in keys}
    strangers = {key: [other for other in keys if other.group != key.group] for key in keys}
    opened = {key: _account(key, chance) for key in keys}
    wishes = []
    for number in range(transfers):
        source = chance.choice(keys)
        target = chance.choice((neighbours if chance.random() < _AT_HOME else strangers)[source])
        wishes.append(TransferMoney(f"t{number:06}", source, target, _cents(chance)))
    return Town(opened, wishes)


def _account(key: DocumentKey, chance: random.Random) -> Account:
    coins = [chance.randint(100, 10_000) for _ in range(8)]
    tainted = [chance.randint(100, 10_000) for _ in range(chance.randrange(3))]
    return Account.of(*coins, prefix=f"{key.name}-", tainted=tainted, blocked=chance.random() < _BLOCKED)


def _cents(chance: random.Random) -> int:
    return chance.randint(1, _MOSTLY_CENTS if chance.random() < 0.8 else _SOMETIMES_CENTS)
