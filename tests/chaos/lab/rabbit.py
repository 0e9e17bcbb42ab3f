"""A private RabbitMQ node, with a name server of its own: stopped, killed, started again on its data."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from attrs import define, field

from sagabus.store.keeper import end_with_parent
from tests.chaos.lab.server import HOST
from tests.servers import free_ports, missing, until

_SCRIPTS: Final = "/usr/lib/rabbitmq/lib"
_GREETING: Final = b"AMQP\x00\x00\x09\x01"
_START_TIMEOUT_S: Final = 180.0
_END_TIMEOUT_S: Final = 60.0
# A queue that has no leader makes the whole of it fail.
_COUNT: Final = """
[begin
    [{messages, Count}] = case amqqueue:get_type(Queue) of
        rabbit_quorum_queue ->
            {ok, {_, Total}, _} = ra:leader_query(amqqueue:get_pid(Queue), fun rabbit_fifo:query_messages_total/1),
            [{messages, Total}];
        _ ->
            rabbit_amqqueue:info(Queue, [messages])
    end,
    io:format("~s\\t~b~n", [element(4, amqqueue:get_name(Queue)), Count])
 end || Queue <- rabbit_amqqueue:list(<<"%s">>)].
"""


def find_rabbitmq() -> Path:
    """Return the folder of RabbitMQ's own scripts; Debian's wrappers change to a user who could not write to ours."""
    found = sorted(Path(_SCRIPTS).glob("rabbitmq_server-*/sbin"))
    if found:
        return found[-1]
    on_path = shutil.which("rabbitmq-server")
    if on_path is None:
        missing("there is no rabbitmq-server on PATH")
    return Path(os.path.realpath(on_path)).parent


def messages_in(vhost: str, control: str, environment: Mapping[str, str]) -> int:
    """Return how many messages are in all queues of *vhost*, those that consumers hold included.

    -1 while nobody can tell. The leaders of quorum queues are asked themselves: what `list_queues` says of these is up
    to five seconds old, and for as long after a start of the node it is 0.

    Args:
        control: rabbitmqctl.
        environment: of the command.
    """
    done = subprocess.run(
        [control, "-q", "eval", _COUNT % vhost],
        env=environment,
        capture_output=True,
        text=True,
        timeout=_START_TIMEOUT_S,
        check=False,
    )
    counts = [line.split("\t") for line in done.stdout.splitlines() if "\t" in line]
    if done.returncode != 0 or not counts:
        return -1
    return sum(int(count) for name, count in counts if not name.endswith(".topology"))


@define
class Rabbit:
    """A node on free loopback ports, its data below *folder*.

    Attributes:
        folder: where everything lies.
        port: for AMQP; the same when it is started again.
        starts: how often the node was started.
    """

    folder: Path
    port: int = field(factory=lambda: free_ports(1)[0])
    starts: int = field(default=0, init=False)
    _ports: list[int] = field(factory=lambda: free_ports(2), init=False)
    _scripts: Path = field(factory=find_rabbitmq, init=False)
    _epmd: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _launcher: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        """Return its URL, for a bus."""
        return f"amqp://guest:guest@{HOST}:{self.port}//"

    @property
    def pid(self) -> int:
        """Return the process id of the node."""
        return int((self.folder / "node.pid").read_text())

    def start(self) -> Self:
        """Start the node, on its data where it has some, and return when it answers.

        Raises:
            RuntimeError: it ended instead; with the end of its output.
        """
        home = self.folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        for name in ("enabled_plugins", "rabbitmq.conf", "env.conf"):
            (self.folder / name).touch()
        (self.folder / "node.pid").unlink(missing_ok=True)
        environment = {**os.environ, **self._settings(home)}
        if self._epmd is None:
            self._epmd = self._popen(["epmd"], environment, "epmd.out")
        self._launcher = self._popen([str(self._scripts / "rabbitmq-server")], environment, "node.out")
        self.starts += 1
        until(lambda: not self._launched or self._answers(), f"an answer of RabbitMQ at {self.port}", _START_TIMEOUT_S)
        if not self._launched:
            raise RuntimeError(f"RabbitMQ did not start: {(self.folder / 'node.out').read_text()[-2000:]}")
        return self

    def messages(self) -> int:
        """Return how many messages are in all queues, those that consumers hold included; -1 while nobody can tell."""
        environment = {**os.environ, **self._settings(self.folder / "home")}
        return messages_in("/", str(self._scripts / "rabbitmqctl"), environment)

    def stop(self) -> None:
        """End the node in good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the node with SIGKILL."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self._leave()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()

    def _settings(self, home: Path) -> Mapping[str, str]:
        return {
            "HOME": str(home),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_NODENAME": f"sagabus-chaos-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._ports[0]),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "node.pid"),
            # The node distributes over loopback only, through a name server of its own.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(self._ports[1]),
        }

    def _popen(self, command: list[str], environment: Mapping[str, str], output: str) -> subprocess.Popen[bytes]:
        with (self.folder / output).open("ab") as out:
            return subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=end_with_parent(),
            )

    @property
    def _launched(self) -> bool:
        return self._launcher is not None and self._launcher.poll() is None

    def _answers(self) -> bool:
        if not (self.folder / "node.pid").exists():
            return False
        try:
            with socket.create_connection((HOST, self.port), timeout=5) as connection:
                connection.sendall(_GREETING)
                return connection.recv(1) == b"\x01"
        except OSError:
            return False

    def _end(self, number: int) -> None:
        if self._launcher is None:
            return
        pids = [self._launcher.pid]
        if (self.folder / "node.pid").exists() and self._launched:
            pids.insert(0, self.pid)
        for pid in dict.fromkeys(pids):
            _signal(pid, number)
            if number != signal.SIGKILL and pid == pids[0]:
                break  # the launcher ends with its node
        try:
            self._launcher.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            for pid in pids:
                _signal(pid, signal.SIGKILL)
            self._launcher.wait()
        until(lambda: not any(_is_alive(pid) for pid in pids[:-1]), "the end of RabbitMQ's node")


def _signal(pid: int, number: int) -> None:
    if _is_alive(pid):
        os.kill(pid, number)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
