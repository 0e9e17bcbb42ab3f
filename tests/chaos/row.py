"""A row of the fault table, and how rows are found and run."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Final

from attrs import frozen

from tests.chaos import rows
from tests.chaos.arena import Arena, arena
from tests.chaos.lab.excuse import ExcusedError
from tests.chaos.verdict import Run, Verdict

SEEDS: Final = (1, 2, 3)


@frozen
class Row:
    """One fault, and what is shown of it.

    Attributes:
        number: in the fault table.
        fault: what happens, for the table.
        holds: what must hold nevertheless, for the table.
        run: makes the fault in an arena and returns the verdict, with how often it happened.
        errands: how many to send at least, at full size.
        faults: how many faults to make, at full size.
        quick_errands, quick_faults: both for the fast version, which is part of the test suite; 0 errands where a row
            has no fast version, and then *slow* says why.
        slow: why it has none.
    """

    number: int
    fault: str
    holds: str
    run: Callable[[Arena], Verdict]
    errands: int
    faults: int
    quick_errands: int = 0
    quick_faults: int = 1
    slow: str = ""

    def perform(self, seed: int, *, quick: bool) -> Run:
        """Run it once; whatever it started has ended when this returns.

        What the machine does not permit is an excuse, and part of what is returned; every other error is raised.
        """
        errands, faults = (self.quick_errands, self.quick_faults) if quick else (self.errands, self.faults)
        try:
            with arena(seed, errands, faults, quick=quick) as where:
                return Run(self.number, seed, self.run(where))
        except ExcusedError as excuse:
            return Run(self.number, seed, excused=str(excuse))


def all_rows() -> dict[int, Row]:
    """Return every row, by number, in order.

    Raises:
        ValueError: two modules have the same number, or one another than its name says.
    """
    found: dict[int, Row] = {}
    for module in pkgutil.iter_modules(rows.__path__):
        row: Row = importlib.import_module(f"{rows.__name__}.{module.name}").ROW
        if not module.name.startswith(f"row{row.number:02}_") or row.number in found:
            raise ValueError(f"{module.name} has the row {row.number}")
        found[row.number] = row
    return dict(sorted(found.items()))
