"""One run of the soak: who is started, who is killed when, and what is looked at in the end."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import redis
from attrs import define, field, frozen

from benchmarks.server import Server
from benchmarks.soak.app import CLAIM_S, ENDPOINTS, Ticks
from benchmarks.soak.driver import Driver, Judge, loads
from benchmarks.soak.ledger import Ledger, Totals
from benchmarks.soak.samples import Sample, rss_mb
from sagabus import Bus, SagabusError
from sagabus.commit import Want
from sagabus.definition import definition_of
from sagabus.envelope import SagaKey
from sagabus.supervisor import Supervisor

NAMESPACE: Final = "soak"
_AWAY: Final = ("waiting-for-server", "timers-waiting", "no-sign-of-life")
_TURN_S: Final = 0.1
_START_S: Final = 60.0
_STALL_S: Final = 60.0
_EXPIRY_SLACK_S: Final = 2.0


@frozen
class Plan:
    """What a run is made of, seconds.

    Attributes:
        run_s: how long the load lasts.
        window_s: dedupe window and retention.
        kill_worker_every_s, kill_store_every_s: 0 for never.
        sample_every_s: how often everything is looked at.
        victims: how many workers are killed in turn; one more is never killed.
        open_checks: how many credit checks are open at any time; of the others as many as goes with that.
        longest_alarm_ms: the longest time that an alarm is set for.
    """

    run_s: float
    window_s: float = 60.0
    kill_worker_every_s: float = 5.0
    kill_store_every_s: float = 300.0
    sample_every_s: float = 10.0
    victims: int = 2
    open_checks: int = 1200
    longest_alarm_ms: int = 10_000


@frozen
class Verdict:
    """What a run came to.

    Attributes:
        seconds: how long the load lasted, a run that was interrupted less than planned.
        left_over: what should not be there once all is done and forgotten: messages, letters, keys, miscounts.
        late_ms: how late the latest timers came, ms: median and the worst; None where none rang.
        down_s: how long the store did not answer, all its kills together.
        end_used_mb: what the store uses when everything has been forgotten.
    """

    plan: Plan
    seconds: float
    totals: Totals
    lost: tuple[str, ...]
    findings: tuple[str, ...]
    left_over: tuple[str, ...]
    ticks: int
    retries: int
    late_ms: tuple[float, int] | None
    worker_kills: int
    store_kills: int
    down_s: float
    end_used_mb: float
    samples: tuple[Sample, ...]

    @property
    def right(self) -> bool:
        """Return whether nothing was lost, done twice, contradictory or left over."""
        return not (self.lost or self.totals.twice or self.totals.contradictory or self.findings or self.left_over)


@define
class Soak:
    """Runs *plan* in *folder*; call `run` once, from the main thread.

    Attributes:
        stop: set to end the load early; the run is then brought to an end as ever.
        say: is told what goes on, a line at a time.
    """

    folder: Path
    plan: Plan
    stop: threading.Event
    say: Callable[[str], None]
    samples: list[Sample] = field(factory=list, init=False)
    _began_at: float = field(default=0.0, init=False)
    _closed: deque[tuple[float, int]] = field(factory=deque, init=False)
    _kills: int = field(default=0, init=False)
    _spawned: dict[int, float] = field(factory=dict, init=False)
    _failed: list[BaseException] = field(factory=list, init=False)

    @property
    def _log(self) -> Path:
        return self.folder / "workers.log"

    def run(self) -> Verdict:
        """Start everything, keep it running and being killed, drain it, and look at what is left.

        Raises:
            SagabusError: it could not be started, or the worker that is never killed has died.
        """
        plan = self.plan
        server = Server(self.folder)
        server.start()
        # A case may be reported a second time for as long as its message may come again: through its window, a claim,
        # and a store that was away.
        ledger = Ledger(self.folder, window_s=plan.window_s + 60.0)
        try:
            window = timedelta(seconds=plan.window_s)
            bus = Bus(server.url, namespace=NAMESPACE, dedupe_window=window, retention=window, claim_s=CLAIM_S)
            with bus:
                judge, driver = Judge(ledger), Driver(bus, ledger, loads(plan.open_checks, plan.longest_alarm_ms))
                name = judge.listen(bus)
                with self._listening(bus, name), self._at_work(server) as (steady, victims):
                    steady_pid = self._ready(bus, steady)
                    self._began_at = time.monotonic()
                    with self._driving(driver):
                        self._keep_going(server, ledger, steady, victims)
                    seconds = time.monotonic() - self._began_at
                    self.say("draining")
                    self._drain(bus, ledger)
                    lost = tuple(ledger.lost())
                    self.say(f"waiting {plan.window_s:g} s until all is forgotten")
                    self._until_forgotten(steady, victims)
                    left = [
                        *self._left_over(bus, server, driver),
                        *self._restarted(steady, steady_pid),
                        *self._complaints(),
                    ]
                    end_used_mb = server.info()["used_memory"] / 1e6
            late = judge.late_ms
            return Verdict(
                plan=plan,
                seconds=seconds,
                totals=ledger.totals(),
                lost=lost,
                findings=tuple(ledger.findings),
                left_over=tuple(left),
                ticks=sum(driver.ticks.values()),
                retries=driver.retries,
                late_ms=(statistics.median(late), max(late)) if late else None,
                worker_kills=self._kills,
                store_kills=server.kills,
                down_s=server.down_s,
                end_used_mb=end_used_mb,
                samples=tuple(self.samples),
            )
        finally:
            ledger.close()
            server.close()

    # -- who runs ------------------------------------------------------------------------------------------------

    @contextmanager
    def _at_work(self, server: Server) -> Iterator[tuple[Supervisor, Supervisor]]:
        environment = {
            "SAGABUS_STORE": server.url,
            "SAGABUS_TRANSPORT": server.url,
            "SOAK_NAMESPACE": NAMESPACE,
            "SOAK_WINDOW_S": str(self.plan.window_s),
            "SOAK_LOG": str(self._log),
        }
        options = ["--log-level", "ERROR"]
        app = "benchmarks.soak.app:bus"
        with (
            Supervisor(app, 1, options=options, env=environment, name="steady") as steady,
            Supervisor(app, self.plan.victims, options=options, env=environment, name="victim") as victims,
        ):
            yield steady, victims

    @contextmanager
    def _listening(self, bus: Bus, endpoint: str) -> Iterator[None]:
        bus.transport.queues()
        worker = bus.worker([endpoint], name="judge")
        with self._thread(worker.run, "judge"):
            try:
                yield
            finally:
                worker.stop()

    @contextmanager
    def _driving(self, driver: Driver) -> Iterator[None]:
        stop = threading.Event()
        with self._thread(lambda: driver.run(stop), "driver"):
            try:
                yield
            finally:
                stop.set()

    @contextmanager
    def _thread(self, job: Callable[[], None], name: str) -> Iterator[None]:
        def guarded() -> None:
            try:
                job()
            except BaseException as error:
                self._failed.append(error)
                self.stop.set()

        thread = threading.Thread(target=guarded, name=name)
        thread.start()
        try:
            yield
        finally:
            thread.join()

    def _ready(self, bus: Bus, steady: Supervisor) -> int:
        deadline = time.monotonic() + _START_S
        while not set(ENDPOINTS) <= {queue.endpoint for queue in bus.transport.queues()}:
            steady.check()
            if time.monotonic() > deadline or self._failed or steady.hopeless:
                raise SagabusError("the workers did not start; run `sagabus worker benchmarks.soak.app:bus` to see why")
            time.sleep(_TURN_S)
        return steady.pids[0]

    # -- the load, and what happens to it ------------------------------------------------------------------------

    def _keep_going(self, server: Server, ledger: Ledger, steady: Supervisor, victims: Supervisor) -> None:
        plan = self.plan
        end_at = self._began_at + plan.run_s
        kill_at = self._began_at + (plan.kill_worker_every_s or plan.run_s + 1)
        store_at = self._began_at + (plan.kill_store_every_s or plan.run_s + 1)
        sample_at = self._began_at + plan.sample_every_s
        while (now := time.monotonic()) < end_at and not self.stop.wait(_TURN_S):
            self._check(steady, victims)
            if now >= kill_at:
                pid = victims.kill(self._kills)
                self._kills += pid is not None
                kill_at = max(kill_at + plan.kill_worker_every_s, now)
            if now >= store_at:
                took_s = server.kill()
                self.say(f"store killed, away for {took_s:.1f} s")
                store_at += plan.kill_store_every_s
            if now >= sample_at:
                self._sample(server, ledger, steady, victims)
                sample_at += plan.sample_every_s

    def _check(self, *supervisors: Supervisor) -> None:
        now = time.monotonic()
        for supervisor in supervisors:
            supervisor.check()
            if supervisor.hopeless:
                raise SagabusError(
                    f"a worker cannot be started; {self._log} says why, and ends so: {self._last_words()}"
                )
            for pid in supervisor.pids:
                self._spawned.setdefault(pid, now)
        if self._failed:
            raise SagabusError(f"the judge or the driver failed: {self._failed[0]!r}") from self._failed[0]

    def _last_words(self) -> str:
        return self._log.read_text("utf-8", "replace")[-500:] if self._log.exists() else "nothing"

    def _sample(self, server: Server, ledger: Ledger, steady: Supervisor, victims: Supervisor) -> None:
        try:
            info = server.info()
        except redis.RedisError as error:
            self.say(f"no sample: {error}")
            return
        now = time.monotonic()
        ledger.compact(now)
        totals = ledger.totals()
        before_at, before = self._closed[-1] if self._closed else (self._began_at, 0)
        self._closed.append((now, totals.closed))
        while len(self._closed) > 1 and self._closed[1][0] <= now - self.plan.window_s:
            self._closed.popleft()
        sizes = [(now - self._spawned.get(pid, now), rss) for pid in victims.pids if (rss := rss_mb(pid))]
        age_s, oldest_mb = max(sizes, default=(0.0, 0.0))
        sample = Sample(
            at_s=round(now - self._began_at, 1),
            cases_per_s=round((totals.closed - before) / (now - before_at), 1),
            kept=totals.closed - (self._closed[0][1] if len(self._closed) > 1 else 0),
            steady_mb=round(sum(rss_mb(pid) or 0.0 for pid in steady.pids), 2),
            victim_mb=round(oldest_mb, 2),
            victim_age_s=round(age_s, 1),
            judge_mb=round(rss_mb(os.getpid()) or 0.0, 2),
            store_used_mb=round(info["used_memory"] / 1e6, 2),
            store_rss_mb=round(rss_mb(server.pid) or 0.0, 2),
            dbsize=info["dbsize"],
            aof_mb=round(info.get("aof_current_size", 0) / 1e6, 1),
            open_cases=totals.open,
            oldest_s=round(ledger.oldest_s(now), 1),
            worker_kills=self._kills,
            store_kills=server.kills,
        )
        self.samples.append(sample)
        self.say(
            f"{sample.at_s:7.0f} s  {sample.cases_per_s:6.0f} cases/s  steady {sample.steady_mb:6.1f} MB  "
            f"store {sample.store_used_mb:6.1f} MB, {sample.dbsize:,} keys  open {sample.open_cases:,}, "
            f"oldest {sample.oldest_s:.0f} s  twice {totals.twice}  contradictory {totals.contradictory}"
        )

    # -- the end -------------------------------------------------------------------------------------------------

    def _drain(self, bus: Bus, ledger: Ledger) -> None:
        """Wait until every case has its outcome and all queues are empty, or nothing has moved for a minute."""
        seen: tuple[int, int] = (-1, -1)
        moved_at = time.monotonic()
        while time.monotonic() - moved_at < _STALL_S:
            depth = sum(queue.depth for queue in bus.transport.queues())
            now = (ledger.totals().open, depth)
            if now == (0, 0):
                return
            if now != seen:
                seen, moved_at = now, time.monotonic()
            time.sleep(_TURN_S)

    def _until_forgotten(self, steady: Supervisor, victims: Supervisor) -> None:
        # Workers go on: a timer of a saga that has ended must not come to anything now.
        until = time.monotonic() + self.plan.window_s + _EXPIRY_SLACK_S
        while time.monotonic() < until:
            self._check(steady, victims)
            time.sleep(_TURN_S)

    def _left_over(self, bus: Bus, server: Server, driver: Driver) -> Iterator[str]:
        for queue in bus.transport.queues():
            if queue.depth:
                yield f"{queue.depth} messages in the queue of {queue.endpoint}"
        for letter in bus.store.dead(10):
            yield f"dead letter {letter.endpoint}/{letter.id}: {letter.reason}, {letter.error}"
        for item in bus.store.scheduled(10):
            yield f"timer {item.id} of {item.endpoint}"
        keys = [SagaKey(definition_of(Ticks).name, key) for key in sorted(driver.ticks)]
        codec = definition_of(Ticks).codec
        for snapshot in bus.store.load([Want(key) for key in keys]):
            counted = [codec.decode(version.state).count for version in snapshot.versions]
            if counted != [driver.ticks[snapshot.key.id]]:
                yield f"{snapshot.key} counted {counted}, sent were {driver.ticks[snapshot.key.id]}"
        expected = ("}:r", "}:i", "}:h")
        for name in server.key_names():
            # One each, however long it runs: the queues, the lease under which workers take turns to tidy up, the cards
            # of workers for a minute, and the index of what is there.
            if name.startswith(
                (
                    f"{NAMESPACE}:topology",
                    f"{NAMESPACE}:q:",
                    f"{NAMESPACE}:leases:{{{NAMESPACE}:sagabus%2F",
                    f"{NAMESPACE}:{{{NAMESPACE}:presence}}",
                    f"{NAMESPACE}:{{{NAMESPACE}:index}}:names",
                    f"{NAMESPACE}:{{{NAMESPACE}:index:{definition_of(Ticks).name}}}:age",
                )
            ):
                continue
            if not (f":{definition_of(Ticks).name}/" in name and name.endswith(expected)):
                yield f"key {name}"

    def _complaints(self) -> Iterator[str]:
        """Yield what workers found wrong, beside that a server did not answer."""
        if not self._log.exists():
            return
        with self._log.open(encoding="utf-8", errors="replace") as log:
            for line in log:
                if "[error" in line and not any(event in line for event in _AWAY):
                    yield f"a worker said: {line.strip()[:300]}"

    def _restarted(self, steady: Supervisor, pid: int) -> Iterator[str]:
        if steady.pids != [pid]:
            yield f"the worker that nobody kills ended {steady.restarts} times by itself"
