"""`python -m tests.fuzz`: a campaign on all cores, each with a server of its own; writes what came out of it."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from tests.fuzz.campaign import run_alone


def main() -> None:
    """Run a campaign."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=main.__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000, help="how many envelopes, in all")
    parser.add_argument("--seed", type=int, default=1, help="of the first process; the others have those behind it")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--write", type=Path, help="a page whose table is to be written anew")
    given = parser.parse_args()
    share, rest = divmod(given.messages, given.processes)
    shares = [(given.seed + n, share + (n < rest)) for n in range(given.processes)]
    print(f"seeds {', '.join(str(seed) for seed, _ in shares)}: {given.messages:,} envelopes", flush=True)
    began = time.monotonic()
    with ProcessPoolExecutor(given.processes, multiprocessing.get_context("spawn")) as pool:
        rows = list(pool.map(run_alone, *zip(*shares, strict=True)))
    seconds = time.monotonic() - began
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(row)
    for name, count in counts.items():
        print(f"{count:>12,}  {name}")
    print(f"no crash, and the books balance; {seconds:.0f} s, {given.messages / seconds:,.0f} envelopes a second")
    if given.write:
        _write(given.write, counts, [seed for seed, _ in shares], seconds)


def _write(page: Path, counts: Counter[str], seeds: list[int], seconds: float) -> None:
    """Replace the table of *page* by that of this run."""
    when = datetime.now(UTC).date().isoformat()
    head = (
        f"Measured {when}, Python {platform.python_version()}, {len(seeds)} processes, seeds "
        f"{', '.join(map(str, seeds))}; {counts['injected']:,} envelopes in {seconds:.0f} s; no crash, "
        f"and the books balance."
    )
    lines = [head, "", "| what became of them | count |", "| --- | ---: |"]
    lines += [f"| {name} | {count:,} |" for name, count in counts.items()]
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition("<!-- results -->\n")
    _, end, after = rest.partition("<!-- end of results -->")
    if not (begin and end):
        raise SystemExit(
            f"{page} has no lines <!-- results --> and <!-- end of results -->; put them where they belong"
        )
    page.write_text(f"{before}{begin}{chr(10).join(lines)}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
