"""A bus on the embedded store: no URL, nothing to start, and it comes back when it is killed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from sagabus import Bus
from sagabus.commit import Want
from sagabus.envelope import SagaKey
from sagabus.store import keeper
from tests import servers

KEY = SagaKey("Nothing", "1")


def test_bus_without_url_runs_a_server_in_the_folder_it_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Bus()` needs nothing: its server lives in `./.sagabus`, and store and transport are the same one."""
    monkeypatch.chdir(tmp_path)
    with Bus() as bus:
        assert bus.store.load([Want(KEY)])[0].life == 0
        assert bus.transport.server == bus.store.server
        assert (tmp_path / ".sagabus" / keeper.STATE).exists()


def test_bus_whose_embedded_server_was_killed_starts_it_again(tmp_path: Path) -> None:
    """A killed keeper takes its server along; the next load brings both back and goes on."""
    with Bus(store=f"embedded:{tmp_path / 'store'}") as bus:
        store = bus.store
        store.load([Want(KEY)])
        state = tmp_path / "store" / keeper.STATE
        killed = int(json.loads(state.read_text())["keeper_pid"])
        os.kill(killed, signal.SIGKILL)

        def revived() -> bool:
            """Every load is answered, whether it comes before the server has died, or after."""
            assert store.load([Want(KEY)])[0].life == 0
            return bool(json.loads(state.read_text())["keeper_pid"] != killed)

        servers.until(revived, "a new keeper")
