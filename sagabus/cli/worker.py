"""`sagabus worker`: work through endpoints, in this process or in several that are kept running."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Final, Self

import click

if TYPE_CHECKING:
    from sagabus.health.probes import Probes
    from sagabus.supervisor import Supervisor
    from sagabus.worker import Worker

_ABORTED: Final = 1
_STOPPING: Final = (signal.SIGTERM, signal.SIGINT)


@click.command("worker", short_help="Work through the endpoints of an app.")
@click.argument("app")
@click.option("--processes", type=click.IntRange(1, 1024), default=1, show_default=True, help="How many.")
@click.option("--endpoints", metavar="A,B", help="Work on these endpoints only.")
@click.option("--name", help="Unique; a successor gets its work back.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"], False), default="info", show_default=True
)
@click.option("--log-format", type=click.Choice(["console", "json"]), default="console", show_default=True)
@click.option("--health-file", metavar="PATH", help="Say there how it is; `sagabus health` asks.")
@click.option("--health-http", metavar="HOST:PORT", help="Answer GET /livez and /readyz there.")
@click.option(
    "--alive-within",
    type=click.FloatRange(3.0),
    metavar="SECONDS",
    default=60.0,
    show_default=True,
    help="How long a lane may stand still.",
)
@click.option("--metrics-port", "metrics", metavar="PORT", help="Serve GET /metrics there, or at HOST:PORT.")
@click.option("--counts-file", metavar="PATH", hidden=True, help="Say there what it counts; for its supervisor.")
def command(
    app: str,
    processes: int,
    endpoints: str | None,
    name: str | None,
    log_level: str,
    log_format: str,
    health_file: str | None,
    health_http: str | None,
    alive_within: float,
    metrics: str | None,
    counts_file: str | None,
) -> None:
    """Work through the endpoints of APP until SIGTERM or Ctrl-C.

    The first signal drains: what is in hand is finished. The second aborts; what was in hand is delivered again. With
    several processes, one that ends or is stuck is replaced; a mistake in APP or in the options ends all.

    \b
      sagabus worker examples.credit_check.app:bus --processes 4
      sagabus worker shop.app:bus --endpoints mail --health-http 0.0.0.0:8080
    """
    from sagabus.health.probes import Probes
    from sagabus.observe.log import configure

    configure(level=log_level, as_json=log_format == "json", color=False if os.environ.get("NO_COLOR") else None)
    names = None if endpoints is None else [part.strip() for part in endpoints.split(",") if part.strip()]
    probes = Probes(health_file, health_http, alive_within)
    if processes > 1:
        from sagabus.supervisor import Supervisor

        options = ("--log-level", log_level, "--log-format", log_format)
        supervisor = Supervisor(
            app, processes, names, options=options, name=name, probes=probes, counting=metrics is not None
        )
        sys.exit(supervisor.run() if metrics is None else _supervised(supervisor, app, metrics))
    _work(app, names, name, probes, metrics, counts_file)


def _supervised(supervisor: Supervisor, app: str, metrics: str) -> int:
    """Run *supervisor* and serve what its workers count; what lies in the store is looked up by this process."""
    from sagabus.app import load_app
    from sagabus.observe.log import get_logger
    from sagabus.telemetry.metrics_server import metrics_served

    with load_app(app) as bus, metrics_served(metrics, bus, supervisor.work, get_logger()):
        return supervisor.run()


class _Signals:
    """SIGTERM and SIGINT for a worker in this process. Handlers only set events: they may interrupt anything.

    Once the work has ended, well or with an error, a signal too many changes neither the exit code nor what is printed
    while the interpreter ends.
    """

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._asked = False

    def __enter__(self) -> Self:
        for number in _STOPPING:
            signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in _STOPPING:
            signal.signal(number, signal.SIG_IGN)

    def pass_on_to(self, worker: Worker) -> None:
        """Stop *worker* on a signal, at once if one came before; until now there was nothing to finish."""
        self._worker = worker
        if self._asked:
            # An import may have swallowed the exit.
            worker.stop()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked:
            # Nothing that is in hand was acked, so nothing is lost.
            os._exit(_ABORTED)
        self._asked = True
        if self._worker is None:
            sys.exit(0)
        self._worker.stop()


def _work(
    app: str,
    endpoints: list[str] | None,
    name: str | None,
    probes: Probes,
    metrics: str | None,
    counts_file: str | None,
) -> None:
    import gc
    from contextlib import ExitStack
    from pathlib import Path

    from sagabus.cli.collecting import collect_rarely
    from sagabus.cli.exit_codes import HUNG
    from sagabus.errors import HandlerHungError
    from sagabus.observe.log import get_logger

    with _Signals() as signals:
        from sagabus.app import load_app
        from sagabus.supervisor import PARENT_FD, follow_parent

        # Taken out of the environment: it is no business of what handlers start.
        parent_fd = os.environ.pop(PARENT_FD, None)
        thresholds = gc.get_threshold()
        with load_app(app) as bus:
            worker = bus.worker(endpoints, name=name)
            signals.pass_on_to(worker)
            if parent_fd is not None:
                arguments = (int(parent_fd), worker.stop)
                threading.Thread(target=follow_parent, args=arguments, name="follow-parent", daemon=True).start()
            collect_rarely(thresholds)
            with ExitStack() as stack:
                stack.enter_context(probes.answered(lambda: worker.health(probes.alive_within_s), get_logger()))
                if counts_file is not None:
                    from sagabus.telemetry.counts_file import CountsFile

                    stack.enter_context(CountsFile(Path(counts_file)).written(worker.counts, get_logger()))
                if metrics is not None:
                    from sagabus.telemetry.metrics_server import metrics_served
                    from sagabus.telemetry.work import Work

                    def work() -> Work:
                        return Work(worker.counts(), {worker.name: worker.health(probes.alive_within_s).alive})

                    stack.enter_context(metrics_served(metrics, bus, work, get_logger()))
                try:
                    worker.run()
                except HandlerHungError as error:
                    # Nothing of the usual end is left to what may wait for the handler.
                    click.echo(f"sagabus: {error}", err=True)
                    sys.stderr.flush()
                    os._exit(HUNG)
