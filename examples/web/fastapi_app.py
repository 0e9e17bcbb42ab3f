"""Loans with FastAPI: `uvicorn examples.web.fastapi_app:app`, and `sagabus worker examples.web.app:bus` beside it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from examples.web.app import bus as the_bus
from examples.web.loans import ApplyForLoan, LoanDecided
from sagabus import Bus
from sagabus.errors import RequestFailedError, RequestTimeoutError
from sagabus.outbox import PostgresOutbox


class Application(BaseModel):
    number: str
    customer: str


def create_app(bus: Bus, database: str) -> FastAPI:
    """Return the application.

    Args:
        database: the URL of its PostgreSQL.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with bus:  # closed when the server stops: what is in hand is sent, and the reply queue goes
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/loans", status_code=202)
    async def apply(a: Application) -> dict[str, str]:
        """Start a saga and answer at once; the number is the idempotency key of the client."""
        await bus.send_async(ApplyForLoan(a.number, a.customer), to="loans", id=f"apply-{a.number}")
        return {"number": a.number}

    @app.post("/loans/decision")
    async def decide(a: Application) -> dict[str, bool]:
        """Start a saga and wait for what it tells its starter."""
        try:
            decided: LoanDecided = await bus.request(ApplyForLoan(a.number, a.customer), to="loans", timeout=10)
        except RequestTimeoutError as error:
            # It goes on all the same: the client may ask for the outcome later.
            raise HTTPException(504, "no decision yet") from error
        except RequestFailedError as error:
            raise HTTPException(502, error.reason) from error
        return {"granted": decided.granted}

    outbox = PostgresOutbox(bus)

    @app.post("/applications", status_code=202)
    async def register(a: Application) -> dict[str, str]:
        """Write a row and the message that tells of it: both, or neither."""
        # In production take the connection from a pool; leaving the block commits.
        async with await psycopg.AsyncConnection.connect(database) as connection:
            await connection.execute("INSERT INTO applications VALUES (%s, %s)", (a.number, a.customer))
            await outbox.send_async(connection, ApplyForLoan(a.number, a.customer), to="loans")
        return {"number": a.number}

    return app


app = create_app(the_bus, os.environ.get("DATABASE_URL", "postgresql://localhost/loans"))
