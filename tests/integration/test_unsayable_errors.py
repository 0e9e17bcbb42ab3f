"""Errors that cannot be written, or cannot say what they are: their messages are dead letters as any other."""

from __future__ import annotations

import pytest
from attrs import define

from sagabus import Bus, Saga, message, starts


@message("unsayable.job")
class Job:
    how: str


@message("unsayable.begin")
class Begin:
    key: str


class MuteError(Exception):
    def __str__(self) -> str:
        return str(self.filename)  # type: ignore[attr-defined]


def fail(how: str) -> None:
    if how == "half a character":
        # As os.listdir() gives the name of a file that is no UTF-8.
        raise FileNotFoundError(b"caf\xe9.txt".decode(errors="surrogateescape"))
    raise MuteError


@define
class State: ...


class Failing(Saga[State], key="key"):
    @starts
    def begun(self, m: Begin) -> None:
        fail(m.key)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("half a character", r"FileNotFoundError: caf\udce9.txt"),
        ("mute", "MuteError: (its text cannot be had: AttributeError)"),
    ],
)
def test_error_that_cannot_be_written_is_dead_lettered_as_any_other(
    valkey_url: str, namespace: str, how: str, said: str
) -> None:
    """The worker goes on, and the letter says what can be said, with its traceback."""
    done: list[str] = []

    def handler(m: Job) -> None:
        if m.how == "well":
            done.append(m.how)
        else:
            fail(m.how)

    with Bus(store=valkey_url, namespace=namespace) as bus:
        bus.endpoint("jobs", Failing, max_attempts=1).consumer(Job)(handler)
        bus.send(Job(how), to="jobs", id="consumer")
        bus.send(Begin(how), to="jobs", id="saga")
        bus.send(Job("well"), to="jobs")
        bus.worker().run_until_idle()
        letters = {letter.id: letter for letter in bus.dead_letters.find()}
    assert done == ["well"]
    assert set(letters) == {"consumer", "saga"}
    for letter in letters.values():
        assert (letter.reason, letter.error) == ("failed", said)
        assert "in fail" in letter.traceback
