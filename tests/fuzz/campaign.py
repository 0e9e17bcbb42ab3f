"""A campaign: fuzzed envelopes by the thousand through real queues, lanes, sagas, consumers and dead letters.

Each round puts a thousand or more envelopes into the queues of a private server in one go, has a worker go through all
of it, and checks the books: what the server has counted, what the lanes concluded, and the dead letters on record.
"""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from random import Random
from types import FrameType
from typing import Any, Final

import redis
from attrs import frozen

from examples.credit_check.bureaus import score_of
from examples.credit_check.messages import CreditDecided, RequestScore, ScoreReported
from examples.credit_check.saga import BUREAUS, CreditCheck
from sagabus import Bus, Context, RetryPolicy
from sagabus.transport import Parcel, ParcelKind
from tests import servers
from tests.fuzz.books import Books, kept
from tests.fuzz.mutations import ENDPOINTS, Mutator, Shot

ROUND: Final = 2000
_ROUND_TIMEOUT_S: Final = 300
_TELL_EVERY_S: Final = 30.0
_ROUNDS_A_NAMESPACE: Final = 10
_SOON: Final = RetryPolicy(max_attempts=2, first_delay_s=0.0)


class RoundStuckError(Exception):
    """A round did not come to its end."""


@frozen
class FailedRoundError(Exception):
    """A round did not go as it should; *seed* and *number* run it again."""

    seed: int
    number: int
    cause: str

    def __str__(self) -> str:
        return f"round {self.number} of seed {self.seed}: {self.cause}; run it again with --seed {self.seed}"


def open_bank(url: str, namespace: str) -> Bus:
    """Return the bus of the credit check, its bureaus without their latency, its retries without their delays."""
    bus = Bus(store=url, transport=url, namespace=namespace, dedupe_window=timedelta(minutes=10))
    bus.endpoint("credit", CreditCheck, batch=64, retry=_SOON, early=_SOON)
    for bureau in BUREAUS:
        _open_bureau(bus, bureau)
    ledger = bus.endpoint("ledger", retry=_SOON)

    @ledger.consumer
    def decided(m: CreditDecided) -> None:
        if not 0 <= m.average <= 10_000:
            raise ValueError(f"an average of {m.average}")

    return bus


def _open_bureau(bus: Bus, name: str) -> None:
    @bus.endpoint(name, retry=_SOON).consumer
    def report(m: RequestScore, context: Context) -> None:
        context.reply(ScoreReported(bureau=name, score=score_of(m.customer, name, 1)))


def run_campaign(url: str, messages: int, seed: int, report: Callable[[Books], None] = lambda books: None) -> Books:
    """Put *messages* fuzzed envelopes through a worker, and return the books of all of it.

    Args:
        url: of a private server, which is emptied.
        seed: everything follows from it.
        report: called after each round.

    Raises:
        FailedRoundError: something else came out than a value or a dead letter, or the books do not balance.
    """
    mutator = Mutator(Random(seed))
    books = Books()
    with redis.Redis.from_url(url) as client, kept(books):
        number, added = 0, 0
        while books.injected < messages:
            client.flushall()
            bus = open_bank(url, f"fuzz{number}")
            try:
                for _ in range(_ROUNDS_A_NAMESPACE):
                    count = min(ROUND, messages - books.injected)
                    if count <= 0:
                        break
                    number += 1
                    try:
                        _round(bus, client, books, list(mutator.shots(count)), added)
                    except Exception as error:
                        raise FailedRoundError(seed, number, f"{type(error).__name__}: {error}") from error
                    report(books)
                added += _entries_added(client, bus.namespace)
            finally:
                bus.close()
    return books


def run_alone(seed: int, messages: int) -> Counter[str]:
    """Run a campaign on a server of its own, tell of its progress on stderr, and return the rows of its books."""
    told_at = time.monotonic()

    def tell(books: Books) -> None:
        nonlocal told_at
        if time.monotonic() - told_at > _TELL_EVERY_S:
            told_at = time.monotonic()
            print(f"seed {seed}: {books.injected:,} of {messages:,}", file=sys.stderr, flush=True)

    with servers.valkey() as url:
        return Counter(run_campaign(url, messages, seed, tell).row())


def _round(bus: Bus, client: redis.Redis, books: Books, shots: Sequence[Shot], added_before: int) -> None:
    books.begin_round(len(shots))
    _inject(bus, shots)
    worker = bus.worker(name="fuzz")
    with _limited(_ROUND_TIMEOUT_S):
        while True:
            worker.run_until_idle()
            if not bus.store.scheduled(1):
                break
            time.sleep(0.005)
    for lane in worker.lanes:
        lane._receiver.close()
    assert [queue.depth for queue in bus.transport.queues()] == [0] * len(ENDPOINTS), "something is left in a queue"
    books.check(added_before + _entries_added(client, bus.namespace))
    _check_letters(bus, books)
    dead = f"{bus.namespace}:{{{bus.namespace}:dead}}"
    client.delete(*(f"{dead}:{part}" for part in ("when", "body", "head")))


def _check_letters(bus: Bus, books: Books) -> None:
    """Make sure that every letter that was written is on record, and no other."""
    on_record = {letter.name for letter in bus.store.letters.find() if letter.reason != "no-endpoint"}
    differing = on_record ^ books.letters
    assert not differing, f"{len(differing)} letters on record and letters written differ, as {min(differing)}"


def _inject(bus: Bus, shots: Sequence[Shot]) -> None:
    for first in range(0, len(shots), 1000):
        part = shots[first : first + 1000]
        refused = bus.transport.send([Parcel(ParcelKind.COMMAND, shot.endpoint, shot.body, "", "") for shot in part])
        assert not refused


def _entries_added(client: redis.Redis, namespace: str) -> int:
    streams = client.scan_iter(f"{namespace}:q:*")
    return sum(int(client.xinfo_stream(stream)["entries-added"]) for stream in streams)


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    """Raise RoundStuckError in the main thread after so many seconds."""

    def stuck(_number: int, _frame: FrameType | None) -> Any:
        raise RoundStuckError(f"not through after {seconds} s")

    before = signal.signal(signal.SIGALRM, stuck)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
