"""What a saga class says, and every mistake in one: found when it is defined, with the class, the method and the mend.

The classes are in functions, with postponed annotations, as users' tests have them.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Sequence, Sized
from typing import Any, Generic, TypeVar

import pytest
from attrs import define, field

from sagabus.definition import definition_of
from sagabus.errors import CodecError, DefinitionError
from sagabus.messages import MergeSagaState, message
from sagabus.saga import Saga, handles, starts
from tests.sagas_for_tests import Announcing, CheckCredit, Note, Nudge, bound, incoming

S = TypeVar("S")


@define
class State:
    n: int = 0


@define
class Other:
    n: int = 0


def fold(siblings: Sequence[State]) -> State:
    return siblings[0]


def refused(make: Callable[[], object], text: str) -> DefinitionError:
    """Return the error that *make* raises, having made sure of its text."""
    with pytest.raises(DefinitionError, match=text) as caught:
        make()
    assert caught.value.problem in str(caught.value)
    assert caught.value.mend in str(caught.value)
    return caught.value


# -- handlers ----------------------------------------------------------------------------------------------------


def test_handler_without_annotation_is_refused() -> None:
    """The error names class, method, parameter and both mends."""

    def make() -> None:
        class Bad(Saga[State], key="customer"):
            @starts
            def started(self, m: CheckCredit) -> None: ...

            @handles
            def scored(self, m): ...  # type: ignore[no-untyped-def]

    error = refused(make, r"Bad\.scored: the message it handles is not annotated. Write m: MessageType, or @handles\(")
    assert error.subject.endswith("Bad.scored")


def test_saga_without_a_start_is_refused() -> None:
    """Nothing could ever reach it."""

    def make() -> None:
        class Bad(Saga[State], key="customer"):
            @handles
            def scored(self, m: CheckCredit) -> None: ...

    refused(make, r"Bad: no message starts this saga. Mark the handler of its first message with @starts")


def test_start_message_without_the_key_field_is_refused() -> None:
    """A start must say which saga it starts; other messages may rely on the header."""

    def make() -> None:
        class Bad(Saga[State], key="customer"):
            @starts
            def started(self, m: Note) -> None: ...

    refused(
        make, r"Bad\.started: message test.note has no field 'customer' .* Add a field 'customer' to Note, or .*@starts"
    )

    class Good(Saga[State], key="customer"):
        @starts
        def started(self, m: CheckCredit) -> None: ...

        @handles
        def noted(self, m: Note) -> None: ...

    assert definition_of(Good).handlers["test.note"].key is None


def test_key_that_a_handler_names_must_be_a_field() -> None:
    """`@handles(key=...)` is checked for every message, not for starts only."""

    def make() -> None:
        class Bad(Saga[State], key="customer"):
            @starts
            def started(self, m: CheckCredit) -> None: ...

            @handles(key="who")
            def noted(self, m: Note) -> None: ...

    refused(make, r"Bad\.noted: message test.note has no field 'who' .* Add a field 'who' to Note.*@handles\(key")


def test_key_that_a_handler_names_finds_the_saga() -> None:
    """A message may identify its saga by another field than the one that the class names."""

    class Keyed(Saga[State], key="customer"):
        @starts
        def started(self, m: CheckCredit) -> None: ...

        @handles(key="text")
        def noted(self, m: Note) -> None: ...

        @handles
        def nudged(self, m: Nudge) -> None: ...

    definition = bound(Keyed)
    assert definition.locate(incoming(CheckCredit("42"), "1")) == "42"
    assert definition.locate(incoming(Note("43"), "2")) == "43"
    assert definition.locate(incoming(Nudge(), "3")) is None
    assert definition.locate(incoming(Nudge(), "3", saga="Keyed/a/b")) == "a/b"
    assert definition.locate(incoming(CheckCredit("42"), "4", saga="Somebody/7")) == "42"


@pytest.mark.parametrize("hook", ["started", "decide", "on_late"])
def test_async_handlers_are_refused(hook: str) -> None:
    """Sagas decide, consumers do: the error says so."""

    def make() -> None:
        async def wait(self: Any, *args: Any) -> None: ...

        @starts(CheckCredit)
        async def started(self: Any, m: Any) -> None: ...

        methods: dict[str, Any] = {"started": starts(CheckCredit)(lambda self, m: None), hook: wait}
        if hook == "started":
            methods["started"] = started
        _define_saga("Bad", methods)

    refused(make, rf"Bad\.{hook}: is async; saga handlers decide and do no I/O. Make it a plain def.*consumer")


def _define_saga(class_name: str, methods: dict[str, Any], /, **options: Any) -> type[Saga[State]]:
    return types.new_class(class_name, (Saga[State],), {"key": "customer", **options}, lambda b: b.update(methods))


def test_handler_with_a_yield_is_refused() -> None:
    """Calling it would run nothing, and its message would be gone."""

    def make() -> None:
        class Bad(Saga[State], key="customer"):
            @starts
            def started(self, m: CheckCredit) -> Any:
                yield

    refused(make, r"Bad\.started: has a yield, so calling it would not run it")


def test_merge_message_that_starts_a_saga_is_refused() -> None:
    """MergeSagaState comes only to what has siblings."""

    def make() -> None:
        class Bad(Saga[State], key="customer"):
            @starts
            def merged(self, m: MergeSagaState) -> None: ...

    refused(make, r"Bad\.merged: MergeSagaState starts no saga. Mark its handler with @handles")


def test_async_generator_handler_is_refused() -> None:
    """A handler that yields from async code is async too."""

    def make() -> None:
        class Bad(Saga[State], key="customer"):
            @starts
            async def started(self, m: CheckCredit) -> Any:
                yield m

    refused(make, r"Bad\.started: is async")


def test_handler_of_a_class_that_is_no_message_is_refused() -> None:
    """Annotated with anything but a message, it names what it found."""

    def make() -> None:
        class Bad(Saga[State], key="customer"):
            @starts
            def started(self, m: State) -> None: ...

    refused(make, r"Bad\.started: .*State.* is not a message. Decorate that class with @message")


def test_handler_with_an_annotation_that_is_no_class_is_refused() -> None:
    """A type that no message can have is refused."""

    def make() -> None:
        class Bad(Saga[State], key="customer"):
            @starts
            def started(self, m: list[CheckCredit]) -> None: ...

    refused(make, r"Bad\.started: list\[.*\] is no message class. Annotate a class decorated with @message")


def test_handler_with_an_annotation_that_cannot_be_resolved_is_refused() -> None:
    """A name that was imported for type checkers only is not there at run time; the mends are both named."""

    def make() -> None:
        class Bad(Saga[State], key="customer"):
            @starts
            def started(self, m: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    refused(
        make, r"Bad\.started: its annotation cannot be resolved .*Nowhere.* outside TYPE_CHECKING, or write @handles"
    )


@pytest.mark.parametrize("handler", [lambda self: None, lambda self, m, n: None])
def test_handler_of_the_wrong_arity_is_refused(handler: Any) -> None:
    """A handler takes self and one message."""
    refused(
        lambda: _define_saga("Bad", {"started": starts(handler)}), r"Bad\.started: a handler takes self and one message"
    )


def test_message_handled_twice_is_refused() -> None:
    """Which of two handlers would run?"""

    def make() -> None:
        class Bad(Saga[State], key="customer"):
            @starts
            def started(self, m: CheckCredit) -> None: ...

            @handles
            def again(self, m: CheckCredit) -> None: ...

    refused(make, r"Bad\.again: test.check-credit is handled by 'started' already. Handle each message in one method")


def test_handler_may_take_several_messages() -> None:
    """A union is handled by one method, and so are classes that are given."""

    class Many(Saga[State]):
        @starts
        def started(self, m: CheckCredit | Note) -> None: ...

        @handles(Nudge, MergeSagaState)
        def other(self, m: Any) -> None: ...

    handlers = definition_of(Many).handlers
    assert {name: (h.method, h.starts) for name, h in handlers.items()} == {
        "test.check-credit": ("started", True),
        "test.note": ("started", True),
        "test.nudge": ("other", False),
        "sagabus.MergeSagaState": ("other", False),
    }


def test_handlers_see_the_names_of_the_function_around() -> None:
    """Messages and states defined in a test function are found, through postponed annotations too."""

    @message("definition.local")
    class Local:
        customer: str

    @define
    class LocalState:
        seen: list[str] = field(factory=list)

    def inner() -> type[Saga[LocalState]]:
        class Inner(Saga[LocalState], key="customer"):
            @starts
            def started(self, m: Local) -> None: ...

        return Inner

    definition = definition_of(inner())
    assert definition.handlers["definition.local"].key == "customer"
    assert definition.codec.state_type is LocalState


def test_handlers_are_inherited_and_overridden() -> None:
    """A subclass has its base's handlers; what it defines anew replaces them."""

    class Base(Saga[State], key="customer"):
        @starts
        def started(self, m: CheckCredit) -> None: ...

        @handles
        def noted(self, m: Note) -> None: ...

    class Derived(Base, key="customer"):
        @handles
        def noted(self, m: Nudge) -> None: ...

    assert sorted(definition_of(Derived).handlers) == ["test.check-credit", "test.nudge"]
    assert definition_of(Derived).codec.state_type is State
    assert definition_of(Base).name == "Base"


