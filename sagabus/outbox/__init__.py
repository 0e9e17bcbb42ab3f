"""An outbox table in the application's own PostgreSQL: messages leave if, and only if, its transaction commits."""

from sagabus.outbox.postgres import PostgresOutbox
from sagabus.outbox.relay import Relay

__all__ = ["PostgresOutbox", "Relay"]
