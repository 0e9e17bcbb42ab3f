"""Which document, and which state of it: keys, groups and etags."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import quote, unquote

from attrs import field, frozen

from sagabus.errors import ConfigurationError
from sagabus.versions import VersionVector

MAX_NAME_LENGTH: Final = 500
_PART: Final = re.compile(r"(.+):([1-9][0-9]{0,15})")
"""An actor and its counter, which never comes near 2^53, from where on Lua's numbers would not be exact."""


def check_name(name: Any, what: str) -> None:
    """Refuse what cannot be the name of a document, group or lease.

    Raises:
        ConfigurationError: with the mend.
    """
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_LENGTH or not _is_sound(name):
        raise ConfigurationError(
            f"{name!r} is no name of a {what}; give a text of 1 to {MAX_NAME_LENGTH} characters, "
            f"or a digest of what is longer"
        )


def _is_sound(text: str) -> bool:
    """Return whether *text* can be written: half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_document(instance: object, attribute: object, name: Any) -> None:
    check_name(name, "document")


def _check_group(instance: object, attribute: object, group: Any) -> None:
    if group != "":
        check_name(group, "group")


@frozen(order=True)
class DocumentKey:
    """Which document.

    Attributes:
        name: what it is called in its group.
        group: the documents that one write can change together; empty for a document that stands alone. A group is
            kept on one node of a cluster.
    """

    name: str = field(validator=_check_document)
    group: str = field(default="", validator=_check_group)

    def __str__(self) -> str:
        return f"{self.group}/{self.name}" if self.group else self.name

    def tag(self) -> str:
        """Return what all documents of its group share, in a form that is safe inside a Redis hash tag."""
        return group_tag(self.group) if self.group else f"={quote(self.name, safe='')}"

    @classmethod
    def from_tag(cls, tag: str, name: str) -> DocumentKey:
        """Return the key whose tag and name these are."""
        return cls(name, "" if tag.startswith("=") else unquote(tag))


def group_tag(group: str) -> str:
    """Return the tag of the documents of *group*."""
    return quote(group, safe="")


def etag_of(clock: VersionVector) -> str | None:
    """Return the text that names one state of a document by its clock; None where there is no document."""
    return ",".join(f"{actor}:{counter}" for actor, counter in sorted(clock.items())) or None


def clock_of(etag: str | None) -> dict[str, int]:
    """Return the clock that *etag* was made of.

    Raises:
        ConfigurationError: it is no etag.
    """
    if etag is None:
        return {}
    given: Any = etag
    parts = [_PART.fullmatch(part) for part in given.split(",")] if isinstance(given, str) else []
    clock = {part[1]: int(part[2]) for part in parts if part is not None}
    if etag_of(clock) != etag:
        raise ConfigurationError(f"{etag!r} is no etag; give one that load() or put() returned, or None")
    return clock
