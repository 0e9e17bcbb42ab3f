"""Two network namespaces with a cable between them: servers in one, workers in the other, and the cable pulled.

Nothing of it touches the network of the machine: both ends of the cable are inside. Who is outside reaches a server
in there by its unix socket.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from attrs import define, field, frozen

from sagabus.store.keeper import end_with_parent
from tests.chaos.lab.excuse import ExcusedError
from tests.servers import until

SERVER_ADDRESS: Final = "10.213.7.1"
WORKER_ADDRESS: Final = "10.213.7.2"
_CABLE: Final = ("chaos-s", "chaos-w")
_TIMEOUT_S: Final = 30
_CLOSING: Final = ("04", "09", "0B")
"""States of connections that nobody has any more and that have something to send: FIN_WAIT1, LAST_ACK, CLOSING."""


@frozen
class Namespace:
    """A network namespace that lives as long as *holder* does.

    Attributes:
        holder: the process that keeps it.
    """

    holder: subprocess.Popen[bytes]

    @property
    def prefix(self) -> tuple[str, ...]:
        """Return what to put before a command line so that it runs in there."""
        return ("nsenter", "--target", str(self.holder.pid), "--net", "--")


@define
class Network:
    """A cable between two namespaces.

    Attributes:
        servers: where `SERVER_ADDRESS` is.
        workers: where `WORKER_ADDRESS` is.
        pulls: how often the cable was pulled.
    """

    servers: Namespace
    workers: Namespace
    pulls: int = field(default=0, init=False)

    def pull(self) -> None:
        """Drop every packet: the far end of the cable is dead, and nobody is told."""
        # The servers' end: the workers' own stays up, so that what they send is lost in silence, as in a network.
        _do(*self.servers.prefix, "ip", "link", "set", _CABLE[0], "down")
        self.pulls += 1

    def plug(self) -> None:
        """Put the cable back."""
        _do(*self.servers.prefix, "ip", "link", "set", _CABLE[0], "up")


@contextmanager
def network() -> Iterator[Network]:
    """Make both namespaces and the cable, and take them away afterwards. End what runs in there before.

    Raises:
        ExcusedError: this machine does not let us.
    """
    holders: list[subprocess.Popen[bytes]] = []
    try:
        ends = [_namespace(holders) for _ in _CABLE]
        # Made inside the servers' namespace, so that no name of ours is ever seen outside.
        _do(
            *ends[0].prefix, "ip", "link", "add", _CABLE[0], "type", "veth", "peer", "name", _CABLE[1], "netns",
            str(ends[1].holder.pid),
        )  # fmt: skip
        for end, name, address in zip(ends, _CABLE, (SERVER_ADDRESS, WORKER_ADDRESS), strict=True):
            _do(*end.prefix, "ip", "address", "add", f"{address}/24", "dev", name)
            _do(*end.prefix, "ip", "link", "set", name, "up")
            _do(*end.prefix, "ip", "link", "set", "lo", "up")
        # Known for good: who cannot ask for it would be told that there is no route, and not be left in silence.
        shown = _do(*ends[0].prefix, "ip", "-brief", "link", "show", _CABLE[0])
        where = ("lladdr", shown.split()[2], "dev", _CABLE[1], "nud", "permanent")
        _do(*ends[1].prefix, "ip", "neighbour", "replace", SERVER_ADDRESS, *where)
        yield Network(*ends)
    finally:
        for holder in holders:
            holder.kill()
            holder.wait()


def _namespace(holders: list[subprocess.Popen[bytes]]) -> Namespace:
    try:
        # It says a word once it is inside: then there is a namespace to enter.
        holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo in; exec sleep infinity"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=end_with_parent(),
        )
    except FileNotFoundError as error:
        raise ExcusedError("there is no unshare") from error
    holders.append(holder)
    assert holder.stdout is not None
    assert holder.stderr is not None
    if holder.stdout.readline() != b"in\n":
        holder.wait()
        raise ExcusedError(f"no network namespace may be made here: {holder.stderr.read().decode().strip()}")
    return Namespace(holder)


def _do(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except FileNotFoundError as error:
        raise ExcusedError(f"there is no {command[0]}") from error
    if done.returncode != 0:
        raise ExcusedError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def await_cable(net: Network) -> None:
    """Return when packets pass from end to end."""
    command: Sequence[str] = (*net.workers.prefix, "ip", "-brief", "link", "show", _CABLE[1])

    def up() -> bool:
        return " UP " in subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True).stdout

    until(up, "a cable that is plugged in")


def await_delivery(net: Network) -> None:
    """Return when what workers had sent on connections that they have given up since has arrived, or never will.

    Their kernel goes on sending it, at growing intervals: a copy of a message may come when all seems quiet.
    """
    table = Path(f"/proc/{net.workers.holder.pid}/net/tcp")

    def delivered() -> bool:
        return not any(line.split()[3] in _CLOSING for line in table.read_text().splitlines()[1:])

    until(delivered, "the delivery of what was sent before")
