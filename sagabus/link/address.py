"""Where a link leads: what URLs say, and how they are shown."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from attrs import frozen

from sagabus.errors import ConfigurationError
from sagabus.redaction import has_stray_credentials

_BASES: Final = {
    "redis": "redis",
    "rediss": "rediss",
    "unix": "unix",
    "valkey": "redis",
    "valkeys": "rediss",
}
_SENTINEL_PORT: Final = 26379


@frozen
class Target:
    """What a URL names.

    Attributes:
        url: as redis-py takes it; with sentinels, its host and port are nobody's.
        is_cluster: whether that is one node of a cluster.
        sentinels: host and port of those that know where the primary is.
        service: what they call it.
        sentinel_options: how to log in to them; as redis-py takes it.
    """

    url: str
    is_cluster: bool = False
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""
    sentinel_options: tuple[tuple[str, object], ...] = ()

    @classmethod
    def of(cls, url: str) -> Target:
        """Read *url*.

        Raises:
            ConfigurationError: its scheme is none of ours, or its sentinels cannot be read.
        """
        scheme, _, rest = url.partition(":")
        base, _, kind = scheme.lower().partition("+")
        if base not in _BASES or kind not in ("", "cluster", "sentinel"):
            raise ConfigurationError(
                f"{scheme.lower()!r} is no Redis URL; use redis: rediss: unix: valkey: valkeys:, or one of them with "
                f"+cluster or +sentinel"
            )
        plain = f"{_BASES[base]}:{rest}"
        return _with_sentinels(url, plain) if kind == "sentinel" else cls(plain, kind == "cluster")


def _with_sentinels(url: str, plain: str) -> Target:
    shown = redact(url)
    parts = urlsplit(plain)
    credentials, at, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    try:
        sentinels = tuple(_host_and_port(host) for host in hosts.split(","))
        if not service or "/" in database:
            raise ValueError("it names no service")
    except ValueError as error:
        raise ConfigurationError(
            f"{shown!r} cannot be used: {error}; write redis+sentinel://USER:PASSWORD@HOST:26379,HOST:26379/"
            f"SERVICE/DATABASE, with sentinel_username and sentinel_password behind a ? where the sentinels want them"
        ) from error
    options: dict[str, object] = {"ssl": True} if parts.scheme == "rediss" else {}
    kept = []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in ("sentinel_username", "sentinel_password"):
            options[name.removeprefix("sentinel_")] = value
            continue
        kept.append((name, value))
        if name.startswith("ssl_"):
            options[name] = value
    nobody = parts._replace(netloc=f"{credentials}{at}localhost", path=f"/{database}", query=urlencode(kept))
    return Target(urlunsplit(nobody), False, sentinels, unquote(service), tuple(options.items()))


def _host_and_port(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError(f"{text!r} is no HOST:PORT")
    return parts.hostname, parts.port or _SENTINEL_PORT


def redact(url: str) -> str:
    """Return *url* without its credentials, fit for logs and errors.

    Raises:
        ConfigurationError: it cannot be read as a URL.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        # The URL itself is not shown: where its password is cannot be told.
        raise ConfigurationError(
            f"a {url.partition(':')[0]!r} URL cannot be read: {error}; write it as SCHEME://HOST:PORT"
        ) from error
    if has_stray_credentials(url) or (parts.netloc and "@" in parts.path and "@" not in parts.netloc):
        raise ConfigurationError(
            f"a {parts.scheme!r} URL has an @ behind its host; write / ? # and @ in a password as %2F %3F %23 and %40"
        )
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def seed_address(url: str) -> str:
    """Return host and port of *url*, with the defaults."""
    parts = urlsplit(url)
    return join(parts.hostname or "127.0.0.1", parts.port or 6379)


def join(host: str, port: int) -> str:
    """Return an address as URLs have it: IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_of(address: str) -> str:
    """Return the host of what `join` has made."""
    return address.rpartition(":")[0].strip("[]")