def test_base_class_without_handlers_has_no_definition() -> None:
    """A base for sagas need not be one."""

    class Base(Saga[S]):
        pass

    class Real(Base[State], key="customer"):
        @starts
        def started(self, m: CheckCredit) -> None: ...

    assert definition_of(Real).codec.state_type is State
    for cls in (Base, Saga, int):
        refused(lambda cls=cls: definition_of(cls), "is no saga with handlers. Subclass Saga")  # type: ignore[misc]


def test_state_is_found_through_generic_bases_that_take_other_arguments() -> None:
    """What stands for Saga's own type variable is the state, whatever other type arguments stand before it."""
    k, t = TypeVar("k"), TypeVar("t")

    class Fixed(Saga[State], Generic[k, t]):
        pass

    class Open(Saga[t], Generic[k, t]):
        pass

    class Swapped(Open[t, k], Generic[k, t]):
        pass

    class Plain(Swapped[State, Other]):
        pass

    class First(Fixed[Other, Other], key="customer"):
        started = starts(CheckCredit)(lambda self, m: None)

    class Second(Open[Other, State], key="customer"):
        started = starts(CheckCredit)(lambda self, m: None)

    class Third(Swapped[State, Other], key="customer"):
        started = starts(CheckCredit)(lambda self, m: None)

    class Fourth(Plain, key="customer"):
        started = starts(CheckCredit)(lambda self, m: None)

    class Fifth(Fourth, key="customer"):
        pass

    for cls in (First, Second, Third, Fourth, Fifth):
        assert definition_of(cls).codec.state_type is State


