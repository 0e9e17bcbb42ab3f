"""The pytest plugin, as its users meet it: each test runs pytest on a file of theirs."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from sagabus.store import keeper
from sagabus.store.embedded import EmbeddedServer, EmbeddedServerError
from sagabus.testing import server
from tests import servers

SAGA = """
    from attrs import define, field
    from sagabus import Context, Saga, handles, message, starts

    @message("plugin.check")
    class CheckCredit:
        customer: str

    @message("plugin.request")
    class RequestScore:
        customer: str

    @message("plugin.score")
    class ScoreReported:
        bureau: str
        score: int

    @message("plugin.decided")
    class CreditDecided:
        customer: str
        accepted: bool

    @define
    class CreditState:
        scores: dict[str, int] = field(factory=dict)

    def all_scores(siblings):
        return CreditState({bureau: score for sibling in siblings for bureau, score in sibling.scores.items()})

    class CreditCheck(Saga[CreditState], key="customer", merger=all_scores):
        @starts
        def requested(self, m: CheckCredit) -> None:
            self.send(RequestScore(m.customer), to="equifax")
            self.send(RequestScore(m.customer), to="experian")

        @handles
        def scored(self, m: ScoreReported) -> None:
            self.state.scores[m.bureau] = m.score

        def decide(self) -> None:
            if len(self.state.scores) == 2:
                self.publish(CreditDecided(self.id, sum(self.state.scores.values()) > 1400))
                self.complete()
"""

NEWCOMER = """
    from credit import CheckCredit, CreditCheck, CreditDecided, ScoreReported

    def test_two_scores_at_once_are_one_decision(saga_harness):
        check = saga_harness(CreditCheck)
        check.give(CheckCredit("42"))
        check.together(ScoreReported("equifax", 710), ScoreReported("experian", 705))
        assert check.completed
        assert check.decisions == [CreditDecided("42", accepted=True)]
"""

EXPLORING = """
    from types import SimpleNamespace
    from sagabus.testing import session

    def test_explores():
        given = session.defaults()
        print("the defaults are", *given)
        session.note(SimpleNamespace(states=6368, schedules=152000, mode="random", seed=given.seed))
        with session.progress() as progress:
            progress(1, 2)
