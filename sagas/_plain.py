"""Plain data: what a store gives back as it was put in, without knowing its class."""

from __future__ import annotations

import math
from typing import Any

from sagabus import SagabusError


class NotPlainError(SagabusError):
    """A hook returned something that would come back from the store as something else.

    Attributes:
        hook: the method that returned it.
        path: where in it, as `$.scores[0]`.
    """

    def __init__(self, hook: str, path: str, shown: str) -> None:
        super().__init__(
            f"{hook} returned {shown} at {path}, which would not come back from the store as it went; "
            f"return plain data: None, bool, int, float, str, lists, and dicts whose keys are str"
        )
        self.hook, self.path = hook, path


def plain(value: Any, hook: str) -> Any:
    """Return *value*, having made sure that it is plain data; *hook* is who returned it.

    Raises:
        NotPlainError: it holds anything else, or a number that is none.
    """
    _check(value, hook, "$")
    return value


def _check(value: Any, hook: str, path: str) -> None:
    kind = type(value)
    if kind is list:
        for index, item in enumerate(value):
            _check(item, hook, f"{path}[{index}]")
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise NotPlainError(hook, path, f"the key {key!r}")
            _check(item, hook, f"{path}.{key}")
    elif kind is float:
        if not math.isfinite(value):
            raise NotPlainError(hook, path, str(value))
    elif kind is int:
        if not -(2**63) <= value < 2**64:
            raise NotPlainError(hook, path, f"{value}, more than 64 bits")
    elif value is not None and kind not in (bool, str):
        raise NotPlainError(hook, path, f"a {kind.__qualname__}")
