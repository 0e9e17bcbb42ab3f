"""Text without secrets: what is logged, dead-lettered or printed may hold a URL with a password."""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "***"

_URL: Final = re.compile(r"""[A-Za-z][A-Za-z0-9+.-]*://[^\s'"<>`|\\]+""")
_NEXT_URL: Final = re.compile(r"(?<=[;,])(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_SECRET_NAME: Final = (
    r"(?:[A-Za-z0-9_.-]*(?:password|passwd|passphrase|secret|credential|api[_-]?key|access[_-]?key)s?)"
)
_ASSIGNED: Final = re.compile(
    rf"""(?P<name>\b{_SECRET_NAME}['"]?\s*[=:]\s*)(?P<value>b?'[^'\n]*'|b?"[^"\n]*"|[^\s'"&;,)\]}}<>]+)""",
    re.IGNORECASE,
)
# What a URL's query calls a secret; too common elsewhere.
_IN_QUERY: Final = re.compile(r"(?P<name>[?&](?:token|sig|signature|auth|pwd|pass|sas)=)[^&\s'\"<>]+", re.IGNORECASE)
# A client that quotes the command that failed.
_LOGIN: Final = re.compile(r"(?P<name>\((?:AUTH|HELLO)\b)[^)\n]*")
_SECRET_FIELD: Final = re.compile(rf"(?:{_SECRET_NAME}|authorization|pwd)", re.IGNORECASE)


def scrub(text: str) -> str:
    """Return *text* with `***` for what looks like a credential; the same text where nothing does.

    Found are the user and password of URLs, also of several in a list and with characters in them that should have been
    percent-encoded; what is assigned to a name such as `password` or `ssl_password`, in a query or elsewhere; and the
    arguments of a quoted AUTH. A password that stands alone cannot be told from any other word.
    """
    if "://" in text:
        text = _URL.sub(lambda found: _scrub_urls(found[0]), text)
        text = _IN_QUERY.sub(_hide, text)
    text = _ASSIGNED.sub(_hide, text)
    return _LOGIN.sub(lambda found: f"{found['name']} {HIDDEN}", text)


def names_a_secret(name: str) -> bool:
    """Return whether what is logged under *name* is not to be shown."""
    return _SECRET_FIELD.fullmatch(name) is not None


def has_stray_credentials(url: str) -> bool:
    """Return whether *url* has an @ behind its host where its credentials seem to begin before it.

    Then a `/ ? # @` in the password was not percent-encoded, and no parser knows where the password ends.
    """
    rest = url.partition("://")[2]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    behind = rest[len(authority) :]
    _, colon, port = authority.rpartition("]")[2].partition(":") if authority[:1] == "[" else authority.partition(":")
    return "@" in behind and "@" not in authority and bool(colon) and not port.isdigit()


def _hide(found: re.Match[str]) -> str:
    return f"{found['name']}{HIDDEN}"


def _scrub_urls(text: str) -> str:
    return "".join(_scrub_url(url) for url in _NEXT_URL.split(text))


def _scrub_url(url: str) -> str:
    scheme, colon, rest = url.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" in authority or has_stray_credentials(url):
        return f"{scheme}{colon}{HIDDEN}@{rest.rpartition('@')[2]}"
    return url
