"""Documents that are run: files are written, commands run, and what really comes out stands in the document.

What a block is follows from its language and its first line:

    python, json    `# NAME`: a file of that name is written; commands below it run it.
    python          without such a line: it is run, with all names of the files and blocks above it, as in a notebook.
    diff            `# NAME`: the lines with `-` of that file are replaced by those with `+`.
    console         lines with `$` are commands; the lines below are what they print. `pytest`, `python` and `sagabus`
                    are run, `export` holds for what is below it.
    text            after a console: the error in the test that the last command ran, as pytest shows it.
    others          are only shown.

A block below `<!-- not run: REASON -->` is only shown, too. `python -m tests.documents docs/testing.md` puts in what
really comes out.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from attrs import define, field, frozen

from tests.notebook import Notebook

ROOT: Final = Path(__file__).resolve().parents[1]

_BLOCK: Final = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<language>[\w{}-]*)[^\n]*\n(?P<body>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_CHANGING: Final = (
    (re.compile(r"in \d+\.\d+s"), "in 0.1s"),
    (re.compile(r"(?:^[.s]+ *\[ *\d+%\]\n)+", re.MULTILINE), "...\n"),
    (re.compile(r"\b\d{2,} passed(, \d+ skipped)?"), "100 passed"),
    (re.compile(r"(?!00:00:00)\d\d:\d\d:\d\d\.\d{3}"), "12:00:00.000"),
    (re.compile(r"\b[0-9a-f]{4}(:\d+  )"), r"1234\1"),
    (re.compile(r"\b[\w.-]+-\d+-[0-9a-f]{6}\b"), "web1-1234-abcdef"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "123456789abc"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "0123456789abcdef0123456789abcdef"),
)
"""What differs from run to run: times, names of messages, workers and stores; and how many laws a contract has."""
_TIMEOUT_S: Final = 60
_FEW_PLUGINS: Final = ("-p", "no:cacheprovider", "-p", "sagabus.testing.plugin")
"""What a page's tests need; pytest begins sooner without what else is installed."""


@frozen
class Block:
    """One fenced block of a document.

    Attributes:
        language: what the fence says; empty for none.
        body: the lines inside.
        line: where the first of them is, from 1.
        reason: why it is not run; empty where it is.
    """

    language: str
    body: str
    line: int
    reason: str

    @property
    def file(self) -> str:
        """Return the name of the file that it is, empty for none."""
        first = self.body.partition("\n")[0]
        named = re.fullmatch(r"# ([\w.]+\.(py|jsonl))", first)
        return named[1] if named else ""


def all_blocks(text: str) -> list[Block]:
    """Return every fenced block of a document, in order."""
    return [_block(found) for found in _BLOCK.finditer(text)]


def _block(found: re.Match[str]) -> Block:
    line = found.string.count("\n", 0, found.start("body")) + 1
    return Block(found["language"], found["body"], line, found["reason"] or "")


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of a document that are in *language*, in order."""
    return [block.body for block in all_blocks(text) if block.language == language]


def masked(text: str) -> str:
    """Return *text* with what differs from run to run made equal."""
    for changing, fixed in _CHANGING:
        text = changing.sub(fixed, text)
    return text


def environment(env: dict[str, str] | None = None) -> dict[str, str]:
    """Return the environment of what a document runs: the repository within reach, no server of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SAGABUS_", "PYTEST_"))}
    fixed = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0", "COLUMNS": "80", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return kept | fixed | (env or {})


def run(folder: Path, *command: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python with *command* in *folder*, the repository and no server of the environment within reach."""
    if command[:2] == ("-m", "pytest"):
        command = (*command[:2], *_FEW_PLUGINS, *command[2:])
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )


@define
class Execution:
    """One run of a document, in a folder of its own."""

    folder: Path
    name: str = "page"
    _errors: str = field(default="", init=False)
    _env: dict[str, str] = field(factory=dict, init=False)
    _files: list[str] = field(factory=list, init=False)
    _notebook: Notebook = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._notebook = Notebook(self.folder, environment())

    def rewritten(self, text: str) -> str:
        """Return the document with what its commands really print; as it is where only times and names differ."""
        try:
            return _BLOCK.sub(self._block, text)
        finally:
            self._notebook.close()
            self._notebook = Notebook(self.folder, environment())

    def _block(self, found: re.Match[str]) -> str:
        block = _block(found)
        act: Callable[[Block], str] | None = {
            "python": self._python,
            "json": self._write,
            "diff": self._change,
            "console": self._session,
            "text": self._error,
        }.get(block.language)
        new = act(block) if act and not block.reason else block.body
        return found[0] if masked(new) == masked(block.body) else f"```{block.language}\n{new}```"

    def _python(self, block: Block) -> str:
        if block.file:
            return self._write(block)
        for file in self._files:
            if file.endswith(".py") and not file.startswith("test_"):
                module = file.removesuffix(".py")
                self._notebook.run(self.name, f"import {module}\nglobals().update(vars({module}))", self._env)
        self._files.clear()
        code = "\n" * (block.line - 1) + textwrap.dedent(block.body)
        self._notebook.run(self.name, code, self._env)
        return block.body

    def _write(self, block: Block) -> str:
        if block.file:
            (self.folder / block.file).write_text(block.body, encoding="utf-8")
            self._files.append(block.file)
        return block.body

    def _change(self, block: Block) -> str:
        name, _, changes = block.body.partition("\n")
        path = self.folder / name.removeprefix("# ")
        lines = changes.splitlines()
        old = "\n".join(line[1:] for line in lines if line[:1] in "- ")
        new = "\n".join(line[1:] for line in lines if line[:1] in "+ ")
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{path.name} has these lines {text.count(old)} times, not once:\n{old}"
        path.write_text(text.replace(old, new), encoding="utf-8")
        return block.body

    def _session(self, block: Block) -> str:
        commands = [line[2:] for line in block.body.splitlines() if line.startswith("$ ")]
        return "".join(f"$ {line}\n{self._command(line)}" for line in commands)

    def _command(self, line: str) -> str:
        command, _, file = line.partition(" > ")
        program, *args = shlex.split(command, comments=True)
        if program == "export":
            self._export(line)
            return ""
        assert program in ("pytest", "python", "sagabus"), (
            f"{self.name}: `{line}` is not run by the tests; say why above the block: <!-- not run: REASON -->"
        )
        done = run(self.folder, *([] if program == "python" else ["-m", program]), *args, env=self._env)
        self._errors = "".join(_errors_in(done.stdout))
        if file:
            assert done.returncode == 0, done.stderr
            (self.folder / file).write_text(done.stdout, encoding="utf-8")
            return ""
        if program == "pytest" and self._errors:
            return ""  # the document shows what the test says, without pytest's frame around it
        return done.stdout + done.stderr

    def _export(self, line: str) -> None:
        # A shell knows what stands behind the equals sign.
        done = subprocess.run(["bash", "-euc", f"{line}\nenv -0"], capture_output=True, text=True, check=True)
        found = dict(each.split("=", 1) for each in done.stdout.split("\0") if each)
        for name in re.findall(r"(\w+)=", line.partition("=")[0] + "="):
            self._env[name] = found[name]

    def _error(self, block: Block) -> str:
        errors, self._errors = self._errors, ""
        return errors or block.body


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
            text = Execution(Path(folder), name).rewritten(path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
