"""The ledger: what a killed process leaves of a line spoils no other line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.ledger import Ledger, Reader


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger")
    yield ledger
    ledger.close()


def leave(path: Path, data: bytes) -> None:
    """Append what a process that was killed in its write leaves."""
    with path.open("ab") as file:
        file.write(data)


def test_lines_are_read_once_and_in_order(ledger: Ledger) -> None:
    """A reader goes on where it was."""
    reader = Reader(ledger.path)
    ledger.note("one", n=1)
    assert list(reader.new()) == [{"what": "one", "pid": os.getpid(), "n": 1}]
    ledger.note("two")
    assert [line["what"] for line in reader.new()] == ["two"]
    assert list(reader.new()) == []


@pytest.mark.parametrize("rest", [b'\n{"what": "eff', b'\n{"what": "effect", "value": {}', b"\n"])
def test_line_torn_by_a_kill_counts_as_not_written(ledger: Ledger, rest: bytes) -> None:
    """The next line, by another process, stands; the torn one waits until it is known to be torn."""
    reader = Reader(ledger.path)
    leave(ledger.path, rest)
    assert list(reader.new()) == []
    ledger.note("after")
    assert [line["what"] for line in reader.new()] == ["after"]
    assert reader.torn == (rest != b"\n")
    assert reader.offset == ledger.path.stat().st_size


def test_line_still_being_written_is_read_when_it_is_whole(ledger: Ledger) -> None:
    """Nothing is taken for torn that may yet be finished."""
    reader = Reader(ledger.path)
    leave(ledger.path, b'\n{"what": "eff')
    assert list(reader.new()) == []
    leave(ledger.path, b'ect"}\n')
    assert list(reader.new()) == [{"what": "effect"}]
    assert reader.torn == 0
