"""`play`: a race as it happened, step by step, in a test; `sagabus record --pytest` writes such tests.

    play(bus, "CreditCheck/42", [
        {"worker": "A", "do": "load", "messages": [{"id": "m1", "type": "credit.check", "data": {"customer": "42"}}]},
        {"worker": "A", "do": "commit", "expect": {"outcome": "stored"}},
    ])

The steps are those of a recording; `sagabus.observe.replay` describes them. Nothing is connected: the saga's own code
runs on a store in memory, whose clock the steps set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sagabus.bus import Bus
from sagabus.definition import DAY_S, SagaDefinition, definition_of
from sagabus.envelope import MAX_BYTES, SagaKey
from sagabus.errors import ConfigurationError
from sagabus.observe.graph import draw
from sagabus.observe.recording import read_step
from sagabus.observe.replay import Happened, Replay
from sagabus.saga import Saga
from sagabus.testing.keys import fall_back_on_test_keys

_START_MS: Final = round(datetime.fromisoformat("2026-01-01T00:00:00Z").timestamp() * 1000)
_ENDPOINT: Final = "harness"


class PlayedOtherwiseError(AssertionError):
    """A step had another result than the test expects; the text has the version graph so far.

    Attributes:
        step: which, from 1.
        differences: what was expected and what came, a line each.
    """

    def __init__(self, step: int, differences: Sequence[str], graph: str) -> None:
        listed = "\n".join(f"  {difference}" for difference in differences)
        super().__init__(f"step {step} came out otherwise than expected:\n{listed}\n\n{graph}")
        self.step, self.differences = step, tuple(differences)


def play(
    subject: Bus | type[Saga[Any]], saga: str, steps: Sequence[Mapping[str, Any]], *, life: int = 1
) -> list[Happened]:
    """Have one saga live through *steps*, and return what happened in each.

    Args:
        subject: the bus that the saga is on, or its class.
        saga: which one, as `NAME/ID`.
        steps: loads, commits and crashes of workers, as in a recording.
        life: which life of the saga begins first.

    Raises:
        PlayedOtherwiseError: a step did not come out as it expects.
        RecordingError: a step does not follow the format, or cannot be done.
        ConfigurationError: there is no such saga.
    """
    __tracebackhide__ = True  # pytest is to show the user's own frames
    key = SagaKey.parse(saga)
    definition = _definition(subject, key)
    fall_back_on_test_keys()
    replay = Replay(definition, key, _START_MS, life=life)
    happened = []
    for number, step in enumerate(steps, 1):
        done = replay.play(read_step(number, step))
        happened.append(done)
        if done.differences:
            raise PlayedOtherwiseError(number, done.differences, draw(done.history))
    return happened


def _definition(subject: Bus | type[Saga[Any]], key: SagaKey) -> SagaDefinition:
    if isinstance(subject, Bus):
        found = subject.saga(key.name)
        if found is None:
            raise ConfigurationError(f"no saga {key.name!r} on this bus; give the bus, or the class, that has it")
        return found
    limits = {"dedupe_window_s": 7 * DAY_S, "retention_s": 7 * DAY_S}
    definition = definition_of(subject).bound(_ENDPOINT, {}, max_bytes=MAX_BYTES, **limits)  # type: ignore[arg-type]
    if definition.name != key.name:
        raise ConfigurationError(f"{subject.__qualname__} is called {definition.name!r}, not {key.name!r}")
    return definition
