"""Traces: one conversation is one tree of spans, whoever worked on it, and nothing is traced that nobody asked for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from examples.credit_check.messages import CheckCredit, RequestScore, ScoreReported
from examples.credit_check.saga import BUREAUS, CreditCheck
from sagabus import Bus, Context, Keyring, RetryPolicy, Signing
from sagabus.commit import Commit, Lifecycle, Result, Snapshot, Want
from sagabus.errors import UnknownEndpointError
from sagabus.store.memory import MemoryStore
from sagabus.store.protocol import Bookkeeping
from sagabus.tracing import instrument
from tests import servers
from transports.memory import MemoryTransport

SCORES = {"equifax": 720, "experian": 710, "transunion": 730}


class Traces:
    """What was exported."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, *begins: str) -> list[ReadableSpan]:
        """Return the spans whose names begin so."""
        return [span for span in self.spans if span.name.startswith(begins)]

    def one(self, name: str) -> ReadableSpan:
        [span] = self.named(name)
        return span

    def messages(self) -> Counter[str]:
        """Return how many messages of each type were processed."""
        found = {_attribute(s, "messaging.message.id"): s for s in self.named("process")}
        return Counter(_attribute(span, "sagabus.message.type") for span in found.values())

    def parents(self) -> dict[str, set[str]]:
        """Return the names of the parents of all spans of each name."""
        by_id = {span.context.span_id: span.name for span in self.spans}
        found: dict[str, set[str]] = {}
        for span in self.spans:
            if span.parent is not None:
                found.setdefault(span.name, set()).add(by_id[span.parent.span_id])
        return found

    def check_is_one_tree(self) -> None:
        """Make sure that there is one root, and that every other span's parent is there."""
        ids = {span.context.span_id for span in self.spans}
        assert len({span.context.trace_id for span in self.spans}) == 1
        assert [s.name for s in self.spans if s.parent is None] == [self.named("send")[0].name]
        assert [s.name for s in self.spans if s.parent is not None and s.parent.span_id not in ids] == []


def _attribute(span: ReadableSpan, name: str) -> Any:
    assert span.attributes is not None
    return span.attributes[name]


@pytest.fixture
def traces() -> Iterator[Traces]:
    """Yield an exporter that keeps all."""
    traces = Traces()
    yield traces
    traces.provider.shutdown()


def open_bank(bus: Bus, *, batch: int = 64) -> None:
    """Put the credit check on *bus*."""
    bus.endpoint("credit", CreditCheck, batch=batch)
    for number, name in enumerate(BUREAUS):
        endpoint = bus.endpoint(name, retry=RetryPolicy(2, immediate=1))
        if number % 2:

            @endpoint.consumer
            async def score(m: RequestScore, context: Context) -> None:
                context.reply(ScoreReported(context.endpoint, SCORES[context.endpoint]))
        else:

            @endpoint.consumer
            def score_at_once(m: RequestScore, context: Context) -> None:
                context.reply(ScoreReported(context.endpoint, SCORES[context.endpoint]))


