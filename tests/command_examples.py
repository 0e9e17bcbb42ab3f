"""What commands print with `--json`, on a shop whose sagas wait, fork and fail: the examples of docs/cli.md.

`python -m tests.command_examples` writes them anew, where a command has another field now.
"""

from __future__ import annotations

import getpass
import importlib
import json
import re
import socket
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from attrs import frozen
from click.testing import CliRunner

from sagabus import Bus, envelope
from sagabus.cli import main as sagabus
from sagabus.commit import Commit, Want
from sagabus.envelope import Incoming, SagaKey
from sagabus.telemetry.card import WorkerCard
from tests.documents import blocks
from tests.pages import ROOT

PAGE: Final = ROOT / "docs" / "cli.md"
APP: Final = "tests.shop_for_examples:bus"
_BEGIN, _END = "<!-- what commands print with json -->\n", "<!-- until here -->"


@frozen
class Example:
    """One command, and the objects that it prints, one of each kind.

    Attributes:
        command: the arguments, as typed.
        objects: what came out.
    """

    command: tuple[str, ...]
    objects: tuple[dict[str, Any], ...]


def _said(*arguments: str, stdin: str = "", types: str = "") -> Example:
    """Return what a command prints, one object of each kind.

    Args:
        types: only message types whose names begin so; in a process that runs other tests there are others, too.
    """
    done = CliRunner().invoke(sagabus, [*arguments, "--json"], prog_name="sagabus", input=stdin)
    problem = done.exception if not isinstance(done.exception, SystemExit) else None
    assert problem is None, problem
    assert done.exit_code in (0, 1), done.output
    kinds: dict[str, dict[str, Any]] = {}
    for line in done.stdout.splitlines():
        found = json.loads(line)
        if found.get("type", "").startswith(types):
            kinds.setdefault(_kind(found), found)
    assert kinds, f"{arguments} printed nothing: {done.stderr}"
    return Example(arguments, tuple(kinds.values()))


def _kind(found: dict[str, Any]) -> str:
    return str(found.get("kind", "")) if "kind" in found else " ".join(sorted(found))


def _run(bus: Bus, key: SagaKey, message: Any) -> Commit:
    """Return what a worker that loads the saga now would commit for *message*."""
    from sagabus.advance import advance

    definition = bus.saga(key.name)
    assert definition is not None
    wrapped = envelope.wrap(message, id=uuid.uuid4().hex, source="/warehouse", now_ms=0, saga=str(key))
    (snapshot,) = bus.store.load([Want(key, (wrapped.id,))])
    return advance(definition, snapshot, [Incoming(wrapped, message)])


def _lived(bus: Bus) -> None:
    """Leave order 17 forked, order 18 waiting for its timer, and two dead letters."""
    from tests.shop_for_examples import ParcelPacked, PaymentTaken, PlaceOrder

    bus.send(PlaceOrder("17"), to="orders", id="order-17")
    bus.send(PlaceOrder("18"), to="orders", id="order-18")
    bus.worker(name="ann").run_until_idle()
    key = SagaKey("Order", "17")
    paid, packed = (_run(bus, key, kind("17")) for kind in (PaymentTaken, ParcelPacked))
    bus.store.commit([paid], by="ann")
    bus.store.commit([packed], by="bob")
    endpoints, started_ms = ("orders", "till"), bus.store.next_due_ms()[0]
    bus.store.presence.show(WorkerCard("ann", "web1", 4711, endpoints, started_ms, handled_per_s=12.5))


