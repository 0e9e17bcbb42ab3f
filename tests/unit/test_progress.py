"""Progress bars of commands: on stderr, on a terminal only, and only where something takes its time."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

import pytest

from sagabus import message
from sagabus.cli import progress, rerun, send
from sagabus.cli.progress import watched
from sagabus.messages import registry
from sagabus.observe.rerun import NothingReplayedError


@message("test.progress")
class Note:
    text: str


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


def test_bar_without_a_total_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody knows how many will come, as with lines of a pipe, it says how many have come."""
    monkeypatch.setattr(progress, "SHORT_S", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    stderr = Terminal()
    monkeypatch.setattr("sys.stderr", stderr)
    assert list(watched(iter("abc"), None, "replayed")) == ["a", "b", "c"]
    assert "/?" in stderr.getvalue()


class Lines(io.StringIO):
    """What a command reads; *typed* where it comes from a keyboard."""

    def __init__(self, text: str, *, typed: bool = False) -> None:
        super().__init__(text)
        self._typed = typed

    def isatty(self) -> bool:
        return self._typed


def told_by_send(monkeypatch: pytest.MonkeyPatch, stdin: io.StringIO) -> str:
    monkeypatch.setattr(progress, "SHORT_S", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    stderr = Terminal()
    monkeypatch.setattr("sys.stdin", stdin)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    monkeypatch.setattr("sys.stderr", stderr)
    assert [len(bodies) for bodies, _ in send._chunks(registry.named("test.progress"), "-")] == [2]
    return stderr.getvalue()


def test_sending_many_lines_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file or a pipe; what somebody types is not drawn over."""
    lines = '{"text": "a"}\n{"text": "b"}\n'
    assert "sent" in told_by_send(monkeypatch, Lines(lines))
    assert told_by_send(monkeypatch, Lines(lines, typed=True)) == ""


def test_replaying_many_sagas_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are watched as they are read, and nobody counts them first."""
    told: list[tuple[int | None, str]] = []

    def spied(items: Iterable[object], total: int | None, text: str, *, prints: bool = False) -> Iterator[object]:
        told.append((total, text))
        yield from items

    monkeypatch.setattr(rerun, "watched", spied)
    with pytest.raises(NothingReplayedError):
        rerun.rerun_all([], None, as_json=True)
    assert told == [(None, "replayed")]
