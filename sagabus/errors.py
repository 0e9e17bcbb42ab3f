"""Every error that sagabus raises: one root, attributes beside the text, and the next step in the message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sagabus.printable import said
from sagabus.redaction import scrub


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


class AppImportError(SagabusError):
    """The module of an app raised an error while it was imported; that error is the cause of this one.

    Attributes:
        app: the module, by its dotted name.
        hopeless: whether nothing but a change of the code or of what is installed helps, as with a `SyntaxError`.
    """

    def __init__(self, app: str, error: Exception) -> None:
        super().__init__(f"{app} cannot be imported: {said(error)}; mend it, and try again")
        self.app, self.hopeless = app, isinstance(error, (SyntaxError, ImportError))


class UnknownTransportError(ConfigurationError):
    """No transport is installed for the scheme of a URL."""

    def __init__(self, scheme: str, known: Sequence[str]) -> None:
        super().__init__(f"no transport for {scheme!r} URLs; known schemes: {', '.join(sorted(known))}")
        self.scheme, self.known = scheme, tuple(known)


class CodecError(SagabusError):
    """Bytes from the wire or the store are not what they should be. Never retried.

    Attributes:
        reason: a short, stable word: `undecodable`, `unknown-type`, `unknown-version`, `too-large`, `too-deep`,
            `undecryptable`, `missing-key`, `untrusted`.
    """

    def __init__(self, text: str, reason: str = "undecodable") -> None:
        super().__init__(text)
        self.reason = reason


class MissingKeyError(CodecError):
    """A value is encrypted with a key that is not here, or there is none to encrypt with.

    Attributes:
        key_id: which key; empty where there is none at all.
    """

    def __init__(self, key_id: str, where: str) -> None:
        missing = f"key {key_id!r} is not here" if key_id else "there is no key here to encrypt with"
        super().__init__(
            f"{where}: {missing}; give it to this process, as Bus(keyring=...) or in SAGABUS_KEYS, and try again",
            "missing-key",
        )
        self.key_id = key_id


class UntrustedError(CodecError):
    """A message has no signature, or one that is not its sender's. Its body was not looked at."""

    def __init__(self, text: str) -> None:
        super().__init__(text, "untrusted")


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


class RequestError(SagabusError):
    """A request got no answer: in time, because it was dead-lettered, or because the bus that waited was closed.

    Attributes:
        request_id: the id of its message.
    """

    def __init__(self, request_id: str, text: str) -> None:
        super().__init__(text)
        self.request_id = request_id


class RequestTimeoutError(RequestError):
    """No answer came in time. The request may still be handled: nobody has taken it back.

    Attributes:
        endpoint: where it was sent.
        timeout_s: how long was waited.
    """

    def __init__(self, request_id: str, type_name: str, endpoint: str, timeout_s: float) -> None:
        super().__init__(
            request_id,
            f"no answer to {type_name} {request_id} from {endpoint!r} within {timeout_s:g} s; it may still be handled. "
            f"See that a worker is at work there (sagabus doctor) and that its handlers reply, raise timeout=, "
            f"or only send, and ask for the outcome later",
        )
        self.endpoint, self.timeout_s = endpoint, timeout_s


class RequestFailedError(RequestError):
    """A request was dead-lettered, so no answer will come.

    Attributes:
        endpoint: where it was given up.
        reason: the reason of its dead letter.
        error: what went wrong, in a line.
    """

    def __init__(self, request_id: str, endpoint: str, reason: str, error: str) -> None:
        super().__init__(
            request_id,
            f"request {request_id} was dead-lettered at {endpoint!r} as {reason}: {error}. "
            f"`sagabus dead show APP {request_id}` has all of it; mend the cause and retry it there, or send it again",
        )
        self.endpoint, self.reason, self.error = endpoint, reason, error


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
            f"the {what} at {url} does not answer ({scrub(str(cause))}); "
            f"check that it runs and can be reached from here"
        )
        self.url = url


class StoreUnavailableError(UnavailableError):
    """The store, or the Redis server that holds the queues, did not answer in time."""


class NotReplicatedError(UnavailableError):
    """Too few replicas have confirmed what was written, and nothing of it was released: neither sent on nor acked.

    Attributes:
        confirmed: how many have.
        wanted: how many must, as `Bus(replicas=)` says.
    """

    def __init__(self, url: str, confirmed: int, wanted: int) -> None:
        SagabusError.__init__(
            self,
            f"{confirmed} of {wanted} replicas of {url} have confirmed what was written, and nothing is released "
            f"before all have; look at INFO replication there, and start or reconnect the replicas",
        )
        self.url, self.confirmed, self.wanted = url, confirmed, wanted


class BrokerUnavailableError(UnavailableError):
    """The broker did not answer in time."""

    def __init__(self, url: str, cause: object) -> None:
        super().__init__(url, cause, what="broker")


