"""Dead letters as lines of JSON, whole: what `sagabus dead export` writes and `retry --from` reads."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any

import msgspec

from sagabus.dead_letters.letter import DeadLetter
from sagabus.errors import ConfigurationError


class _Row(msgspec.Struct, omit_defaults=True):
    id: str
    endpoint: str
    reason: str
    error: str
    attempts: int
    at_ms: int
    type: str = ""
    saga: str = ""
    handler: str = ""
    worker: str = ""
    host: str = ""
    traceback: str = ""
    body: str = ""
    body_base64: str = ""
    context: msgspec.Raw = msgspec.Raw(b"null")


def to_row(letter: DeadLetter) -> dict[str, Any]:
    """Return *letter* as plain data; a body that is no UTF-8 text is in base64."""
    row = msgspec.json.decode(to_line(letter))
    assert isinstance(row, dict)
    return row


def to_line(letter: DeadLetter) -> bytes:
    """Return *letter* as a line of JSON, without its newline."""
    try:
        body, coded = letter.body.decode(), ""
    except UnicodeDecodeError:
        body, coded = "", base64.b64encode(letter.body).decode()
    return msgspec.json.encode(
        _Row(
            letter.id,
            letter.endpoint,
            letter.reason,
            letter.error,
            letter.attempts,
            letter.at_ms,
            letter.type,
            letter.saga,
            letter.handler,
            letter.worker,
            letter.host,
            letter.traceback,
            body,
            coded,
            msgspec.Raw(letter.context or b"null"),
        )
    )


def from_lines(text: str) -> Iterator[DeadLetter]:
    """Yield the letters that the lines of *text* hold; empty lines are passed over.

    Raises:
        ConfigurationError: a line holds none; its text has the number.
    """
    decoder = msgspec.json.Decoder(_Row)
    # Not splitlines(): JSON may hold what Python takes for the end of a line, as U+2028.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = decoder.decode(line)
            body = base64.b64decode(row.body_base64, validate=True) if row.body_base64 else row.body.encode()
        except (msgspec.MsgspecError, binascii.Error, ValueError) as error:
            raise ConfigurationError(
                f"line {number} is no dead letter ({error}); give a file that sagabus dead export has written"
            ) from error
        context = b"" if bytes(row.context) == b"null" else bytes(row.context)
        yield DeadLetter(
            id=row.id,
            endpoint=row.endpoint,
            reason=row.reason,
            error=row.error,
            traceback=row.traceback,
            attempts=row.attempts,
            at_ms=row.at_ms,
            body=body,
            type=row.type,
            saga=row.saga,
            context=context,
            worker=row.worker,
            host=row.host,
            handler=row.handler,
        )
