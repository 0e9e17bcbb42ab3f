"""The servers that `SAGABUS_STORE` and `SAGABUS_TRANSPORT` name.

All other tests run without these variables, on servers of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from sagabus.connect import scheme_of
from sagabus.link import Command, Link
from tests.integration.test_credit_check import APPLICANTS, RACE, check_ended_well, credit_check

NAMESPACE = re.compile(r"\bcredit-check-[0-9a-f]{8}\b")


def test_credit_check_on_the_servers_of_the_environment_decides_everybody_once(
    tmp_path: Path, named_servers: Mapping[str, str]
) -> None:
    """Real workers race on exactly the servers that the developer named; no key of the run is left there."""
    if not named_servers:
        pytest.skip("the environment names no server; without one, the credit check's own tests run it")
    if "memory" in map(scheme_of, named_servers.values()):
        pytest.skip("memory: is within one process")
    run = credit_check(tmp_path, *RACE, **named_servers)
    found = NAMESPACE.search(run.stdout + run.stderr)
    assert found, f"the run does not say its namespace\n{run.stdout}\n{run.stderr}"
    store = named_servers.get("SAGABUS_STORE", "embedded:")
    try:
        check_ended_well(run, APPLICANTS)
        assert (tmp_path / ".sagabus").is_dir() == (scheme_of(store) == "embedded")
    finally:
        if scheme_of(store) != "embedded":
            forget(store, found[0])


def forget(url: str, namespace: str) -> None:
    """Delete the sagas of a run, which would stay for an hour."""
    link = Link(url)
    names: list[str] = []
    for page in link.scan(f"{namespace}:*"):
        names += page
    assert names, "the sagas of the run are in the store that was named"
    link.round([Command(("UNLINK", name), name) for name in names])
    link.close()
