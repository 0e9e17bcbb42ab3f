"""What a link promises when its connections are lost."""

from __future__ import annotations

import redis

from sagabus.link import Command, Link
from tests import servers


def test_link_that_lost_its_connection_again_and_again_still_connects() -> None:
    """However often a connection is lost, the next round makes another; there is no last one."""
    with servers.valkey() as url, redis.Redis.from_url(url) as other:
        link = Link(url, patience_s=2.0)
        for _ in range(150):
            assert link.round([Command(("PING",), None)]) == [b"PONG"]
            other.execute_command("CLIENT KILL", "TYPE", "normal", "SKIPME", "yes")
        link.close()
