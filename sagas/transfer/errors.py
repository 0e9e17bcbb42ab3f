"""What can go wrong with a transfer beyond a refusal: somebody made a mistake, and has to look at it."""

from __future__ import annotations

from sagabus.errors import SagabusError


class BooksError(SagabusError):
    """Accounts and legs contradict each other: somebody wrote past the bank, or a server has lost writes.

    Nothing was written.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"{problem}. Nothing was written; see what sagas.transfer.audit_bank says of the groups concerned, restore "
            f"what was lost or overwritten, then have the dead letter handled again"
        )
        self.problem = problem


class TransferTakenError(SagabusError):
    """One id was given to two different transfers.

    Attributes:
        transfer: the id.
    """

    def __init__(self, transfer: str, first: object, second: object) -> None:
        super().__init__(
            f"transfer {transfer!r} is another one already: {first}, and not {second}. Nothing was moved; give each "
            f"transfer an id of its own"
        )
        self.transfer = transfer
