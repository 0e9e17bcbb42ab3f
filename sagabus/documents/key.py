"""Which document, and which state of it: keys, groups and etags."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote, unquote

from attrs import field, frozen

from sagabus.errors import ConfigurationError
from sagabus.versions import VersionVector

MAX_NAME_LENGTH: Final = 500


def _check_name(instance: object, attribute: object, name: Any) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_LENGTH:
        raise ConfigurationError(
            f"{name!r} is no name of a document; give a text of 1 to {MAX_NAME_LENGTH} characters, "
            f"or a digest of what is longer"
        )


def _check_group(instance: object, attribute: object, group: str) -> None:
    if group:
        _check_name(instance, attribute, group)


@frozen(order=True)
class DocumentKey:
    """Which document.

    Attributes:
        name: what it is called in its group.
        group: the documents that one write can change together; empty for a document that stands alone. A group is
            kept on one node of a cluster.
    """

    name: str = field(validator=_check_name)
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
    clock: dict[str, int] = {}
    for part in etag.split(",") if etag is not None else ():
        actor, colon, counter = part.rpartition(":")
        if not (colon and actor and counter.isascii() and counter.isdigit()):
            raise ConfigurationError(f"{etag!r} is no etag; give one that load() or put() returned, or None")
        clock[actor] = int(counter)
    return clock
