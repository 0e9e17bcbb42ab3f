"""Vitals: whether a worker is alive and ready, judged by what its lanes show of themselves. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import frozen

_SILENT_S: Final = 15.0
"""A server that has owed an answer for so long is not there; an idle lane asks once a second."""


@frozen
class LaneVitals:
    """What one lane shows.

    Attributes:
        endpoint: whose lane it is.
        beat_age_s: how long ago its loop last got on, s.
        handler: what it runs of a saga just now; empty for nothing.
        handler_age_s: for how long, s.
        asking_age_s: for how long a server has owed it an answer, s; None while none does.
        answered: whether its servers ever answered it.
        waits_for: why the server that it asks could not answer the last time; empty where it could.
        ended: whether it has finished what it had in hand, and ended.
    """

    endpoint: str
    beat_age_s: float
    handler: str = ""
    handler_age_s: float = 0.0
    asking_age_s: float | None = None
    answered: bool = True
    waits_for: str = ""
    ended: bool = False


@frozen
class Health:
    """How a process is.

    Attributes:
        alive: whether it gets on; where not, only its end helps.
        ready: whether it takes messages, and its servers answer.
        reasons: what is not as it should be, a line each.
    """

    alive: bool = True
    ready: bool = True
    reasons: tuple[str, ...] = ()


def judge(lanes: Sequence[LaneVitals], *, draining: bool, alive_within_s: float) -> Health:
    """Return how a worker with these lanes is; one that has none yet is only starting.

    A lane that waits for a server that is down is alive, for it gets on with asking, and not ready. One that has ended
    is neither stuck nor unready, however long others still take.

    Args:
        draining: whether it was told to stop.
        alive_within_s: how long a lane, or one handler of a saga in it, may stand still, s.
    """
    working = [lane for lane in lanes if not lane.ended]
    stuck = [_stuck(lane, alive_within_s) for lane in working]
    unready = ["draining"] if draining else []
    if not lanes:
        unready.append("starting")
    unready += [_unready(lane) for lane in working]
    reasons = tuple(reason for reason in (*stuck, *unready) if reason)
    return Health(not any(stuck), not reasons, reasons)


def _stuck(lane: LaneVitals, alive_within_s: float) -> str:
    if lane.handler:
        if lane.handler_age_s > alive_within_s:
            return f"lane {lane.endpoint}: {lane.handler} has run for {lane.handler_age_s:.0f} s"
    elif lane.beat_age_s > alive_within_s:
        return f"lane {lane.endpoint}: has not got on for {lane.beat_age_s:.0f} s"
    return ""


def _unready(lane: LaneVitals) -> str:
    if lane.waits_for:
        return f"lane {lane.endpoint}: {lane.waits_for}"
    if not lane.answered:
        return f"lane {lane.endpoint}: no server has answered yet"
    if not lane.handler and lane.asking_age_s is not None and lane.asking_age_s > _SILENT_S:
        return f"lane {lane.endpoint}: a server has not answered for {lane.asking_age_s:.0f} s"
    return ""


def together(parts: Sequence[tuple[str, Health | None]], *, draining: bool) -> Health:
    """Return how a supervisor is, whose workers are these: alive as long as it can say so, ready when all of them are.

    A worker that does not get on is the supervisor's to replace.

    Args:
        parts: the name of each worker, and how it is; None where it does not say.
    """
    reasons = ["draining"] if draining else []
    for name, health in parts:
        if health is None:
            reasons.append(f"worker {name}: does not say how it is")
        else:
            reasons += [f"worker {name}: {reason}" for reason in health.reasons]
    return Health(True, not reasons, tuple(reasons))
