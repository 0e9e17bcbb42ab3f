"""`python -m tests.fuzz.targets NAME --seconds 60`: guided fuzzing of one target, by atheris."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Final

import msgspec

from tests.fuzz.mutations import Mutator

TARGETS: Final = ("envelopes", "intake", "stored")


def main() -> None:
    """Let atheris look for bytes that a target does not survive."""
    import atheris

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.targets", description=main.__doc__)
    parser.add_argument("name", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with atheris.instrument_imports(include=["sagabus"]):
        module = importlib.import_module(f"tests.fuzz.targets.{given.name}")
    with tempfile.TemporaryDirectory(prefix="sagabus-fuzz-") as folder:
        _plant(Path(folder), given.seed)
        limits = [f"-max_total_time={given.seconds}", f"-seed={given.seed}", "-max_len=4096", "-timeout=20"]
        atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={folder}/", folder], module.target)
        atheris.Fuzz()


def _plant(folder: Path, seed: int) -> None:
    """Write seeds to *folder*: envelopes, and MessagePack as stores have it."""
    seeds = [shot.body for shot in Mutator(Random(seed)).shots(100)]
    seeds += [
        msgspec.msgpack.encode((1, {"scores": {"equifax": 710}})),
        msgspec.msgpack.encode((1, 1, 0, ["a", 1], [("a", 1, [])], "")),
        msgspec.msgpack.encode(("a", 1, "stored", 5, False, False, ([], "w", 1, [], 1))),
        b'["c","equifax","id","42",0,{"specversion":"1.0","id":"m","source":"/s","type":"credit.check"}]\nM\n',
    ]
    for number, data in enumerate(seeds):
        (folder / f"seed-{number}").write_bytes(data)


if __name__ == "__main__":
    main()
