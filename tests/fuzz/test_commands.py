"""Commands with arguments and files from anywhere: a documented exit code, a line that says why, and no traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from examples.credit_check.messages import CheckCredit
from sagabus.cli import main
from tests.fuzz.cli_app import bus
from tests.fuzz.test_printable import EVIL, harmful
from tests.integration.apps import put

APP = "tests.fuzz.cli_app:bus"
# Arguments are what a shell could pass: no NUL, and bytes that are no UTF-8 as half characters.
ARGUMENT = st.text(st.characters(blacklist_characters="\0"), max_size=12) | st.sampled_from(
    [
        "",
        "-",
        "--",
        "CreditCheck/",
        "CreditCheck/42",
        "/",
        "credit.check",
        "{}",
        "\udcff",
        EVIL,
        "-1",
        "1e400",
        "--json",
    ]
)
RACE = '{"sagabus-replay": 1, "app": "tests.fuzz.cli_app:bus", "saga": "CreditCheck/1"}'
LINE = st.text(max_size=40) | st.sampled_from(
    [
        '{"type": "credit.check", "data": {"customer": "1"}}',
        '{"type": "credit.check", "data": {"customer": "\\ud800"}}',
        "[" * 100_000,
        RACE[:-1] + ', "at": "0001-01-01T00:00:00+23:59"}',
        RACE,
        '{"worker": "a", "do": "load", "messages": [{"id": "\\ud800", "type": "credit.check", "data": {}}]}',
        '{"worker": "a", "do": "load", "messages": [{"id": "1", "type": "credit.check", "data": {"customer": "1"}}]}',
        '{"worker": "a", "do": "load", "messages": [{"id": "1", "type": "nobody.knows"}]}',
        '{"worker": "a", "do": "load", "messages": ["timer:x"]}',
        '{"worker": "a", "do": "commit"}',
        '{"worker": "a", "do": "crash"}',
        '{"sagabus-record": 1}',
        RACE[:-1].replace("replay", "record") + ', "lifecycle": "live", "life": 1, "recorded_at": "", "sagabus": "",'
        ' "commits": 0, "versions": 1}',
        '{"kind": "version", "version": "a:1", "state": {}, "stored": "AAAA"}',
    ]
)
CONTENT = st.lists(LINE, max_size=5).map(lambda lines: "\n".join(lines).encode(errors="surrogatepass"))
FILE = CONTENT | st.binary(max_size=60)
QUICK = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def run(*args: str, given: bytes = b"") -> Result:
    result = CliRunner().invoke(main, args, input=given)
    assert result.exception is None or isinstance(result.exception, SystemExit), (args, given, result.exc_info)
    assert result.exit_code in range(5), (args, result.output)
    assert "Traceback" not in result.output
    if "Usage: " not in result.output:  # there click shows people what they have typed themselves
        assert not harmful(result.output, "\n\t"), (args, result.output)
    return result


@QUICK
@given(args=st.lists(ARGUMENT, max_size=3), command=st.sampled_from(["send", "inspect", "list", "record", "replay"]))
@example(args=[APP, "CreditCheck/\udcff"], command="inspect")
@example(args=[APP, "credit.check", "[" * 100_000], command="send")
def test_command_with_any_arguments_ends_with_a_code(command: str, args: list[str]) -> None:
    """Whatever a shell passes, a command says what is wrong with it."""
    if args[1:2] == ["-"] and command in ("replay", "send"):
        args = args[:1]
    run(command, *args)
    run(command, APP, *args)


@QUICK
@given(content=FILE, as_json=st.booleans())
def test_replay_of_any_file_ends_with_a_code(tmp_path: Path, content: bytes, as_json: bool) -> None:
    """A file that is none says where it is wrong."""
    file = tmp_path / "file.jsonl"
    file.write_bytes(content)
    run("replay", str(file), *["--json"] * as_json)


@QUICK
@given(content=FILE)
def test_simulate_with_any_file_ends_with_a_code(tmp_path: Path, content: bytes) -> None:
    """Messages that are none say which line is wrong."""
    file = tmp_path / "file.jsonl"
    file.write_bytes(content)
    run("simulate", APP, "CreditCheck", str(file), "--mode", "random", "--runs", "2", "--may-wait")


@QUICK
@given(content=FILE, id_=st.none() | ARGUMENT)
def test_send_of_any_lines_ends_with_a_code(content: bytes, id_: str | None) -> None:
    """A line that is no body ends it, and says which."""
    run("send", APP, "credit.check", "-", given=content)
    if id_ is not None:
        run("send", APP, "credit.check", '{"customer": "1"}', "--id", id_)


@pytest.mark.parametrize("command", ["list --dead", "list --dead --json", "tail --no-follow"])
def test_dead_letter_from_the_wire_is_shown_without_its_escape_sequences(command: str) -> None:
    """Whoever looks at what an attacker has sent has their terminal to themselves."""
    fields: dict[str, Any] = {"specversion": "1.0", "id": EVIL, "source": EVIL, "type": EVIL, "data": {"x": EVIL}}
    put(bus, "credit", json.dumps(fields, ensure_ascii=False))
    put(bus, "credit", EVIL)
    bus.send(CheckCredit("1"))
    bus.worker().run_until_idle()
    name, *options = command.split()
    shown = run(name, APP, *options).stdout
    assert "undecodable" in shown


@pytest.mark.parametrize("body", [b"[" * 5000, b"\xff\x1b]0;x\x07", b'{"id": "\xc2\x9b31m"}', b""])
def test_letter_with_any_body_can_be_listed_shown_and_dropped(body: bytes) -> None:
    """What an attacker has sent cannot make itself unreadable, or stay for ever."""
    put(bus, "credit", body)
    bus.worker().run_until_idle()
    (letter,) = (letter for letter in bus.store.letters.find() if letter.body == body)
    for command in ("dead list", "dead list --json"):
        assert letter.reason in run(*command.split(), APP).stdout
    for options in ([], ["--json"]):
        assert letter.id in run("dead", "show", APP, letter.id, *options).stdout
    assert run("dead", "drop", APP, letter.id, "--yes").exit_code == 0
    assert bus.store.letters.get("credit", letter.id) is None
