"""Random schedules of the simulator, forced on real stores and real workers."""

import pytest

# So that what fails in these modules shows both sides, as in a test.
pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in ("accounts", "foretelling", "playing", "stage")))
