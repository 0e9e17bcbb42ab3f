"""What `sagabus dev` notices, and what it finds out about an app before workers run it."""

from __future__ import annotations

import shlex
import threading
from pathlib import Path

import msgspec
import pytest

from sagabus.dev import changes
from sagabus.dev.changes import Changes, looked
from sagabus.dev.survey import Survey, survey
from tests.documents import run
from tests.servers import until


def test_looking_finds_sources_that_came_changed_or_went(tmp_path: Path) -> None:
    """A file that is new, longer, of another time or gone has changed; other files, and those of others, have not."""
    kept, changed, gone = (tmp_path / f"{name}.py" for name in ("kept", "changed", "gone"))
    for path in (kept, changed, gone):
        path.write_text("a = 1\n")
    for folder in (".git", "__pycache__", "node_modules", "venv/lib"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    turns = looked(tmp_path, lambda _seconds: False)
    assert next(turns) == set()
    assert next(turns) == set()
    changed.write_text("a = 12\n")
    gone.unlink()
    (tmp_path / "new.py").touch()
    for other in (".git/a.py", "__pycache__/a.py", "node_modules/a.py", "venv/lib/a.py", "notes.txt"):
        (tmp_path / other).touch()
    assert next(turns) == {changed, gone, tmp_path / "new.py"}
    assert next(turns) == set()


@pytest.mark.parametrize("poll", [False, True], ids=["told", "looked"])
def test_changes_are_reported_once_they_are_quiet(tmp_path: Path, poll: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways report sources and nothing else, whatever else is written."""
    monkeypatch.setattr(changes, "POLL_S", 0.01)
    (tmp_path / ".sagabus").mkdir()
    with Changes(tmp_path, poll=poll) as watched:
        assert watched.how == ("looking every 0.01 s" if poll else "watchfiles")
        (tmp_path / ".sagabus" / "a.py").touch()
        (tmp_path / "notes.txt").touch()
        (tmp_path / "a.py").touch()
        seen: set[Path] = set()
        until(lambda: bool(seen.update(watched.take(0.2)) or seen), "a change")
        assert seen == {tmp_path / "a.py"}


def test_changes_are_looked_for_where_the_system_watches_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system that has run out of watches is no reason to miss a change."""

    def refused(_folder: Path, _stop: threading.Event) -> None:
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr(changes, "told", refused)
    monkeypatch.setattr(changes, "POLL_S", 0.01)
    with Changes(tmp_path) as watched:
        assert watched.how.startswith("looking")
        (tmp_path / "a.py").touch()
        assert watched.take(10.0) == {tmp_path / "a.py"}


def test_changes_are_looked_for_without_watchfiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain install reloads too, and says what would notice sooner."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setattr(changes, "POLL_S", 0.01)
    with Changes(tmp_path) as watched:
        assert watched.how == "looking every 0.01 s; sagabus[dev] notices at once"
        (tmp_path / "a.py").touch()
        assert watched.take(10.0) == {tmp_path / "a.py"}


# -- surveys -----------------------------------------------------------------------------------------------------


def test_survey_says_what_is_on_the_bus_and_what_to_send() -> None:
    """Where messages go, who handles them, and a line that starts the first saga; no credentials."""
    found = survey("tests.integration.creditapp:bus")
    assert found.problem == ""
    words = shlex.split(found.example)
    assert words[:3] == ["sagabus", "send", "tests.integration.creditapp:bus"]
    assert found.saga == "CreditCheck/42"
    assert "credit" in found.endpoints


def surveyed(folder: Path, source: str) -> Survey:
    """Return what a process of its own finds of an app."""
    (folder / "app.py").write_text(source)
    done = run(folder, "-m", "sagabus.dev.survey", "app", "out")
    assert done.returncode == 0, done.stderr
    return msgspec.json.decode((folder / "out").read_bytes(), type=Survey)


def test_survey_of_a_mistake_in_a_definition_is_the_mend(tmp_path: Path) -> None:
    """What sagabus says itself needs no traceback."""
    problem = surveyed(tmp_path, "from sagabus import Bus\nbus = Bus(namespace='')\n").problem
    assert problem.startswith("namespace ''")


def test_survey_of_code_that_fails_shows_the_code_and_nothing_around_it(tmp_path: Path) -> None:
    """The traceback begins in the app; secrets in it are hidden; output of the app goes where it always goes."""
    source = "print('hello')\ndef connect(url):\n    raise OSError(url)\nconnect('redis://:secret@host/')\n"
    problem = surveyed(tmp_path, source).problem
    assert problem.startswith("Traceback (most recent call last):\n")
    assert "line 4, in <module>" in problem
    assert "OSError: redis://***@host/" in problem
    assert "secret" not in problem
    assert "importlib" not in problem


def test_survey_names_urls_without_credentials(tmp_path: Path) -> None:
    """What is shown on a screen may be shown to others."""
    found = surveyed(tmp_path, "from sagabus import Bus\nbus = Bus('redis://me:secret@host/1', 'amqp://me:secret@h')\n")
    assert (found.store, found.transport, found.folder) == ("redis://***@host/1", "amqp://***@h", "")
    assert (found.endpoints, found.example) == ((), "")
