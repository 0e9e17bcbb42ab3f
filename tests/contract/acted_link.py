"""A link whose server's epoch the test says, so that a failover can be played."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sagabus.link import EPOCH, Command, Link


class ActedLink(Link):
    """A link whose server's epoch the test says."""

    actor = "e1"

    def try_round(self, commands: Sequence[Command], *, wait_s: float = 0.0) -> list[Any]:
        told = [
            Command(tuple(self.actor if arg is EPOCH else arg for arg in command.args), command.key, command.script)
            for command in commands
        ]
        return super().try_round(told, wait_s=wait_s)
