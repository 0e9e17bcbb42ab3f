"""The AsyncAPI 3.0 document of a bus: endpoints are channels, handlers and what they say are operations."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field

from sagabus.asyncapi.envelope_schema import envelope_of, envelope_schema
from sagabus.asyncapi.payloads import ENCRYPTED, PLACE, about, schemas_of
from sagabus.asyncapi.said import Said, said_by, said_in_class
from sagabus.asyncapi.sample import sample
from sagabus.asyncapi.server import server_of
from sagabus.messages import MERGE, MessageType, registry

if TYPE_CHECKING:
    from sagabus.bus import Bus
    from sagabus.definition import SagaDefinition
    from sagabus.endpoint import Endpoint

CONTENT_TYPE: Final = "application/cloudevents+json"
_REPLIES: Final = "replies.to.senders"
_OURS: Final = "sagabus."
_ENVELOPE: Final = "CloudEvent"


def asyncapi(bus: Bus, *, title: str, version: str) -> dict[str, Any]:
    """Return the AsyncAPI 3.0.0 document of *bus*: plain data, in an order that is the same every time.

    What is sent, published and replied is told from the source of handlers, as far as it can be told without running
    them, and from the routes of the bus. Nothing is connected to.

    Args:
        title: what the application is called.
        version: of the application.

    Raises:
        ConfigurationError: where the credentials end in the transport's URL cannot be told.
    """
    document: dict[str, Any] = {
        "asyncapi": "3.0.0",
        "info": {"title": title, "version": version, "description": _DESCRIPTION},
        "defaultContentType": CONTENT_TYPE,
    }
    server = server_of(bus.transport_url)
    if server is not None:
        document["servers"] = {"broker": server}
    kinds = [kind for kind in registry.all() if not kind.name.startswith(_OURS)]
    paper = _Paper(bus)
    for endpoint in sorted(bus.endpoints.values(), key=lambda each: each.name):
        paper.add_endpoint(endpoint)
    for name, to in sorted(bus.routes.items()):
        paper.add_route(registry.named(name), to)
    return document | {
        "channels": paper.channels,
        "operations": paper.operations,
        "components": {"messages": _messages(kinds), "schemas": _schemas(kinds)},
    }


_DESCRIPTION: Final = (
    "Made by sagabus from the endpoints, handlers and message classes of the application. A channel is the queue of an "
    "endpoint; a command goes into one of them, and a copy of an event into each that handles its type."
)


@define
class _Paper:
    """Channels and operations, as they are added."""

    bus: Bus
    channels: dict[str, Any] = field(factory=dict)
    operations: dict[str, Any] = field(factory=dict)

    def add_endpoint(self, endpoint: Endpoint) -> None:
        """Add what comes to *endpoint*, and what its handlers say."""
        channel = self._channel(endpoint.name)
        channel["x-sagabus-partitions"] = endpoint.options.partitions
        for definition in endpoint.sagas:
            self._add_saga(endpoint.name, definition)
        for consumer in endpoint.consumers:
            said = said_by(consumer.function, 1) if consumer.wants_context else ()
            summary = about_function(consumer.function) or f"Handled by {consumer.name}."
            by = consumer.name.rpartition(".")[2]
            if key(f"{endpoint.name}.receives.{consumer.kind.name}.{by}") in self.operations:
                by = consumer.name
            self._receive(endpoint.name, by, consumer.kind, summary, [s for s in said if s.word == "reply"])
            self._say(endpoint.name, f"{endpoint.name}.{by}", said)

    def add_route(self, kind: MessageType, to: str) -> None:
        """Add that commands of *kind* go to the endpoint *to* unless their sender says otherwise."""
        self._operation(f"route.{kind.name}", "send", to, [kind], f"Sent along the route of {kind.name}.")

    def _add_saga(self, endpoint: str, definition: SagaDefinition) -> None:
        said = said_in_class(definition.cls)
        to_starter = [s for each in said.values() for s in each if s.word == "reply_to_starter"]
        for handler in sorted(definition.handlers.values(), key=lambda each: each.kind.name):
            if handler.kind.name == MERGE:
                continue
            replies = [s for s in said.get(handler.method, ()) if s.word == "reply"]
            if handler.starts:
                replies += to_starter
            act = "Starts" if handler.starts else "Continues"
            key = f", one for each {handler.key}" if handler.key else ""
            own = about_function(getattr(definition.cls, handler.method))
            summary = f"{act} the saga {definition.name}{key}.{f' {own}' if own else ''}"
            self._receive(endpoint, definition.name, handler.kind, summary, replies)
        self._say(endpoint, definition.name, [s for each in said.values() for s in each])

    def _receive(self, endpoint: str, by: str, kind: MessageType, summary: str, replies: Iterable[Said]) -> None:
        operation = self._operation(f"{endpoint}.receives.{kind.name}.{by}", "receive", endpoint, [kind], summary)
        answers = list({s.kind.name: s.kind for s in replies}.values())
        if answers:
            channel = self._channel(_REPLIES, address=None)
            operation["reply"] = {
                "address": {"location": "$message.payload#/replyto", "description": "The endpoint that asked."},
                "channel": {"$ref": f"#/channels/{_REPLIES}"},
                "messages": [_on_channel(channel, _REPLIES, answer) for answer in answers],
            }

    def _say(self, endpoint: str, by: str, said: Iterable[Said]) -> None:
        for each in dict.fromkeys(said):
            name = each.kind.name
            if each.word == "publish":
                topic = f"event.{name}"
                self._channel(topic, address=name, description="An event: whoever handles its type gets a copy.")
                self._operation(f"{by}.publishes.{name}", "send", topic, [each.kind], f"Published by {by}.")
            elif each.word == "defer":
                summary = f"Deferred by {by}: sent to itself at a later time."
                self._operation(f"{by}.defers.{name}", "send", endpoint, [each.kind], summary)
            elif each.word == "send":
                for to in self._receivers(each):
                    self._operation(f"{by}.sends.{name}.to.{to}", "send", to, [each.kind], f"Sent by {by}.")

    def _receivers(self, said: Said) -> list[str]:
        """Return where a command goes: the endpoint that is named, or its route, or all that it may be for."""
        if said.to:
            return [said.to]
        if said.routed:
            # Where there is a route, that is an operation of its own.
            return []
        return [name for name, endpoint in self.bus.endpoints.items() if said.kind.name in endpoint.handled_types()]

    def _channel(self, name: str, **more: Any) -> dict[str, Any]:
        channel = self.channels.get(key(name))
        if channel is None:
            channel = self.channels[key(name)] = {"address": name} | more | {"messages": {}}
        return channel

    def _operation(
        self, name: str, action: str, channel: str, kinds: Iterable[MessageType], summary: str
    ) -> dict[str, Any]:
        messages = [_on_channel(self._channel(channel), channel, kind) for kind in kinds]
        operation: dict[str, Any] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{key(channel)}"},
            "summary": summary,
            "messages": messages,
        }
        self.operations[key(name)] = operation
        return operation


def about_function(function: Any) -> str:
    """Return the first sentence of a function's docstring; empty where it has none."""
    return (getattr(function, "__doc__", None) or "").strip().partition("\n")[0]


