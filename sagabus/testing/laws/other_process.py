"""Merging in another process, whose sets and hashes are in another order: a merger must not notice.

A merger finds its way there by name, so it must stand in a module that can be imported.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any, Final

import msgspec
from attrs import frozen

from sagabus.codec import StateCodec
from sagabus.definition import definition_of
from sagabus.saga import Saga
from sagabus.testing.keys import fall_back_on_test_keys
from sagabus.testing.laws.merge_trial import BrokenCallError, MergeTrial, Term
from sagabus.testing.laws.strategies import codec_of

TIMEOUT_S: Final = 120.0
_BOOT: Final = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from sagabus.testing.laws.other_process import serve
serve()
"""


class Merged(msgspec.Struct, frozen=True):
    """What one merge came to.

    Attributes:
        state: the state's bytes; None where there is none.
        error: what went wrong; empty where the merger only refused.
    """

    state: bytes | None = None
    error: str = ""


_MAIN: Final = frozenset({"__main__", "__mp_main__"})
"""What another process has something else under; the second is what multiprocessing calls the first in its children."""


class Task(msgspec.Struct, frozen=True):
    """What another process is asked to merge.

    Attributes:
        subject: where the saga class or the merger stands, as `module:qualname`.
        state: where the state class stands; empty where the subject is a saga, which knows it.
        cases: the stored siblings of each merge, and their ancestor where the merger takes one.
    """

    subject: str
    state: str
    cases: list[tuple[list[bytes], bytes | None]]


@frozen
class Unreachable:
    """Why another process cannot run a merger."""

    reason: str


def address_of(subject: Any) -> str | Unreachable:
    """Return where another process finds *subject*, as `module:qualname`."""
    for module, name in _candidates(subject):
        if module in _MAIN:
            continue
        address = f"{module}:{name}"
        with contextlib.suppress(AttributeError, ImportError):  # a name that leads nowhere, as of what a function makes
            if find(address) is subject:
                return address
    return Unreachable("it is no attribute of a module that can be imported; define it, or its saga, in one")


def find(address: str) -> Any:
    """Return what stands at *address*.

    Raises:
        ImportError: there is no such module.
        AttributeError: nothing has that name there.
    """
    module, _, name = address.partition(":")
    return reduce(getattr, name.split("."), importlib.import_module(module))


def merge_elsewhere(task: Task, hash_seeds: Sequence[int]) -> list[list[Merged]] | Unreachable:
    """Return what *task* comes to in a process of its own for each of *hash_seeds*."""
    children = [_start(seed) for seed in hash_seeds]
    answers: list[list[Merged]] = []
    reason = ""
    for child in children:
        try:
            out, complaint = child.communicate(msgspec.msgpack.encode(task), timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            reason = reason or f"another process took longer than {TIMEOUT_S:g} s"
            child.kill()
            child.communicate()
            continue
        if child.returncode:
            last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
            reason = reason or f"another process failed: {last or f'exit code {child.returncode}'}"
        else:
            answers.append(msgspec.msgpack.decode(out, type=list[Merged]))
    return Unreachable(reason) if reason else answers


def merge_all(merger: Any, codec: StateCodec[Any], task: Task) -> list[Merged]:
    """Return what *task* comes to in this process."""
    trial = MergeTrial(merger, codec)
    return [_merged(trial, [Term("", data) for data in siblings], ancestor) for siblings, ancestor in task.cases]


def serve() -> None:
    """Read a task from stdin, and write what it comes to on stdout; all else that prints goes to stderr."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as out:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        task = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Task)
        subject = find(task.subject)
        fall_back_on_test_keys()
        if isinstance(subject, type) and issubclass(subject, Saga):
            definition = definition_of(subject)
            merger, codec = definition.merger, definition.codec
        else:
            merger, codec = subject, codec_of(find(task.state), {})
        out.write(msgspec.msgpack.encode(merge_all(merger, codec, task)))


def _candidates(subject: Any) -> Iterator[tuple[str, str]]:
    """Yield where *subject* may stand: where it says so itself, else under any name of any module."""
    module, name = getattr(subject, "__module__", None), getattr(subject, "__qualname__", None)
    if isinstance(module, str) and isinstance(name, str):
        yield module, name
    for home, loaded in list(sys.modules.items()):
        for known, value in list(getattr(loaded, "__dict__", {}).items()):
            if value is subject:
                yield home, known


def _start(hash_seed: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _BOOT, json.dumps(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
    )


def _merged(trial: MergeTrial, siblings: Sequence[Term], ancestor: bytes | None) -> Merged:
    try:
        if ancestor is None:
            return Merged(trial.merge(*siblings).state)
        a, b = siblings
        return Merged(trial.merge_from(a, b, Term("", ancestor)).state)
    except BrokenCallError as broken:
        return Merged(error=str(broken))
