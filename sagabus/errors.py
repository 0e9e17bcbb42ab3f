"""Every error that sagabus raises: one root, attributes beside the text, and the next step in the message."""

from __future__ import annotations

from collections.abc import Sequence


class SagabusError(Exception):
    """The root of all errors raised by sagabus."""


class DefinitionError(SagabusError):
    """A message, state, saga or merger is declared in a way that cannot work.

    Attributes:
        subject: the class or function at fault, as `module.qualname`.
        problem: what is wrong with it.
        mend: what to change.
    """

    def __init__(self, subject: str, problem: str, mend: str) -> None:
        super().__init__(f"{subject}: {problem}. {mend}")
        self.subject, self.problem, self.mend = subject, problem, mend


class ConfigurationError(SagabusError):
    """A bus, endpoint, URL or option is set up in a way that cannot work."""


class ShadowedPackageError(ConfigurationError):
    """A package of the user hides one of ours.

    Attributes:
        package: the name both have.
        found: the file that was imported.
        expected: the file that sagabus installed.
    """

    def __init__(self, package: str, found: str, expected: str) -> None:
        super().__init__(
            f"package {package!r} was imported from {found}, which hides the one that sagabus installed at {expected}; "
            f"rename your package, or run from a folder that does not contain it"
        )
        self.package, self.found, self.expected = package, found, expected


class UnknownTransportError(ConfigurationError):
    """No transport is installed for the scheme of a URL."""

    def __init__(self, scheme: str, known: Sequence[str]) -> None:
        super().__init__(f"no transport for {scheme!r} URLs; known schemes: {', '.join(sorted(known))}")
        self.scheme, self.known = scheme, tuple(known)


class CodecError(SagabusError):
    """Bytes from the wire or the store are not what they should be. Never retried.

    Attributes:
        reason: a short, stable word: `undecodable`, `unknown-type`, `unknown-version`, `too-large`.
    """

    def __init__(self, text: str, reason: str = "undecodable") -> None:
        super().__init__(text)
        self.reason = reason


class RoutingError(SagabusError):
    """A message has nowhere to go."""


class UnknownEndpointError(RoutingError):
    """No process ever declared the endpoint that a message was sent to."""

    def __init__(self, endpoint: str, known: Sequence[str]) -> None:
        super().__init__(
            f"no endpoint {endpoint!r}; known endpoints: {', '.join(sorted(known)) or 'none'}. "
            f"Start a worker that declares it with bus.endpoint({endpoint!r}, ...), or mend the name"
        )
        self.endpoint, self.known = endpoint, tuple(known)


class NoRouteError(RoutingError):
    """A message was sent without `to=` and no route is declared for its type."""

    def __init__(self, type_name: str) -> None:
        super().__init__(
            f"no route for {type_name!r}; say send(..., to=ENDPOINT) or declare bus.route(ItsClass, to=ENDPOINT)"
        )
        self.type_name = type_name


class QueueFullError(SagabusError):
    """A queue stayed at its length limit; nothing was sent."""

    def __init__(self, endpoint: str, waited_s: float) -> None:
        super().__init__(
            f"the queue of {endpoint!r} stayed full for {waited_s:g} s; nothing was sent. "
            f"Start more workers for it, or raise its max_length"
        )
        self.endpoint, self.waited_s = endpoint, waited_s


class UnmergeableStateError(SagabusError):
    """A merger has no value that could stand for all siblings; raise it from a merger."""


class HandlerMisuseError(SagabusError):
    """A handler asked for something that cannot be done where it asked."""


class UnavailableError(SagabusError):
    """A server did not answer in time, in spite of retries. Nothing is lost: what was not acknowledged comes again.

    Attributes:
        url: the server, without credentials.
    """

    def __init__(self, url: str, cause: object, *, what: str = "store") -> None:
        super().__init__(
            f"the {what} at {url} does not answer ({cause}); check that it runs and can be reached from here"
        )
        self.url = url


class StoreUnavailableError(UnavailableError):
    """The store, or the Redis server that holds the queues, did not answer in time."""


class BrokerUnavailableError(UnavailableError):
    """The broker did not answer in time."""

    def __init__(self, url: str, cause: object) -> None:
        super().__init__(url, cause, what="broker")


class StoreRefusedError(SagabusError):
    """A server answered, but is not fit to hold sagas (too old, or evicts keys), or refused a command."""


class StoreFullError(StoreRefusedError):
    """The server is out of memory and refused a write whole; the work is tried again when there is room."""


class WorkAbandonedError(SagabusError):
    """A worker was stopped while a server did not answer. Nothing is lost: what it had in hand is delivered again.

    Attributes:
        worker: its name.
    """

    def __init__(self, worker: str, cause: object) -> None:
        super().__init__(
            f"worker {worker} was stopped before it had finished what it had in hand ({cause}); "
            f"that is delivered again: start a worker when the server answers"
        )
        self.worker = worker


class CorruptRecordError(SagabusError):
    """A stored record cannot be read.

    Attributes:
        key: the saga, as `name/id`.
    """

    def __init__(self, key: str, cause: object) -> None:
        super().__init__(
            f"the record of saga {key} cannot be read ({cause}); restore its keys from a backup, or delete them "
            f"to have the saga start anew. Other sagas are not concerned"
        )
        self.key = key


class SagaNotFoundError(SagabusError):
    """There is no saga of that name and id."""

    def __init__(self, key: str) -> None:
        super().__init__(f"no saga {key}; `sagabus list` shows those there are")
        self.key = key
