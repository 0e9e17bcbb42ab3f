"""Messages: wire names, the registry, upcasts, and which classes are refused at definition."""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import attrs
import pytest
from attrs import Factory, define, field, frozen

from sagabus.codec import encode_body
from sagabus.errors import CodecError, DefinitionError
from sagabus.messages import MergeSagaState, Registry, message, registry, type_of


def test_message_without_a_name_is_named_by_module_and_qualname() -> None:
    """The wire name is where the class is; being defined in a function is no part of it."""

    @message
    class Plain:
        text: str

    assert type_of(Plain).name == f"{__name__}.test_message_without_a_name_is_named_by_module_and_qualname.Plain"
    assert (type_of(Plain("x")).version, type_of(Plain).cls) == (1, Plain)


def test_message_with_empty_parentheses_is_named_like_one_without() -> None:
    """`@message()` is `@message`."""

    @message()
    class Plain:
        pass

    assert type_of(Plain).name.endswith("Plain")


def test_message_with_a_name_and_version_has_both() -> None:
    """The wire name need not follow the class; the version is what this code writes."""

    @message("messages.named", version=3)
    class Whatever:
        text: str = ""

    kind = registry.named("messages.named")
    assert (kind.cls, kind.version, kind in registry.all()) == (Whatever, 3, True)
    assert [k.name for k in registry.all()] == sorted(k.name for k in registry.all())


def test_message_is_frozen_and_keeps_validators() -> None:
    """What travels cannot be changed; attrs validators run."""

    @message("messages.frozen")
    class Amount:
        cents: int = field(validator=attrs.validators.gt(0))

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Amount(1).cents = 2  # type: ignore[misc]
    with pytest.raises(ValueError, match="must be > 0"):
        Amount(0)
    with pytest.raises(CodecError, match=r"must be > 0.*at `\$`"):
        type_of(Amount).codec.decode(b'{"cents":0}', 1)


def test_message_decorated_with_attrs_by_its_user_stays_as_it_is() -> None:
    """A frozen attrs class is wrapped, not made anew."""

    @frozen(kw_only=True)
    class Mine:
        text: str

    assert message("messages.mine")(Mine) is Mine
    assert Mine(text="x") == type_of(Mine).codec.decode(b'{"text":"x"}', 1)


def test_message_that_is_not_frozen_is_refused() -> None:
    """A mutable attrs class cannot be a message; the error has the class and the mend."""

    @define
    class Mutable:
        text: str

    with pytest.raises(DefinitionError, match=r"Mutable: a message must be frozen. Decorate it with @frozen") as caught:
        message("messages.mutable")(Mutable)
    assert caught.value.subject.endswith("Mutable")


def test_subclass_of_a_message_is_a_message_of_its_own() -> None:
    """Decorating a subclass defines it, whatever its base is."""

    @message("messages.base")
    class Base:
        a: int = 0

    @message("messages.derived")
    class Derived(Base):
        b: int = 0

    assert type_of(Derived(1, 2)).codec.decode(b'{"a":1,"b":2}', 1) == Derived(1, 2)
    assert registry.of(Base) is not registry.of(Derived)


def test_two_classes_with_one_name_are_refused() -> None:
    """A wire name means one class; the error names both and the mend."""

    @message("messages.taken")
    class First:
        pass

    with pytest.raises(DefinitionError, match=r"Second: the wire name 'messages.taken' .* by .*First.*@message\("):

        @message("messages.taken")
        class Second:
            pass

    assert registry.named("messages.taken").cls is First


def test_defining_the_same_class_again_replaces_it() -> None:
    """A reloaded module defines its messages anew; instances of the old class still know their type."""

    def define_it() -> type:
        @message("messages.reloaded")
        class Reloaded:
            text: str = ""

        return Reloaded

    old, new = define_it(), define_it()
    assert old is not new
    assert registry.named("messages.reloaded").cls is new
    assert type_of(old).cls is old