def test_state_is_found_beside_other_bases() -> None:
    """Mixins, generic or not, before and after the saga are none of its business."""

    class Named(Generic[S]):
        pass

    class Mixed(Named[Other], Saga[State], Sized, key="customer"):
        started = starts(CheckCredit)(lambda self, m: None)

        def __len__(self) -> int:
            return 0

    assert definition_of(Mixed).codec.state_type is State


def test_generic_base_whose_state_is_left_open_is_refused() -> None:
    """The error names the base and the place where the state belongs."""
    k = TypeVar("k")

    class Base(Saga[S], Generic[k, S]):
        pass

    def unnamed() -> None:
        class Bad(Base, key="customer"):  # type: ignore[type-arg]
            started = starts(CheckCredit)(lambda self, m: None)

    def still_open() -> None:
        class Bad(Base[Other, S], key="customer"):
            started = starts(CheckCredit)(lambda self, m: None)

    for make in (unnamed, still_open):
        refused(make, r"Bad: its state class is not given. Write class Bad\(Base\[k, YourState\]\)")


def test_handlers_see_the_names_around_through_a_base_that_hooks_into_subclassing() -> None:
    """A base may have an `__init_subclass__` of its own, in whatever module."""

    @message("definition.hooked")
    class Hooked:
        customer: str

    class Mine(Announcing, key="customer"):
        @starts
        def started(self, m: Hooked) -> None: ...

    assert definition_of(Mine).handlers["definition.hooked"].method == "started"


# -- options -----------------------------------------------------------------------------------------------------