class AccessRefusedError(ConfigurationError):
    """A server refuses who connects or what is asked of it, until somebody mends a password, a right or a certificate.

    Attributes:
        url: the server, without credentials.
        right: the one that is missing, as an ACL writes it (`+info`); empty where it is not about one.
    """

    def __init__(self, url: str, problem: str, mend: str, *, right: str = "", what: str = "server") -> None:
        super().__init__(f"the {what}{f' at {url}' if url else ''} refuses: {scrub(problem)}. {mend}")
        self.url, self.right = url, right


class UntrustedServerError(ConfigurationError):
    """Who answers cannot prove to be the server that a URL means; nothing was sent to it.

    Attributes:
        url: the server, without credentials.
    """

    def __init__(self, url: str, problem: str, mend: str, *, what: str = "server") -> None:
        super().__init__(f"the {what} at {url} is not to be trusted: {problem}. {mend}")
        self.url = url


class StoreRefusedError(SagabusError):
    """A server answered, but is not fit to hold sagas (too old, or evicts keys), or refused a command."""


class StoreFullError(StoreRefusedError):
    """The server is out of memory or disk and refused a write whole; the work is tried again when there is room."""


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


class HandlerTimedOutError(SagabusError):
    """A handler took longer than its endpoint lets it; its message is dead-lettered at once.

    Attributes:
        handler: its name.
        timeout_s: how long it may take.
        reason: the reason of the dead letter, `timed-out`.
    """

    reason = "timed-out"

    def __init__(self, handler: str, timeout_s: float) -> None:
        super().__init__(
            f"{handler} was still at work after {timeout_s:g} s; see in the traceback where, mend it or raise "
            f"handler_timeout_s of its endpoint, and replay the message"
        )
        self.handler, self.timeout_s = handler, timeout_s


class HandlerHungError(SagabusError):
    """Handlers hang in a way that only the end of their process ends, so their worker has ended. Nothing is lost.

    Their messages are dead letters; what else the worker had in hand is delivered again.

    Attributes:
        worker: its name.
        handler: the name of one of them.
    """

    def __init__(self, worker: str, handler: str, text: str) -> None:
        super().__init__(
            f"worker {worker} has ended because {handler} {text}; start another one in a new process, as `sagabus "
            f"worker --processes` does, and mend the handler: give what it waits for a time-out of its own"
        )
        self.worker, self.handler = worker, handler


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


class VersionNotFoundError(SagabusError):
    """A saga has no such version in its history, or several are called so.

    Attributes:
        key: which saga, as `NAME/ID`.
        dot: what was asked for.
    """

    def __init__(self, key: str, dot: str, known: Sequence[str]) -> None:
        listed = ", ".join(known[-_SHOWN_VERSIONS:]) or "none"
        super().__init__(f"{key} has no one version called {dot!r}; its history names {listed}")
        self.key, self.dot = key, dot


_SHOWN_VERSIONS: Final = 10


class NothingToMergeError(SagabusError):
    """A saga has no siblings that could be merged.

    Attributes:
        key: which, as `NAME/ID`.
    """

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"there is nothing to merge in {key}: {why}")
        self.key = key


class CorruptDocumentError(SagabusError):
    """A stored document cannot be read.

    Attributes:
        key: the document, as `group/name`, or its name where it stands alone.
    """

    def __init__(self, key: str, cause: object) -> None:
        super().__init__(
            f"document {key} cannot be read ({cause}); restore it from a backup, or replace it with overwrite(). "
            f"Other documents are not concerned"
        )
        self.key = key


class DocumentNotFoundError(SagabusError):
    """There is no document under a key, or there is none any more."""

    def __init__(self, key: str) -> None:
        super().__init__(f"there is no document {key}; look at its `exists` first, or make it with create()")
        self.key = key


class SiblingsError(SagabusError):
    """One value was asked for, and several writers that had not seen each other left one each.

    Attributes:
        key: the document.
        siblings: their values, in dot order.
    """

    def __init__(self, key: str, siblings: Sequence[object]) -> None:
        super().__init__(
            f"document {key} has {len(siblings)} siblings; fold them, as with document.merged(merger), and put the "
            f"result with etag=document.etag"
        )
        self.key, self.siblings = key, tuple(siblings)


class TooManySiblingsError(SagabusError):
    """Nobody folds the siblings of a document, and it has as many as it may.

    Attributes:
        key: the document.
        limit: how many it may have.
    """

    def __init__(self, key: str, limit: int) -> None:
        super().__init__(
            f"document {key} has {limit} siblings, the most it may have, and nothing was written; load it, fold them, "
            f"and put the result with etag="
        )
        self.key, self.limit = key, limit


class ConcurrencyError(SagabusError):
    """Another writer was faster, and nothing was written. Load again, and decide again on what is there now.

    Attributes:
        key: the document that is not as it was expected to be.
        expected: the etag that the write came with; None where there was to be no document.
        actual: the etag of what is there; None where there is none.
        conflicts: key -> (expected, actual) of every document of the write that has changed.
    """

    def __init__(self, conflicts: Mapping[str, tuple[str | None, str | None]]) -> None:
        self.conflicts = dict(conflicts)
        self.key, (self.expected, self.actual) = next(iter(self.conflicts.items()))
        text = "; ".join(_conflict(key, *etags) for key, etags in self.conflicts.items())
        super().__init__(f"{text}. Nothing was written: load again, and decide again on what is there now")


