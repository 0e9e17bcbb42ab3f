"""What users of `bus.documents` see: values of their classes, and errors that say what to do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import pytest
from attrs import define, field, frozen
from attrs.validators import ge

from mergers import additions, fieldwise, highest, union
from sagabus import Bus, ConcurrencyError, Context, Document, DocumentKey, Documents, message
from sagabus.documents.write import SIBLING_LIMIT, DocumentStore, Write, Written
from sagabus.errors import (
    ConfigurationError,
    CorruptDocumentError,
    DefinitionError,
    DocumentNotFoundError,
    FenceError,
    GroupMismatchError,
    SagabusError,
    SiblingsError,
    TooManySiblingsError,
)
from sagabus.leases.grant import Fence
from sagabus.store.memory import MemoryStore
from tests.typing.documents_and_leases import run

T = TypeVar("T")
START_MS = 1_700_000_000_000


@define
class Account:
    """A value of one field that may not be negative."""

    balance: int = field(default=0, validator=ge(0))


@define
class Basket:
    """A value whose siblings can be merged."""

    items: Annotated[frozenset[str], union] = frozenset()
    version: Annotated[int, highest] = 0


@define
class Box(Generic[T]):
    """A generic value."""

    content: T


@frozen
class Held:
    """A lease that is held, for a fence."""

    token: int = 1
    until_ms: int = START_MS + 1000

    def fence(self) -> Fence:
        return Fence("lock", self.token, self.until_ms)


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.ms = START_MS

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    """Return the store's clock."""
    return Clock()


@pytest.fixture
def documents(clock: Clock) -> Documents:
    """Return the documents of a bus in memory."""
    return Bus(store=MemoryStore(now_ms=clock), transport="memory:").documents


# -- one document ------------------------------------------------------------------------------------------------


def test_document_that_is_not_there_says_so(documents: Documents) -> None:
    """No etag, no value; asking for the value names the document and the next step."""
    found = documents.load("alice", Account)
    assert (found.key, found.exists, found.etag, found.siblings) == (DocumentKey("alice"), False, None, ())
    for ask in (lambda: found.value, lambda: found.merged(max)):
        with pytest.raises(DocumentNotFoundError, match=r"no document alice.*`exists`.*create\(\)") as caught:
            ask()
        assert caught.value.key == "alice"


def test_document_comes_back_as_it_was_written(documents: Documents) -> None:
    """What put() returns is what load() finds."""
    written = documents.create("alice", Account(5))
    assert (written.exists, written.value, written.expires_at) == (True, Account(5), None)
    assert documents.load("alice", Account) == written
    changed = documents.put("alice", Account(6), etag=written.etag)
    assert documents.load_many(["alice", "bob"], Account) == [changed, Document(DocumentKey("bob"), None, ())]


def test_load_of_no_documents_is_nothing(documents: Documents) -> None:
    """An empty question has an empty answer."""
    assert documents.load_many([], Account) == []
    assert documents.compare_exchange({}) == {}


def test_put_with_an_old_etag_names_both_states(documents: Documents) -> None:
    """The loser of a race hears which document, what it expected and what is there; nothing was written."""
    old = documents.create("alice", Account(1))
    new = documents.put("alice", Account(2), etag=old.etag)
    with pytest.raises(ConcurrencyError, match=f"alice was expected as {old.etag} and is now {new.etag}.*again") as c:
        documents.put("alice", Account(3), etag=old.etag)
    error = c.value
    assert (error.key, error.expected, error.actual) == ("alice", old.etag, new.etag)
    assert error.conflicts == {"alice": (old.etag, new.etag)}
    assert documents.load("alice", Account) == new


def test_create_of_what_is_there_names_its_state(documents: Documents) -> None:
    """Also by put(etag=None), which is the same."""
    there = documents.create("alice", Account(1))
    for create in (lambda: documents.create("alice", Account()), lambda: documents.put("alice", Account(), etag=None)):
        with pytest.raises(ConcurrencyError, match=f"alice is there already, as {there.etag}") as caught:
            create()
        assert (caught.value.expected, caught.value.actual) == (None, there.etag)


