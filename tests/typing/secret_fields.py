"""Encrypted fields and keys, as a type checker sees them."""

from __future__ import annotations

from typing import assert_type

from sagabus import Bus, Encrypted, Keyring, Signing, message


@message("typing.pay")
class Pay:
    card: Encrypted[str]
    codes: dict[str, Encrypted[int]]


def reads(m: Pay) -> str:
    assert_type(m.codes["a"].reveal(), int)
    assert_type(Encrypted(b"x"), Encrypted[bytes])
    return m.card.reveal()


Pay("4111", {})  # type: ignore[arg-type]
Pay(Encrypted(4111), {})  # type: ignore[arg-type]
reads(Pay(Encrypted("4111"), {"a": Encrypted(1)})).upper()

bus = Bus(keyring=Keyring({"2026-11": b""}), signing=Signing(demand=False))
Bus(signing=True)  # type: ignore[arg-type]
