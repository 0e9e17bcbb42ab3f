"""Where an AMQP broker is, who we are to it, and whom we trust; read from a URL."""

from __future__ import annotations

import re
import socket
import ssl
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from attrs import field, frozen
from kombu.connection import Connection

from sagabus.access import TlsOptions, check_certificates
from sagabus.errors import ConfigurationError
from sagabus.link import redact

AMQP_TLS: Final = TlsOptions("cacertfile", "certfile", "keyfile")
"""As RabbitMQ's own documentation calls them, https://www.rabbitmq.com/docs/uri-query-parameters."""

_TLS: Final = frozenset({"cacertfile", "certfile", "keyfile", "verify", "server_name_indication"})
_OTHERS: Final = frozenset({"auth_mechanism"})
CONNECT_S: Final = 5
_SOON_S: Final = 0.5
_MECHANISMS: Final = frozenset({"plain", "amqplain", "external"})


@frozen
class AmqpAddress:
    """One broker.

    Attributes:
        url: as kombu takes it, without options.
        shown: the same without credentials.
        tls: how to be sure of the other end, as py-amqp takes it; None for a connection without TLS.
        login: the SASL mechanism; EXTERNAL is the client certificate itself.
    """

    url: str = field(repr=False)
    shown: str
    tls: dict[str, Any] | None
    login: str

    @classmethod
    def all_of(cls, url: str) -> tuple[AmqpAddress, ...]:
        """Return the brokers that *url* names, one or several with `;` between them, which are then one cluster's.

        Raises:
            ConfigurationError: an option is unknown or wrong, a file is missing, or the URL cannot be read.
        """
        return tuple(cls._of(one) for one in re.split(r";(?=[A-Za-z][A-Za-z0-9+.-]*://)", url))

    @classmethod
    def _of(cls, url: str) -> AmqpAddress:
        shown = redact(url)
        scheme, _, rest = url.partition(":")
        address, _, query = rest.partition("?")
        options = dict(parse_qsl(query, keep_blank_values=True))
        secure = scheme.lower() == "amqps"
        if unknown := sorted(options.keys() - _TLS - _OTHERS):
            raise ConfigurationError(
                f"{shown!r} has the unknown option {', '.join(unknown)}; "
                f"write one of {', '.join(sorted(_TLS | _OTHERS))}"
            )
        if not secure and (useless := sorted(options.keys() & _TLS)):
            raise ConfigurationError(
                f"{shown!r} has the option {', '.join(useless)} and no TLS that it could be about; write amqps:"
            )
        login = options.get("auth_mechanism", "plain").lower()
        if login not in _MECHANISMS:
            raise ConfigurationError(
                f"{shown!r}: auth_mechanism is one of {', '.join(sorted(_MECHANISMS))}, not {login!r}"
            )
        # kombu takes a C library for "amqp:" where it is installed, which knows no publisher confirms.
        made = cls(
            f"{'amqps' if secure else 'pyamqp'}:{address}",
            shown,
            _tls(shown, options) if secure else None,
            login.upper(),
        )
        made.client(1, {})
        return made

    def client(self, heartbeat_s: int, options: dict[str, Any]) -> Any:
        """Return what connects when it is told to.

        Args:
            options: further ones of py-amqp's connection.

        Raises:
            ConfigurationError: the URL cannot be read.
        """
        try:
            return Connection(  # type: ignore[no-untyped-call]
                self.url,
                ssl=None if self.tls is None else dict(self.tls),
                login_method=self.login,
                heartbeat=heartbeat_s,
                connect_timeout=CONNECT_S,
                transport_options=options,
            )
        except (ValueError, TypeError) as error:
            raise ConfigurationError(
                f"{self.shown!r} cannot be used: {error}; write amqp://USER:PASSWORD@HOST:PORT/VHOST"
            ) from error

    def takes_connections(self) -> bool:
        """Return whether somebody takes a TCP connection there, and soon, whatever is said on it then."""
        parts = urlsplit(self.url)
        port = parts.port or (5672 if self.tls is None else 5671)
        try:
            socket.create_connection((parts.hostname or "localhost", port), timeout=_SOON_S).close()
        except OSError:
            return False
        return True


def _tls(shown: str, options: dict[str, str]) -> dict[str, Any]:
    verify = options.get("verify", "verify_peer")
    if verify not in ("verify_peer", "verify_none"):
        raise ConfigurationError(f"{shown!r}: verify is verify_peer, the default, or verify_none, not {verify!r}")
    authority, certificate, key = (options.get(name) for name in ("cacertfile", "certfile", "keyfile"))
    check_certificates(shown, AMQP_TLS, authority=authority, certificate=certificate, key=key)
    files = {"ca_certs": authority, "certfile": certificate, "keyfile": key}
    if verify == "verify_none":
        return files | {"cert_reqs": ssl.CERT_NONE}
    # Named here because kombu turns localhost into an address, for which there may be no certificate. py-amqp looks at
    # no name at all where it is given none.
    name = options.get("server_name_indication") or urlsplit(shown).hostname or "localhost"
    return files | {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": name}
