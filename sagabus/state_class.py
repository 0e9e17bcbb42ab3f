"""The class of a saga's states: found through its bases, and held to what can be stored."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import attrs

from sagabus.codec import StateCodec, check_codable, check_fields
from sagabus.errors import DefinitionError
from sagabus.saga import Saga
from sagabus.secrecy.keyring import Keyring


def state_type_of(cls: type, subject: str) -> type:
    """Return the class of the states of a saga class.

    Raises:
        DefinitionError: it is not given.
    """
    argument = _state_argument(cls, {})
    if not isinstance(argument, type):
        raise DefinitionError(subject, "its state class is not given", _state_mend(cls))
    return argument


def _state_argument(cls: type, given: Mapping[Any, Any]) -> Any:
    """Return what stands for Saga's own type variable in *cls*; None or a type variable where nothing does.

    Args:
        given: type variable of *cls* -> what its subclass put in its place.
    """
    found = None
    for base in vars(cls).get("__orig_bases__", cls.__bases__):
        origin = typing.get_origin(base) or base
        if not (isinstance(origin, type) and issubclass(origin, Saga)):
            continue
        arguments = [given.get(a, a) if isinstance(a, TypeVar) else a for a in typing.get_args(base)]
        if origin is Saga:
            found = arguments[0] if arguments else None
        else:
            # A base that is named without arguments leaves its type variables open.
            found = _state_argument(origin, dict(zip(getattr(origin, "__parameters__", ()), arguments, strict=False)))
        if isinstance(found, type):
            break
    return found


def _state_mend(cls: type) -> str:
    base = next(base for base in cls.__bases__ if issubclass(base, Saga))
    open_ = _state_argument(base, {})
    if base is Saga or not isinstance(open_, TypeVar):
        return f"Write class {cls.__name__}(Saga[YourState])"
    wanted = ", ".join("YourState" if p is open_ else p.__name__ for p in getattr(base, "__parameters__", ()))
    return f"Write class {cls.__name__}({base.__name__}[{wanted}])"


def state_codec(state_type: type, version: int, saga: str, subject: str, names: Mapping[str, Any]) -> StateCodec[Any]:
    """Return what writes and reads states of *state_type*.

    Args:
        saga: the name of the saga that they are of.

    Raises:
        DefinitionError: they could not be stored and read again; with the mend.
    """
    where = f"{subject}, state {state_type.__qualname__}"
    if not attrs.has(state_type):
        raise DefinitionError(where, "is no attrs class", "Decorate it with @define")
    required = [a.name for a in attrs.fields(state_type) if a.init and a.default is attrs.NOTHING]
    if required:
        raise DefinitionError(
            where,
            f"cannot be made without arguments ({', '.join(required)} have no default)",
            "Give every field a default",
        )
    check_fields(state_type, where, names)
    codecs: list[StateCodec[Any]] = []
    # What is stored belongs to the saga, whatever its class of states is called next year.
    root = f"saga {saga}"
    check_codable(lambda: codecs.append(StateCodec(state_type, version, root)), state_type, where)
    trial = codecs[0]
    if trial.secrets is not None:
        keyring = Keyring.generate("trial")  # the keys of the process come with its bus, which is made later
        trial = StateCodec(state_type, version, root, lambda: keyring)
    try:
        trial.decode(trial.encode(state_type()))
    except Exception as error:
        raise DefinitionError(
            where,
            f"its defaults cannot be stored and read again ({error})",
            "Give every field a default that its annotation and its validator allow",
        ) from error
    return codecs[0]
