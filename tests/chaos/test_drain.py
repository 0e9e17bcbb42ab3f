"""The drain: when a driver takes it that nothing is under way any more."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from sagabus.testing.transport_contract import command, take
from tests.chaos.lab.rabbit import messages_in
from tests.chaos.load.driver import Load
from tests.chaos.load.settings import Settings
from tests.servers import rabbitmq_url
from transports.amqp import AmqpTransport


def test_one_quiet_look_is_no_end_of_all_work(valkey_url: str, namespace: str, tmp_path: Path) -> None:
    """What was on its way from one queue to another while they were looked at is found by the next look."""
    settings = Settings(valkey_url, valkey_url, namespace=namespace, ledger=str(tmp_path / "ledger"))
    looks = [0, 3, 0, 0]
    load = Load(settings, 0, tmp_path, held=lambda: looks.pop(0))
    load._drain(timeout_s=10.0, quiet_s=0.0)
    assert looks == []
    load.bus.close()


def test_messages_that_a_consumer_holds_are_counted_at_once(namespace: str) -> None:
    """The broker's own lists are seconds behind; a drain that believed them would end with messages in hand."""
    with rabbitmq_url() as url:
        control = shutil.which(os.environ.get("RABBITMQCTL", "rabbitmqctl"))
        assert control is not None, "rabbitmq_url would not be there without it"
        vhost = urlsplit(url).path[1:]
        transport = AmqpTransport(url, namespace=namespace)
        transport.declare("a", subscriptions=[])
        transport.send([command("a", b"%d" % n) for n in range(3)])
        receiver = transport.receiver(["a"], consumer="c", claim_s=60)
        taken = take(receiver, 3)
        assert messages_in(vhost, control, os.environ) == 3
        receiver.exchange((), taken[:2], (), 0, 0.0)
        receiver.close()
        assert messages_in(vhost, control, os.environ) == 1
        transport.close()
