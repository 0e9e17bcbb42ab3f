"""The keys of this process: what every codec in it encrypts and decrypts with.

A codec belongs to a class, and a class to the process, as its wire name does; one state must be written alike whichever
bus it is written for, or equal states would not be equal bytes. So a process has one keyring, as it has one registry of
messages. Each bus brings its own and they are joined; buses that would encrypt with different keys are refused.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sagabus.errors import ConfigurationError
from sagabus.secrecy.keyring import Keyring


class ProcessKeys:
    """Who has brought which keyring, and what they come to together. Thread-safe."""

    def __init__(self) -> None:
        self._brought: dict[object, Keyring] = {}
        self._only: list[Keyring | None] = []
        self._fallback: Keyring | None = None
        self._lock = threading.Lock()
        self._keyring: Keyring | None = None

    @property
    def keyring(self) -> Keyring | None:
        """Return the keys of this process; None where nobody has brought any."""
        return self._keyring

    def bring(self, keyring: Keyring) -> object:
        """Add *keyring*, and return what releases it again.

        Raises:
            ConfigurationError: somebody else encrypts with another key, or calls another key the same.
        """
        with self._lock:
            for other in self._brought.values():
                if other.current != keyring.current:
                    raise ConfigurationError(
                        f"this process would encrypt with key {keyring.current!r} and, for another bus, with key "
                        f"{other.current!r}, so that equal states were not equal bytes; give both buses the same first "
                        f"key, or close the other one before"
                    )
                other.joined(keyring)
            token = object()
            self._brought[token] = keyring
            self._settle()
            return token

    def release(self, token: object) -> None:
        """Forget what `bring` has returned *token* for; None, and what was released before, change nothing."""
        with self._lock:
            if self._brought.pop(token, None) is not None:
                self._settle()

    def fall_back_on(self, keyring: Keyring | None) -> None:
        """Use *keyring* while nobody has brought one; for tests, which need no secrets."""
        with self._lock:
            self._fallback = keyring
            self._settle()

    @contextmanager
    def only(self, keyring: Keyring | None) -> Iterator[None]:
        """Use *keyring* alone inside a `with` block; None for no keys at all."""
        with self._lock:
            self._only.append(keyring)
            self._settle()
        try:
            yield
        finally:
            with self._lock:
                self._only.pop()
                self._settle()

    def _settle(self) -> None:
        if self._only:
            self._keyring = self._only[-1]
            return
        joined: Keyring | None = None
        for keyring in self._brought.values():
            joined = keyring if joined is None else joined.joined(keyring)
        self._keyring = joined or self._fallback


process_keys: Final = ProcessKeys()
"""Those of this process."""
