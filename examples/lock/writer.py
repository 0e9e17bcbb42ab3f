"""One process that appends to the ledger: `python -m examples.lock.writer`; `python -m examples.lock` starts four."""

from __future__ import annotations

import sys

import click
from attrs import evolve, frozen

from examples.lock.ledger import Entry, Ledger
from sagabus import Bus, Lease
from sagabus.errors import FenceError, LeaseLostError
from sagabus.leases.grant import Fence

WAIT_S = 60.0


@frozen
class Proof:
    """That a lease is held, taken once: as of a write that was on its way already when its process was stopped."""

    taken: Fence

    def fence(self) -> Fence:
        return self.taken


def append(bus: Bus, run: str, lease: Lease, entry: Entry, *, pausing: bool, fenced: bool) -> None:
    """Read the ledger, append to it, and write it over what is there: fine for whoever really is alone."""
    proof = Proof(lease.fence())
    found = bus.documents.load(run, Ledger)
    if pausing:
        tell("holding", proof.taken.token)
        sys.stdin.readline()
    written = evolve(entry, token=proof.taken.token)
    longer = Ledger((*(found.value.entries if found.exists else ()), written))
    bus.documents.overwrite(run, longer, expires_after=3600, fence=proof if fenced else None)


def write(bus: Bus, run: str, entry: Entry, *, ttl_s: float, pausing: bool, fenced: bool) -> bool:
    """Write one entry; return whether it is in the ledger, which no lease that has ended lets it into."""
    written = False
    try:
        with bus.lease(run, ttl_s=ttl_s, wait_s=WAIT_S) as lease:
            append(bus, run, lease, entry, pausing=pausing, fenced=fenced)
            written = True
    except FenceError as error:
        tell("refused", error.token, error.reason)
    except LeaseLostError as error:
        tell("late", error.token)
    return written


def tell(*words: object) -> None:
    """Say something to whoever started this process."""
    print(*words, flush=True)


@click.command()
@click.option("--store", required=True, help="URL of the store.")
@click.option("--run", required=True, help="What ledger and lease are called.")
@click.option("--name", required=True, help="What this writer is called.")
@click.option("--entries", type=click.IntRange(1), required=True, help="How many to write.")
@click.option("--ttl", type=click.FloatRange(0.001), required=True, help="Of the lease, seconds.")
@click.option("--pausing", is_flag=True, help="Say when the first lease is held, and wait for a line.")
@click.option("--fence/--no-fence", "fenced", default=True, help="Whether writes show the lease.")
def main(store: str, run: str, name: str, entries: int, ttl: float, pausing: bool, fenced: bool) -> None:
    """Write entries to the ledger, each under a lease of its own; what is refused is written again."""
    with Bus(store=store, transport="memory:") as bus:
        for number in range(1, entries + 1):
            while not write(bus, run, Entry(name, number, 0), ttl_s=ttl, pausing=pausing, fenced=fenced):
                pausing = False
            pausing = False


if __name__ == "__main__":
    main()
