"""An app that handles secrets, and fails with one in hand. Its keys are in `SAGABUS_KEYS`; what it sends is signed."""

from __future__ import annotations

import os
from typing import Annotated

from attrs import define, field

from mergers import by_key, fieldwise, first_of
from sagabus import Bus, Context, Encrypted, RetryPolicy, Saga, Signing, handles, message, starts


@message("secretapp.order")
class Order:
    number: str
    card: Encrypted[str]


@message("secretapp.authorise")
class Authorise:
    bank: str
    card: Encrypted[str]


@message("secretapp.authorised")
class Authorised:
    bank: str
    code: Encrypted[bytes]


@message("secretapp.reminder")
class Reminder:
    card: Encrypted[str]


@message("secretapp.paid")
class Paid:
    number: str
    codes: dict[str, Encrypted[bytes]]


@define
class Payment:
    card: Annotated[Encrypted[str] | None, first_of] = None
    codes: Annotated[dict[str, Encrypted[bytes]], by_key(first_of)] = field(factory=dict)


@define
class Receipt:
    card: Encrypted[str]


class PaySaga(Saga[Payment], key="number", merger=fieldwise(Payment)):
    @starts
    def ordered(self, m: Order) -> None:
        self.state.card = m.card
        for bank in ("one", "two"):
            self.send(Authorise(bank, m.card), to="banks")
        self.defer(Reminder(m.card), after=3600)

    @handles
    def authorised(self, m: Authorised) -> None:
        self.state.codes[m.bank] = m.code

    @handles
    def reminded(self, m: Reminder) -> None: ...

    def decide(self) -> None:
        if len(self.state.codes) == 2:
            self.publish(Paid(self.key, self.state.codes))


bus = Bus(namespace=os.environ.get("CREDITAPP_NAMESPACE", "secretapp"), signing=Signing(demand=True), claim_s=30.0)
bus.endpoint("pay", PaySaga)
banks = bus.endpoint("banks", retry=RetryPolicy(max_attempts=2, first_delay_s=0.001))


@banks.consumer
def authorise(m: Authorise, context: Context) -> None:
    number = m.card.reveal()
    if number.startswith("0000"):
        raise ValueError(f"refused {m}")
    context.documents.overwrite(f"receipt-{m.bank}", Receipt(m.card))
    context.reply(Authorised(m.bank, Encrypted(number.encode())))


books = bus.endpoint("books")


@books.consumer
def paid(m: Paid) -> None: ...
