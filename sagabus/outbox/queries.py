"""The queries of `outbox.sql`, for one table."""

from __future__ import annotations

import importlib.resources
import re
from typing import Final

from attrs import frozen

from sagabus.errors import ConfigurationError

_NAME: Final = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_PART: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")


@frozen
class Queries:
    """What is asked of an outbox table.

    Attributes:
        table: its name, quoted.
        channel: what its listeners hear, quoted as an identifier.
        create, write, write_quietly, take, remove, put_off, next_retry, waiting: as `outbox.sql` describes them.
    """

    table: str
    channel: str
    create: str
    write: str
    write_quietly: str
    take: str
    remove: str
    put_off: str
    next_retry: str
    waiting: str

    @classmethod
    def of(cls, table: str) -> Queries:
        """Return the queries for *table*, with a schema before it or not.

        Raises:
            ConfigurationError: it has characters that a plain name has not.
        """
        parts = table.split(".")
        if len(parts) > 2 or not all(_PART.fullmatch(part) for part in parts):
            raise ConfigurationError(
                f"table {table!r} is no plain name; write it in lower case, as sagabus_outbox or shop.sagabus_outbox"
            )
        quoted, name = ".".join(f'"{part}"' for part in parts), parts[-1]
        text = importlib.resources.files("sagabus.outbox").joinpath("outbox.sql").read_text("utf-8")
        _, *pieces = _NAME.split(text)
        found = {
            title: body.replace("{table}", quoted).replace("{channel}", f"'{name}'").strip()
            for title, body in zip(pieces[::2], pieces[1::2], strict=True)
        }
        return cls(table=quoted, channel=f'"{name}"', **found)
