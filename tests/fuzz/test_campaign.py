"""A short campaign, and the targets of guided fuzzing without their guide."""

from __future__ import annotations

import importlib
from random import Random

import msgspec
import pytest

from tests import servers
from tests.fuzz.campaign import run_campaign
from tests.fuzz.mutations import Mutator
from tests.fuzz.targets.__main__ import TARGETS

SEED = 7


def test_fuzzed_envelopes_are_handled_or_dead_lettered_and_the_books_balance() -> None:
    """Whatever is put into the queues of a real server, each of it is concluded once, and nothing falls over."""
    print(f"seed {SEED}")
    with servers.valkey() as url:
        books = run_campaign(url, 1000, SEED)
    assert books.injected == 1000
    assert {"undecodable", "too-deep", "no-saga", "no-handler", "unknown-type"} <= set(books.reasons)
    assert {"stored", "late", "consumed", "stale", "duplicate"} <= set(books.outcomes)


def test_mutator_makes_the_same_of_the_same_seed() -> None:
    """A seed is all that is needed to see a failure again."""
    first, second = (list(Mutator(Random(SEED)).shots(200)) for _ in range(2))
    assert first == second
    assert len({shot.body for shot in first}) > 150


@pytest.mark.parametrize("name", TARGETS)
def test_target_survives_envelopes_and_what_is_no_envelope(name: str) -> None:
    """The targets say what must hold of any bytes; here of some."""
    target = importlib.import_module(f"tests.fuzz.targets.{name}").target
    random = Random(SEED)
    for shot in Mutator(random).shots(150):
        target(shot.body)
        target(random.randbytes(random.randrange(40)))
        packed = msgspec.msgpack.encode([random.randrange(3), shot.body, [], {}])
        target(packed[: random.randrange(len(packed) + 1)])
