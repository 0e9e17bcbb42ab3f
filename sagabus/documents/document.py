"""A document as it was when it was loaded, or written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Generic, TypeVar

from attrs import frozen

from sagabus.definition import takes_ancestor
from sagabus.documents.key import DocumentKey
from sagabus.errors import DefinitionError, DocumentNotFoundError, SiblingsError

T = TypeVar("T")


@frozen
class Document(Generic[T]):
    """One document at one moment.

    Attributes:
        key: which.
        etag: names this state of it, siblings and all, for `put(..., etag=)`; None where there is no document.
        siblings: the values of its live versions in dot order: one, or several where writers had not seen each other;
            empty where there is no document.
        expires_at: when it ends, UTC, store's clock; None for never.
    """

    key: DocumentKey
    etag: str | None
    siblings: tuple[T, ...]
    expires_at: datetime | None = None

    @property
    def exists(self) -> bool:
        """Return whether there is a document."""
        return bool(self.siblings)

    @property
    def value(self) -> T:
        """Return the one value.

        Raises:
            DocumentNotFoundError: there is no document.
            SiblingsError: it has several; `merged` folds them.
        """
        if len(self.siblings) > 1:
            raise SiblingsError(str(self.key), self.siblings)
        return self._some()[0]

    def merged(self, merger: Callable[[Sequence[T]], T]) -> T:
        """Return the one value, or what *merger* makes of the siblings; write it with `put(..., etag=self.etag)`.

        Raises:
            DocumentNotFoundError: there is no document.
            DefinitionError: the merger is binary and wants the ancestor, which documents do not keep.
        """
        values = self._some()
        if takes_ancestor(merger, type(values[0]), "merged", {}):
            raise DefinitionError(
                f"merger of document {self.key}",
                "it is merge(a, b, ancestor), and documents keep no ancestor",
                "Give merge(siblings): in fieldwise, rules without an ancestor, such as union, highest or remove_wins",
            )
        return values[0] if len(values) == 1 else merger(values)

    def _some(self) -> tuple[T, ...]:
        if not self.siblings:
            raise DocumentNotFoundError(str(self.key))
        return self.siblings
