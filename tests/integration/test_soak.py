"""A soak of seconds: workers and the store killed, and nothing left when all is done and forgotten."""

from __future__ import annotations

import datetime
import tempfile
import threading
from pathlib import Path

from benchmarks.soak.report import is_flat, lines, page
from benchmarks.soak.run import Plan, Soak

PLACE = {"cores": 2, "processor": "x", "server": "Valkey", "python": "3", "redis-py": "8", "sagabus": "0"}


def test_soak_that_is_told_to_stop_has_lost_and_leaves_nothing() -> None:
    """Completed sagas, consumed ids, outboxes, timers and queues are gone after the retention.

    Sagas that never end have counted every tick once, in spite of a worker and the store being killed.
    """
    # Retention must be longer than a message may take, also on a busy machine whose store has just been killed.
    plan = Plan(
        3600.0,
        4.0,
        kill_worker_every_s=0.7,
        kill_store_every_s=1.0,
        sample_every_s=0.5,
        victims=1,
        open_checks=40,
        longest_alarm_ms=1000,
    )
    stop = threading.Event()

    def listen(said: str) -> None:
        if "store killed" in said:
            stop.set()

    # Not pytest's tmp_path: a socket's path has little more than a hundred bytes.
    with tempfile.TemporaryDirectory(prefix="sagabus-") as folder:
        verdict = Soak(Path(folder), plan, stop, listen).run()
    assert (verdict.lost, verdict.findings, verdict.left_over) == ((), (), ())
    assert verdict.right
    totals = verdict.totals
    assert 0 < totals.accepted == totals.closed
    assert (verdict.worker_kills > 0, verdict.store_kills, verdict.ticks > 0) == (True, 1, True)
    *_, last = lines(verdict)
    assert "lost=0 twice=0 contradictory=0 left_over=0" in last
    assert not is_flat(verdict), "too short to say"
    assert "| lost | 0 |" in page(verdict, PLACE, "make soak", datetime.date(2026, 1, 1))
