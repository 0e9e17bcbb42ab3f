"""One run: workers that import and are killed, files that are published many times at once, and what came of it."""

from __future__ import annotations

import random
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

from attrs import define, field, frozen

from examples.import_once.app import FilePublished, open_imports
from examples.import_once.service import Call, ImportService
from examples.racing.crew import urls_of
from examples.racing.tidy import forget_queues
from sagabus import Bus, SagabusError
from sagabus.supervisor import Supervisor
from sagas import Once, OnceRecord, OnceStatus

APP: Final = "examples.import_once.app:bus"
FILE_EVERY_S: Final = 0.04
"""How often a file comes; its notifications come all at once."""
DEATHS_OF_A_FILE: Final = 2
"""How many workers may be killed over one file."""
PATIENCE_S: Final = 60.0
_POLL_S: Final = 0.02
_QUIET_POLLS: Final = 3


class ImportsError(SagabusError):
    """The imports could not be made; the text names the next step."""


@frozen
class Plan:
    """What to run.

    Attributes:
        keys: how many files.
        notifications: how many for each.
        processes: how many workers.
        kill_every_s: kill a worker that is importing that often, with SIGKILL; 0 for never.
        store: URL; None for what the environment says.
        seed: of who is killed.
    """

    keys: int = 100
    notifications: int = 20
    processes: int = 4
    kill_every_s: float = 1.0
    store: str | None = None
    seed: int = 1

    def paths(self) -> list[str]:
        """Return the files."""
        return [f"inbox/{number:05}.csv" for number in range(self.keys)]


@frozen
class Audit:
    """What the service has seen.

    Attributes:
        imports: the files imported, one entry for each idempotency key.
        calls: all calls, in order.
        done: how many files are recorded as done.
    """

    imports: Sequence[str]
    calls: Sequence[Call]
    done: int

    @property
    def repeats(self) -> int:
        """Return how many calls were not the first for their idempotency key."""
        return len(self.calls) - len({call.idempotency_key for call in self.calls})

    def troubles(self, paths: Sequence[str], killed: Collection[int]) -> list[str]:
        """Return what is not as promised, one line each.

        Args:
            paths: the files that were published.
            killed: the processes that were killed; nobody else's calls may be repeated.
        """
        troubles = []
        if sorted(self.imports) != sorted(paths):
            troubles.append(f"{len(self.imports)} imports for {len(paths)} files")
        if self.done != len(paths):
            troubles.append(f"{self.done} of {len(paths)} files are recorded as done")
        by_path: dict[str, list[Call]] = defaultdict(list)
        for call in self.calls:
            by_path[call.path].append(call)
        for path, calls in by_path.items():
            if len({call.idempotency_key for call in calls}) > 1:
                troubles.append(f"{path} was asked for under several idempotency keys")
            if any(call.pid not in killed for call in calls[:-1]):
                troubles.append(f"{path} was asked for again, though nobody was killed over it")
        return troubles