"""


def run(pytester: pytest.Pytester, code: str, *options: str) -> pytest.RunResult:
    """Run pytest in a process of its own on *code*, beside the module `credit`."""
    pytester.makepyfile(credit=SAGA)
    pytester.makepyfile(code)
    return pytester.runpytest_subprocess(*options, timeout=100)


# -- fixtures ------------------------------------------------------------------------------------------------------


def test_newcomers_test_that_forks_a_saga_has_ten_lines_or_fewer(pytester: pytest.Pytester) -> None:
    """A fork, a merge and a decision, imports included."""
    assert len(NEWCOMER.strip().splitlines()) <= 10
    run(pytester, NEWCOMER).assert_outcomes(passed=1)


def test_test_that_fails_shows_the_graph_of_its_sagas(pytester: pytest.Pytester) -> None:
    """The report of a failure has the version graph of each saga that the test's harnesses ran."""
    result = run(pytester, NEWCOMER.replace("accepted=True", "accepted=False"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*- sagabus <CreditCheck/42: completed, 1 version> -*", "├─╮", "● │*plugin.score*worker 1*stored"]
    )


def test_test_whose_handler_raises_shows_the_handler_and_not_the_harness(pytester: pytest.Pytester) -> None:
    """What the reader sees is the line of the test, and the line of the handler."""
    code = """
        from credit import CheckCredit, CreditCheck

        class Broken(CreditCheck, key="customer"):
            def decide(self):
                raise LookupError("the handler's own")

        def test_broken(saga_harness):
            saga_harness(Broken).give(CheckCredit("42"))
    """
    result = run(pytester, code)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([">*saga_harness(Broken).give(CheckCredit(*", ">*raise LookupError*"])
    result.stdout.no_fnmatch_line("*sagabus/testing/*")


BUS = """
    import json, pathlib
    import pytest, redis
    from credit import *
    from sagabus.store import keeper

    def bureau(bus, name, score):
        endpoint = bus.endpoint(name)

        @endpoint.consumer
        def asked(m: RequestScore, context: Context) -> None:
            context.reply(ScoreReported(name, score))

    @pytest.mark.parametrize("run", [1, 2])
    def test_check(sagabus_bus, sagabus_server, run):
        with redis.Redis.from_url(sagabus_server) as client:
            assert client.dbsize() == 0
        bus, decided = sagabus_bus, []
        assert bus.endpoints == {} and list(bus.store.sagas()) == []
        bus.endpoint("credit", CreditCheck)
        bureau(bus, "equifax", 710)
        bureau(bus, "experian", 705)
        ledger = bus.endpoint("ledger")

        @ledger.consumer
        def entered(m: CreditDecided) -> None:
            decided.append(m)

        bus.send(CheckCredit("42"), to="credit", id="the same in both runs")
        bus.worker().run_until_idle()
        assert decided == [CreditDecided("42", accepted=True)]
        (row,) = bus.store.sagas()
        assert row.lifecycle.value == "completed"
        (folder,) = pathlib.Path(pathlib.os.environ["TMPDIR"]).glob("sagabus-test-*")
        pathlib.Path(f"{run}.json").write_text((folder / keeper.STATE).read_text())

    def test_nothing_is_left():
        pass
"""


def test_bus_runs_a_saga_on_a_real_server_that_is_gone_afterwards(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A server a session, a bus a test: each finds it empty, and the session leaves neither process nor file."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setenv("SAGABUS_STORE", "redis://nobody.invalid")
    monkeypatch.setenv("SAGABUS_TRANSPORT", "amqp://nobody.invalid")
    run(pytester, BUS, "-p", "no:cacheprovider").assert_outcomes(passed=3)
    first, second = (json.loads((pytester.path / f"{n}.json").read_text()) for n in (1, 2))
    assert first == second
    # Its server has ended before pytest does; the keeper only has to leave.
    assert gone(first["server_pid"])
    servers.until(lambda: gone(first["keeper_pid"]), "the end of the keeper")
    assert list(temporary.glob("sagabus-*")) == []
    assert not (pytester.path / ".sagabus").exists()


def gone(pid: int) -> bool:
    """Return whether no process has that id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_server_that_somebody_still_holds_is_an_error_and_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that a test left behind is not hidden; without its folder the server ends whoever holds it."""
    monkeypatch.setattr(server, "END_TIMEOUT_S", 0.0)
    made: list[Path] = []
    real = EmbeddedServer.open

    def noticed(folder: Path, **options: float) -> EmbeddedServer:
        made.append(folder)
        return real(folder, **options)

    monkeypatch.setattr(EmbeddedServer, "open", noticed)
    session = server.private_server()
    session.__enter__()
    (folder,) = made
    state = json.loads((folder / keeper.STATE).read_text())
    with real(folder):
        with pytest.raises(EmbeddedServerError, match="something that a test started still holds it"):
            session.__exit__(None, None, None)
        servers.until(lambda: gone(state["server_pid"]), "the end of the server")
    assert not folder.exists()


# -- options and summary -------------------------------------------------------------------------------------------


def test_options_are_shown_and_reach_explorations(pytester: pytest.Pytester) -> None:
    """The header says what was given, so that the run can be repeated; the summary says what was explored."""
    result = run(pytester, EXPLORING, "-s", "--saga-seed=7", "--saga-states=5000")
    result.stdout.fnmatch_lines(
        [
            "sagabus: seed 7, at most 5,000 states",
            "*the defaults are 7 5000*",
            "sagabus: 1 exploration, 6,368 states, 152,000 schedules, seed 7",
        ]
    )


def test_options_that_are_not_given_say_nothing(pytester: pytest.Pytester) -> None:
    """Nor does a run without explorations have a summary."""
    result = run(pytester, EXPLORING, "-s")
    result.stdout.fnmatch_lines(["*the defaults are None None*"])
    result.stdout.fnmatch_lines(["sagabus: 1 exploration, 6,368 states, 152,000 schedules"])
    silent = run(pytester, "def test_nothing(): pass")
    silent.stdout.no_fnmatch_line("sagabus:*")


@pytest.mark.parametrize("option", ["--saga-states=0", "--saga-states=x", "--saga-seed=x"])
def test_option_that_makes_no_sense_is_a_usage_error(pytester: pytest.Pytester, option: str) -> None:
    """pytest says which option it is, and ends."""
    result = pytester.runpytest_subprocess(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*argument {option.partition('=')[0]}: *"])


# -- the terminal --------------------------------------------------------------------------------------------------

LONG = """
    from sagabus.testing import session

    def test_long(monkeypatch):
        print("captured, and not shown")
        monkeypatch.setattr("sagabus.testing.bar.DELAY_S", 0.0)
        with session.progress() as progress:
            progress(10, 5)
"""


def test_long_exploration_on_a_terminal_draws_a_bar(pytester: pytest.Pytester) -> None:
    """Although pytest captures the output, whoever watches sees how far it is; the test's own output stays captured."""
    path = pytester.makepyfile(LONG)
    master, slave = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(path)]
    with subprocess.Popen(command, cwd=pytester.path, env=env, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        said = read_all(master)
    assert process.returncode == 0, said
    assert "10 of 15 states found so far" in said
    assert "captured, and not shown" not in said


def test_long_exploration_without_a_terminal_draws_nothing(pytester: pytest.Pytester) -> None:
    """A log of CI is not littered."""
    result = run(pytester, LONG)
    result.assert_outcomes(passed=1)
    assert "states found so far" not in result.stdout.str() + result.stderr.str()


def test_long_exploration_without_a_reporter_draws_nothing(pytester: pytest.Pytester) -> None:
    """Where pytest itself says nothing, neither does the bar."""
    result = run(pytester, LONG, "-p", "no:terminal")
    assert result.ret == 0
    assert "states found so far" not in result.stderr.str()


def read_all(master: int) -> str:
    """Return what was written to a terminal until all have closed it."""
    with os.fdopen(master, "rb", buffering=0) as stream:
        said = b""
        while True:
            try:
                part = stream.read(65536)
            except OSError:  # how Linux says that nobody is at the other end any more
                break
            if not part:
                break
            said += part
    return said.decode()


# -- what it costs -------------------------------------------------------------------------------------------------


def test_plugin_imports_nothing_until_a_test_asks_for_it(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project that only has sagabus installed pays for neither its kernel nor its servers, nor for Hypothesis."""
    pytester.makepyfile(
        """
        import sys

        def test_unrelated():
            foreign = {"attr", "hypothesis", "kombu", "msgspec", "redis", "rich", "structlog", "transports"}
            loaded = {name for name in sys.modules if name.partition(".")[0] in foreign | {"sagabus"}}
            assert loaded == {"sagabus", "sagabus.testing", "sagabus.testing.plugin", "sagabus.testing.session"}
        """
    )
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # others import what they like
    pytester.runpytest_subprocess("-p", "sagabus.testing.plugin", "--saga-seed=1").assert_outcomes(passed=1)
