"""`sagabus simulate`: orders explored from the shell, and what it says of those that break a saga."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.starter import Starter

Sagabus = Callable[..., subprocess.CompletedProcess[str]]

APP = """
from typing import Annotated

from attrs import define, field
from mergers import fieldwise, union
from sagabus import Bus, Context, Saga, handles, message, starts

@message("simulated.order")
class Order:
    number: str

@message("simulated.make-part")
class MakePart:
    part: str

@message("simulated.part-made")
class PartMade:
    part: str

@message("simulated.delivered")
class Delivered:
    number: str
    parts: int

@define
class Parts:
    made: Annotated[set[str], union] = field(factory=set)

class Exactly(Saga[Parts], key="number", merger=fieldwise(Parts)):
    @starts
    def ordered(self, m: Order) -> None:
        self.send(MakePart("wheel"), to="workshop")

    @handles
    def part_made(self, m: PartMade) -> None:
        self.state.made.add(m.part)

    def decide(self) -> None:
        if len(self.state.made) == 2:
            self.publish(Delivered(self.id, len(self.state.made)))
            self.complete()

class AtLeast(Exactly, key="number", merger=fieldwise(Parts)):
    def decide(self) -> None:
        if len(self.state.made) >= 2:
            self.publish(Delivered(self.id, len(self.state.made)))
            self.complete()

# Nobody answers there: whoever connects fails.
bus = Bus("redis://127.0.0.1:1/0", "redis://127.0.0.1:1/0")
bus.endpoint("exactly", Exactly)
other = Bus("redis://127.0.0.1:1/0", "redis://127.0.0.1:1/0")
other.endpoint("orders", AtLeast)
workshop = other.endpoint("workshop")

@workshop.consumer
def make(m: MakePart, context: Context) -> None:
    context.reply(PartMade(m.part))
    context.reply(PartMade("frame"))
"""

MESSAGES = """# an order, and its parts
{"type": "simulated.order", "data": {"number": "7"}}

