"""Sagas as rows of `sagabus list`, found by the index of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    from datetime import timedelta

    from sagabus.bus import Bus
    from sagabus.errors import CorruptRecordError
    from sagabus.index.query import SagaQuery, SagaSummary

_AT_ONCE = 500
_UNITS = (("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


@frozen
class Asked:
    """What options say of the sagas that are wanted.

    Attributes:
        name: of their class; None for any.
        lifecycle: `live` or `completed`; None for either.
        siblings: only those that have some.
        older_than: begun so long ago, or longer; None for any.
        prefix: what their id begins with.
        cursor: where an earlier list has ended.
    """

    name: str | None = None
    lifecycle: str | None = None
    siblings: bool = False
    older_than: timedelta | None = None
    prefix: str = ""
    cursor: str = ""

    def __bool__(self) -> bool:
        return self != Asked()

    def query(self, now_ms: int) -> SagaQuery:
        """Return what the index is asked."""
        from sagabus.commit import Lifecycle
        from sagabus.index.query import SagaQuery

        return SagaQuery(
            name=self.name,
            lifecycle=None if self.lifecycle is None else Lifecycle(self.lifecycle),
            forked=self.siblings,
            started_before_ms=None
            if self.older_than is None
            else now_ms - round(self.older_than.total_seconds() * 1000),
            id_prefix=self.prefix,
        )


@frozen
class Found:
    """The sagas of one list.

    Attributes:
        rows: in the order of the index.
        cursor: where the next list begins; empty where there is none.
        unreadable: of sagas whose records cannot be read.
    """

    rows: list[dict[str, Any]]
    cursor: str
    unreadable: list[CorruptRecordError]


def find(bus: Bus, asked: Asked, limit: int) -> Found:
    """Return up to *limit* sagas."""
    from sagabus.index.part import index_of

    index = index_of(bus.store)
    now_ms, _ = bus.store.next_due_ms()
    query = asked.query(now_ms)
    found: list[SagaSummary] = []
    unreadable: list[CorruptRecordError] = []
    cursor = asked.cursor
    while True:
        page = index.find(query, min(limit - len(found), _AT_ONCE), cursor)
        found += page.rows
        unreadable += page.unreadable
        cursor = page.cursor
        if not cursor or len(found) >= limit:
            return Found([_row(row, now_ms) for row in found], cursor, unreadable)


def _row(row: SagaSummary, now_ms: int) -> dict[str, Any]:
    from sagabus.envelope import rfc3339

    forked_ms, completed_ms = row.forked_since_ms, row.completed_ms
    return {
        "saga": str(row.key),
        "lifecycle": row.lifecycle.value,
        "siblings": row.siblings,
        "life": row.life,
        "versions": row.versions,
        "started": rfc3339(row.started_ms),
        "age_s": _ago(row.started_ms, now_ms),
        "siblings_s": None if forked_ms is None else _ago(forked_ms, now_ms),
        "completed_s": None if completed_ms is None else _ago(completed_ms, now_ms),
    }


def _ago(at_ms: int, now_ms: int) -> float:
    return max(now_ms - at_ms, 0) / 1000


def shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows as people read them: how long, in the two largest units that say something."""
    table = [
        {name: row[name] for name in ("saga", "lifecycle", "siblings", "life", "versions")}
        | {
            "age": span(row["age_s"]),
            "siblings for": span(row["siblings_s"]),
            "completed": span(row["completed_s"], " ago"),
        }
        for row in rows
    ]
    empty = [name for name in ("siblings for", "completed") if not any(row[name] for row in table)]
    return [{name: cell for name, cell in row.items() if name not in empty} for row in table]


def span(seconds: float | None, after: str = "") -> str:
    """Return *seconds* as `3d4h`, `12m`, `0.4s`; empty for None."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f}s{after}"
    left = int(seconds)
    parts: list[str] = []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count}{unit}" if count else "")
    return "".join(parts[:2]) + after
