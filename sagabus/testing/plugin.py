"""The pytest plugin: fixtures for sagas, options and a summary for explorations.

Every pytest run in an environment that has sagabus loads this module, so it imports nothing of the kernel: each fixture
does when a test asks for it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TYPE_CHECKING, Any, Final

import pytest

from sagabus.testing.session import Defaults, Progress, Session, opened, unseen

if TYPE_CHECKING:
    from sagabus.bus import Bus
    from sagabus.saga import Saga
    from sagabus.testing.harness.saga_harness import SagaHarness

_SESSION: Final = pytest.StashKey[Session]()
_HARNESSES: Final = pytest.StashKey[list["SagaHarness[Any]"]]()
_OUTPUT: Final = "sagabus"


# -- fixtures ------------------------------------------------------------------------------------------------------


@pytest.fixture
def saga_harness(request: pytest.FixtureRequest) -> Callable[..., SagaHarness[Any]]:
    """Make harnesses for unit tests of one saga class: `saga_harness(CreditCheck)`. See sagabus.testing.SagaHarness.

    Where the test fails, its report shows the version graph of every saga.
    """
    from sagabus.testing.harness.saga_harness import SagaHarness

    made: list[SagaHarness[Any]] = request.node.stash.setdefault(_HARNESSES, [])

    def make(saga: type[Saga[Any]], **options: Any) -> SagaHarness[Any]:
        made.append(SagaHarness(saga, **options))
        return made[-1]

    return make


@pytest.fixture(scope="session")
def sagabus_server() -> Iterator[str]:
    """Yield the URL of a private embedded Valkey that lives as long as the test session."""
    from sagabus.testing.server import private_server

    with private_server() as url:
        yield url


@pytest.fixture
def sagabus_bus(sagabus_server: str) -> Iterator[Bus]:
    """Yield a real bus with nothing on it, on a private embedded Valkey; what it stored is deleted after the test.

    Add endpoints, send, and run it with `sagabus_bus.worker().run_until_idle()`.
    """
    from sagabus.testing.server import fresh_bus

    with fresh_bus(sagabus_server) as bus:
        yield bus


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the version graphs of the test's harnesses to the report of its failure."""
    report = yield
    if report.when == "call" and report.failed:
        for harness in item.stash.get(_HARNESSES, []):
            for saga in map(harness.saga, harness.keys):
                report.sections.append((f"sagabus {saga!r}", saga.graph()))
    return report


# -- options and summary -------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options for explorations."""
    group = parser.getgroup("sagabus", "sagabus: explorations of sagas")
    group.addoption(
        "--saga-seed", type=int, metavar="N", help="Seed of random explorations that name none of their own."
    )
    group.addoption(
        "--saga-states",
        type=_from_one,
        metavar="N",
        help="The most states of an exploration that says nothing of its own; beyond, it goes on at random.",
    )


def _from_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def pytest_configure(config: pytest.Config) -> None:
    """Open the session that explorations find, until pytest ends."""
    options = Defaults(config.getoption("--saga-seed"), config.getoption("--saga-states"))
    stack = ExitStack()
    config.stash[_SESSION] = stack.enter_context(opened(Session(options, lambda: _watch(config))))
    config.add_cleanup(stack.close)


def _watch(config: pytest.Config) -> AbstractContextManager[Progress]:
    """Return what shows the progress of an exploration: a bar, where this process has the terminal."""
    if not config.pluginmanager.hasplugin("terminalreporter") or hasattr(config, "workerinput"):
        return nullcontext(unseen)
    from sagabus.testing.bar import watched

    capture = config.pluginmanager.getplugin("capturemanager")
    return watched(capture.global_and_fixture_disabled if capture else nullcontext)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say which options were given, so that a run can be repeated."""
    given = config.stash[_SESSION].defaults
    said = [f"seed {given.seed}"] if given.seed is not None else []
    said += [f"at most {given.max_states:,} states"] if given.max_states is not None else []
    return f"sagabus: {', '.join(said)}" if said else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how much was explored, if anything was."""
    tally = config.stash[_SESSION].tally
    if tally.explorations:
        terminalreporter.write_line(f"sagabus: {tally}")


# -- pytest-xdist: the workers explore, the controller reports -------------------------------------------------------


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Give the tally of a worker to its controller."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_OUTPUT] = session.config.stash[_SESSION].tally.parts()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the tally of a worker that is done; one that crashed has none."""
    parts = getattr(node, "workeroutput", {}).get(_OUTPUT)
    if parts is not None:
        node.config.stash[_SESSION].tally.add_parts(*parts)
