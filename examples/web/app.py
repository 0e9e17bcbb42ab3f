"""The bus of the loans, as `sagabus worker examples.web.app:bus` runs it and the web applications use it."""

from __future__ import annotations

from examples.web.loans import open_bus

bus = open_bus(namespace="web-example")
