"""What a field's validator says about the values worth trying, as far as it can be read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import attrs
from attrs import evolve, field, frozen


@frozen
class Constraint:
    """What is known of the values that a validator takes. A hint: whether it takes one is found by trying.

    Attributes:
        numbers: numbers at its limits.
        options: the values it lists; None where it lists none.
        min_size: the least length.
        max_size: the greatest length; None where there is none.
        pattern: what text must match.
        opaque: whether it has conditions that cannot be read.
        members: what holds for the items of a collection, or the values of a mapping.
        keys: what holds for the keys of a mapping.
        checks: whether a value is taken, as far as that can be said of it alone.
    """

    numbers: tuple[int, ...] = ()
    options: tuple[Any, ...] | None = None
    min_size: int = 0
    max_size: int | None = None
    pattern: re.Pattern[str] | None = None
    opaque: bool = False
    members: Constraint | None = None
    keys: Constraint | None = None
    checks: tuple[Callable[[Any], bool], ...] = field(default=(), eq=False)

    def and_(self, other: Constraint) -> Constraint:
        """Return what holds where both hold."""
        sizes = [size for size in (self.max_size, other.max_size) if size is not None]
        return Constraint(
            numbers=self.numbers + other.numbers,
            options=self.options if other.options is None else other.options,
            min_size=max(self.min_size, other.min_size),
            max_size=min(sizes, default=None),
            pattern=self.pattern or other.pattern,
            opaque=self.opaque or other.opaque,
            members=_both(self.members, other.members),
            keys=_both(self.keys, other.keys),
            checks=self.checks + other.checks,
        )

    def takes(self, value: Any) -> bool:
        """Return whether nothing speaks against *value*."""
        return all(check(value) for check in self.checks)


def read_validator(validator: Any, attribute: attrs.Attribute[Any]) -> Constraint:
    """Return what can be read from an attrs validator of *attribute*.

    Those of `attrs.validators` have no public classes; they are known by their attributes. One that is not known, or
    that attrs changes one day, is opaque.
    """
    if validator is None:
        return Constraint()
    known = _read(validator, attribute)
    return evolve(known, checks=(partial(_accepted, validator, attribute),))


def _read(validator: Any, attribute: attrs.Attribute[Any]) -> Constraint:
    found = vars_of(validator)
    if "_validators" in found:
        return _all(_read(each, attribute) for each in found["_validators"])
    if "validators" in found:  # any of them
        return _limits_only(_all(_read(each, attribute) for each in found["validators"]))
    if "exc_types" in found:  # not this one
        return _limits_only(_read(found["validator"], attribute))
    if "validator" in found:  # optional
        return _read(found["validator"], attribute)
    if "iterable_validator" in found:
        whole = read_validator(found["iterable_validator"], attribute)
        return whole.and_(Constraint(members=read_validator(found["member_validator"], attribute)))
    if "mapping_validator" in found:
        keys, members = (
            read_validator(found["key_validator"], attribute),
            read_validator(found["value_validator"], attribute),
        )
        return read_validator(found["mapping_validator"], attribute).and_(Constraint(keys=keys, members=members))
    return _simple(found)


def read_limits(info: Any) -> Constraint:
    """Return what `msgspec.Meta` says in an annotation, from msgspec's description of the type."""
    found = vars_of(info)
    step = found.get("multiple_of")
    bounds = [bound for name in ("gt", "ge", "lt", "le") if (bound := found.get(name)) is not None]
    multiples = [step * count for bound in (0, *bounds) for count in _around(bound // step)] if step else []
    pattern = found.get("pattern")
    return Constraint(
        numbers=(*(number for bound in bounds for number in _around(bound)), *multiples),
        min_size=found.get("min_length") or 0,
        max_size=found.get("max_length"),
        pattern=re.compile(pattern) if pattern else None,
    )


def vars_of(value: Any) -> dict[str, Any]:
    """Return the attributes of *value*, from its slots, its fields or its dictionary."""
    names = getattr(type(value), "__struct_fields__", None) or getattr(type(value), "__slots__", None)
    if names is None:
        return dict(getattr(value, "__dict__", {}))
    return {name: getattr(value, name) for name in names if name != "__weakref__"}


def _simple(found: dict[str, Any]) -> Constraint:
    if "bound" in found:
        return Constraint(numbers=_around(found["bound"]))
    if "options" in found:
        return Constraint(options=tuple(found["options"]))
    if "min_length" in found:
        return Constraint(min_size=found["min_length"])
    if "max_length" in found:
        return Constraint(max_size=found["max_length"])
    if "pattern" in found:
        return Constraint(pattern=found["pattern"])
    if "type" in found:  # instance_of, which the annotation says too
        return Constraint()
    return Constraint(opaque=True)


def _around(bound: Any) -> tuple[int, ...]:
    """Return whole numbers at *bound* and next to it; none where it is no number."""
    return (int(bound) - 1, int(bound), int(bound) + 1) if isinstance(bound, int | float) else ()


def _limits_only(constraint: Constraint) -> Constraint:
    """Return what remains of *constraint* where it need not hold: its limits are still worth trying."""
    return Constraint(numbers=constraint.numbers, opaque=True)


def _all(constraints: Iterable[Constraint]) -> Constraint:
    whole = Constraint()
    for constraint in constraints:
        whole = whole.and_(constraint)
    return whole


def _both(one: Constraint | None, other: Constraint | None) -> Constraint | None:
    return one.and_(other) if one is not None and other is not None else one or other


class _NeedsOthersError(Exception):
    """A validator asks for the other fields, which have no values yet."""


class _Anybody:
    """Stands for the object to be made, where a value is validated alone."""

    def __getattr__(self, name: str) -> Any:
        raise _NeedsOthersError(name)


def _accepted(validator: Callable[..., object], attribute: attrs.Attribute[Any], value: Any) -> bool:
    """Return whether *validator* takes *value*; what it cannot say without the other fields is found later."""
    try:
        validator(_Anybody(), attribute, value)
    except _NeedsOthersError:
        return True
    except Exception:  # validators are the user's, and may raise anything
        return False
    return True


def opened(constraint: Constraint | None) -> Constraint:
    """Return *constraint*, or one that says nothing."""
    return constraint if constraint is not None else Constraint()
