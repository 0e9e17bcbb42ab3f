"""What a check comes to: well, worth a look, or to be mended."""

from __future__ import annotations

import enum

from attrs import frozen


class Verdict(enum.Enum):
    """How well it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@frozen
class Finding:
    """What one check says of one thing.

    Attributes:
        check: the name of the check.
        verdict: how well it is.
        found: what was found, in a line.
        mend: what to do; empty where all is well.
    """

    check: str
    verdict: Verdict
    found: str
    mend: str = ""


def ok(check: str, found: str) -> Finding:
    """Return that all is well."""
    return Finding(check, Verdict.OK, found)


def warn(check: str, found: str, mend: str) -> Finding:
    """Return that somebody should look at it."""
    return Finding(check, Verdict.WARN, found, mend)


def fail(check: str, found: str, mend: str) -> Finding:
    """Return that messages are lost, or stand still, unless somebody mends it."""
    return Finding(check, Verdict.FAIL, found, mend)