START = {"started": starts(CheckCredit)(lambda self, m: None)}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"kei": "customer", "limit": 1}, "Bad: unknown option kei, limit"),
        ({"exclusive": 1}, "exclusive=1 is no bool. Write exclusive=True, or leave it out"),
        ({"exclusive": True, "merger": fold}, "is exclusive, so it never has siblings, and has a merger .* Leave out"),
        ({"sibling_limit": 1}, "sibling_limit is at least 2"),
        ({"history": 0}, "history at least 1"),
        ({"name": "a/b"}, r"name 'a/b' has other characters than letters, digits and \. _ -\. Choose another name="),
        ({"name": "{x}"}, "other characters"),
        ({"name": "-"}, "other characters"),
        ({"merger": 7}, r"merger 7: cannot be called. Pass a function merge\(siblings\)"),
        ({"merger": lambda a, b: a}, r"takes 2 arguments. Write merge\(siblings\), or merge\(a, b, ancestor\)"),
        ({"merger": lambda: None}, "takes 0 arguments"),
        ({"merger": lambda *siblings: siblings[0]}, "takes 0 arguments"),
        ({"merger": max}, r"merger max: does not say what it takes .* Wrap it in a function merge\(siblings\)"),
    ],
)
def test_option_that_cannot_be_is_refused(options: dict[str, Any], text: str) -> None:
    """Class arguments are checked when the class is defined."""
    error = refused(lambda: _define_saga("Bad", START, **options), text)
    assert "Bad" in error.subject


def test_options_have_their_defaults() -> None:
    """Named after the class, serial, not restartable, 25 siblings, 64 entries of history."""
    definition = definition_of(_define_saga("Plain", START))
    assert (definition.name, definition.serial, definition.restartable) == ("Plain", True, False)
    assert not definition.exclusive
    assert (definition.limits.siblings, definition.limits.history) == (25, 64)
    named = _define_saga("X", START, name="Credit-Check.v_2", restartable=True, sibling_limit=2, history=1, merger=fold)
    definition = definition_of(named)
    assert (definition.name, definition.serial, definition.restartable) == ("Credit-Check.v_2", False, True)
    assert (definition.limits.siblings, definition.limits.history, definition.ancestral) == (2, 1, False)


def test_exclusive_saga_is_serial_too() -> None:
    """The lease saves runs in vain; that every run must settle is what protects the state."""
    definition = definition_of(_define_saga("Plain", START, exclusive=True))
    assert (definition.exclusive, definition.serial) == (True, True)


# -- mergers -----------------------------------------------------------------------------------------------------


def test_merger_of_another_state_is_refused() -> None:
    """The error names both states."""

    def other(siblings: Sequence[Other]) -> Other:
        return siblings[0]

    def third(a: Other, b: Other, ancestor: Other) -> Other:
        return a

    for merger in (other, third):
        refused(
            lambda merger=merger: _define_saga("Bad", START, merger=merger),  # type: ignore[misc]
            r"Bad, merger .*: merges Other, the state is State. Pass a merger of State",
        )


def test_merger_of_another_local_state_is_refused() -> None:
    """Classes of the function around are known to a merger's annotations as well."""

    @define
    class Mine:
        n: int = 0

    @define
    class Yours:
        n: int = 0

    def yours(siblings: Sequence[Yours]) -> Yours:
        return siblings[0]

    def make() -> None:
        class Bad(Saga[Mine], key="customer", merger=yours):
            @starts
            def started(self, m: CheckCredit) -> None: ...

    refused(make, r"merger .*yours: merges .*Yours, the state is .*Mine")


def test_merger_that_says_its_state_is_believed() -> None:
    """Ready-made mergers carry `state_type`."""

    class Ready:
        def __init__(self, state_type: type) -> None:
            self.state_type = state_type

        def __call__(self, siblings: Sequence[Any]) -> Any:
            return siblings[0]

    refused(lambda: _define_saga("Bad", START, merger=Ready(Other)), "merges Other, the state is State")
    assert not definition_of(_define_saga("Good", START, merger=Ready(State))).serial


@pytest.mark.parametrize(
    "merger",
    [fold, functools.partial(fold), lambda siblings: siblings[0], lambda siblings, extra=None: siblings[0]],
)
def test_merger_of_siblings_is_taken(merger: Any) -> None:
    """Functions, partials and lambdas; annotated or not."""
    assert not definition_of(_define_saga("Good", START, merger=merger)).ancestral


