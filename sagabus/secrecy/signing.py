"""Signatures: who sent a message, proved by a key that both ends derive. HMAC-SHA256.

The key of a pair derives from a key of the keyring, the source and what the message goes to: an endpoint, or for events
the topic. So a message that was signed for one queue proves nothing in another one. Signed is the whole envelope, body
and extension attributes alike, but for the signature itself and `attempt`, which a retry counts up.
"""

from __future__ import annotations

import base64
import hmac
from typing import TYPE_CHECKING, Any

import msgspec
from attrs import evolve, frozen

from sagabus.errors import ConfigurationError, UntrustedError
from sagabus.secrecy.keyring import Keyring

if TYPE_CHECKING:
    from sagabus.envelope import Envelope

_encoder = msgspec.json.Encoder()


@frozen
class Signing:
    """Have a bus sign what it sends, and say what it thinks of what it gets.

    Every process that shares its queues needs the same keys. To begin, deploy everywhere with `demand=False`, which
    signs and takes everything; then with `demand=True`.

    Args:
        demand: dead-letter what is not signed, or wrongly, as `untrusted`, before its body is looked at.
        keyring: the keys; those of the bus by default.
    """

    demand: bool = True
    keyring: Keyring | None = None

    def with_keys(self, keyring: Keyring | None) -> Signing:
        """Return this as a bus uses it, whose own keys are *keyring*.

        Raises:
            ConfigurationError: there are no keys.
        """
        if self.keyring is not None:
            return self
        if keyring is None:
            raise ConfigurationError(
                "signing needs keys; give Bus(keyring=Keyring(...)), Signing(keyring=...), or set SAGABUS_KEYS"
            )
        return evolve(self, keyring=keyring)

    def signed(self, envelope: Envelope, to: str, *, topic: bool = False) -> Envelope:
        """Return *envelope* signed with the current key.

        Args:
            to: the endpoint that it goes to, or its topic.
            topic: whether it is the topic.
        """
        assert self.keyring is not None
        marked = msgspec.structs.replace(envelope, signaturekey=self.keyring.current, signature="")
        return msgspec.structs.replace(marked, signature=self._mac(marked, self.keyring.current, to, topic))

    def check(self, envelope: Envelope, endpoint: str) -> None:
        """Make sure that *envelope*, come to *endpoint*, is as its source has sent it, there or to its topic.

        Raises:
            UntrustedError: it is not, or nobody can tell.
        """
        assert self.keyring is not None
        whose = f"{envelope.type[:200]} {envelope.id[:200]} from {envelope.source[:200]}"
        key_id = envelope.signaturekey
        if not envelope.signature or not key_id:
            raise UntrustedError(
                f"{whose} is not signed; give its sender Bus(signing=...) and the keys, and have it send again"
            )
        if key_id not in self.keyring.ids:
            raise UntrustedError(
                f"{whose} is signed with key {key_id[:40]!r}, which is not here; add it to the keyring, and retry"
            )
        said = envelope.signature.encode(errors="replace")
        # Compared in constant time, and both always: how long it takes tells nothing of what would have been right.
        sent_here = hmac.compare_digest(self._mac(envelope, key_id, endpoint, topic=False).encode(), said)
        published = hmac.compare_digest(self._mac(envelope, key_id, envelope.type, topic=True).encode(), said)
        if not (sent_here or published):
            raise UntrustedError(
                f"{whose} has a signature that {envelope.source[:200]} did not make for {endpoint} with key "
                f"{key_id!r}: the message was changed, moved here from another queue, or forged"
            )

    def _mac(self, envelope: Envelope, key_id: str, to: str, topic: bool) -> str:
        assert self.keyring is not None
        pair = msgspec.json.encode(("topic" if topic else "endpoint", envelope.source, to)).decode()
        key = self.keyring.subkey(key_id, f"sign/{pair}")
        assert key is not None, "the keyring has the key"
        # Attributes at their defaults are left out, so that one which a later sagabus adds changes no old signature.
        said = _encoder.encode(msgspec.structs.replace(envelope, attempt=1, signature=""))
        return base64.urlsafe_b64encode(hmac.digest(key, said, "sha256")).rstrip(b"=").decode()

    def __repr__(self) -> str:
        return f"Signing(demand={self.demand}, keyring={self.keyring!r})"


def signed(signing: Signing | None, envelope: Any, to: str, *, topic: bool = False) -> Any:
    """Return *envelope*, signed where *signing* says how."""
    return envelope if signing is None else signing.signed(envelope, to, topic=topic)
