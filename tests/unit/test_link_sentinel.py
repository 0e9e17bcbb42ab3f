"""Which server a link with sentinels talks to, and what its URL says."""

from __future__ import annotations

import pytest

from sagabus.bus import Bus
from sagabus.connect import open_store, open_transport
from sagabus.errors import ConfigurationError, StoreUnavailableError
from sagabus.link import Command, Link
from sagabus.link.address import Target
from tests.scripted import OK, ScriptedServer, Serve, bulk, in_turn
from tests.servers import free_ports

GET = Command(("GET", "k"), "k")


def knowing(serve: Serve, primary: ScriptedServer, flags: str = "master") -> ScriptedServer:
    """Start a scripted sentinel that knows where the service `here` has its primary."""
    sentinel = serve(in_turn())

    def answer(words: list[str]) -> bytes:
        if words[0] != "SENTINEL":
            return OK
        host, _, port = sentinel.primary.address.rpartition(":")  # type: ignore[attr-defined]
        facts = ["name", "here", "ip", host, "port", port, "flags", flags, "num-other-sentinels", "0"]
        return b"*1\r\n*%d\r\n" % len(facts) + b"".join(map(bulk, facts))

    sentinel.primary = primary  # type: ignore[attr-defined]
    sentinel.answer = answer
    return sentinel


def test_url_with_sentinels_is_read() -> None:
    """Hosts with and without a port, IPv6, the service, the database, and how to log in to servers and sentinels."""
    target = Target.of("valkeys+sentinel://u:p%40@one,[::1]:7/my%20app/3?sentinel_password=s&ssl_ca_certs=/ca.pem")
    assert target.sentinels == (("one", 26379), ("::1", 7))
    assert target.service == "my app"
    assert target.url == "rediss://u:p%40@localhost/3?ssl_ca_certs=%2Fca.pem"
    assert dict(target.sentinel_options) == {"ssl": True, "password": "s", "ssl_ca_certs": "/ca.pem"}
    assert Link("redis+sentinel://u:secret@one,two/here").shown_url == "redis+sentinel://one,two/here"


@pytest.mark.parametrize("rest", ["one:x/here", "one", "one/", "/here", "one,,two/here", "one/here/x", "one/here/1/2"])
def test_url_whose_sentinels_cannot_be_read_is_refused(rest: str) -> None:
    """With the form that it should have, and without the password."""
    for opened in (open_store, open_transport):
        with pytest.raises(ConfigurationError, match="; write redis") as caught:
            opened(f"redis+sentinel://u:secret@{rest}", "n")
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "valkey", "valkeys"])
def test_bus_takes_sentinels_for_store_and_queues(scheme: str) -> None:
    """Each scheme leads to a store and a transport; nothing connects before it is used."""
    url = f"{scheme}+sentinel://nowhere.invalid/here"
    assert open_store(url, "n").url == open_transport(url, "n").url == url
    Bus(url, durability="replicated").close()


def test_primary_is_asked_for_on_each_new_connection(serve: Serve) -> None:
    """Where the old one does not answer any more, the sentinels say who does."""
    old, new = serve(in_turn(OK, None)), serve(in_turn())
    sentinel = knowing(serve, old)
    link = Link(f"redis+sentinel://{sentinel.address}/here")
    assert link.round([GET]) == [b"OK"]
    sentinel.primary = new  # type: ignore[attr-defined]
    new.run_id = "run-2"
    assert link.round([GET]) == [b"OK"]
    assert (len(old.asked), len(new.asked)) == (2, 1)
    identity = link.server()
    assert identity is not None
    assert identity.run_id == "run-2"


def test_old_primary_that_still_answers_is_left_when_sentinels_name_another(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off from its sentinels it would go on taking writes that are lost when it comes back."""
    monkeypatch.setattr("sagabus.link.node._IDLE_S", 0.0)
    old, new = serve(in_turn()), serve(in_turn())
    sentinel = knowing(serve, old)
    link = Link(f"redis+sentinel://{sentinel.address}/here")
    link.round([GET])
    sentinel.primary = new  # type: ignore[attr-defined]
    link.round([GET])
    assert (len(old.asked), len(new.asked)) == (1, 1)


def test_old_primary_that_answers_readonly_is_left(serve: Serve) -> None:
    """It was demoted, and says so before anybody asks the sentinels."""
    new = serve(in_turn())
    old = serve(in_turn(b"-READONLY You can't write against a read only replica.\r\n"))
    sentinel = knowing(serve, old)
    told = old.answer

    def demoted(words: list[str]) -> bytes | None:
        sentinel.primary = new  # type: ignore[attr-defined]
        return told(words)

    old.answer = demoted
    assert Link(f"redis+sentinel://{sentinel.address}/here").round([GET]) == [b"OK"]
    assert (len(old.asked), len(new.asked)) == (1, 1)


def test_server_that_sentinels_name_must_be_a_primary(serve: Serve) -> None:
    """In the middle of a failover they may name one that is none yet."""
    server = serve(in_turn())
    server.info = {"role": "slave"}
    sentinel = knowing(serve, server)
    link = Link(f"redis+sentinel://{sentinel.address}/here", patience_s=0.05)
    with pytest.raises(StoreUnavailableError, match="is a replica, and no primary"):
        link.round([GET])


def test_sentinel_that_is_gone_is_passed_over(serve: Serve) -> None:
    """The next one is asked; where all are gone it is the store that does not answer."""
    (port,) = free_ports(1)
    sentinel = knowing(serve, serve(in_turn()))
    assert Link(f"redis+sentinel://127.0.0.1:{port},{sentinel.address}/here").round([GET]) == [b"OK"]
    with pytest.raises(StoreUnavailableError, match="No master found"):
        Link(f"redis+sentinel://127.0.0.1:{port}/here", patience_s=0.05).round([GET])


def test_primary_that_sentinels_hold_for_dead_is_not_used(serve: Serve) -> None:
    """They will name another one."""
    sentinel = knowing(serve, serve(in_turn()), flags="master,s_down,o_down")
    with pytest.raises(StoreUnavailableError, match="No master found"):
        Link(f"redis+sentinel://{sentinel.address}/here", patience_s=0.05).round([GET])
