"""The names that generated code goes by, made from the one that was typed, and refused where they could not work."""

from __future__ import annotations

import keyword
import re
import sys
from typing import Final

from attrs import frozen

from sagabus.errors import ConfigurationError

LONGEST: Final = 20
"""The most characters of a name, so that generated lines stay short."""
_OURS: Final = frozenset({"sagabus", "sagas", "mergers", "transports"})
_TAKEN: Final = frozenset({"test", "tests", "conftest"})
_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def package_name(typed: str) -> str:
    """Return the package that a project called *typed* has: `My-Shop` has `my_shop`.

    Raises:
        ConfigurationError: nothing can be imported under that name, or something else would be hidden by it.
    """
    name = re.sub(r"\W+", "_", typed, flags=re.ASCII).strip("_").lower()
    mend = "choose another one: sagabus init --package NAME"
    if not name.isidentifier() or keyword.iskeyword(name) or len(name) > LONGEST:
        raise ConfigurationError(
            f"{typed!r} makes no name of a package, which begins with a letter and has at most {LONGEST} "
            f"characters; {mend}"
        )
    if name in _OURS:
        raise ConfigurationError(f"a package {name!r} at the top level would hide the one of sagabus; {mend}")
    if name in sys.stdlib_module_names or name in _TAKEN:
        raise ConfigurationError(f"a package {name!r} would hide another one, or be hidden by it; {mend}")
    return name


@frozen
class SagaNames:
    """What a new saga is called where.

    Attributes:
        cls: its class, `RefundOrder`.
        module: its module, `refund_order`.
        wire: on the wire and as an endpoint, `refund-order`.
    """

    cls: str
    module: str
    wire: str

    @classmethod
    def of(cls, typed: str) -> SagaNames:
        """Read `RefundOrder`, `refund_order` or `refund-order`.

        Raises:
            ConfigurationError: it makes no names.
        """
        words = _WORDS.findall(typed)
        if not words or "".join(words) != re.sub(r"[-_]", "", typed) or words[0].isdigit():
            raise ConfigurationError(
                f"{typed!r} is no name of a saga; write one as RefundOrder, refund_order or refund-order"
            )
        lower = [word.lower() for word in words]
        module = "_".join(lower)
        class_name = "".join(word if word.isupper() and len(words) > 1 else word.capitalize() for word in words)
        if keyword.iskeyword(module) or keyword.iskeyword(class_name) or class_name == "Saga":
            raise ConfigurationError(f"{typed!r} is a word of Python's, or of sagabus's; choose another name")
        if len(class_name) > LONGEST:
            raise ConfigurationError(f"{typed!r} has more than {LONGEST} letters; choose a shorter name")
        return cls(class_name, module, "-".join(lower))


def key_field(typed: str) -> str:
    """Return *typed* where a message can have a field of that name that identifies a saga.

    Raises:
        ConfigurationError: it cannot.
    """
    if not typed.isidentifier() or keyword.iskeyword(typed) or typed.startswith("_") or typed in ("fact", "facts"):
        raise ConfigurationError(f"--key {typed!r} is no name of a field here; choose another, as --key order")
    if len(typed) > LONGEST:
        raise ConfigurationError(f"--key {typed!r} has more than {LONGEST} characters; choose a shorter one")
    return typed
