"""Round trips to Redis or Valkey: commands, connections, clusters, and what passes by itself."""

from sagabus.link.address import redact
from sagabus.link.answers import as_error
from sagabus.link.command import EPOCH, Command, Script
from sagabus.link.link import Link, ServerIdentity

__all__ = ["EPOCH", "Command", "Link", "Script", "ServerIdentity", "as_error", "redact"]
