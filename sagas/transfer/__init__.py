"""Money moves between accounts under rules: in one write within a group, by reserve and confirm between groups."""

from sagas.transfer.account import Account, Coin, Moved, Reason, Withdrawal, deposit, move, split, withdraw
from sagas.transfer.audit import Audit, Books, audit_bank, examine
from sagas.transfer.bank import Bank, open_bank
from sagas.transfer.errors import BooksError, TransferTakenError
from sagas.transfer.leg import Leg, Order, Stage, is_leg, leg_key
from sagas.transfer.messages import MoneyTransferred, TransferMoney, TransferRefused
from sagas.transfer.saga import Transfer, TransferState

__all__ = [
    "Account",
    "Audit",
    "Bank",
    "Books",
    "BooksError",
    "Coin",
    "Leg",
    "MoneyTransferred",
    "Moved",
    "Order",
    "Reason",
    "Stage",
    "Transfer",
    "TransferMoney",
    "TransferRefused",
    "TransferState",
    "TransferTakenError",
    "Withdrawal",
    "audit_bank",
    "deposit",
    "examine",
    "is_leg",
    "leg_key",
    "move",
    "open_bank",
    "split",
    "withdraw",
]
