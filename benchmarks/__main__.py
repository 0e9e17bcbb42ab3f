"""Run it: `python -m benchmarks --help`. A private Valkey, two workers, no simulated latency, default batches."""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

import click
import redis
from rich.console import Console
from rich.table import Table

import sagabus
from benchmarks import measure
from benchmarks.listening import listening
from benchmarks.meter import Readings
from benchmarks.witness import Witness
from sagabus import Bus, SagabusError
from sagabus.observe.log import configure
from sagabus.supervisor import Supervisor

ROWS = (
    ("checks_per_s", "checks a second", "{:,.0f}"),
    ("messages_per_s", "messages a second", "{:,.0f}"),
    ("round_trips_per_message", "round trips a message, workers", "{:.3f}"),
    ("worker_cpu_us_per_message", "CPU a message in the workers, us", "{:.0f}"),
    ("store_cpu_us_per_message", "CPU a message in the store, us", "{:.0f}"),
    ("driver_cpu_us_per_message", "CPU a message in the driver, us", "{:.0f}"),
    ("forks_per_check", "forks a check", "{:.3f}"),
    ("merges_per_check", "merges a check", "{:.3f}"),
    ("latency_p50_ms", "latency of one check, p50, ms", "{:.1f}"),
    ("latency_p99_ms", "latency of one check, p99, ms", "{:.1f}"),
)


@click.command()
@click.option("--checks", type=click.IntRange(100), default=20_000, show_default=True, help="For throughput.")
@click.option("--one-by-one", type=click.IntRange(10), default=1000, show_default=True, help="Checks for latency.")
@click.option("--processes", type=click.IntRange(1), default=2, show_default=True, help="Worker processes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def main(checks: int, one_by_one: int, processes: int, as_json: bool) -> None:
    """Measure the credit check with bureaus that answer at once, on an embedded Valkey of its own.

    Every decision is checked while it is measured: where one is missing, wrong or there twice, there are no figures.
    """
    configure(level="ERROR")
    try:
        with tempfile.TemporaryDirectory(prefix="sagabus-") as folder:
            figures = run(Path(folder), checks, one_by_one, processes)
    except (SagabusError, TimeoutError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(figures))
    else:
        show(figures)


def run(folder: Path, checks: int, one_by_one: int, processes: int) -> dict[str, Any]:
    """Return all figures by name, and what they were measured on."""
    with Bus(f"embedded:{folder / 'store'}", namespace=f"benchmark-{uuid.uuid4().hex[:8]}") as bus:
        witness, readings = Witness(bus), Readings(bus)
        environment = {
            "SAGABUS_STORE": bus.store_url,
            "SAGABUS_TRANSPORT": bus.transport_url,
            "BENCHMARK_NAMESPACE": bus.namespace,
        }
        place = machine(bus)
        with listening(bus, [witness.endpoint.name, readings.endpoint.name]):
            options = ["--log-level", "ERROR"]
            with Supervisor("benchmarks.app:bus", processes, options=options, env=environment) as workers:
                readings.take(workers.pids)
                progress("latency, one check at a time")
                latency = measure.latency(bus, witness, one_by_one)
                progress("throughput")
                throughput = measure.throughput(bus, witness, readings, workers.pids, checks)
    return {
        **throughput.figures(),
        **latency.figures(),
        "checks": checks,
        "one_by_one": one_by_one,
        "processes": processes,
        "seconds": throughput.seconds,
        **place,
    }


def machine(bus: Bus) -> dict[str, Any]:
    """Return what the figures were measured on."""
    link: Any = bus.store.link  # type: ignore[attr-defined]
    info = dict(line.split(":", 1) for line in link.on_node("", "INFO", "server").decode().split("\r\n") if ":" in line)
    name = "Valkey" if "valkey_version" in info else "Redis"
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "processor": _processor(),
        "python": platform.python_version(),
        "server": f"{name} {info.get('valkey_version') or info['redis_version']}",
        "redis-py": redis.__version__,
        "sagabus": sagabus.__version__,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def show(figures: dict[str, Any]) -> None:
    """Print *figures* for people."""
    table = Table(title="a check is 8 messages or more", title_justify="left")
    table.add_column("what")
    table.add_column("figure", justify="right")
    for name, text, shape in ROWS:
        table.add_row(text, shape.format(figures[name]))
    Console().print(table)
    users = f"{figures['processes']} workers, the store and the driver"
    on = f"{figures['cores']} cores ({figures['processor']}) for {users}"
    versions = f"Python {figures['python']}, redis-py {figures['redis-py']}, sagabus {figures['sagabus']}"
    click.echo(f"{on}; {figures['server']} with AOF; {versions}")
    click.echo(
        f"{figures['checks']:,} checks in {figures['seconds']:.1f} s; every decision was looked at, and is right"
    )


def progress(what: str) -> None:
    """Say on a terminal what goes on."""
    if sys.stderr.isatty():
        click.echo(f"measuring {what} ...", err=True)


if __name__ == "__main__":
    main()
