"""Documents that are run: files are written, commands run, and what really comes out stands in the document.

What a block is follows from its language and its first line:

    python, json    `# NAME`: a file of that name is written. Without such a line it only shows something.
    diff            `# NAME`: the lines with `-` of that file are replaced by those with `+`.
    console         lines with `$` are commands, `pytest` or `sagabus`; the lines below are what they print.
    text            after a console: the error in the test that the last command ran, as pytest shows it.

`python -m tests.documents docs/testing.md` puts in what really comes out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from attrs import define, field

ROOT: Final = Path(__file__).resolve().parents[1]

_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_CHANGING: Final = (
    (re.compile(r"in \d+\.\d+s"), "in 0.1s"),
    (re.compile(r"(?!00:00:00)\d\d:\d\d:\d\d\.\d{3}"), "12:00:00.000"),
    (re.compile(r"\b[0-9a-f]{4}(:\d+  )"), r"1234\1"),
    (re.compile(r"\b[\w.-]+-\d+-[0-9a-f]{6}\b"), "web1-1234-abcdef"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "123456789abc"),
)
"""What differs from run to run: times, and the names of messages, workers and stores."""
_TIMEOUT_S: Final = 60


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of a document that are in *language*, in order."""
    return [body for found, body in _BLOCK.findall(text) if found == language]


def masked(text: str) -> str:
    """Return *text* with what differs from run to run made equal."""
    for changing, fixed in _CHANGING:
        text = changing.sub(fixed, text)
    return text


def run(folder: Path, *command: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python with *command* in *folder*, the repository and no server of the environment within reach."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SAGABUS_", "PYTEST_"))}
    fixed = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0", "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=kept | fixed | (env or {}),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )


@define
class Execution:
    """One run of a document, in a folder of its own."""

    folder: Path
    _errors: str = field(default="", init=False)

    def rewritten(self, text: str) -> str:
        """Return the document with what its commands really print; as it is where only times and names differ."""
        return _BLOCK.sub(self._block, text)

    def _block(self, found: re.Match[str]) -> str:
        language, body = found[1], found[2]
        act: Callable[[str], str] | None = {
            "python": self._write,
            "json": self._write,
            "diff": self._change,
            "console": self._session,
            "text": self._error,
        }.get(language)
        new = act(body) if act else body
        return found[0] if masked(new) == masked(body) else f"```{language}\n{new}```"

    def _write(self, body: str) -> str:
        name = _name_of(body)
        if name:
            (self.folder / name).write_text(body, encoding="utf-8")
        return body

    def _change(self, body: str) -> str:
        name, _, changes = body.partition("\n")
        path = self.folder / name.removeprefix("# ")
        lines = changes.splitlines()
        old = "\n".join(line[1:] for line in lines if line[:1] in "- ")
        new = "\n".join(line[1:] for line in lines if line[:1] in "+ ")
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{path.name} has these lines {text.count(old)} times, not once:\n{old}"
        path.write_text(text.replace(old, new), encoding="utf-8")
        return body

    def _session(self, body: str) -> str:
        return "".join(
            f"$ {line}\n{self._command(line)}" for line in (s[2:] for s in body.splitlines() if s.startswith("$ "))
        )

    def _command(self, line: str) -> str:
        command, _, file = line.partition(" > ")
        program, *args = command.split()
        if program == "pytest":
            args = ["-p", "no:cacheprovider", *args]
        done = run(self.folder, *([] if program == "python" else ["-m", program]), *args)
        self._errors = "".join(_errors_in(done.stdout))
        if file:
            assert done.returncode == 0, done.stderr
            (self.folder / file).write_text(done.stdout, encoding="utf-8")
            return ""
        if program == "pytest" and self._errors:
            return ""  # the document shows what the test says, without pytest's frame around it
        return done.stdout + done.stderr

    def _error(self, body: str) -> str:
        errors, self._errors = self._errors, ""
        return errors or body


def _name_of(body: str) -> str:
    first = body.partition("\n")[0]
    return first.removeprefix("# ") if re.fullmatch(r"# [\w.]+\.(py|jsonl)", first) else ""


def _errors_in(output: str) -> Iterator[str]:
    """Yield the lines of the error that pytest shows, without its margin and without the name of the class."""
    lines = [line[1:] for line in output.splitlines() if line == "E" or line.startswith("E  ")]
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    for number, line in enumerate(lines):
        said = line[margin:].rstrip()
        yield (re.sub(r"^[\w.]+Error: ", "", said) if number == 0 else said) + "\n"


def main() -> None:
    """Rewrite the documents named on the command line."""
    for name in sys.argv[1:]:
        path = Path(name)
        with tempfile.TemporaryDirectory(prefix="sagabus-") as folder:
            text = Execution(Path(folder)).rewritten(path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
