"""Row 17: the store would evict keys when it is full."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

from tests.chaos.arena import Arena
from tests.chaos.load.crew import APP, ROOT
from tests.chaos.load.driver import Load
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict

POLICIES: Final = ("allkeys-lru", "volatile-ttl", "allkeys-random")
_TIMEOUT_S: Final = 60


def run(arena: Arena) -> Verdict:
    """Set a policy that evicts, under load; a worker that is started then must refuse. Set it back, and all goes on."""
    server = arena.server()
    load = arena.load(server.url)
    load.send(at_least=arena.size)
    objections: list[str] = []
    refused = 0
    with server.client() as client:
        for nth in range(arena.faults):
            policy = POLICIES[nth % len(POLICIES)]
            load.await_done(load.finished() + 1)
            client.config_set("maxmemory-policy", policy)
            code, said = _start(load)
            client.config_set("maxmemory-policy", "noeviction")
            if code == 0 or policy not in said or "noeviction" not in said:
                objections.append(f"a worker started on {policy} ended with {code} and said {said[-300:]!r}")
            refused += code != 0
    verdict = load.finish()
    return verdict.with_faults(refused, "each said which policy, and the mend").objecting(*objections)


def _start(load: Load) -> tuple[int, str]:
    """Start one more worker; return its exit code, and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "sagabus", "worker", APP, "--name", "one-more"],
        cwd=ROOT,
        env={**os.environ, **load.settings.environment()},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    return done.returncode, done.stderr


ROW = Row(
    17,
    fault="wrong eviction policy",
    holds="refuses to start, and says why",
    run=run,
    errands=100,
    faults=3,
    quick_errands=10,
    quick_faults=1,
)
