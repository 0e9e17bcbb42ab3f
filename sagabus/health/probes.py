"""The probes that a command line asks for, answered for as long as a block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from sagabus.errors import ConfigurationError
from sagabus.health.health_file import HealthFile, HealthWriter
from sagabus.health.health_server import HealthServer
from sagabus.health.vitals import Health

ALIVE_WITHIN_S: Final = 60.0


@frozen
class Probes:
    """Where to say how a process is.

    Attributes:
        file: a path; None for no file.
        http: HOST:PORT; None for no server.
        alive_within_s: how long a lane may stand still before it counts as stuck, s.
    """

    file: str | None = None
    http: str | None = None
    alive_within_s: float = ALIVE_WITHIN_S

    @contextmanager
    def answered(self, ask: Callable[[], Health], log: Any) -> Iterator[None]:
        """Answer with what *ask* says.

        Raises:
            ConfigurationError: the file cannot be written, or nothing can listen there.
        """
        with ExitStack() as stack:
            if self.file is not None:
                try:
                    stack.enter_context(HealthWriter(HealthFile(Path(self.file)), ask, log))
                except OSError as error:
                    raise ConfigurationError(
                        f"the health file {self.file} cannot be written: {error}; name one in a folder that can"
                    ) from error
            if self.http is not None:
                server = HealthServer(self.http, ask)
                stack.enter_context(server)
                log.info("health", port=server.port)
            yield
