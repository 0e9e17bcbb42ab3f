"""Legs: what a group's books say of one transfer, written with the accounts it changes, so that it is done once."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final

from attrs import field, frozen
from attrs.validators import and_, instance_of, max_len, min_len

from sagabus import DocumentKey
from sagas.transfer.account import Coin, Reason, an_amount
from sagas.transfer.errors import TransferTakenError

LEG: Final = "transfer/"
"""What the names of legs begin with, and the names of accounts do not."""
_MAX_ID: Final = 400


def an_account(instance: object, attribute: object, key: Any) -> None:
    """Refuse what is no key of an account: a document of a group, with a name that is no leg's."""
    if not isinstance(key, DocumentKey):
        raise TypeError(f"{key!r} is no account; write DocumentKey(name, group)")
    if not key.group:
        raise ValueError(f"account {key} stands alone; accounts are documents of a group, DocumentKey(name, group)")
    if key.name.startswith(LEG):
        raise ValueError(f"account {key} has a name like a leg of a transfer; begin it otherwise than with {LEG!r}")


a_transfer: Final = and_(instance_of(str), min_len(1), max_len(_MAX_ID))
"""Refuses what is no id of a transfer."""


@frozen
class Order:
    """Which money is to go where.

    Attributes:
        transfer: the id, unique in the whole bank.
        source: the account that pays.
        target: the account that receives.
        cents: how much, at least 1.
    """

    transfer: str = field(validator=a_transfer)
    source: DocumentKey = field(validator=an_account)
    target: DocumentKey = field(validator=an_account)
    cents: int = field(validator=an_amount)

    @property
    def within_one_group(self) -> bool:
        """Return whether one write can change both accounts."""
        return self.source.group == self.target.group

    @property
    def source_leg(self) -> DocumentKey:
        """Return the key of the leg in the source's group; in one group, of the only one."""
        return leg_key(self.transfer, self.source.group)

    @property
    def target_leg(self) -> DocumentKey:
        """Return the key of the leg in the target's group."""
        return leg_key(self.transfer, self.target.group)

    def __str__(self) -> str:
        return f"{self.cents} cents from {self.source} to {self.target}"


class Stage(enum.StrEnum):
    """How far one leg has come.

    Within a group it is MOVED or REFUSED at once. At the source it is REFUSED, RELEASED, or RESERVED until it is
    CONFIRMED or RELEASED. At the target it is DEPOSITED or REFUSED.
    """

    MOVED = "moved"
    REFUSED = "refused"
    RESERVED = "reserved"
    CONFIRMED = "confirmed"
    RELEASED = "released"
    DEPOSITED = "deposited"


@frozen
class Leg:
    """What one group's books say of one transfer.

    Attributes:
        order: which.
        stage: how far it has come.
        coins: those that were set aside, or moved; none where it was refused.
        reason: why it was refused or released.
    """

    order: Order
    stage: Stage
    coins: Mapping[str, Coin] = field(factory=dict)
    reason: Reason | None = None

    def of(self, order: Order) -> Leg:
        """Return this leg, having made sure that it is *order*'s.

        Raises:
            TransferTakenError: it is another's.
        """
        if self.order != order:
            raise TransferTakenError(order.transfer, self.order, order)
        return self


def leg_key(transfer: str, group: str) -> DocumentKey:
    """Return where the leg of a transfer is kept in a group."""
    return DocumentKey(f"{LEG}{transfer}", group)


def is_leg(key: DocumentKey) -> bool:
    """Return whether there is a leg under *key*, and no account."""
    return key.name.startswith(LEG)
