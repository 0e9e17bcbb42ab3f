"""From URLs to a store and a transport: environment, entry points, the embedded server, and packages that hide ours."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from sagabus.errors import ConfigurationError, ShadowedPackageError, UnknownTransportError
from sagabus.transport import Transport

if TYPE_CHECKING:
    from sagabus.store.protocol import Store

GROUP: Final = "sagabus.transports"
EMBEDDED_FOLDER: Final = ".sagabus"
_REDIS_SCHEMES: Final = frozenset(
    {"redis", "rediss", "unix", "valkey", "valkeys"}
    | {f"{base}+{kind}" for base in ("redis", "rediss", "valkey", "valkeys") for kind in ("cluster", "sentinel")}
)


def scheme_of(url: str) -> str:
    """Return the scheme of *url*.

    Raises:
        ConfigurationError: it has none.
    """
    scheme, colon, _ = url.partition(":")
    if not colon or not scheme:
        # What has an @ may have a password before it, wherever that begins.
        shown = f"...@{url.rpartition('@')[2]}" if "@" in url else url
        raise ConfigurationError(f"{shown!r} is no URL; write one as redis://localhost:6379 or embedded:")
    return scheme.lower()


def choose_urls(store: str | None, transport: str | None) -> tuple[str, str]:
    """Return the URLs of store and transport.

    What is given, else `SAGABUS_STORE` and `SAGABUS_TRANSPORT`, else the embedded server. A transport that nobody names
    is on the store's server.
    """
    store = store or os.environ.get("SAGABUS_STORE") or "embedded:"
    return store, transport or os.environ.get("SAGABUS_TRANSPORT") or store


def embedded_folder(url: str) -> Path:
    """Return the folder that an `embedded:` URL names; `./.sagabus` where it names none."""
    path = unquote(urlsplit(url).path)
    return Path(path) if path else Path(EMBEDDED_FOLDER)


def check_store_url(url: str) -> None:
    """Make sure that there are stores of the kind that *url* names; nothing is connected.

    Raises:
        ConfigurationError: there are none.
    """
    scheme = scheme_of(url)
    if scheme not in _REDIS_SCHEMES | {"memory", "embedded"}:
        raise ConfigurationError(
            f"no store for {scheme!r} URLs; sagas are kept in embedded: memory: redis: rediss: unix: valkey: "
            f"or …+cluster: and …+sentinel:"
        )


def open_store(url: str, namespace: str, *, revive: Callable[[], None] | None = None) -> Store:
    """Return the store at *url*, which is not `embedded:` any more.

    Args:
        revive: called when the server does not answer; starts an embedded one again.

    Raises:
        ConfigurationError: nothing can store there.
    """
    check_store_url(url)
    if scheme_of(url) == "memory":
        from sagabus.store.memory import MemoryStore

        return MemoryStore()
    from sagabus.link import Link
    from sagabus.store.redis import RedisStore

    return RedisStore(url, namespace=namespace, link=Link(url, revive=revive))


def open_transport(url: str, namespace: str) -> Transport:
    """Return the transport for the scheme of *url*, found through the entry points in the group `sagabus.transports`.

    A scheme without an entry point of its own goes to the one called `kombu`, which refuses those that kombu does not
    know.

    Raises:
        UnknownTransportError: there is none.
        ShadowedPackageError: a package of the user hides ours.
    """
    scheme = scheme_of(url)
    found = {point.name: point for point in entry_points(group=GROUP)}
    point = found.get(scheme) or found.get("kombu")
    if point is None:
        raise UnknownTransportError(scheme, list(found))
    factory = _load(point)
    try:
        return factory(url, namespace=namespace)  # type: ignore[no-any-return,operator]
    except UnknownTransportError as error:
        raise UnknownTransportError(scheme, sorted({*found, *error.known})) from None


def _load(point: EntryPoint) -> object:
    """Return what *point* names, having made sure, where it is ours, that it is ours."""
    package = point.module.partition(".")[0]
    if point.dist is None or point.dist.name != "sagabus":
        return point.load()
    try:
        loaded: object = point.load()
    except (ImportError, AttributeError):
        check_package(package)
        raise
    check_package(package)
    return loaded


def check_package(package: str) -> None:
    """Make sure that the top-level package of that name is the one beside the kernel.

    Raises:
        ShadowedPackageError: it is another.
    """
    module = sys.modules.get(package)
    if module is None:
        return
    expected = Path(__file__).resolve().parents[1] / package
    files = [getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", [])), "")]
    if not Path(files[0]).resolve().is_relative_to(expected):
        raise ShadowedPackageError(package, str(files[0]), str(expected))
