"""What a server's refusal means: a password, a right or a certificate that is wrong, which no waiting mends."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from typing import Final

import redis
from attrs import frozen

from sagabus.errors import AccessRefusedError, ConfigurationError, SagabusError, UntrustedServerError


@frozen
class TlsOptions:
    """What the options of a URL are called that say whom to trust, and who we are."""

    authority: str
    certificate: str
    key: str


REDIS_TLS: Final = TlsOptions("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")

_EXPIRED: Final = 10
_UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21})
_OTHER_NAME: Final = frozenset({62, 64})
"""X509_V_ERR_*, see openssl-verification-options(1)."""
_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG"})
_WANTS_OURS: Final = re.compile(r"ALERT_(CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE)|CERTIFICATE_REQUIRED")
_REJECTS_OURS: Final = re.compile(r"ALERT_(UNKNOWN_CA|BAD_CERTIFICATE|CERTIFICATE_\w+|ACCESS_DENIED)")
_COMMAND: Final = re.compile(r"run the '([^']+)' command")
_IN_SCRIPT: Final = ("ACL failure in script", "The user executing the script can't")


def refusal(error: object, url: str, *, tls: TlsOptions = REDIS_TLS, what: str = "server") -> SagabusError | None:
    """Return what to raise for *error* where trying again would not help; None where it might.

    Args:
        error: what a client raised, or a server answered.
        url: the server, without credentials.
        tls: what the options are called that the error should speak of.
    """
    for cause in _chain(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return UntrustedServerError(url, cause.verify_message.rstrip("."), _mend(cause.verify_code, tls), what=what)
        if isinstance(cause, ssl.SSLError):
            return _refused_handshake(cause.reason or "", url, tls, what)
        if isinstance(cause, redis.exceptions.AuthenticationError):
            return AccessRefusedError(url, str(cause).rstrip("."), _CREDENTIALS, what=what)
        if isinstance(cause, redis.ResponseError) and (refused := _refused_right(cause, url)):
            return refused
    return None


def explained(error: object) -> str:
    """Return what *error* says, with what it mostly means where a client says too little."""
    if any("handshake operation timed out" in str(cause) for cause in _chain(error)):
        return f"{error}; does it speak TLS on this port?"
    return str(error)


_CREDENTIALS: Final = (
    "Write SCHEME://USER:PASSWORD@HOST with the credentials that it knows, and : / ? # @ % in them percent-encoded"
)


def _mend(code: int, tls: TlsOptions) -> str:
    if code == _EXPIRED:
        return "Renew its certificate, and look at the clock of this machine"
    if code in _UNKNOWN_AUTHORITY:
        return f"If it is the right server, name the certificate of its authority: ?{tls.authority}=/PATH/ca.pem"
    if code in _OTHER_NAME:
        return "Connect by a name that its certificate has, or have one made with this name as a subjectAltName"
    return "Mend its certificate"


def _refused_handshake(reason: str, url: str, tls: TlsOptions, what: str) -> SagabusError | None:
    ours = f"?{tls.certificate}=/PATH/client.pem&{tls.key}=/PATH/client.key"
    if reason in _NO_TLS:
        return UntrustedServerError(url, "it does not speak TLS on this port", "Use its port for TLS", what=what)
    if _WANTS_OURS.search(reason):
        return AccessRefusedError(url, "it asks for a client certificate", f"Give one: {ours}", what=what)
    if _REJECTS_OURS.search(reason):
        return AccessRefusedError(
            url,
            f"it does not accept the client certificate ({reason.replace('_', ' ').lower()})",
            f"Give one that it trusts: {ours}",
            what=what,
        )
    return None


def _refused_right(error: redis.ResponseError, url: str) -> AccessRefusedError | None:
    text = str(error)
    in_script = text.startswith(_IN_SCRIPT)
    if not (in_script or isinstance(error, redis.exceptions.NoPermissionError)):
        return None
    found = _COMMAND.search(text)
    right = f"+{found[1].lower()}" if found else "~NAMESPACE:*" if "key" in text else ""
    grant = f"ACL SETUSER NAME {right}" if right else "ACL SETUSER NAME with every right in docs/security.md"
    return AccessRefusedError(url, text.rstrip("."), f"Grant it: {grant}", right=right)


def _chain(error: object) -> Iterator[BaseException]:
    """Yield *error* and what it came from; clients wrap what the TLS library raised."""
    seen: set[int] = set()
    while isinstance(error, BaseException) and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def check_certificates(
    shown_url: str,
    options: TlsOptions,
    *,
    authority: str | None,
    certificate: str | None,
    key: str | None,
    password: str | None = None,
) -> None:
    """Make sure that the files which a URL names can be used, before anything connects.

    Args:
        authority, certificate, key: paths; None for those that it does not name.
        password: what the key is encrypted with.

    Raises:
        ConfigurationError: one is missing, is no PEM, or does not fit the other.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    named = options.authority
    try:
        if authority:
            context.load_verify_locations(cafile=authority)
        named = f"{options.certificate}, with {options.key}"
        if certificate or key:
            if not certificate:
                raise ValueError(f"{options.certificate} is missing")
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(certificate, key, password or "")
    except (OSError, ValueError) as error:
        text = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        raise ConfigurationError(
            f"{shown_url!r}: what {named} names cannot be used ({text}); name readable PEM files, a certificate and "
            f"the key that belongs to it"
        ) from error