def examples(url: str) -> Iterator[Example]:
    """Yield one example for each command that has `--json`, on a server of one's own at *url*."""
    sys.modules.pop("tests.shop_for_examples", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_STORE", url)
        patch.setenv("SHOP_NAMESPACE", f"shop-{uuid.uuid4().hex[:8]}")
        bus: Bus = importlib.import_module("tests.shop_for_examples").bus
    _lived(bus)
    letter, other = (each.id for each in bus.dead_letters.find())
    timers = [each.name for each in bus.waiting.find()]
    replies = '{"type": "shop.order", "data": {"order": "17"}, "start": true}\n' + "".join(
        f'{{"type": "shop.{name}", "data": {{"order": "17"}}}}\n' for name in ("payment-taken", "parcel-packed")
    )
    with tempfile.TemporaryDirectory(prefix="sagabus-") as folder:
        recorded = Path(folder, "replies.jsonl")
        recorded.write_text(replies, encoding="utf-8")
        yield _said("send", APP, "shop.order", '{"order": "19"}', "--to", "orders")
        yield _said("list", APP)
        yield _said("list", APP, "--queues")
        yield _said("list", APP, "--workers")
        yield _said("list", APP, "--routes", types="shop.order")
        yield _said("inspect", APP, "Order/17")
        yield _said("siblings", APP)
        yield _said("siblings", APP, "Order/17")
        yield _said("merge", APP, "Order/17", "--dry-run")
        yield _said("tail", APP, "--saga", "Order/17", "--no-follow")
        yield _said("tail", APP, "--no-follow")
        yield _said("doctor", APP)
        yield _said("dead", "list", APP)
        yield _said("dead", "groups", APP)
        yield _said("dead", "show", APP, letter)
        yield _said("dead", "retry", APP, letter)
        yield _said("dead", "drop", APP, other, "--yes")
        yield _said("dead", "audit", APP)
        yield _said("timers", "list", APP)
        yield _said("timers", "show", APP, timers[0])
        yield _said("timers", "fire", APP, timers[0])
        yield _said("timers", "cancel", APP, timers[1])
        yield _said("merge", APP, "Order/17")
        yield _said("pause", APP, "till", "--why", "the bank is down")
        yield _said("resume", APP, "till")
        yield _said("cancel", APP, "Order/18", "--why", "ordered twice", "--yes")
        yield _said("audit", APP)
        yield _said("reindex", APP)
        yield _said("simulate", APP, "Order", str(recorded))
        yield _said("replay", str(ROOT / "examples" / "credit_check" / "race.jsonl"))
    bus.close()


def written(found: Iterator[Example]) -> str:
    """Return the part of the page that shows examples."""
    parts = []
    for example in found:
        typed = " ".join(f"'{a}'" if " " in a or "{" in a else a for a in example.command)
        typed = re.sub(r"\b[0-9a-f]{12,}\b|\S*\.jsonl", _short, typed).replace(APP, "shop:bus")
        parts.append(f"### `sagabus {typed} --json`\n")
        for shown in example.objects:
            text = json.dumps(_told(shown), indent=1, ensure_ascii=False)
            parts.append(f"```json\n{_packed(text)}\n```\n")
    return "\n".join(parts)


def _told(value: Any, name: str = "") -> Any:
    """Return *value* without what says where it was made; of a traceback its beginning and its end."""
    if isinstance(value, dict):
        return {key: _told(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_told(inner, name) for inner in value]
    if name == "traceback" and value:
        first, *_, last = value.strip().splitlines()
        return f"{first}\n  ...\n{last.rpartition('.')[2]}\n"
    if name == "host":
        return "web1"
    if name == "by" and value == f"{getpass.getuser()}@{socket.gethostname()}":
        return "ann@web1"
    return value.replace("tests.shop_for_examples", "shop") if isinstance(value, str) else value


def _short(found: re.Match[str]) -> str:
    if found[0].endswith("race.jsonl"):
        return "examples/credit_check/race.jsonl"
    return Path(found[0]).name if "/" in found[0] else found[0][:4]


def _packed(text: str) -> str:
    """Return indented JSON with small objects and arrays on one line."""
    while True:
        new = re.sub(
            r"([\[{])\n\s+([^\[\]{}\n]*(?:\n\s+[^\[\]{}\n]*)*?)\n\s*([\]}])",
            lambda m: _line(m) if len(_line(m)) <= 100 else m[0].replace("\n", "\v"),
            text,
        )
        if new == text:
            return text.replace("\v", "\n")
        text = new


def _line(found: re.Match[str]) -> str:
    return found[1] + re.sub(r"\s*[\n\v]\s*", " ", found[2]) + found[3]


def shape(value: Any) -> Any:
    """Return the fields of *value* and, where they are known, the kinds of their values."""
    if isinstance(value, dict):
        # Actors of a context are names of a server.
        return {"actor" if re.fullmatch(r"[0-9a-f]{12}", key) else key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return {bool: "boolean", int: "number", float: "number", str: "text", type(None): None}[type(value)]


def _sections(part: str) -> dict[str, str]:
    """Return the sections of the page by what is typed, but for ids."""
    found = re.split(r"^(?=### )", part, flags=re.MULTILINE)[1:]
    return {re.sub(r"\b[0-9a-f]{4}\b", "ID", section.partition("\n")[0]): section for section in found}


def _shapes(section: str) -> list[Any]:
    return [shape(json.loads(block)) for block in blocks(section, "json")]


def main() -> None:
    """Write the examples into the page; where the fields are those that stand there already, they are left alone."""
    from tests import servers

    with servers.valkey() as url:
        new = _sections(written(examples(url)))
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    old_part, _, after = rest.partition(_END)
    old = _sections(old_part)
    kept = [old[name] if name in old and _shapes(old[name]) == _shapes(new[name]) else new[name] for name in new]
    part = "\n\n".join(section.strip() for section in kept)
    PAGE.write_text(f"{before}{_BEGIN}\n{part}\n\n{_END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