def key(name: str) -> str:
    """Return *name* as a key of the document, which has letters, digits, and . _ - in it."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)


def _on_channel(channel: dict[str, Any], name: str, kind: MessageType) -> dict[str, str]:
    channel["messages"][key(kind.name)] = {"$ref": f"#/components/messages/{key(kind.name)}"}
    return {"$ref": f"#/channels/{key(name)}/messages/{key(kind.name)}"}


def _messages(kinds: list[MessageType]) -> dict[str, Any]:
    bodies, components = schemas_of(kind.cls for kind in kinds)
    return {key(kind.name): _message(kind, body, components) for kind, body in zip(kinds, bodies, strict=True)}


def _message(kind: MessageType, body: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    own = about(kind.cls)
    message: dict[str, Any] = {"name": kind.name, "title": kind.cls.__name__}
    if own:
        message["summary"], _, rest = own.partition("\n")
        if rest.strip():
            message["description"] = own
    message |= {
        "contentType": CONTENT_TYPE,
        "correlationId": {"location": "$message.payload#/correlationid"},
        "payload": {
            "allOf": [
                {"$ref": f"{PLACE}{_ENVELOPE}"},
                {
                    "type": "object",
                    "properties": {
                        "type": {"const": kind.name},
                        "dataversion": {"const": kind.version},
                        "data": body,
                    },
                    "required": ["data"] if kind.version == 1 else ["data", "dataversion"],
                },
            ]
        },
        "x-sagabus-version": kind.version,
    }
    if kind.codec.secrets is not None:
        message[ENCRYPTED] = True
    else:
        whole = envelope_of(kind.name, kind.version, sample(body, components))
        message["examples"] = [{"name": "smallest", "payload": whole}]
    return message


def _schemas(kinds: list[MessageType]) -> dict[str, Any]:
    _, components = schemas_of(kind.cls for kind in kinds)
    return dict(sorted(components.items())) | {_ENVELOPE: envelope_schema()}
