"""Do something once for a key, though it is announced many times within a millisecond."""

from sagas.once.action import Once
from sagas.once.decorator import TAKEOVER_AFTER, once
from sagas.once.record import OnceRecord, OnceStatus

__all__ = ["TAKEOVER_AFTER", "Once", "OnceRecord", "OnceStatus", "once"]
