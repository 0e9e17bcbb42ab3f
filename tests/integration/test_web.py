"""The web recipes: FastAPI and Django start sagas, wait for them, and write messages in their own transactions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient

from sagabus import Bus
from sagabus.outbox import PostgresOutbox, Relay
from tests import servers


@pytest.fixture(scope="module")
def database(postgres_url: str) -> str:
    """Return a database with the tables of the examples."""
    with Bus("memory:", "memory:") as bus, psycopg.connect(postgres_url) as connection:
        connection.execute(PostgresOutbox(bus).ddl)
        connection.execute("CREATE TABLE applications (number text PRIMARY KEY, customer text NOT NULL)")
    return postgres_url


@pytest.fixture(scope="module")
def bus(valkey_url: str, database: str) -> Iterator[Bus]:
    """Yield the bus of the examples, on servers of the tests', with a worker and a relay beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAGABUS_STORE", valkey_url)
        patch.setenv("DATABASE_URL", database)
        from examples.web.app import bus
        from examples.web.loans import open_bus

        assert bus.store_url == valkey_url, "nobody has imported it before"
        with bus, open_bus(valkey_url, namespace=bus.namespace) as elsewhere:
            assert elsewhere.transport
            worker, relay = elsewhere.worker(), Relay(elsewhere, database)
            threads = [threading.Thread(target=each.run) for each in (worker, relay)]
            for thread in threads:
                thread.start()
            yield bus
            worker.stop()
            relay.stop()
            for thread in threads:
                thread.join(30)
                assert not thread.is_alive()


@pytest.fixture
def fast(bus: Bus) -> Iterator[TestClient]:
    """Yield a client of the FastAPI application, which is up."""
    from examples.web.fastapi_app import app

    with TestClient(app) as client:
        yield client


@pytest.fixture(scope="module")
def django_client(bus: Bus) -> Any:
    """Return a client of the Django application."""
    from django.test import Client

    from examples.web import django_app

    assert django_app.bus is bus
    return Client()


def decided(bus: Bus, number: str) -> bool:
    """Return whether a loan was decided on."""
    return any(row.key.id == number and row.lifecycle.value == "completed" for row in bus.store.sagas("Loan"))


def applications(database: str) -> set[str]:
    """Return the numbers of the rows that were written."""
    with psycopg.connect(database) as connection:
        return {row[0] for row in connection.execute("SELECT number FROM applications").fetchall()}


def test_fastapi_starts_a_saga_and_answers_at_once(bus: Bus, fast: TestClient) -> None:
    """202, and the saga gets on by itself; twice under one number is once."""
    for _ in range(2):
        answer = fast.post("/loans", json={"number": "f1", "customer": "Ada"})
        assert (answer.status_code, answer.json()) == (202, {"number": "f1"})
    servers.until(lambda: decided(bus, "f1"), "a decision")


def test_fastapi_waits_for_what_a_saga_answers(fast: TestClient) -> None:
    """One request of the browser is one conversation with a saga."""
    assert fast.post("/loans/decision", json={"number": "f2", "customer": "Ada"}).json() == {"granted": True}
    assert fast.post("/loans/decision", json={"number": "f3", "customer": ""}).json() == {"granted": False}


def test_fastapi_writes_a_row_and_its_message_or_neither(bus: Bus, fast: TestClient, database: str) -> None:
    """What is refused by the table starts no saga."""
    assert fast.post("/applications", json={"number": "f4", "customer": "Ada"}).status_code == 202
    servers.until(lambda: decided(bus, "f4"), "a decision")
    assert "f4" in applications(database)
    with pytest.raises(psycopg.errors.UniqueViolation):
        fast.post("/applications", json={"number": "f4", "customer": "Ada"})
    assert Relay(bus, database).waiting().rows == 0


def test_django_writes_a_row_and_its_message_or_neither(bus: Bus, django_client: Any, database: str) -> None:
    """In the transaction of the request."""
    assert django_client.post("/applications", {"number": "d1", "customer": "Ada"}).status_code == 202
    servers.until(lambda: decided(bus, "d1"), "a decision")
    assert "d1" in applications(database)
    django_client.raise_request_exception = False
    assert django_client.post("/applications", {"number": "d1", "customer": "Ada"}).status_code == 500
    django_client.raise_request_exception = True
    assert Relay(bus, database).waiting().rows == 0


def test_django_sends_when_the_transaction_has_committed(bus: Bus, django_client: Any, database: str) -> None:
    """The weaker way: nothing keeps the message where the process ends in between."""
    assert django_client.post("/applications/hopeful", {"number": "d2", "customer": "Ada"}).status_code == 202
    servers.until(lambda: decided(bus, "d2"), "a decision")
    assert "d2" in applications(database)


def test_django_waits_for_what_a_saga_answers(django_client: Any) -> None:
    """Under WSGI, and under ASGI."""
    assert django_client.post("/loans/decision", {"number": "d3", "customer": "Ada"}).json() == {"granted": True}
    from django.test import AsyncClient

    async def ask() -> Any:
        return await AsyncClient().post("/loans/decision/async", {"number": "d4", "customer": ""})

    assert asyncio.run(ask()).json() == {"granted": False}


def test_django_write_outside_of_a_transaction_is_refused(bus: Bus, django_client: Any) -> None:
    """A forgotten atomic() is an error, and not a message that leaves whatever happens."""
    from django.db import connection

    from examples.web.loans import ApplyForLoan
    from sagabus.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match=r"transaction\.atomic"):
        PostgresOutbox(bus).send(connection, ApplyForLoan("d5", "Ada"), to="loans")