def test_put_on_what_was_deleted_says_that_it_is_gone(documents: Documents) -> None:
    """An etag never matches what is not there."""
    found = documents.create("alice", Account(1))
    documents.delete("alice", found.etag)
    with pytest.raises(ConcurrencyError, match="and is gone") as caught:
        documents.put("alice", Account(2), etag=found.etag)
    assert caught.value.actual is None
    with pytest.raises(ConcurrencyError, match="gone"):
        documents.delete("alice", found.etag)
    with pytest.raises(DocumentNotFoundError, match="no document alice"):
        documents.delete("alice", documents.load("alice", Account).etag)


def test_writers_who_had_not_seen_each_other_leave_siblings(documents: Documents) -> None:
    """Asking for the one value names the siblings and the way to fold them; merged() goes it."""
    base = documents.create("basket", Basket(frozenset("a")))
    documents.put("basket", Basket(frozenset("ab")), seen=base)
    found = documents.put("basket", Basket(frozenset("ac")), seen=base)
    assert found.siblings == (Basket(frozenset("ab")), Basket(frozenset("ac")))
    with pytest.raises(SiblingsError, match=r"basket has 2 siblings.*merged\(merger\).*etag=") as caught:
        assert found.value
    assert (caught.value.key, caught.value.siblings) == ("basket", found.siblings)
    merged = found.merged(fieldwise(Basket))
    assert merged == Basket(frozenset("abc"))
    assert documents.put("basket", merged, etag=found.etag).value == merged


@define
class Till:
    """A value that only a change can merge."""

    cents: Annotated[int, additions] = 0


def test_merged_by_a_merger_with_an_ancestor_is_refused_with_the_mend(documents: Documents) -> None:
    """Documents keep no ancestor, so such a merger is for sagas; that is said before there is anything to merge."""
    documents.create("till", Till(1))
    with pytest.raises(DefinitionError, match=r"documents keep no ancestor.*Give merge\(siblings\)"):
        documents.load("till", Till).merged(fieldwise(Till))  # type: ignore[arg-type]


def test_merged_leaves_a_document_without_siblings_alone(documents: Documents) -> None:
    """A merger gets two or more."""

    def never(siblings: Sequence[Account]) -> Account:
        raise AssertionError

    assert documents.create("alice", Account(1)).merged(never) == Account(1)


def test_overwrite_takes_the_place_of_everything(documents: Documents) -> None:
    """The last writer wins, over siblings too."""
    for balance in (1, 2):
        documents.put("alice", Account(balance))
    assert documents.overwrite("alice", Account(3)).value == Account(3)


def test_too_many_siblings_are_refused_with_the_mend(documents: Documents) -> None:
    """Who never folds what he forks hears so."""
    for balance in range(SIBLING_LIMIT):
        documents.put("alice", Account(balance))
    with pytest.raises(TooManySiblingsError, match=r"alice has 25 siblings.*fold them.*etag=") as caught:
        documents.put("alice", Account(99))
    assert (caught.value.key, caught.value.limit) == ("alice", 25)


def test_put_takes_an_etag_or_what_was_seen(documents: Documents) -> None:
    """To fail and to fork are two intents."""
    found = documents.create("alice", Account(1))
    with pytest.raises(ConfigurationError, match="not both"):
        documents.put("alice", Account(2), etag=found.etag, seen=found)


def test_put_refuses_what_was_seen_of_another_document(documents: Documents) -> None:
    """It would supersede versions that nobody has seen."""
    other = documents.create("bob", Account(1))
    with pytest.raises(ConfigurationError, match=r"document alice came with seen= of bob"):
        documents.put("alice", Account(2), seen=other)
    with pytest.raises(ConfigurationError, match=r"pair/bob came with seen= of bob"):
        documents.group("pair").put("bob", Account(2), seen=other)


@pytest.mark.parametrize("etag", ["", "x", ":1", "a:", "a:0", "a:-1", "a:01", "b:1,a:1", "a:1,a:2", "a:" + "9" * 17, 7])
def test_text_that_is_no_etag_is_refused(documents: Documents, etag: Any) -> None:
    """An etag is what load() or put() returned, to the letter."""
    with pytest.raises(ConfigurationError, match="is no etag; give one that load"):
        documents.put("alice", Account(), etag=etag)


