"""User code with documents and leases, for a strict type checker; `run` also runs it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, assert_type

from attrs import define

from mergers import fieldwise, highest
from sagabus import Bus, ConcurrencyError, Document, DocumentKey, Documents, Lease


@define
class Account:
    document_version: ClassVar[int] = 2

    balance: Annotated[int, highest] = 0

    @staticmethod
    def upcast(body: dict[str, Any], version: int) -> dict[str, Any]:
        return {"balance": body["cents"]}


def run(bus: Bus) -> int:
    found = bus.documents.load("alice", Account)
    assert_type(found, Document[Account])
    created = bus.documents.create("alice", Account(5))
    assert_type(created.value, Account)
    assert_type(created.siblings, tuple[Account, ...])
    assert_type(created.etag, str | None)
    forked = bus.documents.put("alice", Account(6), seen=found, expires_after=60)
    assert_type(forked.merged(fieldwise(Account)), Account)
    group: Documents = bus.documents.group("accounts")
    etags: dict[DocumentKey, str | None] = group.compare_exchange({"a": (None, Account(1)), "b": (None, Account(2))})
    many: list[Document[Account]] = group.load_many(etags, Account)
    with bus.lease("lock", ttl_s=10, wait_s=1) as lease:
        assert_type(lease, Lease)
        bus.documents.overwrite("alice", Account(lease.token and 7), fence=lease)
    try:
        bus.documents.delete("alice", created.etag)
    except ConcurrencyError as error:
        assert_type(error.actual, str | None)
    return bus.documents.load("alice", Account).value.balance + len(many)


def what_a_checker_refuses(bus: Bus) -> None:
    bus.documents.load("alice", Account).value.nothing  # type: ignore[attr-defined]  # noqa: B018
    bus.documents.load("alice", Account(5))  # type: ignore[arg-type]
    bus.documents.put("alice", Account(5), fence="lock")  # type: ignore[arg-type]
    bus.lease(5)  # type: ignore[arg-type]
