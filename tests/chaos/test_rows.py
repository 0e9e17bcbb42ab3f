"""Every row of the fault table in its fast version: one seed, a small load."""

from __future__ import annotations

import pytest

from tests.chaos.row import Row, all_rows
from tests.servers import missing

SEED = 1


@pytest.mark.chaos
@pytest.mark.parametrize("row", [pytest.param(row, id=f"row{row.number:02}") for row in all_rows().values()])
def test_fault_under_load_leaves_what_must_hold(row: Row) -> None:
    """Whatever happens to workers, store and network, what must hold does; and the fault did happen."""
    if not row.quick_errands:
        pytest.skip(f"row {row.number} has no fast version, `make chaos` runs it: {row.slow}")
    print(f"row {row.number}, seed {SEED}")
    run = row.perform(SEED, quick=True)
    if run.excused:
        missing(f"row {row.number}: {run.excused}")
    assert run.ok, f"row {row.number} ({row.fault}), seed {SEED}: {run.verdict.complaint()}"