@pytest.mark.parametrize("name", ["", "x" * 501, None, 5, "\ud800"])
def test_name_that_cannot_be_kept_is_refused(documents: Documents, name: Any) -> None:
    """With what a name may be."""
    for use in (lambda: documents.load(name, Account), lambda: documents.group("g").put(name, Account())):
        with pytest.raises(ConfigurationError, match="no name of a document; give a text of 1 to 500"):
            use()
    if name != "":
        with pytest.raises(ConfigurationError, match="no name of a group"):
            documents.group(name)


# -- the end of a document -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [90, 90.0, timedelta(seconds=90)])
def test_document_ends_when_it_was_told_to(documents: Documents, clock: Clock, after: timedelta | float) -> None:
    """By the store's clock; the document says when."""
    found = documents.create("alice", Account(), expires_after=after)
    assert found.expires_at == datetime.fromtimestamp(START_MS / 1000 + 90, UTC)
    clock.ms += 89_999
    assert documents.load("alice", Account) == found
    clock.ms += 1
    assert not documents.load("alice", Account).exists


@pytest.mark.parametrize("after", [0, -1, timedelta(0), float("nan"), float("inf"), 1e300, timedelta.max])
def test_time_that_no_document_can_live_is_refused(documents: Documents, after: timedelta | float) -> None:
    """Before anything is written."""
    with pytest.raises(ConfigurationError, match=r"give more than 0 .* leave it out for ever"):
        documents.create("alice", Account(), expires_after=after)
    with pytest.raises(ConfigurationError, match="expires_after="):
        documents.compare_exchange({"alice": (None, Account())}, expires_after=after)
    assert not documents.load("alice", Account).exists


def test_document_may_live_a_hundred_years(documents: Documents) -> None:
    """And is then shown with its end."""
    found = documents.create("alice", Account(), expires_after=timedelta(days=36_500))
    assert found.expires_at is not None
    assert found.expires_at.year == 2123


# -- groups ----------------------------------------------------------------------------------------------------------


def test_exchange_changes_creates_and_deletes_together(documents: Documents) -> None:
    """And returns the new etags, by key."""
    group = documents.group("accounts")
    alice, bob = group.create("alice", Account(10)), group.create("bob", Account(0))
    etags = group.compare_exchange(
        {"alice": (alice.etag, Account(7)), "bob": (bob.etag, None), group.key("carol"): (None, Account(3))}
    )
    found = group.load_many(["alice", "bob", "carol"], Account)
    assert [document.siblings for document in found] == [(Account(7),), (), (Account(3),)]
    assert etags == {document.key: document.etag for document in found}
    assert etags[group.key("bob")] is None


def test_exchange_that_meets_others_names_all_that_changed(documents: Documents) -> None:
    """None of the changes is made."""
    group = documents.group("accounts")
    alice, bob = group.create("alice", Account(10)), group.create("bob", Account(0))
    moved = group.put("bob", Account(1), etag=bob.etag)
    with pytest.raises(ConcurrencyError) as caught:
        group.compare_exchange(
            {"alice": (alice.etag, Account(7)), "bob": (bob.etag, Account(3)), "carol": ("a:1", Account())}
        )
    assert caught.value.conflicts == {
        "accounts/bob": (bob.etag, moved.etag),
        "accounts/carol": ("a:1", None),
    }
    assert (caught.value.key, caught.value.actual) == ("accounts/bob", moved.etag)
    assert group.load("alice", Account) == alice


def test_exchange_across_groups_is_refused_with_the_way_out(documents: Documents) -> None:
    """Also of documents that stand alone: each of those is a group of its own."""
    both = [DocumentKey("a", "one"), DocumentKey("b", "two")], ["alice", "bob"], ["alice", DocumentKey("a", "one")]
    for keys in both:
        with pytest.raises(GroupMismatchError, match=r"in no common group.*documents.group\(NAME\).*saga") as caught:
            documents.compare_exchange({key: (None, Account()) for key in keys})
        assert len(caught.value.keys) == 2
    assert list(documents.keys()) == []


