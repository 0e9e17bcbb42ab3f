"""What the errors that a server answers with mean: for the link, and for users."""

from __future__ import annotations

import enum
from typing import Final

import redis

from sagabus.access import refusal
from sagabus.errors import NotReplicatedError, SagabusError, StoreFullError, StoreRefusedError
from sagabus.link.command import Command

_LATER: Final = ("LOADING", "CLUSTERDOWN", "TRYAGAIN", "BUSY ", "NOREPLICAS")
_ELSEWHERE: Final = (
    "READONLY",
    "MASTERDOWN",
    # What a blocked command, and WAIT, get from a primary that has become a replica.
    "UNBLOCKED force unblock",
    "WAIT cannot be used with replica",
)
_FULL: Final = {
    "OOM": "the server is out of memory and refused {name}; free some or raise maxmemory",
    "MISCONF": "the server cannot write to its disk and refused {name} ({error}); free space on it",
}

_KEYS_NAMED: Final = 8


class Verdict(enum.Enum):
    """What becomes of a command."""

    STANDS = "its reply is its reply"
    WHOLE = "send it again at once, with its script"
    ASKED = "send it again at once, to the node that its slot moves to"
    MOVED = "send it again at once, to the node that its slot has moved to"
    LATER = "send it again after a while"
    ELSEWHERE = "send it again after a while, to another server: this one is no primary any more"


class NotReplicated(redis.ResponseError):
    """Stands for the reply to a command that was done and that too few replicas have confirmed.

    Attributes:
        url: the primary, without credentials.
        confirmed, wanted: numbers of replicas.
    """

    def __init__(self, url: str, confirmed: int, wanted: int) -> None:
        super().__init__(f"{confirmed} of {wanted} replicas have confirmed")
        self.url, self.confirmed, self.wanted = url, confirmed, wanted

    def as_error(self) -> NotReplicatedError:
        return NotReplicatedError(self.url, self.confirmed, self.wanted)


def judge(command: Command, reply: redis.ResponseError) -> Verdict:
    """Say what becomes of *command*."""
    errors = redis.exceptions
    if isinstance(reply, errors.NoScriptError) and command.script is not None:
        return Verdict.WHOLE
    if isinstance(reply, errors.MovedError):
        return Verdict.MOVED
    if isinstance(reply, errors.AskError):
        return Verdict.ASKED
    text = str(reply)
    if isinstance(reply, errors.ReadOnlyError | errors.MasterDownError) or text.startswith(_ELSEWHERE):
        return Verdict.ELSEWHERE
    # redis-py takes the word that says which error it is out of the texts of those that it knows.
    if isinstance(reply, errors.ClusterDownError | errors.TryAgainError) or text.startswith(_LATER):
        return Verdict.LATER
    return Verdict.STANDS


def as_error(command: Command, error: redis.ResponseError, url: str = "") -> SagabusError:
    """Return the error that users see for what a server answered.

    Args:
        url: the server, without credentials.
    """
    if isinstance(error, NotReplicated):
        return error.as_error()
    if (refused := refusal(error, url)) is not None:
        return refused
    name = command.script.name if command.script else command.args[0]
    word = "OOM" if isinstance(error, redis.exceptions.OutOfMemoryError) else str(error).partition(" ")[0]
    if word in _FULL:
        return StoreFullError(_FULL[word].format(name=name, error=error))
    if word == "WRONGTYPE":
        keys = command.args[3 : 3 + command.args[2]] if command.script else [command.key]
        listed = ", ".join(str(key) for key in keys[:_KEYS_NAMED]) + (", ..." if len(keys) > _KEYS_NAMED else "")
        return StoreRefusedError(
            f"the server refused {name}: {error}. Move away what is not ours in its keys: {listed}"
        )
    return StoreRefusedError(f"the server refused {name}: {error}")