@pytest.mark.parametrize(("spec", "name"), [("shop.app", "shop.app"), ("shop.__main__", "shop"), (None, "__main__")])
def test_message_of_a_module_run_as_main_has_its_import_name(
    spec: str | None, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python -m shop.app` and `import shop.app` define the same message, and both may be in one process."""
    main = types.ModuleType("__main__")
    main.__spec__ = types.SimpleNamespace(name=spec) if spec else None  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "__main__", main)
    as_main = message(type("CheckIt", (), {"__module__": "__main__", "__annotations__": {}}))
    assert type_of(as_main).name == f"{name}.CheckIt"
    if spec:
        imported = message(type("CheckIt", (), {"__module__": name, "__annotations__": {}}))
        assert registry.named(f"{name}.CheckIt").cls is imported


def test_unknown_name_is_an_error_of_the_wire() -> None:
    """A type that no class has here is never retried."""
    with pytest.raises(CodecError, match=r"no message class is called 'nobody.knows'") as caught:
        registry.named("nobody.knows")
    assert caught.value.reason == "unknown-type"


@pytest.mark.parametrize("thing", ["text", int, object()])
def test_what_is_no_message_is_refused(thing: object) -> None:
    """Sending something else names it and the mend."""
    with pytest.raises(DefinitionError, match=r"is not a message\. Decorate the class with @message"):
        type_of(thing)


def test_merge_saga_state_is_a_message() -> None:
    """The runtime's own message is one like any other."""
    assert type_of(MergeSagaState).name == "sagabus.MergeSagaState"


def test_registry_of_its_own_knows_nothing_of_others() -> None:
    """The one registry is a value like any other."""
    assert Registry().all() == []
    assert Registry().of(MergeSagaState) is None


def test_version_below_one_is_refused() -> None:
    """Versions count from 1."""
    with pytest.raises(DefinitionError, match=r"version 0 is not positive\. Count versions from 1"):
        message("messages.zero", version=0)(type("Zero", (), {"__annotations__": {}}))


# -- versions ----------------------------------------------------------------------------------------------------


@message("messages.versioned", version=3)
class Versioned:
    name: str
    cents: int

    @staticmethod
    def upcast(body: dict[str, Any], version: int) -> dict[str, Any]:
        """Bring a body of version 1 or 2 up to 3."""
        if version < 2:
            body["name"] = body.pop("title")
        body["cents"] = round(body.pop("euros") * 100)
        return body


CODEC = type_of(Versioned).codec


def test_older_bodies_are_brought_up_to_date() -> None:
    """upcast gets plain data and the version that wrote it."""
    assert CODEC.decode(b'{"title":"x","euros":1.5}', 1) == Versioned("x", 150)
    assert CODEC.decode(b'{"name":"x","euros":2}', 2) == Versioned("x", 200)
    assert CODEC.decode(b'{"name":"x","cents":3}', 3) == Versioned("x", 3)


@pytest.mark.parametrize(
    ("body", "version", "text", "reason"),
    [
        (b'{"name":"x","cents":3}', 4, "has version 4, this code knows versions up to 3", "unknown-version"),
        (b"[]", 1, r"expected an object at \$, got list", "undecodable"),
        (b'{"euros":2}', 1, r"title.*at `\$`", "undecodable"),
        (b'{"name":"x","euros":"a"}', 2, r"at `\$`", "undecodable"),
        (b'{"name":7,"euros":1}', 2, r"Expected `str`, got `int` - at `\$.name`", "undecodable"),
        (b'{"name":"x"', 3, r"truncated.*at `\$`", "undecodable"),
        (b'{"name":"x","cents":"3"}', 3, r"Expected `int`, got `str` - at `\$.cents`", "undecodable"),
        (b"[" * 100_000, 3, r"at `\$`", "undecodable"),
        (b"[" * 100_000, 1, r"at `\$`", "undecodable"),
    ],
)
def test_body_that_does_not_fit_says_where(body: bytes, version: int, text: str, reason: str) -> None:
    """Whatever is wrong with a body is a CodecError with the message, the path and a stable reason."""
    with pytest.raises(CodecError, match=f"messages.versioned.*{text}") as caught:
        CODEC.decode(body, version)
    assert caught.value.reason == reason


def test_older_body_without_an_upcast_names_the_mend() -> None:
    """A class that grew without upcast cannot guess."""

    @message("messages.grown", version=2)
    class Grown:
        pass

    with pytest.raises(CodecError, match=r"written as version 1 and is now 2; give the class a static method upcast"):
        type_of(Grown).codec.decode(b"{}", 1)


def test_path_leads_into_lists_and_classes() -> None:
    """The path is that of the value: `$.scores[0].value`."""

    @frozen
    class Score:
        value: int

    @message("messages.scores")
    class Scores:
        scores: list[Score]
        by_name: dict[str, Score] = field(factory=dict)

    with pytest.raises(CodecError, match=r"\$\.scores\[1\]\.value"):
        type_of(Scores).codec.decode(b'{"scores":[{"value":1},{"value":"x"}]}', 1)
    with pytest.raises(CodecError, match=r"\$\.by_name\[\.\.\.\]\.value"):
        type_of(Scores).codec.decode(b'{"scores":[],"by_name":{"x":{"value":"x"}}}', 1)


# -- refused fields ----------------------------------------------------------------------------------------------


@frozen
class One:
    n: int = 0


@frozen
class Two:
    n: int = 0


@frozen
class Deep:
    inner: list[Annotated[dict[str, tuple[One | Two, ...]], "note"]] = field(factory=list)


@pytest.mark.parametrize(
    ("hint", "made", "text"),
    [
        ("int", {"name": "_hidden"}, "field '_hidden' of Refused is private and would not be stored. Name it 'hidden'"),
        ("int", {"default": Factory(lambda self: 1, takes_self=True)}, "has a default made from other fields"),
        ("int", {"converter": int}, "has a converter, which does not run when it is read. Use a validator"),
        ("int", {"init": False}, "is init=False but would be set from stored bytes. Make it a property"),
        ("One | Two", {}, r"is a union of attrs classes \(One \| Two\).* Use one class with a kind field"),
        ("list[One | None | Two]", {}, "cannot be told apart"),
        ("dict[int, str]", {}, r"is a mapping whose keys are not strings. Use dict\[str"),
        ("Mapping[One, str] | None", {}, "keys are not strings"),
        ("Annotated[dict[tuple[int, int], str], 'x']", {}, "keys are not strings"),
        ("dict[Literal['a', 1], str]", {}, "keys are not strings"),
        ("Deep", {}, r"field 'inner' of Deep is a union of attrs classes"),
        ("dict[str, int] | dict[str, str]", {}, "its fields cannot be encoded .* Use plain types and attrs classes"),
        ("Nowhere", {}, r"its fields cannot be encoded .*Nowhere"),
        ("complex", {}, r"holds a complex, which cannot be encoded. Use plain types"),
        ("dict[str, list[types.ModuleType]] | None", {}, r"holds a module, which cannot be encoded"),
    ],
)
def test_field_that_the_codec_would_damage_is_refused(hint: str, made: dict[str, Any], text: str) -> None:
    """The error names the class, the field and the mend, when the class is defined."""
    made = dict(made)
    name = made.pop("name", "value")
    body = {"__annotations__": {name: hint}, name: field(**{"default": None, **made}), "__module__": __name__}
    with pytest.raises(DefinitionError, match=text) as caught:
        message(f"messages.refused.{hint}")(type("Refused", (), body))
    assert caught.value.subject == f"{__name__}.Refused"


def test_fields_that_survive_are_taken() -> None:
    """Text keys of every kind, optional classes, nesting and recursion are fine."""

    @message("messages.fine")
    class Fine:
        a: dict[str, One] = field(factory=dict)
        b: One | None = None
        c: Mapping[Annotated[str, "x"], dict[Literal["p", "q"], int]] = field(factory=dict)
        d: dict[Any, int] = field(factory=dict)
        e: list[Fine] = field(factory=list)
        f: tuple[int, str] | str = ""

    fine = Fine(a={"x": One(1)}, b=One(2), c={"k": {"p": 1}}, e=[Fine()], f=(1, "x"))
    assert type_of(Fine).codec.decode(encode_body(fine), 1) == fine


def test_annotations_may_name_classes_of_the_function_around() -> None:
    """Classes inside a function may use each other, with postponed annotations too."""

    @frozen
    class Local:
        n: int

    def inner() -> type:
        @message("messages.local")
        class Holder:
            items: list[Local]

        return Holder

    holder = inner()
    assert type_of(holder).codec.decode(b'{"items":[{"n":1}]}', 1) == holder([Local(1)])
