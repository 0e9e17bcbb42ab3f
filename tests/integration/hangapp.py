"""The app of workers whose handlers hang: `HANGAPP_NAMESPACE` names its namespace, `HANGAPP_TIMEOUT_S` their limit."""

from __future__ import annotations

import os
import time

from attrs import define

from sagabus import Bus, Saga, message, starts


@message("hangapp.begin")
class Begin:
    key: str
    sleep_s: float = 0.0


@define
class State:
    handled: bool = False


class Sleeper(Saga[State], key="key"):
    @starts
    def begun(self, m: Begin) -> None:
        time.sleep(m.sleep_s)
        self.state.handled = True


_timeout = os.environ.get("HANGAPP_TIMEOUT_S")

bus = Bus(namespace=os.environ.get("HANGAPP_NAMESPACE", "hangapp"), claim_s=2.0)
bus.endpoint("sleepers", Sleeper, handler_timeout_s=float(_timeout) if _timeout else None)
