"""What really happened to a saga: its history and the versions that it led to, as `sagabus record` takes them."""

from __future__ import annotations

from typing import Final

from attrs import frozen

from sagabus import __version__
from sagabus.commit import HistoryEntry, Lifecycle, Snapshot, Want
from sagabus.envelope import SagaKey, rfc3339
from sagabus.errors import SagabusError, SagaNotFoundError
from sagabus.store.protocol import Store
from sagabus.versions import Dot

_TRIES: Final = 20
_FEW_TRIES: Final = 3


class RestlessSagaError(SagabusError):
    """A saga was written again and again while it was being read.

    Attributes:
        key: which, as `NAME/ID`.
    """

    def __init__(self, key: str) -> None:
        super().__init__(f"{key} is being written too fast to be recorded whole; try again when it is quiet")
        self.key = key


@frozen
class RecordedVersion:
    """A version that was live when its saga was recorded, and its state as the store had it."""

    dot: Dot
    stored: bytes


@frozen
class RecordedSaga:
    """What really happened to one saga.

    Attributes:
        app: which bus, as `sagabus worker` takes it.
        key: which saga of it.
        lifecycle: live or completed.
        life: how often it was begun.
        recorded_at: when, RFC 3339, store's clock.
        sagabus: the version of sagabus that recorded it.
        history: what its record remembers, oldest first.
        versions: those that were live, in dot order; of a completed saga its last.
        line: of its head in the file, from 1; 0 where there is no file.
    """

    app: str
    key: SagaKey
    lifecycle: Lifecycle
    life: int
    recorded_at: str
    sagabus: str
    history: tuple[HistoryEntry, ...]
    versions: tuple[RecordedVersion, ...]
    line: int = 0


@frozen
class Look:
    """A saga at one moment, and how it got there.

    Attributes:
        snapshot: what the store knows of it, with what the messages of its history have left undispatched.
        recorded: its history, and the versions that it led to.
    """

    snapshot: Snapshot
    recorded: RecordedSaga


def record(store: Store, key: SagaKey, app: str) -> RecordedSaga:
    """Return what really happened to a saga: its history, and the versions that it led to.

    Args:
        app: the bus of *store*, as `sagabus worker` takes it.

    Raises:
        SagaNotFoundError: there is no such saga.
        RestlessSagaError: it is never the same before and after its history was read.
    """
    return look(store, key, app).recorded


def look(store: Store, key: SagaKey, app: str = "", *, whole: bool = True) -> Look:
    """Return a saga and its history, both of one moment; arguments and errors as of `record`.

    Args:
        whole: whether a saga that is never the same before and after is an error; else what was read last is returned,
            and its history may lack a commit or two. For people, who would rather see that than nothing.
    """
    (before,) = store.load([Want(key)])
    for left in range(_TRIES if whole else _FEW_TRIES, 0, -1):
        history = store.history(key)
        ids = tuple(dict.fromkeys(message.id for entry in history for message in entry.messages))
        (snapshot,) = store.load([Want(key, ids)])
        if snapshot.lifecycle is Lifecycle.ABSENT:
            raise SagaNotFoundError(str(key))
        same = (before.clock, before.lifecycle) == (snapshot.clock, snapshot.lifecycle)
        if same or (left == 1 and not whole):
            recorded = RecordedSaga(
                app=app,
                key=key,
                lifecycle=snapshot.lifecycle,
                life=snapshot.life,
                recorded_at=rfc3339(snapshot.now_ms),
                sagabus=__version__,
                history=tuple(history),
                versions=tuple(RecordedVersion(v.dot, v.state) for v in snapshot.versions),
            )
            return Look(snapshot, recorded)
        before = snapshot
    raise RestlessSagaError(str(key))
