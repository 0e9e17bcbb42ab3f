"""A disk that is soon full: a small tmpfs of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.lab.excuse import ExcusedError


@contextmanager
def small_disk(place: Path, size_mb: int) -> Iterator[Path]:
    """Mount a tmpfs of *size_mb* MB at *place* and yield it; it is unmounted afterwards, with all that is on it.

    End what runs on it before.

    Raises:
        ExcusedError: this machine does not let us.
    """
    place.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(place)]
    try:
        made = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError as error:
        raise ExcusedError("there is no mount") from error
    if made.returncode != 0:
        raise ExcusedError(f"no tmpfs may be mounted here: {made.stderr.strip()}")
    try:
        yield place
    finally:
        # Lazily: a process that has just been killed may take a moment to let its files go.
        subprocess.run(["umount", "--lazy", str(place)], capture_output=True, timeout=30, check=True)
