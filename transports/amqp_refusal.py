"""What RabbitMQ's errors mean: what passes by itself, and what somebody has to mend."""

from __future__ import annotations

import re
from typing import Any, Final

import amqp

from sagabus.access import refusal
from sagabus.errors import AccessRefusedError, ConfigurationError, SagabusError
from transports.amqp_address import AMQP_TLS

LOST: Final = (OSError, amqp.exceptions.AMQPError, amqp.exceptions.MessageNacked)
"""What a client raises where a connection, or a channel, is of no use any more."""

_PASSES: Final = re.compile(
    # A handler that held a delivery for longer than RabbitMQ's consumer_timeout.
    r"timed out"
    # A broker, or one node of it, that has just started or is about to stop.
    r"|down or inaccessible|is stopped|not running|is down|CONNECTION_FORCED|timeout"
    r"|limit"
)
# Which of the three rights it was about, RabbitMQ says only since 3.13.
_RIGHT: Final = re.compile(r"(?:(configure|write|read) )?access to (?:queue|exchange|topic) '([^']*)'")


def amqp_refusal(error: BaseException, shown: str) -> SagabusError | None:
    """Return what to raise for *error* where trying again would not help; None where it might.

    Args:
        error: one of `LOST`.
        shown: the broker, without credentials.
    """
    if (untrusted := refusal(error, shown, tls=AMQP_TLS, what="broker")) is not None:
        return untrusted
    text = str(getattr(error, "reply_text", "") or error)
    is_channel = isinstance(error, amqp.exceptions.ChannelError)
    if not (is_channel or isinstance(error, amqp.exceptions.NotAllowed)) or _PASSES.search(text):
        return None
    if isinstance(error, amqp.exceptions.AccessRefused):
        return _no_right(text, shown)
    if isinstance(error, amqp.exceptions.NotAllowed):
        return AccessRefusedError(
            shown,
            text,
            "Make the virtual host (rabbitmqctl add_vhost NAME), give the user rights on it (rabbitmqctl "
            "set_permissions), or mend the path of the URL",
            what="broker",
        )
    if isinstance(error, amqp.exceptions.PreconditionFailed):
        mend = "delete what has that name, once it is empty, or choose another namespace"
    elif isinstance(error, amqp.exceptions.NotFound):
        mend = "declare its endpoint again: start a worker that has it"
    else:
        mend = "see its log for why"
    return ConfigurationError(f"the broker at {shown} refuses: {text}; {mend}")


def _no_right(text: str, shown: str) -> AccessRefusedError:
    found: Any = _RIGHT.search(text)
    if found is None:
        return AccessRefusedError(
            shown,
            text,
            "Write amqp://USER:PASSWORD@HOST/VHOST with the credentials that it knows, and : / ? # @ % in them "
            "percent-encoded",
            what="broker",
        )
    return AccessRefusedError(
        shown,
        text,
        r"Grant it: rabbitmqctl set_permissions -p VHOST USER '^NAMESPACE\.' '^(NAMESPACE\.|amq\.default$)' "
        r"'^NAMESPACE\.'",
        right=f"{found[1] or 'access to'} {found[2]}",
        what="broker",
    )