def _conflict(key: str, expected: str | None, actual: str | None) -> str:
    if expected is None:
        return f"document {key} is there already, as {actual}"
    return f"document {key} was expected as {expected} and is {f'now {actual}' if actual else 'gone'}"


class GroupMismatchError(SagabusError):
    """One write cannot change documents of different groups.

    Attributes:
        keys: the documents.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(
            f"documents {', '.join(keys)} are in no common group, and one write changes one group. Put them into one, "
            f"bus.documents.group(NAME), or move the change through a saga that compensates: sagas.Transfer does it "
            f"for money"
        )
        self.keys = tuple(keys)


class LeaseError(SagabusError):
    """A lease is not held by whoever needs it.

    Attributes:
        lease: its name.
    """

    def __init__(self, lease: str, text: str) -> None:
        super().__init__(text)
        self.lease = lease


class LeaseHeldError(LeaseError):
    """Somebody else holds the lease, and did for as long as was waited.

    Attributes:
        holder: who.
        remaining_s: for how long, unless they renew it.
    """

    def __init__(self, lease: str, holder: str, remaining_s: float, waited_s: float) -> None:
        super().__init__(
            lease,
            f"lease {lease!r} is held by {holder} for another {remaining_s:.1f} s, unless they renew it; waited "
            f"{waited_s:.1f} s. Wait longer with wait_s=, or leave the work to them",
        )
        self.holder, self.remaining_s = holder, remaining_s


class LeaseLostError(LeaseError):
    """The lease ended before its holder was done: it was paused, cut off or too slow. Others may be at work already."""

    def __init__(self, lease: str, token: int) -> None:
        super().__init__(
            lease,
            f"lease {lease!r} (token {token}) has ended, and somebody else may hold it; stop the work it protects. "
            f"Write with fence=lease, so that nothing comes through too late, or ask for a longer ttl_s",
        )
        self.token = token


class FenceError(LeaseError):
    """A write came with a lease that has ended, or that somebody else has taken since; nothing was written.

    Attributes:
        token: what it came with.
        reason: `expired`, or `superseded` by a newer token.
    """

    def __init__(self, lease: str, token: int, reason: str) -> None:
        super().__init__(
            lease,
            f"nothing was written: token {token} of lease {lease!r} is {reason}; somebody else may hold the lease. "
            f"Stop the work that it protects, and take the lease again to go on",
        )
        self.token, self.reason = token, reason


class DeadLetterError(SagabusError):
    """A dead letter cannot be worked with as was asked.

    Attributes:
        id: its message id, or the beginning of one that was given.
    """

    def __init__(self, id_: str, text: str) -> None:
        super().__init__(text)
        self.id = id_


class DeadLetterNotFoundError(DeadLetterError):
    """There is no dead letter of that id, or no more."""

    def __init__(self, id_: str) -> None:
        super().__init__(
            id_,
            f"no dead letter whose id begins with {id_!r}; it may have been sent again, dropped, or have expired: "
            f"sagabus dead audit says which, sagabus dead list shows what there is",
        )


class DeadLetterGroupNotFoundError(SagabusError):
    """No group of dead letters is called so, or more than one.

    Attributes:
        group: what was asked for.
    """

    def __init__(self, group: str, known: Sequence[str]) -> None:
        which = f"several groups of dead letters begin with {group!r} ({', '.join(known)}); say more of it"
        super().__init__(which if known else f"no group of dead letters {group!r}; `sagabus dead groups` lists them")
        self.group = group


class AmbiguousDeadLetterError(DeadLetterError):
    """More than one dead letter could be meant.

    Attributes:
        names: some of them, as `endpoint/id`.
    """

    def __init__(self, id_: str, names: Sequence[str]) -> None:
        super().__init__(
            id_, f"{id_!r} could be {', '.join(names)}; give more of the id, or say which endpoint it was given up by"
        )
        self.names = tuple(names)


class UnreadableDeadLetterError(DeadLetterError):
    """A dead letter would be given up again at once, for the same reason: it cannot be read."""

    def __init__(self, id_: str, cause: object) -> None:
        super().__init__(
            id_,
            f"{id_} cannot be read ({cause}), so it would come straight back; deploy code that reads it, "
            f"or give it another body (sagabus dead retry ... --body JSON, or --edit)",
        )


class WaitingMessageNotFoundError(SagabusError):
    """Nothing of that name waits for its time, or no more.

    Attributes:
        name: what was given.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            f"nothing that waits is called {name!r}, or begins with it; it may have been sent already: "
            f"sagabus timers list shows what there is"
        )
        self.name = name


class AmbiguousWaitingMessageError(SagabusError):
    """More than one waiting message could be meant.

    Attributes:
        name: what was given.
        names: what some of them are called.
    """

    def __init__(self, name: str, names: Sequence[str]) -> None:
        super().__init__(f"{name!r} could be {', '.join(names)}; give more of it")
        self.name, self.names = name, tuple(names)
