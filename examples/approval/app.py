"""The office's bus, as `sagabus worker examples.approval.app:bus` runs it; what happens is in `sagabus tail`."""

from __future__ import annotations

from examples.approval.office import Office
from sagabus import Bus

bus = Bus(namespace="approval")
office = Office(bus, votes={"carla": True})
