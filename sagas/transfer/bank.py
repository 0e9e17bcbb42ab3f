"""The bank: the consumers that change accounts. Each writes a leg with what it changes, so a copy finds it done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final, TypeVar

from attrs import evolve, frozen

from sagabus import Bus, ConcurrencyError, Context, Document, DocumentKey, Documents, Endpoint, RetryPolicy
from sagabus.errors import ConfigurationError
from sagabus.messages import type_of
from sagas.transfer.account import Account, Reason, confirm, deposit, move, release, reserve
from sagas.transfer.errors import BooksError
from sagas.transfer.leg import Leg, Order, Stage
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
)

T = TypeVar("T")

Changes = Mapping[DocumentKey, tuple[str | None, Account]]
"""Account -> the etag that it was read with, and its new value."""

COMMANDS: Final = (MoveMoney, ReserveMoney, DepositMoney, ConfirmTransfer, ReleaseMoney)
"""What `Transfer` asks of the bank."""
TRIES: Final = 8
"""How often a write that others outran is made again on the spot, before the message is tried again later."""
RETRY: Final = RetryPolicy(max_attempts=12, first_delay_s=0.05, max_delay_s=30.0)


def open_bank(
    bus: Bus,
    name: str = "bank",
    *,
    keep: timedelta | None = None,
    batch: int = 64,
    concurrency: int = 16,
    retry: RetryPolicy = RETRY,
) -> Endpoint:
    """Declare the endpoint that changes accounts, and route what `Transfer` asks of it there.

    Args:
        bus: where `Transfer` is, or will be.
        name: what its queue is called.
        keep: how long the legs of a transfer are kept when it is over; for ever by default, and `audit_bank` loads
            them all. As long as they are there, no copy of any message moves its money again.
        batch, concurrency: as `Bus.endpoint`. More handlers at once than there are accounts outrun each other.
        retry: how a command that cannot be handled is tried again.

    Raises:
        ConfigurationError: the bus has a bank, the name is taken, or *keep* is shorter than a message may be under way.
    """
    there = next((bus.routes[type_of(kind).name] for kind in COMMANDS if type_of(kind).name in bus.routes), None)
    if there is not None:
        raise ConfigurationError(
            f"the bank cannot be opened at endpoint {name!r}: what Transfer asks for goes to endpoint {there!r} "
            f"already. One bus has one bank, for all groups; open it once, or give the other one a bus of its own"
        )
    if keep is not None and keep < bus.dedupe_window:
        raise ConfigurationError(
            f"keep={keep} is shorter than the bus's dedupe_window ({bus.dedupe_window}): a copy of an old message "
            f"could move money twice; keep legs at least that long, or for ever"
        )
    endpoint = bus.endpoint(name, batch=batch, concurrency=concurrency, retry=retry)
    bank = Bank(keep)
    for consumer in (bank.move, bank.reserve, bank.deposit, bank.confirm, bank.release):
        endpoint.consumer(consumer)
    for kind in COMMANDS:
        bus.route(kind, to=name)
    return endpoint


@frozen
class Bank:
    """The consumers of the bank's endpoint.

    Each is safe to run twice, one after the other or at once: the leg, which only one of them can write, says what was
    decided, and all of them answer what it says.

    Attributes:
        keep: how long legs are kept when their transfer is over; None for ever.
    """

    keep: timedelta | None = None

    def move(self, m: MoveMoney, context: Context) -> None:
        """Move money within a group: both accounts and the leg, in one write."""
        leg = _persist(lambda: _moved(context.documents, m.order))
        self._retire(context.documents, leg.order)
        if leg.reason is None:
            context.reply(MoneyMoved(m.order.transfer))
        else:
            context.reply(MoveRefused(m.order.transfer, leg.reason))

    def reserve(self, m: ReserveMoney, context: Context) -> None:
        """Set money aside at the source, unless it was released before it came so far."""
        leg = _persist(lambda: _reserved(context.documents, m.order))
        if leg.reason is None:
            context.reply(MoneyReserved(m.order.transfer))
        else:
            self._retire(context.documents, leg.order)
            context.reply(ReservationRefused(m.order.transfer, leg.reason))

    def deposit(self, m: DepositMoney, context: Context) -> None:
        """Put what is set aside at the source into the target, or refuse to for good."""
        leg = _persist(lambda: _deposited(context.documents, m.order))
        if leg.reason is None:
            context.reply(MoneyDeposited(m.order.transfer))
        else:
            context.reply(DepositRefused(m.order.transfer, leg.reason))

    def confirm(self, m: ConfirmTransfer, context: Context) -> None:
        """Drop what is set aside at the source."""
        leg = _persist(lambda: _confirmed(context.documents, m.order))
        self._retire(context.documents, leg.order)
        context.reply(TransferConfirmed(m.order.transfer))

    def release(self, m: ReleaseMoney, context: Context) -> None:
        """Give back what is set aside at the source, or see to it that nothing ever will be.

        Where the target has the money, it says so.
        """
        leg = _persist(lambda: _released(context.documents, m.order, m.reason))
        if leg.stage is Stage.DEPOSITED:
            context.reply(MoneyDeposited(m.order.transfer))
        else:
            self._retire(context.documents, leg.order)
            context.reply(MoneyReleased(m.order.transfer))

    def _retire(self, documents: Documents, order: Order) -> None:
        """Have the legs of a transfer that is over expire.

        The source's goes first: without it, a copy of an old deposit is refused.
        """
        if self.keep is None:
            return
        for key in dict.fromkeys((order.source_leg, order.target_leg)):
            _persist(lambda key=key: _expiring(documents, key, self.keep))  # type: ignore[misc]


# -- one try each: load, decide, write -------------------------------------------------------------------------------


def _moved(documents: Documents, order: Order) -> Leg:
    source, target = documents.load_many([order.source, order.target], Account)
    if not source.exists or not target.exists:
        return _first(documents, order.source_leg, _refused(order, _absent(source)))
    after = move(source.value, target.value, order.cents, order.transfer)
    if isinstance(after, Reason):
        return _first(documents, order.source_leg, _refused(order, after))
    changes = {order.source: (source.etag, after.source), order.target: (target.etag, after.target)}
    return _first(documents, order.source_leg, Leg(order, Stage.MOVED, after.coins), changes)


def _reserved(documents: Documents, order: Order) -> Leg:
    source = documents.load(order.source, Account)
    after = reserve(source.value, order.cents, order.transfer) if source.exists else Reason.NO_SOURCE
    if isinstance(after, Reason):
        return _first(documents, order.source_leg, _refused(order, after))
    changes = {order.source: (source.etag, after.account)}
    return _first(documents, order.source_leg, Leg(order, Stage.RESERVED, after.coins), changes)


def _deposited(documents: Documents, order: Order) -> Leg:
    reserved, done = _legs(documents, order)
    if done is not None:
        return done
    if reserved is None or reserved.value.stage is not Stage.RESERVED:
        raise BooksError(f"the target of transfer {order.transfer!r} is to get money that is not reserved")
    target = documents.load(order.target, Account)
    after = deposit(target.value, reserved.value.coins) if target.exists else Reason.NO_TARGET
    if isinstance(after, Reason):
        return _written(documents, order.target_leg, None, _refused(order, after))
    leg = Leg(order, Stage.DEPOSITED, reserved.value.coins)
    return _written(documents, order.target_leg, None, leg, {order.target: (target.etag, after)})


def _confirmed(documents: Documents, order: Order) -> Leg:
    reserved, deposited = _legs(documents, order)
    if reserved is not None and reserved.value.stage is Stage.CONFIRMED:
        return reserved.value
    if reserved is None or reserved.value.stage is not Stage.RESERVED:
        raise BooksError(f"transfer {order.transfer!r} is to be confirmed, and nothing is reserved for it")
    if deposited is None or deposited.stage is not Stage.DEPOSITED:
        raise BooksError(f"transfer {order.transfer!r} is to be confirmed, and its target does not have the money")
    return _closed(documents, reserved, evolve(reserved.value, stage=Stage.CONFIRMED), confirm)


def _released(documents: Documents, order: Order, reason: Reason) -> Leg:
    reserved, theirs = _legs(documents, order)
    over = Leg(order, Stage.RELEASED, reason=reason)
    if reserved is None:
        # Whoever comes to reserve after this finds that it is over.
        return _written(documents, order.source_leg, None, over)
    stage = reserved.value.stage
    if stage in (Stage.RELEASED, Stage.REFUSED):
        return reserved.value
    if stage is Stage.RESERVED and theirs is None:
        # Whoever comes to deposit after this finds that it is over: where a failover has lost what the saga had
        # decided, a deposit and a release may both be on their way, and only the target's leg can say which it is.
        theirs = _written(documents, order.target_leg, None, _refused(order, reason))
    if theirs is not None and theirs.stage is Stage.DEPOSITED:
        return theirs
    if stage is not Stage.RESERVED:
        raise BooksError(f"transfer {order.transfer!r} is to be given back, and is confirmed without a deposit")
    return _closed(documents, reserved, evolve(over, coins=reserved.value.coins), release)


def _expiring(documents: Documents, key: DocumentKey, keep: timedelta) -> None:
    leg = documents.load(key, Leg)
    if leg.exists and leg.expires_at is None:
        documents.put(key, leg.value, etag=leg.etag, expires_after=keep)


# -- what they share -------------------------------------------------------------------------------------------------


def _persist(attempt: Callable[[], T]) -> T:
    """Return what *attempt* returns, made again where others were faster; each such failure is somebody's success.

    Also where books contradict each other: legs and accounts are read one after the other, and a copy of this message,
    or one that overtakes it, may have written in between. Only what is seen every time is wrong.

    Raises:
        ConcurrencyError: others were faster, every time. The message is tried again later.
        BooksError: the books are wrong.
    """
    for _ in range(TRIES - 1):
        try:
            return attempt()
        except (ConcurrencyError, BooksError):
            continue
    return attempt()


def _legs(documents: Documents, order: Order) -> tuple[Document[Leg] | None, Leg | None]:
    """Return the source's leg, as its document, and the target's; None where there is none."""
    ours, theirs = documents.load_many([order.source_leg, order.target_leg], Leg)
    for leg in (ours, theirs):
        if leg.exists:
            leg.value.of(order)
    return ours if ours.exists else None, theirs.value if theirs.exists else None


def _first(documents: Documents, key: DocumentKey, leg: Leg, changes: Changes | None = None) -> Leg:
    """Write a leg that is not there yet, with the accounts it changes; return the one that is there then.

    Raises:
        ConcurrencyError: an account has changed meanwhile, and there is no leg yet.
    """
    try:
        return _written(documents, key, None, leg, changes)
    except ConcurrencyError:
        found = documents.load(key, Leg)
        if not found.exists:
            raise
        return found.value.of(leg.order)


def _written(documents: Documents, key: DocumentKey, etag: str | None, leg: Leg, changes: Changes | None = None) -> Leg:
    """Write a leg in the place of the one that was read, with the accounts it changes, and return it.

    Raises:
        ConcurrencyError: one of them has changed meanwhile.
    """
    documents.compare_exchange({key: (etag, leg), **(changes or {})})
    return leg


def _closed(documents: Documents, reserved: Document[Leg], leg: Leg, change: Callable[[Account, str], Account]) -> Leg:
    """Write how a reservation has ended, with the source as *change* leaves it."""
    order = leg.order
    source = documents.load(order.source, Account)
    if not source.exists:
        raise BooksError(f"money of account {order.source} is set aside, and there is no such account any more")
    changes = {order.source: (source.etag, change(source.value, order.transfer))}
    return _written(documents, order.source_leg, reserved.etag, leg, changes)


def _refused(order: Order, reason: Reason) -> Leg:
    return Leg(order, Stage.REFUSED, reason=reason)


def _absent(source: Document[Account]) -> Reason:
    return Reason.NO_TARGET if source.exists else Reason.NO_SOURCE
