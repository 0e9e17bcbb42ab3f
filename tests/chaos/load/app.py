"""The bus of the load, as `sagabus worker tests.chaos.load.app:bus` runs it; told by `Settings.environment`."""

from __future__ import annotations

import asyncio
import importlib
from datetime import timedelta
from pathlib import Path
from typing import Any

from examples.credit_check.bureaus import latency_s, score_of
from examples.credit_check.messages import CreditDecided, RequestScore, ScoreReported
from examples.credit_check.saga import BUREAUS, CreditCheck
from sagabus import Bus, Context, RetryPolicy
from tests.chaos.ledger import Ledger
from tests.chaos.load.failpoints import Failpoints
from tests.chaos.load.messages import Gathered, MakePiece, PieceMade, Rung, WatchEnded
from tests.chaos.load.sagas import PIECES, Gathering, Watch
from tests.chaos.load.settings import Settings

settings = Settings.from_environment()
ledger = Ledger(Path(settings.ledger))


class WatchedBus(Bus):
    """A bus whose store and transport have failpoints."""

    points: Failpoints
    _watched: tuple[Any, Any, Any, Any] | None = None

    @property
    def store(self) -> Any:
        return self._parts(super().store, None)[1]

    @property
    def transport(self) -> Any:
        return self._parts(None, super().transport)[3]

    def _parts(self, store: Any, transport: Any) -> tuple[Any, Any, Any, Any]:
        known = self._watched or (None, None, None, None)
        if store is not None and store is not known[0]:
            known = (store, self.points.store(store), *known[2:])
        if transport is not None and transport is not known[2]:
            known = (*known[:2], transport, self.points.transport(transport))
        self._watched = known
        return known


WatchedBus.points = Failpoints(settings, ledger)
bus = WatchedBus(
    settings.store,
    settings.transport,
    namespace=settings.namespace,
    claim_s=settings.claim_s,
    dedupe_window=timedelta(seconds=settings.dedupe_window_s),
    **settings.bus,
)
_retry = RetryPolicy(settings.max_attempts, first_delay_s=settings.first_delay_s, max_delay_s=2.0)
# What started a saga may be in the hands of a worker that is stopped: its other messages wait for longer than that.
_early = RetryPolicy(settings.early_attempts, first_delay_s=0.05, max_delay_s=2.0)
for _name, _saga in (("credit", CreditCheck), ("gather", Gathering), ("watch", Watch)):
    bus.endpoint(_name, _saga, batch=settings.batch, retry=_retry, early=_early)
_pieces = bus.endpoint(PIECES, concurrency=settings.concurrency, retry=_retry)
_witness = bus.endpoint("witness", concurrency=settings.concurrency, retry=_retry)


def _open_bureau(name: str) -> None:
    desk = bus.endpoint(name, concurrency=settings.concurrency, retry=_retry)
    me = f"{name} {__name__}._open_bureau.<locals>.report"

    @desk.consumer
    async def report(m: RequestScore, context: Context) -> None:
        await asyncio.sleep(latency_s(m.customer, name, settings.seed))
        score = score_of(m.customer, name, settings.seed)
        ledger.effect("scored", f"{m.customer}/{name}", context.message_id, score, consumer=me)
        context.reply(ScoreReported(bureau=name, score=score))


for _bureau in BUREAUS:
    _open_bureau(_bureau)


@_pieces.consumer
async def make_piece(m: MakePiece, context: Context) -> None:
    """Make a piece and say so."""
    ledger.effect("made", f"{m.number}/{m.part}", context.message_id, consumer=f"{PIECES} {__name__}.make_piece")
    context.reply(PieceMade(m.part))


@_witness.consumer
def decided(m: CreditDecided, context: Context) -> None:
    """Enter a decision."""
    value = {"accepted": m.accepted, "average": m.average, "scores": m.scores}
    ledger.effect("decided", m.customer, context.message_id, value)


@_witness.consumer
def gathered(m: Gathered, context: Context) -> None:
    """Enter what was gathered."""
    ledger.effect("gathered", m.number, context.message_id, m.parts)


@_witness.consumer
def rung(m: Rung, context: Context) -> None:
    """Enter that a bell has rung."""
    ledger.effect("rung", m.number, context.message_id)


@_witness.consumer
def ended(m: WatchEnded, context: Context) -> None:
    """Enter how a watch ended."""
    ledger.effect("ended", m.number, context.message_id, m.how)


if settings.hook:
    _module, _, _function = settings.hook.partition(":")
    getattr(importlib.import_module(_module), _function)(bus)