@contextmanager
def at_work(*workers: Any) -> Iterator[None]:
    """Run workers in threads."""
    threads = [threading.Thread(target=worker.run) for worker in workers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.stop()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()


SEVEN = {"credit.check": 1, "credit.request-score": 3, "credit.score-reported": 3}


def test_trace_of_one_check_shows_all_seven_messages_in_one_tree(traces: Traces) -> None:
    """The send is the root; each message's span is a child of what sent it, and has its steps below it."""
    with Bus("memory:", "memory:") as bus:
        open_bank(instrument(bus, traces.provider))
        bus.send(CheckCredit("42"), to="credit", id="check-42")
        bus.worker().run_until_idle()
    traces.check_is_one_tree()
    assert traces.messages() == SEVEN
    parents = traces.parents()
    assert {name: parents[name] for name in parents if name.startswith("process")} == {
        "process credit": {"send credit", *(f"process {bureau}" for bureau in BUREAUS)},
        **{f"process {bureau}": {"process credit"} for bureau in BUREAUS},
    }
    for name in ("credit", *BUREAUS):
        assert parents[f"receive {name}"] == parents[f"dispatch {name}"] == {f"process {name}"}
    assert parents["handle CreditCheck"] == parents["commit CreditCheck"] == {"process credit"}


def test_spans_say_what_the_conventions_name(traces: Traces) -> None:
    """Names, kinds and attributes of OpenTelemetry's semantic conventions for messaging."""
    with Bus("memory:", "memory:") as bus:
        open_bank(instrument(bus, traces.provider))
        bus.send(CheckCredit("42"), to="credit", id="check-42")
        bus.worker(name="w1").run_until_idle()
    common = {"messaging.system": "sagabus", "messaging.message.conversation_id": "check-42"}
    send = traces.one("send credit")
    assert (send.kind, dict(send.attributes or {})) == (
        SpanKind.PRODUCER,
        {
            **common,
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": "credit",
            "messaging.message.id": "check-42",
            "sagabus.message.type": "credit.check",
        },
    )
    process = traces.one("process equifax")
    assert process.kind is SpanKind.CONSUMER
    assert _attribute(process, "messaging.operation.type") == "process"
    assert _attribute(process, "messaging.client.id") == "w1"
    assert common.items() <= dict(process.attributes or {}).items()
    kinds = {span.name.split()[0]: span.kind for span in traces.spans}
    assert kinds == {
        "send": SpanKind.PRODUCER,
        "process": SpanKind.CONSUMER,
        "receive": SpanKind.CLIENT,
        "handle": SpanKind.INTERNAL,
        "commit": SpanKind.CLIENT,
        "dispatch": SpanKind.CLIENT,
    }
    assert {_attribute(s, "sagabus.outcome") for s in traces.named("commit")} == {"stored"}
    for span in traces.spans:
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= span.end_time


class Meeting(MemoryStore):
    """Has the first two workers that load a live saga see the same: what they write forks, whoever is quicker."""

    def __init__(self) -> None:
        super().__init__()
        self._barrier = threading.Barrier(2)
        self._met = threading.Semaphore(2)
        self._writing: set[int] = set()

    def load(self, wants: Sequence[Want], noting: Bookkeeping | None = None) -> list[Snapshot]:
        snapshots = super().load(wants, noting)
        if any(s.lifecycle is Lifecycle.LIVE for s in snapshots) and self._met.acquire(blocking=False):
            self._barrier.wait(30)
            self._writing.add(threading.get_ident())
        return snapshots

    def commit(self, commits: Sequence[Commit], *, by: str) -> list[Result]:
        results = super().commit(commits, by=by)
        if threading.get_ident() in self._writing:
            # Neither goes on before both have written.
            self._writing.discard(threading.get_ident())
            self._barrier.wait(30)
        return results


def test_merge_links_to_the_spans_that_wrote_the_siblings(traces: Traces) -> None:
    """A merge has one parent, what it handles, and links to what else came into it; all is still one tree."""
    with Bus(Meeting(), MemoryTransport("memory:", namespace="test")) as bus:
        open_bank(instrument(bus, traces.provider), batch=1)
        workers = [bus.worker(["credit"], name="a"), bus.worker(["credit"], name="b"), bus.worker(BUREAUS, name="c")]
        with at_work(*workers):
            bus.send(CheckCredit("42"), to="credit")
            servers.until(lambda: [row.lifecycle for row in bus.store.sagas()] == [Lifecycle.COMPLETED], "a decision")
            servers.until(lambda: sum(queue.depth for queue in bus.transport.queues()) == 0, "the rest")
    traces.check_is_one_tree()
    messages = traces.messages()
    assert {name: messages[name] for name in SEVEN} == SEVEN
    merge = traces.one("merge CreditCheck")
    by_id = {span.context.span_id: span for span in traces.spans}
    versions = {
        _attribute(commit, "sagabus.version"): by_id[commit.parent.span_id].context
        for commit in traces.named("commit")
        if commit.parent is not None and "sagabus.version" in (commit.attributes or {})
    }
    assert len(merge.links) == 2
    assert [_attribute_of(link, "sagabus.version") for link in merge.links] == list(_attribute(merge, "sagabus.merged"))
    for link in merge.links:
        assert link.context.span_id == versions[_attribute_of(link, "sagabus.version")].span_id
    assert "forked" in {_attribute(span, "sagabus.outcome") for span in traces.named("commit")}


def _attribute_of(link: trace.Link, name: str) -> Any:
    assert link.attributes is not None
    return link.attributes[name]


@pytest.mark.parametrize("servers_", ["valkey valkey", "cluster cluster", "valkey rabbitmq"])
def test_trace_over_servers_and_workers_is_one_tree(
    servers_: str, request: pytest.FixtureRequest, namespace: str, traces: Traces
) -> None:
    """Also where commits put messages straight into queues; sent by a web handler, under its own span."""
    urls = [request.getfixturevalue(f"{name}_url") for name in servers_.split()]
    with ExitStack() as stack:
        bus = stack.enter_context(Bus(*urls, namespace=namespace))
        web = instrument(stack.enter_context(Bus(*urls, namespace=namespace)), traces.provider)
        open_bank(instrument(bus, traces.provider))
        assert bus.transport
        with at_work(bus.worker(name="a"), bus.worker(name="b")):

            async def handler() -> None:
                with traces.provider.get_tracer("web").start_as_current_span("send /checks"):
                    await web.send_async(CheckCredit("42"), to="credit")

            asyncio.run(handler())
            servers.until(lambda: [row.lifecycle for row in bus.store.sagas()] == [Lifecycle.COMPLETED], "a decision")
            servers.until(lambda: sum(queue.depth for queue in bus.transport.queues()) == 0, "the rest")
    ids = {span.context.span_id for span in traces.spans}
    assert [s.name for s in traces.spans if s.parent is None] == ["send /checks"]
    assert [s.name for s in traces.spans if s.parent is not None and s.parent.span_id not in ids] == []
    assert {name: traces.messages()[name] for name in SEVEN} == SEVEN


def test_handlers_have_their_span_current(traces: Traces) -> None:
    """What they trace themselves, and the libraries that they call, is found below it."""
    tracer = traces.provider.get_tracer("theirs")
    with Bus("memory:", "memory:") as bus:
        desk = instrument(bus, traces.provider).endpoint("desk")

        @desk.consumer
        async def look(m: CheckCredit) -> None:
            with tracer.start_as_current_span("ask a bureau"):
                await asyncio.sleep(0)

        @desk.consumer
        def write(m: CheckCredit) -> None:
            tracer.start_span("write it down").end()

        bus.send(CheckCredit("1"), to="desk")
        bus.worker().run_until_idle()
        assert trace.get_current_span() is trace.INVALID_SPAN
    by_id = {span.context.span_id: span for span in traces.spans}
    for name, function in (("ask a bureau", "look"), ("write it down", "write")):
        parent = traces.one(name).parent
        assert parent is not None
        assert by_id[parent.span_id].name.startswith("handle ")
        assert by_id[parent.span_id].name.endswith(function)


def test_message_that_fails_says_so_at_each_try_and_no_secret(traces: Traces) -> None:
    """Each try is a span of its own below what sent the message; errors are scrubbed as dead letters are."""
    with Bus("memory:", "memory:") as bus:
        desk = instrument(bus, traces.provider).endpoint("desk", retry=RetryPolicy(2, immediate=1))

        @desk.consumer
        def look(m: CheckCredit) -> None:
            raise LookupError("nobody at redis://user:hunter2@host")

        bus.send(CheckCredit("1"), to="desk")
        bus.worker().run_until_idle()
    tries = traces.named("process desk")
    assert [(s.attributes or {}).get("sagabus.attempt") for s in tries] == [None, 2]
    assert {s.parent.span_id for s in tries if s.parent} == {traces.one("send desk").context.span_id}
    for span in (*tries, *traces.named("handle")):
        assert span.status.status_code is StatusCode.ERROR
        assert "hunter2" not in str(span.status.description)
        assert "nobody at" in str(span.status.description)
    assert {_attribute(span, "error.type") for span in tries} == {"failed"}
    assert {_attribute(span, "error.type") for span in traces.named("handle")} == {"LookupError"}


def test_send_that_goes_nowhere_is_a_span_with_an_error(traces: Traces) -> None:
    """And none is left open."""
    with Bus("memory:", "memory:") as bus:
        instrument(bus, traces.provider)
        with pytest.raises(UnknownEndpointError):
            bus.send(CheckCredit("1"), to="nowhere")
        with pytest.raises(UnknownEndpointError):
            bus.send_many([CheckCredit(str(n)) for n in range(3)], to="nowhere")
        with pytest.raises(UnknownEndpointError):
            asyncio.run(bus.request(CheckCredit("1"), to="nowhere"))
        assert bus.tracing is not None
        assert bus.tracing._sends == {}
    assert [span.status.status_code for span in traces.named("send nowhere")] == 5 * [StatusCode.ERROR]


def test_signed_messages_are_traced_and_tried_again(traces: Traces) -> None:
    """The trace context is part of what is signed, and a retry carries it as it was."""
    tries: list[int] = []
    with Bus("memory:", "memory:", signing=Signing(keyring=Keyring({"k1": bytes(32)}))) as bus:
        open_bank(instrument(bus, traces.provider))
        desk = bus.endpoint("desk", retry=RetryPolicy(2, immediate=1))

        @desk.consumer
        def look(m: CheckCredit, context: Context) -> None:
            tries.append(context.attempt)
            if context.attempt == 1:
                raise LookupError("again")
            context.send(CheckCredit("42"), to="credit")

        bus.send(CheckCredit("1"), to="desk")
        bus.worker().run_until_idle()
    assert tries == [1, 2]
    traces.check_is_one_tree()
    assert not [s for s in traces.spans if _error(s) == "untrusted"]


def _error(span: ReadableSpan) -> Any:
    return (span.attributes or {}).get("error.type")


def test_bus_that_is_not_instrumented_traces_nothing_and_writes_no_trace_context() -> None:
    """Off is off: no span, no attribute, and nothing of it is imported."""
    script = """
import sys
from sagabus import Bus, Saga, message
from sagabus.worker import Worker

@message("a")
class A: ...

seen = []
with Bus("memory:", "memory:") as bus:
    desk = bus.endpoint("desk")

    @desk.consumer
    def look(m: A, context) -> None:
        seen.append(context.envelope.traceparent)

    bus.send(A(), to="desk")
    bus.worker().run_until_idle()
assert seen == [""], seen
# redis-py imports OpenTelemetry by itself where it finds it.
assert not [name for name in sys.modules if name.startswith("sagabus.tracing")]
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_tracing_without_opentelemetry_says_what_to_install() -> None:
    """Not a traceback of imports."""
    script = """
import sys
sys.modules["opentelemetry"] = None
from sagabus import Bus
from sagabus.errors import ConfigurationError
from sagabus.tracing import instrument
try:
    instrument(Bus("memory:", "memory:"))
except ConfigurationError as error:
    assert "sagabus[tracing]" in str(error)
else:
    raise SystemExit(1)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_unsampled_trace_costs_no_spans_and_is_carried_on(traces: Traces) -> None:
    """What a sampler has decided at the root holds for all that follows."""
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF))
    provider.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
    carried: list[str] = []
    with Bus("memory:", "memory:") as bus:
        instrument(bus, provider)
        desk = bus.endpoint("desk")

        @desk.consumer
        def look(m: CheckCredit, context: Context) -> None:
            carried.append(context.envelope.traceparent)

        bus.send(CheckCredit("1"), to="desk")
        bus.worker().run_until_idle()
    assert len(carried) == 1
    assert int(carried[0].rpartition("-")[2], 16) & 1 == 0, "the flag that says sampled"
