"""Looking something up at the scrape: with a time-out, at most once a few seconds, and never twice at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from sagabus.errors import SagabusError

T = TypeVar("T")

EVERY_S: Final = 5.0
TIMEOUT_S: Final = 2.0


class Lookup(Generic[T]):
    """What a server says. Thread-safe.

    A question that is not answered in time goes on in its own thread, and nothing else is asked until it has ended.

    Args:
        ask: asks the server; raises where it does not answer.
        name: what it is called in log lines.
        log: a structlog logger; is told once when nothing answers, and again when something does.
        every_s: for how long an answer is good enough.
        timeout_s: for how long a scrape waits.
    """

    def __init__(
        self, ask: Callable[[], T], *, name: str, log: Any, every_s: float = EVERY_S, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._ask, self._name, self._log = ask, name, log
        self._every_s, self._timeout_s = every_s, timeout_s
        self._changed = threading.Condition()
        self._asking = False
        self._well = True
        self._answer: T | None = None
        self._asked_at = float("-inf")

    def answer(self) -> T | None:
        """Return what the server said within the last seconds; None where it does not answer."""
        with self._changed:
            if not self._asking and time.monotonic() - self._asked_at >= self._every_s:
                self._asking = True
                self._asked_at = time.monotonic()
                # Nothing at the end of the process is to wait for a server that does not answer.
                threading.Thread(target=self._run, name=f"metrics-{self._name}", daemon=True).start()
            self._changed.wait_for(lambda: not self._asking, self._timeout_s)
            return None if self._asking else self._answer

    def _run(self) -> None:
        answer: T | None = None
        try:
            answer = self._ask()
        except SagabusError as error:
            if self._well:
                self._log.warning("not-looked-up", server=self._name, error=str(error))
            self._well = False
        except Exception:
            self._log.exception("not-looked-up", server=self._name)
            self._well = False
        else:
            self._well = True
        finally:
            with self._changed:
                self._answer, self._asking = answer, False
                self._changed.notify_all()