def test_exchange_that_names_a_document_twice_is_refused(documents: Documents) -> None:
    """By its name and by its key."""
    group = documents.group("g")
    with pytest.raises(ConfigurationError, match="twice"):
        group.compare_exchange({"a": (None, Account()), group.key("a"): (None, Account())})


@pytest.mark.parametrize("pair", [Account(), (None,), (None, Account(), 1), "ab"])
def test_exchange_without_pairs_is_refused(documents: Documents, pair: Any) -> None:
    """Who forgets the etag hears what belongs there."""
    with pytest.raises(ConfigurationError, match=r"for document alice; give \(etag, value\)"):
        documents.compare_exchange({"alice": pair})


def test_keys_are_those_of_the_group(documents: Documents) -> None:
    """Documents that stand alone are a listing of their own."""
    documents.create("alone", Account())
    group = documents.group("g")
    group.create("a", Account())
    assert list(documents.keys()) == [DocumentKey("alone")]
    assert list(group.keys()) == [DocumentKey("a", "g")]
    assert list(documents.group("other").keys()) == []
    assert group.group("").load("alone", Account).exists


# -- values ----------------------------------------------------------------------------------------------------------


def test_value_of_an_older_version_is_brought_up_to_date(documents: Documents) -> None:
    """By `upcast`; a version that this code does not know yet is not guessed at."""

    @define
    class Old:
        document_version: ClassVar[int] = 1
        cents: int

    @define
    class New:
        document_version: ClassVar[int] = 2
        amount: str

        @staticmethod
        def upcast(body: dict[str, Any], version: int) -> dict[str, Any]:
            assert version == 1
            return {"amount": f"{body['cents'] / 100:.2f}"}

    documents.create("price", Old(1250))
    assert documents.load("price", New).value == New("12.50")
    documents.overwrite("price", New("13.00"))
    with pytest.raises(CorruptDocumentError, match=r"price cannot be read.*deploy the newer code") as caught:
        documents.load("price", Old)
    assert caught.value.key == "price"


def test_value_of_another_class_is_named(documents: Documents) -> None:
    """With the document, and where the value does not fit; the others of a reading do not hide it."""

    @define
    class Named:
        balance: str

    documents.create("bob", Account(1))
    documents.create("alice", Named("much"))
    with pytest.raises(CorruptDocumentError, match=r"alice cannot be read.*Expected `int`, got `str`.*balance") as c:
        documents.load_many(["bob", "alice"], Account)
    assert c.value.key == "alice"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"balance": 1}, r"builtins.dict: is no attrs class.*@define"),
        (None, r"NoneType: is no attrs class"),
        ("text", r"builtins.str: is no attrs class"),
        (Box(object()), r"document alice: its value cannot be stored"),
    ],
)
def test_value_that_cannot_be_stored_is_refused_with_the_mend(documents: Documents, value: Any, problem: str) -> None:
    """Before anything is written."""
    with pytest.raises(DefinitionError, match=problem):
        documents.put("alice", value)
    assert list(documents.keys()) == []


def test_value_that_its_own_validator_refuses_is_not_written(documents: Documents) -> None:
    """What could not be loaded again is never stored."""
    broken = Account(1)
    object.__setattr__(broken, "balance", "much")
    with pytest.raises(DefinitionError, match=r"document alice: its value cannot be stored and read again"):
        documents.put("alice", broken)
    with pytest.raises(DefinitionError):
        documents.compare_exchange({"alice": (None, broken)})


@pytest.mark.parametrize("kind", ["Account", Account(1), list[int], Box[int], None])
def test_kind_that_is_no_class_is_refused(documents: Documents, kind: Any) -> None:
    """Asked for by mistake: a value, a name, a type with arguments."""
    with pytest.raises(DefinitionError, match=r"is no class. Give the attrs class"):
        documents.load("alice", kind)