{"type": "simulated.part-made", "data": {"part": "wheel"}}
{"type": "simulated.part-made", "data": {"part": "frame"}}
{"type": "simulated.part-made", "data": {"part": "bell"}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with an app and the messages of a simulation."""
    (tmp_path / "workshop.py").write_text(APP)
    (tmp_path / "messages.jsonl").write_text(MESSAGES)
    return tmp_path


@pytest.fixture
def sagabus(folder: Path, starter: Starter) -> Sagabus:
    """Return what runs a command in the folder to its end."""
    return lambda *args: starter.run(args, env=os.environ, cwd=folder)


def run(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run Python in *folder* to its end."""
    return subprocess.run((sys.executable, *args), cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_simulate_of_a_sound_saga_lists_its_outcomes_and_connects_nothing(sagabus: Sagabus) -> None:
    """Each outcome comes with how many schedules end so and a token; several outcomes are no failure."""
    done = sagabus("simulate", "workshop:other", "AtLeast", "messages.jsonl")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"exhaustive: \d+ states, \d+ transitions, 138 schedules, 2 outcomes: ok\n", done.stdout)
    assert "\n78 schedules end with Delivered(number='7', parts=2)\n  --replay v1:" in done.stdout
    assert "\n60 schedules end with Delivered(number='7', parts=3)\n  --replay v1:" in done.stdout


def test_simulate_as_json_is_a_line_for_the_whole_and_one_for_each_outcome(sagabus: Sagabus) -> None:
    """Programs get the same: numbers as numbers, decisions as wire names with bodies."""
    done = sagabus("simulate", "workshop:other", "AtLeast", "messages.jsonl", "--json")
    whole, *outcomes = rows(done.stdout)
    assert {k: whole[k] for k in ("kind", "ok", "mode", "seed", "complete", "schedules")} == {
        "kind": "exploration",
        "ok": True,
        "mode": "exhaustive",
        "seed": None,
        "complete": True,
        "schedules": 138,
    }
    assert sorted((row["kind"], row["schedules"], row["decisions"][0]["data"]["parts"]) for row in outcomes) == [
        ("outcome", 60, 3),
        ("outcome", 78, 2),
    ]


def test_simulate_of_a_faulty_saga_reports_the_schedule_and_exits_1(sagabus: Sagabus, folder: Path) -> None:
    """The report names the fault, tells the steps, draws the versions, and ends with a test that fails alike."""
    done = sagabus("simulate", "workshop:bus", "Exactly", "messages.jsonl")
    assert done.returncode == 1
    assert done.stderr == ("sagabus: Exactly: stuck; the report says by which schedule, and how to see it again\n")
    assert "\nstuck: Exactly/7 never completes" in done.stdout
    assert "\n   1  A loads Exactly/7 (not started) for Order(number='7')\n" in done.stdout
    assert "simulated.part-made  B  00:00:00.006  forked\n" in done.stdout
    (folder / "test_pasted.py").write_text(textwrap.dedent(done.stdout.partition("as a test:\n")[2]))
    pasted = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_pasted.py")
    assert pasted.returncode == 1
    assert "ExplorationError: stuck: Exactly/7 never completes" in pasted.stdout


def test_simulate_with_a_token_tells_that_schedule_alone(folder: Path) -> None:
    """The token of an outcome tells how it comes about; that of a failure shows the failure again, with exit code 1."""
    args = ("simulate", "workshop:other", "AtLeast", "messages.jsonl", "--json")
    outcomes = rows(run(folder, "-m", "sagabus", *args).stdout)[1:]
    (rare,) = (row["example"] for row in outcomes if row["decisions"][0]["data"]["parts"] == 3)
    told = run(folder, "-m", "sagabus", *args[:-1], "--replay", rare)
    assert told.returncode == 0
    assert told.stdout.endswith("decides Delivered(number='7', parts=3); completed\n")

    args = ("simulate", "workshop:bus", "Exactly", "messages.jsonl", "--json")
    failure = rows(run(folder, "-m", "sagabus", *args).stdout)[-1]
    again = run(folder, "-m", "sagabus", *args, "--replay", failure["token"])
    assert again.returncode == 1
    assert {k: rows(again.stdout)[-1][k] for k in ("failure", "token")} == {
        "failure": "stuck",
        "token": failure["token"],
    }


def test_simulate_told_to_allow_one_outcome_fails_where_there_are_two(sagabus: Sagabus) -> None:
    """With --one-outcome every schedule must end as it would without a race."""
    done = sagabus("simulate", "workshop:other", "AtLeast", "messages.jsonl", "--one-outcome")
    assert done.returncode == 1
    assert "\noutcome: this schedule ends with Delivered(number='7', parts=3)" in done.stdout


def test_simulate_at_random_is_repeated_by_its_seed(folder: Path) -> None:
    """The same seed tries the same schedules; as many as --runs says."""
    args = ("simulate", "workshop:other", "AtLeast", "messages.jsonl", "--mode", "random", "--runs", "20")
    first = run(folder, "-m", "sagabus", *args, "--seed", "4")
    assert first.stdout.startswith("random, seed 4: ")
    assert " 20 schedules, " in first.stdout
    assert run(folder, "-m", "sagabus", *args, "--seed", "4").stdout == first.stdout


def test_simulate_with_consumers_needs_no_replies_in_the_file(sagabus: Sagabus, folder: Path) -> None:
    """All of the bus takes part: the workshop answers. Without it the saga waits for ever, unless it may."""
    (folder / "order.jsonl").write_text(MESSAGES.splitlines()[1])
    args = ("simulate", "workshop:other", "AtLeast", "order.jsonl")
    with_workshop = sagabus(*args, "--with-consumers")
    assert "with Delivered(number='7', parts=2)\n" in with_workshop.stdout, with_workshop.stderr
    assert "\nstuck: AtLeast/7 never completes" in sagabus(*args).stdout
    assert "schedule ends with no decision\n" in sagabus(*args, "--may-wait").stdout


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2: no JSON (Expecting"),
        ("[]", "line 2: no JSON object; write it as "),
        ('{"data": {}}', "line 2: no type; write it as "),
        ('{"type": "simulated.order", "data": []}', "line 2: data is [], not of type dict; write it as "),
        ('{"type": "simulated.order", "body": {}}', "line 2: unknown body; known are type, data, start"),
        ('{"type": "simulated.order", "data": {"number": 7}}', "Expected `str`, got `int` - at `$.number`"),
        ('{"type": "no.such"}', "line 2: no message class is called 'no.such' here"),
        ('{"type": "simulated.make-part", "data": {"part": ""}}', "MakePart is handled by none of AtLeast"),
        ("# nothing", "there is no message in the file"),
    ],
)
def test_simulate_of_a_bad_line_says_which_and_how_to_mend_it(
    sagabus: Sagabus, folder: Path, line: str, words: str
) -> None:
    """A line that holds no message for the saga is a usage error, in one line."""
    (folder / "bad.jsonl").write_text(f"# bad\n{line}\n")
    done = sagabus("simulate", "workshop:other", "AtLeast", "bad.jsonl")
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_simulate_of_an_unknown_saga_says_which_there_are(sagabus: Sagabus) -> None:
    """A wrong name is a usage error that names the right ones."""
    done = sagabus("simulate", "workshop:bus", "AtMost", "messages.jsonl")
    assert (done.returncode, done.stderr) == (2, "sagabus: no saga 'AtMost' on workshop:bus; it has Exactly\n")


def test_simulate_takes_a_line_at_its_word_on_what_starts(sagabus: Sagabus, folder: Path) -> None:
    """A keyless message goes to the saga of the first start, and `start` says which those are."""
    start = '{"type": "simulated.order", "data": {"number": "8"}, "start": true}'
    second = MESSAGES.replace('"7"}}', '"7"}, "start": false}')
    (folder / "two.jsonl").write_text(second + start)
    done = sagabus("simulate", "workshop:other", "AtLeast", "two.jsonl", "--may-wait", "--max-states", "20000")
    assert "with Delivered(number='8', parts=2)\n" in done.stdout
    assert "Delivered(number='7'" not in done.stdout
