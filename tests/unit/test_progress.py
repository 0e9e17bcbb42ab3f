"""Progress bars of commands: on stderr, on a terminal only, and only where something takes its time."""

from __future__ import annotations

import io

import pytest

from sagabus.cli import progress
from sagabus.cli.progress import watched


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def seen(monkeypatch: pytest.MonkeyPatch, *, stderr: io.StringIO, stdout: io.StringIO, **options: bool) -> str:
    """Return what five items, watched, have written to *stderr*."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", stderr)
    monkeypatch.setattr("sys.stdout", stdout)
    assert list(watched(iter(range(5)), 3, "dropped", **options)) == [0, 1, 2, 3, 4]
    return stderr.getvalue()


def test_bar_is_drawn_for_what_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it is about; and every item comes, also where there are more than were counted."""
    monkeypatch.setattr(progress, "SHORT_S", 0.0)
    assert "dropped" in seen(monkeypatch, stderr=Terminal(), stdout=Terminal())


@pytest.mark.parametrize(
    ("stderr", "stdout", "prints", "short_s"),
    [
        (io.StringIO(), Terminal(), False, 0.0),
        (Terminal(), Terminal(), True, 0.0),
        (Terminal(), Terminal(), False, 1000.0),
    ],
)
def test_bar_is_not_drawn_where_nobody_watches_or_lines_come_or_all_is_quick(
    monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO, stdout: io.StringIO, prints: bool, short_s: float
) -> None:
    """A file gets no bar, lines of output are not drawn over, and nothing flickers."""
    monkeypatch.setattr(progress, "SHORT_S", short_s)
    assert seen(monkeypatch, stderr=stderr, stdout=stdout, prints=prints) == ""


def test_bar_is_drawn_beside_lines_that_go_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with `> file`."""
    monkeypatch.setattr(progress, "SHORT_S", 0.0)
    assert "dropped" in seen(monkeypatch, stderr=Terminal(), stdout=io.StringIO(), prints=True)
