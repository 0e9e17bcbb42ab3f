"""Pausing an endpoint: workers receive nothing from it until it is resumed; what was in hand is finished.

Its queue fills meanwhile, and pushes back when it is full, as ever. Timers and retries go into it when they are due.
The other endpoints of a worker go on. Workers hear of it within two seconds, and at their start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sagabus.dead_letters.dead_letters import whoami
from sagabus.observe.log import get_logger
from sagabus.operations import audit
from sagabus.telemetry.card import Pause

if TYPE_CHECKING:
    from sagabus.bus import Bus

HEARD_WITHIN_S: Final = 2.0
"""So soon every worker that can reach the store has heard of it."""


def pause(bus: Bus, endpoint: str, *, by: str | None = None, why: str = "") -> tuple[Pause, bool]:
    """Pause *endpoint*, and write that to the audit trail.

    Args:
        by: who does it; user and host of this process.
        why: for whoever asks later.

    Returns:
        the pause, and whether it was this call that made it: one that was there already stays as it is.

    Raises:
        UnknownEndpointError: no process ever declared it.
    """
    before = bus.store.presence.paused().get(endpoint)
    if before is None:
        bus.check_known(endpoint)
    made = bus.store.presence.pause(endpoint, by or whoami(), why)
    _note(bus, "pause", made, made.by)
    return made, before is None


def resume(bus: Bus, endpoint: str, *, by: str | None = None) -> Pause | None:
    """End the pause of *endpoint*, and write that to the audit trail; return what is over, None where there was none.

    Raises:
        UnknownEndpointError: it is not paused, and no process ever declared it.
    """
    over = bus.store.presence.resume(endpoint)
    if over is None:
        bus.check_known(endpoint)
    else:
        _note(bus, "resume", over, by or whoami())
    return over


def _note(bus: Bus, what: str, pause: Pause, by: str) -> None:
    # A pause is named by when it began, so one that was there already is not noted once more.
    key = f"{what}/{pause.endpoint}/{pause.at_ms}"
    details = {"why": pause.why} if what == "pause" else {"why": pause.why, "paused_by": pause.by}
    audit.note(bus, what, by=by, endpoint=pause.endpoint, details=details, key=key)
    get_logger().info(f"{what}d", endpoint=pause.endpoint, by=by, why=pause.why)
