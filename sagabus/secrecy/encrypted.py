"""The value that a handler holds and nobody else reads: `Encrypted`."""

from __future__ import annotations

import copy
from typing import Any, Generic, NoReturn, TypeVar, final

from sagabus.errors import HandlerMisuseError

T_co = TypeVar("T_co", covariant=True)


@final
class Encrypted(Generic[T_co]):
    """A secret: encrypted wherever it is written, and shown by nothing but `reveal()`.

    For fields of messages, states of sagas and values of documents, at any depth:

        @message("payment.requested")
        class RequestPayment:
            order: str
            card: Encrypted[str]

        RequestPayment("17", Encrypted("4111 1111 1111 1111"))
        m.card.reveal()

    Immutable; equal where what it hides is equal, and hashable where that is. What equals what can be seen from outside
    too, within one field: equal values are written alike, as equal states must be equal bytes.
    """

    __slots__ = ("_value",)
    _value: T_co

    def __init__(self, value: T_co, /) -> None:
        if isinstance(value, Encrypted):
            raise HandlerMisuseError("an Encrypted holds another one; pass that on as it is, or what it reveals")
        object.__setattr__(self, "_value", value)

    def reveal(self) -> T_co:
        """Return the value itself; keep it out of logs, errors and fields that are not encrypted."""
        return self._value

    def __merge_rank__(self) -> T_co:
        """Return what mergers sort it by, so that every worker breaks a tie alike."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Encrypted) else NotImplemented

    def __hash__(self) -> int:
        return hash((Encrypted, self._value))

    def __repr__(self) -> str:
        return "Encrypted(...)"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"an Encrypted does not change; put a new one in its place to set {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"an Encrypted does not change; put None in its place instead of deleting {name}")

    def __copy__(self) -> Encrypted[T_co]:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Encrypted[T_co]:
        return Encrypted(copy.deepcopy(self._value, memo))

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Encrypted is not pickled: that would write it in the clear; send it in a message")
