"""The messages of a simulation, as `sagabus simulate` reads them: a JSON object a line.

    # comments and empty lines are passed over
    {"type": "credit.check", "data": {"customer": "42"}}
    {"type": "credit.score-reported", "data": {"bureau": "equifax", "score": 710}}

`type` is a wire name, `data` the body, with what its class declares Encrypted written plainly. `"start": true` or
`false` says whether a message is one that the simulation starts with; without it those are that may start the saga.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from typing import Any, Final

from attrs import frozen

from sagabus.errors import CodecError, ConfigurationError
from sagabus.messages import registry

_KNOWN: Final = {"type": str, "data": dict, "start": bool}
_EXAMPLE: Final = '{"type": "credit.check", "data": {"customer": "42"}}'


class MessageLineError(ConfigurationError):
    """A line holds no message that this app knows.

    Attributes:
        line: its number, from 1.
    """

    def __init__(self, line: int, problem: str, mend: str) -> None:
        super().__init__(f"line {line}: {problem}; {mend}")
        self.line = line


@frozen
class Given:
    """What a simulation begins with.

    Attributes:
        start: the messages that start sagas.
        messages: the others. Both are in the order of their lines.
    """

    start: tuple[Any, ...]
    messages: tuple[Any, ...]


def read(lines: Iterable[str], starters: Container[str]) -> Given:
    """Return the messages that *lines* hold.

    Args:
        starters: the wire names of the messages that start the saga.

    Raises:
        MessageLineError: a line holds none, or there is no line that does.
    """
    start: list[Any] = []
    messages: list[Any] = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            said = _object(number, line)
            starts = said.get("start", said["type"] in starters)
            (start if starts else messages).append(_message(number, said))
    if not start and not messages:
        raise MessageLineError(1, "there is no message in the file", f"write one a line, as {_EXAMPLE}")
    return Given(tuple(start), tuple(messages))


def _object(number: int, line: str) -> Mapping[str, Any]:
    """Return what a line says, its parts of the right kind."""
    mend = f"write it as {_EXAMPLE}"
    try:
        said = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise MessageLineError(number, f"no JSON ({error})", mend) from error
    if not isinstance(said, dict):
        raise MessageLineError(number, "no JSON object", mend)
    unknown = sorted(set(said) - set(_KNOWN))
    if unknown:
        raise MessageLineError(number, f"unknown {', '.join(unknown)}", f"known are {', '.join(_KNOWN)}")
    if "type" not in said:
        raise MessageLineError(number, "no type", mend)
    for name, kind in _KNOWN.items():
        if name in said and not isinstance(said[name], kind):
            raise MessageLineError(number, f"{name} is {json.dumps(said[name])}, not of type {kind.__name__}", mend)
    return said


def _message(number: int, said: Mapping[str, Any]) -> Any:
    try:
        kind = registry.named(said["type"])
        return kind.codec.given(json.dumps(said.get("data", {})).encode())
    except CodecError as error:
        raise MessageLineError(number, str(error), "mend the line") from error