@define
class Imports:
    """The process that publishes; the workers are its children.

    Attributes:
        folder: where the service's database is made.
        killed: process ids of the workers that were killed, each while it was importing.
        seconds: from the first notification to the last import.
    """

    plan: Plan
    folder: Path
    killed: list[int] = field(factory=list, init=False)
    seconds: float = field(default=0.0, init=False)
    bus: Bus = field(init=False)
    service: ImportService = field(init=False)
    supervisor: Supervisor = field(init=False)
    _action: Once[[FilePublished, str], None] = field(init=False)
    _next_kill_at: float = field(default=0.0, init=False)
    _random: random.Random = field(init=False)

    def __attrs_post_init__(self) -> None:
        urls = urls_of(self.plan.store, None)
        namespace = f"import-once-{uuid.uuid4().hex[:8]}"
        self.bus = Bus(*urls, namespace=namespace)
        self.service = ImportService.create(self.folder / "imports.sqlite3")
        self._action = open_imports(self.bus, self.service)
        self._random = random.Random(self.plan.seed)
        environment = {
            "SAGABUS_STORE": urls[0],
            "SAGABUS_TRANSPORT": urls[1],
            "IMPORT_ONCE_NAMESPACE": namespace,
            "IMPORT_ONCE_SERVICE": str(self.service.database),
        }
        self.supervisor = Supervisor(APP, self.plan.processes, options=["--log-level", "ERROR"], env=environment)

    def run(self, republish: Callable[[Audit], None]) -> Audit:
        """Publish every file, kill workers until all is quiet, then publish all of it again; return what came of it.

        Args:
            republish: called between the two with what has come of the first.

        Raises:
            ImportsError: the work does not end.
            SagabusError: a server cannot be used.
        """
        self.bus.transport.queues()  # declared before anybody publishes, and a wrong URL is reported here
        try:
            self.supervisor.start()
            started_at = time.monotonic()
            self._next_kill_at = started_at + self.plan.kill_every_s
            for path in self.plan.paths():
                self._publish(path)
                self._watch(FILE_EVERY_S)
            self._until_quiet()
            self.seconds = time.monotonic() - started_at
            republish(self.audit())
            for path in self.plan.paths():
                self._publish(path)
            self._until_quiet()
        finally:
            self.supervisor.stop()
        return self.audit()

    def audit(self) -> Audit:
        """Return what the service has seen so far, and what is recorded."""
        return Audit(self.service.imports(), self.service.calls(), sum(_is_done(record) for record in self._records()))

    def tidy(self) -> None:
        """Delete what the run has left on the server; for runs only: who forgets what is done does it again."""
        for path in self.plan.paths():
            found = self.bus.documents.load(self._action.document_key(path), OnceRecord)
            if found.etag is not None:
                self.bus.documents.delete(found.key, found.etag)
        forget_queues(self.bus)

    def _records(self) -> list[OnceRecord | None]:
        return [self._action.state(self.bus.documents, path) for path in self.plan.paths()]

    def _publish(self, path: str) -> None:
        for _ in range(self.plan.notifications):
            self.bus.publish(FilePublished(path))

    def _watch(self, for_s: float) -> None:
        """Keep the workers running, and kill one if it is time to."""
        until = time.monotonic() + for_s
        while True:
            self.supervisor.check()
            if self.supervisor.hopeless:
                raise ImportsError(f"the workers do not start; see what `python -m sagabus worker {APP}` says")
            self._kill_somebody()
            left_s = until - time.monotonic()
            if left_s <= 0:
                return
            time.sleep(min(_POLL_S, left_s))

    def _kill_somebody(self) -> None:
        """Kill one of the workers that are importing just now, if it is time to."""
        if not self.plan.kill_every_s or time.monotonic() < self._next_kill_at:
            return
        calls = self.service.calls()
        at_work = {call.pid for call in calls if not call.ended}
        # A message that kills its worker whenever it is handled would be given up, and rightly so.
        begun = Counter(call.path for call in calls)
        spared = {call.pid for call in calls if not call.ended and begun[call.path] > DEATHS_OF_A_FILE}
        victims = [index for index, pid in enumerate(self.supervisor.pids) if pid in at_work - spared]
        if victims:
            pid = self.supervisor.kill(self._random.choice(victims))
            self.killed += [pid] if pid is not None else []
            self._next_kill_at = time.monotonic() + self.plan.kill_every_s

    def _until_quiet(self) -> None:
        """Return when all queues have been empty for a moment."""
        deadline = time.monotonic() + PATIENCE_S
        quiet = 0
        while quiet < _QUIET_POLLS:
            if time.monotonic() > deadline:
                raise ImportsError(
                    f"notifications are left after {PATIENCE_S:g} s: {self.bus.transport.queues()}; "
                    f"see what `python -m sagabus worker {APP}` says"
                )
            self._watch(2 * _POLL_S)
            quiet = quiet + 1 if not any(queue.depth for queue in self.bus.transport.queues()) else 0


def _is_done(record: OnceRecord | None) -> bool:
    return record is not None and record.status is OnceStatus.DONE
