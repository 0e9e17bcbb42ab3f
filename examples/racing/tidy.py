"""Cleaning up after a run: its queues go at once. Its sagas go by themselves, an hour after their decision."""

from __future__ import annotations

from typing import Any

import click

from sagabus import Bus
from sagabus.connect import scheme_of
from sagabus.link import Command, Link
from transports.redis_streams import RedisStreamsTransport


def forget_queues(bus: Bus) -> None:
    """Delete the queues of *bus*, whose namespace nobody will use again and whose workers have ended."""
    transport = bus.transport
    if isinstance(transport, RedisStreamsTransport):
        _forget_streams(transport.link, bus.namespace)
    elif scheme_of(bus.transport_url) in ("amqp", "amqps", "pyamqp"):
        _forget_amqp(bus.transport_url, bus.namespace, [queue.endpoint for queue in transport.queues()])
    else:
        click.echo(
            f"the queues called {bus.namespace}... at {transport.url} are left behind; delete them there", err=True
        )


def _forget_streams(link: Link, namespace: str) -> None:
    names = [f"{namespace}:topology"]
    for page in link.scan(f"{namespace}:q:*"):
        names += page
    link.round([Command(("UNLINK", name), name) for name in names])


def _forget_amqp(url: str, namespace: str, endpoints: list[str]) -> None:
    from kombu.connection import Connection

    with Connection(url) as connection:  # type: ignore[no-untyped-call]
        channel: Any = connection.default_channel
        for endpoint in endpoints:
            channel.queue_delete(f"{namespace}.q.{endpoint}")
            channel.queue_delete(f"{namespace}.alone.{endpoint}")
        channel.queue_delete(f"{namespace}.topology")
        channel.exchange_delete(f"{namespace}.events")
