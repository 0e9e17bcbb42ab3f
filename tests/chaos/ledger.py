"""The ledger: a file outside the system under test. Workers append what they did, the driver what was accepted.

A line is one write to a file opened for appending. A process that is killed while it writes may leave a part of one
(the kernel looks for signals between two pages), so every line begins with a line break of its own: what is torn stays
by itself, and counts as not written. It is not synced: processes die here, the machine does not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from attrs import define, field

EFFECT: Final = "effect"
ACCEPTED: Final = "accepted"
AT_WORK: Final = "at-work"
FAULT: Final = "fault"
TOOLS_DOWN: Final = "tools-down"

Line = dict[str, Any]


@define
class Ledger:
    """Writes lines. Thread-safe, and safe beside other processes."""

    path: Path
    _fd: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def note(self, what: str, **facts: Any) -> None:
        """Append one line: *what*, this process's id, and *facts*."""
        data = b"\n" + json.dumps({"what": what, "pid": os.getpid()} | facts).encode() + b"\n"
        written = os.write(self._fd, data)
        if written != len(data):
            raise OSError(f"the ledger took {written} of {len(data)} bytes")

    def effect(self, kind: str, key: str, message_id: str, value: Any = None, *, consumer: str = "") -> None:
        """Note an effect: what a message with this id did to the world.

        Args:
            kind, key: name the effect; it should happen once.
            value: what it came to.
            consumer: who replied to the message, as `endpoint module.function`; "" for no reply.
        """
        self.note(EFFECT, kind=kind, key=key, id=message_id, value=value, consumer=consumer)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


@define
class Reader:
    """Reads the lines that have come since it read last. For one thread.

    Attributes:
        offset: how many bytes it has read.
        torn: how many lines were cut off, by the death of who wrote them.
    """

    path: Path
    offset: int = field(default=0, init=False)
    torn: int = field(default=0, init=False)

    def new(self) -> Iterator[Line]:
        """Yield the whole lines that are new."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        for line in filter(None, whole.splitlines()):
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                self.torn += 1
                continue
            yield entry
