"""What can go wrong with a merger: when it is defined, and when siblings contradict each other."""

from __future__ import annotations

import attrs


@attrs.define(eq=False)
class UnmergeableError(ValueError):
    """No value can stand for what the siblings say.

    Attributes:
        values: what the siblings say, in the order they were given, without the silent ones (None).
        reason: why the rule cannot choose, and the next step to take.
        field: the path from the state to the value, such as `scores['equifax']` or `address.city`.
    """

    values: tuple[object, ...]
    reason: str
    field: str = ""

    def __str__(self) -> str:
        said = ", ".join(repr(value) for value in self.values)
        return f"{self.field or 'value'}: siblings say {said}; {self.reason}"

    def under(self, step: str) -> UnmergeableError:
        """Return the same error seen from one level further out, where *step* leads to the value."""
        if not self.field or self.field.startswith("["):
            path = f"{step}{self.field}"
        else:
            path = f"{step}.{self.field}"
        return attrs.evolve(self, field=path)


@attrs.define(eq=False)
class MergerDefinitionError(TypeError):
    """A merger cannot be made from a class as it stands.

    Attributes:
        state_type: the class whose field is at fault.
        field: the name of that field; empty where the class as a whole is at fault.
        mend: what is wrong, and what to write instead.
    """

    state_type: type
    field: str
    mend: str

    def __str__(self) -> str:
        place = f"{self.state_type.__qualname__}.{self.field}" if self.field else self.state_type.__qualname__
        return f"{place}: {self.mend}"