def test_class_that_would_not_come_back_as_it_went_is_refused(documents: Documents) -> None:
    """As for states of sagas; each with the field and the mend."""

    @define
    class Private:
        _secret: int = 0

    @define
    class Keyed:
        by_number: dict[int, str] = field(factory=dict)

    @define
    class Misnumbered:
        document_version: ClassVar[int] = 0

    for value, problem in (
        (Private(), "is private and would not be stored. Name it 'secret'"),
        (Keyed(), "keys are not strings"),
        (Misnumbered(), "document_version is 0. Give a whole number from 1 on"),
    ):
        with pytest.raises(DefinitionError, match=problem):
            documents.put("x", value)
        with pytest.raises(DefinitionError, match=problem):
            documents.load("x", type(value))


# -- fences, and writes sent once ------------------------------------------------------------------------------------


def test_write_with_a_fence_that_is_over_says_why(documents: Documents, clock: Clock) -> None:
    """By the store's clock, and by tokens: in put, create, overwrite, delete and compare_exchange alike."""
    found = documents.create("alice", Account(1), fence=Held(token=5))

    def refused(fence: Held, reason: str) -> None:
        for write in (
            lambda: documents.put("alice", Account(2), etag=found.etag, fence=fence),
            lambda: documents.create("alice", Account(2), fence=fence),
            lambda: documents.overwrite("alice", Account(2), fence=fence),
            lambda: documents.delete("alice", found.etag, fence=fence),
            lambda: documents.compare_exchange({"alice": (found.etag, Account(2))}, fence=fence),
        ):
            with pytest.raises(FenceError, match=f"nothing was written: token .* of lease 'lock' is {reason}") as c:
                write()
            assert (c.value.lease, c.value.token, c.value.reason) == ("lock", fence.token, reason)

    refused(Held(token=4), "superseded")
    clock.ms += 1000
    refused(Held(token=6), "expired")
    assert documents.load("alice", Account) == found


class Twice:
    """A store to which every write is sent twice: the first reply is lost."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store

    def write(self, write: Write) -> Written:
        self._store.write(write)
        return self._store.write(write)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_write_whose_reply_was_lost_is_made_once() -> None:
    """Nobody sees a sibling of himself, nor loses a race against himself."""
    store = MemoryStore()
    documents = Documents(lambda: Twice(store.documents))
    found = documents.create("alice", Account(1))
    found = documents.put("alice", Account(2), etag=found.etag)
    assert documents.put("alice", Account(3)).siblings == (Account(2), Account(3))
    documents.delete("alice", documents.load("alice", Account).etag)
    assert documents.compare_exchange({"alice": (None, Account(4))})
    assert documents.load("alice", Account).value == Account(4)


# -- in consumers ----------------------------------------------------------------------------------------------------


@message("documents.opened")
class Opened:
    """An account was opened."""

    name: str


def test_consumer_writes_documents_through_its_context() -> None:
    """Those of the bus; a message that comes twice finds what it has written."""
    heard: list[str | None] = []
    with Bus(store="memory:", transport="memory:") as bus:
        ledger = bus.endpoint("ledger")

        @ledger.consumer
        def opened(m: Opened, context: Context) -> None:
            try:
                heard.append(context.documents.create(m.name, Account(0)).etag)
            except ConcurrencyError as error:
                heard.append(error.actual)

        for id_ in ("1", "2"):
            bus.send(Opened("alice"), to="ledger", id=id_)
        bus.worker().run_until_idle()
        etag = bus.documents.load("alice", Account).etag
    assert heard == [etag, etag]


def test_errors_of_documents_are_all_of_one_root() -> None:
    """`except SagabusError` catches each of them."""
    for error in (
        ConcurrencyError,
        CorruptDocumentError,
        DocumentNotFoundError,
        FenceError,
        GroupMismatchError,
        SiblingsError,
        TooManySiblingsError,
    ):
        assert issubclass(error, SagabusError)


def test_user_code_that_type_checks_runs() -> None:
    """`tests/typing` holds it to a strict checker."""
    with Bus(store="memory:", transport="memory:") as bus:
        assert run(bus) == 9
