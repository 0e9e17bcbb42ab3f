"""What consumers are called with, and what they come back with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping

from attrs import define, frozen

from sagabus.consumer import Context
from sagabus.documents.documents import Documents
from sagabus.errors import ConcurrencyError
from sagabus.observe.handling import Handling, handling
from sagabus.outgoing import Outgoing
from sagabus.records import Record
from sagabus.runtime.intake import ConsumerWork
from sagabus.runtime.pause import race_pause_s
from sagabus.runtime.ticket import Ticket, Trouble, let_go
from sagabus.secrecy.signing import Signing

_MAX_RERUNS = 16


class Finished(Record, frozen=True):
    """One consumer is through with one message."""

    ticket: Ticket
    outgoing: tuple[Outgoing, ...]
    trouble: Trouble | None


@define
class Race:
    """What a handler is in while others are faster: each `ConcurrencyError` says that somebody else has got on."""

    _last: ConcurrencyError | None = None

    def goes_on(self, error: BaseException) -> bool:
        """Return whether the handler is to be run again for *error*.

        Not where the documents are just as they were the last time: then nobody was faster, and it fails each time.
        """
        if not isinstance(error, ConcurrencyError):
            return False
        if self._last is not None and self._last.conflicts == error.conflicts:
            return False
        # Among the frames that it came through is the one that holds this.
        let_go(error)
        self._last = error
        return True

    def given_up(self, work: ConsumerWork) -> Finished:
        """Return that others were faster each time: the message is put off, and its attempts stay as they are."""
        return Finished(work.ticket, (), Trouble("parked", self._last))


@frozen
class Surroundings:
    """What every handler of one endpoint is called with; *jitter* returns a number in [0, 1).

    What they send is signed as *signing* says.
    """

    endpoint: str
    routes: Mapping[str, str]
    max_bytes: int
    now_ms: Callable[[], int]
    documents: Documents
    jitter: Callable[[], float]
    signing: Signing | None = None

    def context(self, work: ConsumerWork) -> Context:
        """Return the context of one call, and have log lines carry its message."""
        envelope = work.incoming.envelope
        handling.set(Handling(envelope.saga, envelope.id, envelope.type, self.endpoint))
        return Context(self.endpoint, envelope, self.now_ms(), self.documents)

    def finished(self, work: ConsumerWork, context: Context) -> Finished:
        """Return what a handler that returned has asked for."""
        outgoing = context.outgoing(work.consumer.name, self.routes, self.now_ms(), self.max_bytes, self.signing)
        return Finished(work.ticket, outgoing, None)

    def call(self, work: ConsumerWork) -> Finished:
        """Run a `def` handler here and now, an `async def` one on a loop of its own; again where others were faster."""
        race = Race()
        for pause_s in self.pauses_s():
            if pause_s:
                # Even no pause at all would let another thread run.
                time.sleep(pause_s)
            try:
                context = self.context(work)
                answer = work.consumer.call(work.incoming, context)
                if work.consumer.is_async:
                    asyncio.run(answer)
                return self.finished(work, context)
            except Exception as error:
                if not race.goes_on(error):
                    return Finished(work.ticket, (), Trouble.of(error))
        return race.given_up(work)

    def pauses_s(self) -> Iterator[float]:
        """Yield how long to wait before each run of a handler, seconds: none, then more and more.

        They are for a `Race`, which costs no attempt, as for serial sagas.
        """
        yield 0.0
        for rerun in range(_MAX_RERUNS):
            yield race_pause_s(rerun, self.jitter)