def test_merger_with_an_ancestor_is_binary() -> None:
    """Three arguments: two sides and what they come from."""
    assert definition_of(_define_saga("Good", START, merger=lambda a, b, ancestor: a)).ancestral


def test_async_merger_is_refused() -> None:
    """Mergers are pure."""

    async def later(siblings: Sequence[State]) -> State:
        return siblings[0]

    refused(lambda: _define_saga("Bad", START, merger=later), r"merger .*later: is async")


# -- states ------------------------------------------------------------------------------------------------------


def saga_of(state: Any) -> type[Saga[Any]]:
    """Return a saga of that state."""
    body: dict[str, Any] = START
    return types.new_class("Bad", (Saga[state],), {"key": "customer"}, lambda namespace: namespace.update(body))


def test_saga_without_a_state_is_refused() -> None:
    """`class X(Saga)` says nothing of its state."""

    def make() -> None:
        class Bad(Saga, key="customer"):  # type: ignore[type-arg]
            @starts
            def started(self, m: CheckCredit) -> None: ...

    refused(make, r"Bad: its state class is not given. Write class Bad\(Saga\[YourState\]\)")


def test_state_that_is_no_attrs_class_is_refused() -> None:
    """The error names saga, state and mend."""

    class Plain:
        pass

    for state in (Plain, int):
        refused(
            lambda state=state: saga_of(state), r"Bad, state .*(Plain|int): is no attrs class. Decorate it with @define"
        )  # type: ignore[misc]


def test_state_that_needs_arguments_is_refused() -> None:
    """A new saga begins with `State()`."""

    @define
    class Needy:
        a: int
        b: str
        c: int = 0

    refused(
        lambda: saga_of(Needy), r"Needy: cannot be made without arguments \(a, b have no default\). Give every field"
    )


def test_state_with_a_field_that_the_codec_would_damage_is_refused() -> None:
    """The same fields are refused as in messages, deep inside too."""

    @define
    class Inner:
        _hidden: int = 0

    @define
    class Outer:
        items: list[Inner] = field(factory=list)
        numbers: dict[int, str] = field(factory=dict)

    def make() -> None:
        class Bad(Saga[Outer], key="customer"):
            @starts
            def started(self, m: CheckCredit) -> None: ...

    refused(make, r"Bad, state .*Outer: field '_hidden' of .*Inner is private")


@pytest.mark.parametrize("default", [None, "text", object()])
def test_state_whose_defaults_do_not_fit_is_refused(default: Any) -> None:
    """A new state must survive being stored: found at definition, with the mend, not with the first message."""

    @define
    class Odd:
        n: int = default

    refused(lambda: saga_of(Odd), r"Bad, state .*Odd: its defaults cannot be stored and read again \(.*\)\. Give")


def test_bound_definition_has_what_the_bus_says() -> None:
    """The bus gives endpoint, routes, windows and the size limit; the class's own limits stay."""
    definition = definition_of(_define_saga("Plain", START, sibling_limit=7))
    there = definition.bound("credit", {"a": "b"}, dedupe_window_s=1.0, retention_s=2.0, max_bytes=3)
    assert (there.endpoint, there.routes, there.max_bytes) == ("credit", {"a": "b"}, 3)
    limits = there.limits
    assert (limits.siblings, limits.history, limits.dedupe_window_s, limits.retention_s) == (7, 64, 1.0, 2.0)
    assert definition.endpoint == ""


def test_locate_of_a_message_whose_key_is_null_is_refused() -> None:
    """A null key names no saga: the message is dead-lettered, and no saga called "None" begins."""

    @message("definition.keyless-note")
    class Optional:
        customer: str | None = None

    class Kept(Saga[State], key="customer"):
        @starts
        def started(self, m: Optional) -> None: ...

    with pytest.raises(CodecError, match=r"the key field 'customer' is null - at `\$\.customer`"):
        definition_of(Kept).locate(incoming(Optional(), "m"))
    assert definition_of(Kept).locate(incoming(Optional("42"), "m")) == "42"
