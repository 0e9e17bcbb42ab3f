"""Run it: `python -m examples.lock --help`."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain

import click
from attrs import frozen

from examples.lock.ledger import Ledger, audit
from sagabus import Bus, SagabusError

PATIENCE_S = 60.0


@frozen
class Plan:
    """What to run: a store, the name of ledger and lease, entries a writer, seconds a lease, with fences or without."""

    store: str
    run: str
    entries: int
    ttl_s: float
    fenced: bool

    @contextmanager
    def writer(self, name: str, *options: str) -> Iterator[subprocess.Popen[str]]:
        """Start a writer, and end it with the block if it has not ended by itself."""
        what = {"store": self.store, "run": self.run, "name": name, "entries": self.entries, "ttl": self.ttl_s}
        args = chain.from_iterable((f"--{option}", str(value)) for option, value in what.items())
        process = subprocess.Popen(
            [sys.executable, "-m", "examples.lock.writer", *args, *options, "--fence" if self.fenced else "--no-fence"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()  # one that has ended by itself does not mind
            process.communicate()


@click.command()
@click.option("--store", help="URL of the store; SAGABUS_STORE, else an embedded Valkey in ./.sagabus.")
@click.option("--writers", type=click.IntRange(2), default=4, show_default=True, help="How many processes.")
@click.option("--entries", type=click.IntRange(1), default=5, show_default=True, help="How many each writes.")
@click.option("--ttl", type=click.FloatRange(0.05), default=1.0, show_default=True, help="Of the lease, seconds.")
@click.option("--fence/--no-fence", "fenced", default=True, help="Whether writes show the lease.")
def main(store: str | None, writers: int, entries: int, ttl: float, fenced: bool) -> None:
    """Let processes contend for a lease, stop one that holds it beyond its end, and let it write then.

    Exits with 1 unless that write was refused and the ledger never saw a token lower than the one before.
    """
    names = [f"writer-{n}" for n in range(1, writers + 1)]
    try:
        with Bus(store=store) as bus:
            if bus.store_url.startswith("memory:"):
                raise click.ClickException("processes cannot share a store in memory; name another with --store")
            plan = Plan(bus.store_url, f"examples.lock/{uuid.uuid4().hex}", entries, ttl, fenced)
            refused = contend(bus, plan, names)
            ledger = bus.documents.load(plan.run, Ledger).value
    except SagabusError as error:
        raise click.ClickException(str(error)) from error
    found = audit(ledger, names, entries)
    print(
        f"entries={len(ledger.entries)} writers={writers} refused={refused} "
        f"stale={found.stale} missing={found.missing} twice={found.twice}"
    )
    sys.exit(0 if refused and found.clean else 1)


def contend(bus: Bus, plan: Plan, names: Sequence[str]) -> int:
    """Run the writers, the first one stopped while it holds the lease; return how many writes were refused."""

    def tokens() -> set[int]:
        found = bus.documents.load(plan.run, Ledger)
        return {entry.token for entry in found.value.entries} if found.exists else set()

    with plan.writer(names[0], "--pausing") as sleeper:
        assert sleeper.stdin is not None
        assert sleeper.stdout is not None
        token = sleeper.stdout.readline().removeprefix("holding ").strip()
        if not token:
            raise click.ClickException(f"{names[0]} ended before it held the lease; what it said is above")
        print(f"{names[0]} holds the lease by token {token}, has read the ledger, and is stopped")
        sleeper.send_signal(signal.SIGSTOP)
        with ExitStack() as stack:
            others = [stack.enter_context(plan.writer(name)) for name in names[1:]]
            until(lambda: any(later > int(token) for later in tokens()), "a write under a later lease")
            print(f"its lease ended after {plan.ttl_s:g} s; another took it, and has written by token {max(tokens())}")
            print(f"{names[0]} is continued, and knows of nothing")
            sleeper.stdin.write("go on\n")
            sleeper.stdin.flush()
            sleeper.send_signal(signal.SIGCONT)
            told = {name: finish(process) for name, process in zip(names, [sleeper, *others], strict=True)}
    refusals = [(name, *line.split()[1:]) for name, lines in told.items() for line in lines if "refused" in line]
    for name, refused, reason in refusals:
        print(f"{name} was refused: token {refused} is {reason}")
    return sum(refused == token for _, refused, _ in refusals)


def finish(process: subprocess.Popen[str]) -> list[str]:
    """Wait for a writer's end, and return what else it said."""
    said, _ = process.communicate(timeout=PATIENCE_S)
    if process.returncode != 0:
        raise click.ClickException(f"a writer ended with status {process.returncode}; what it said is above")
    return said.splitlines()


def until(condition: Callable[[], bool], what: str) -> None:
    """Look every few milliseconds until *condition* holds."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > give_up_at:
            raise click.ClickException(f"{what} did not come within {PATIENCE_S:g} s")
        time.sleep(0.02)


if __name__ == "__main__":
    main()
