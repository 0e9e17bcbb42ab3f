"""Why a row could not be run: the only reason that is none of ours is that the machine does not permit it."""

from __future__ import annotations


class ExcusedError(Exception):
    """This machine does not let the fault be made; the text says what was refused. The table shows it."""
