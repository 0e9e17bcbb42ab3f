"""Keys for tests: a class with encrypted fields can be tested where nobody has a key."""

from __future__ import annotations

import importlib.util
from typing import Final

from sagabus.secrecy.keyring import Keyring
from sagabus.secrecy.process_keys import process_keys

TEST_KEYS: Final = {"tests": bytes(range(32))}
"""Known to everybody, and the same in every process, so that tokens of schedules are."""


def fall_back_on_test_keys() -> None:
    """Have this process encrypt with a key that is no secret while no bus has brought one, nor the environment has any.

    Harnesses, explorations and checks of mergers do so, which connect to nothing. A worker never does.
    """
    if importlib.util.find_spec("cryptography") is not None:
        process_keys.fall_back_on(Keyring.from_environment() or Keyring(TEST_KEYS))
