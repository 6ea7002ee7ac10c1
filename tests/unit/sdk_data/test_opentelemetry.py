"""One trace through client, workflow, activity and child; nothing twice in a replay; errors marked unless benign."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import opentelemetry.trace
import pytest
from opentelemetry import baggage, context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, get_tracer
from opentelemetry.util._once import Once

import perdure.contrib.opentelemetry.workflow as traced
from perdure import activity, workflow
from perdure.client import Client, WorkflowFailureError
from perdure.common import RetryPolicy
from perdure.contrib.opentelemetry import (
    OpenTelemetryPlugin,
    ReplaySafeTracerProvider,
    TracingInterceptor,
    create_tracer_provider,
)
from perdure.contrib.opentelemetry._propagation import attached
from perdure.exceptions import ApplicationError, ApplicationErrorCategory
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker
from tests.unit.sdk_data.drivers import run

SECONDS = timedelta(seconds=20)


@activity.defn
async def shout(text: str) -> str:
    """Fail as told, or return the text in capitals with the baggage that came along."""
    if text == "bad":
        raise ApplicationError("bad", non_retryable=True)
    if text == "benign":
        raise ApplicationError("benign", non_retryable=True, category=ApplicationErrorCategory.BENIGN)
    return f"{text.upper()} {baggage.get_baggage('who')}"


@workflow.defn
class Child:
    """Does nothing."""

    @workflow.run
    async def run(self) -> str:
        """Return."""
        return "child"


@workflow.defn
class Traced:
    """Does a bit of everything."""

    def __init__(self) -> None:
        self.done = False

    @workflow.run
    async def run(self, text: str) -> str:
        """Wait for the signal, then call an activity and a child."""
        await workflow.wait_condition(lambda: self.done)
        answer = await workflow.execute_activity(
            shout, text, start_to_close_timeout=SECONDS, retry_policy=RetryPolicy(maximum_attempts=1)
        )
        traced.completed_span("between", attributes={"answer": answer})
        await workflow.execute_child_workflow(Child.run, id=f"{workflow.info().workflow_id}-child")
        return answer

    @workflow.signal
    async def finish(self) -> None:
        """Let it go on."""
        self.done = True

    @workflow.query
    def is_done(self) -> bool:
        """Tell whether it may go on."""
        return self.done


@workflow.defn
class WithSpans:
    """Makes spans with OpenTelemetry's own API."""

    @workflow.run
    async def run(self) -> str:
        """Call an activity twice inside a span."""
        with get_tracer("user").start_as_current_span("outer"):
            for text in ("a", "b"):
                with get_tracer("user").start_as_current_span(f"inner {text}") as span:
                    span.set_attribute("text", text)
                    span.add_event("calling")
                    await workflow.execute_activity(shout, text, start_to_close_timeout=SECONDS)
        return "done"


def _tree(spans: tuple[ReadableSpan, ...]) -> list[str]:
    """Return the spans' names, sorted by time within each parent, indented below their parents."""
    ids = {span.context.span_id for span in spans if span.context}
    lines: list[str] = []

    def add(parent: int | None, depth: int) -> None:
        for span in sorted(spans, key=lambda span: span.start_time or 0):
            its_parent = span.parent.span_id if span.parent and span.parent.span_id in ids else None
            if its_parent == parent and span.context:
                lines.append("  " * depth + span.name)
                add(span.context.span_id, depth + 1)

    add(None, 0)
    return lines


async def _run_traced(client: Client, text: str, cached: int) -> str:
    queue = f"queue-{uuid.uuid4()}"
    token = context.attach(baggage.set_baggage("who", "me"))
    try:
        async with Worker(
            client,
            task_queue=queue,
            workflows=[Traced, Child],
            activities=[shout],
            max_cached_workflows=cached,
        ):
            handle = await client.start_workflow(Traced.run, text, id=f"w-{uuid.uuid4()}", task_queue=queue)
            assert not await handle.query(Traced.is_done)
            await handle.signal(Traced.finish)
            return await handle.result()
    finally:
        context.detach(token)


def _provider() -> tuple[TracerProvider, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


@pytest.mark.parametrize("cached", [100, 0], ids=["cached", "replayed for every task"])
def test_all_that_happens_is_in_the_trace_once(cached: int) -> None:
    provider, exporter = _provider()
    tracer = provider.get_tracer("test")

    async def scenario() -> str:
        async with await WorkflowEnvironment.start_local() as environment:
            config = environment.client.config()
            config["interceptors"] = [TracingInterceptor(tracer)]
            with tracer.start_as_current_span("test"):
                return await _run_traced(Client(**config), "hello", cached)

    assert run(scenario()) == "HELLO me"
    spans = exporter.get_finished_spans()
    assert len({span.context.trace_id for span in spans if span.context}) == 1
    tree = _tree(spans)
    assert tree[0] == "test"
    assert sorted(line.strip() for line in tree) == sorted(
        [
            "test",
            "StartWorkflow:Traced",
            "QueryWorkflow:is_done",
            "SignalWorkflow:finish",
            "RunWorkflow:Traced",
            "HandleQuery:is_done",
            "HandleSignal:finish",
            "StartActivity:shout",
            "RunActivity:shout",
            "between",
            "StartChildWorkflow:Child",
            "RunWorkflow:Child",
            "CompleteWorkflow:Child",
            "CompleteWorkflow:Traced",
        ]
    )
    for child, parent in (
        ("RunWorkflow:Traced", "StartWorkflow:Traced"),
        ("HandleQuery:is_done", "QueryWorkflow:is_done"),
        ("RunActivity:shout", "StartActivity:shout"),
        ("RunWorkflow:Child", "StartChildWorkflow:Child"),
    ):
        by_name = {span.name: span for span in spans}
        child_span, parent_span = by_name[child], by_name[parent]
        assert child_span.parent
        assert parent_span.context
        assert child_span.parent.span_id == parent_span.context.span_id
    signal = next(span for span in spans if span.name == "HandleSignal:finish")
    sent = next(span for span in spans if span.name == "SignalWorkflow:finish")
    assert [link.context.span_id for link in signal.links] == [sent.context.span_id if sent.context else 0]
    assert signal.kind == SpanKind.SERVER
    between = next(span for span in spans if span.name == "between")
    assert between.attributes
    assert between.attributes["answer"] == "HELLO me"
    assert str(between.attributes["temporalWorkflowID"]).startswith("w-")


@pytest.mark.parametrize(("text", "status"), [("bad", StatusCode.ERROR), ("benign", StatusCode.UNSET)])
def test_an_error_marks_its_span_unless_it_is_benign(text: str, status: StatusCode) -> None:
    provider, exporter = _provider()

    async def scenario() -> None:
        async with await WorkflowEnvironment.start_local() as environment:
            config = environment.client.config()
            config["interceptors"] = [TracingInterceptor(provider.get_tracer("test"))]
            with pytest.raises(WorkflowFailureError):
                await _run_traced(Client(**config), text, 100)

    run(scenario())
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert spans["RunActivity:shout"].status.status_code == status
    [event] = spans["CompleteWorkflow:Traced"].events
    assert event.name == "exception"


def test_a_workflow_that_nobody_traced_has_no_spans_unless_wanted() -> None:
    for always, expected in ((False, []), (True, ["CompleteWorkflow:Child", "RunWorkflow:Child"])):
        provider, exporter = _provider()
        interceptor = TracingInterceptor(provider.get_tracer("test"), always_create_workflow_spans=always)

        async def scenario(interceptor: TracingInterceptor = interceptor) -> None:
            async with await WorkflowEnvironment.start_local() as environment:
                queue = f"queue-{uuid.uuid4()}"
                async with Worker(
                    environment.client, task_queue=queue, workflows=[Child], interceptors=[interceptor]
                ):
                    await environment.client.execute_workflow(Child.run, id=f"w-{queue}", task_queue=queue)

        run(scenario())
        assert sorted(span.name for span in exporter.get_finished_spans()) == expected


@pytest.fixture
def global_exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Make a provider that workflows may use the global one, for one test."""
    monkeypatch.setattr(opentelemetry.trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    monkeypatch.setattr(opentelemetry.trace, "_TRACER_PROVIDER", None)
    exporter = InMemorySpanExporter()
    provider = create_tracer_provider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    opentelemetry.trace.set_tracer_provider(provider)
    yield exporter
    provider.shutdown()


@pytest.mark.parametrize("cached", [100, 0], ids=["cached", "replayed for every task"])
def test_spans_of_workflow_code_last_and_are_written_once(
    global_exporter: InMemorySpanExporter, cached: int
) -> None:
    async def scenario() -> None:
        async with await WorkflowEnvironment.start_local() as environment:
            config = environment.client.config()
            config["plugins"] = [OpenTelemetryPlugin(add_temporal_spans=True)]
            client = Client(**config)
            queue = f"queue-{uuid.uuid4()}"
            async with Worker(
                client,
                task_queue=queue,
                workflows=[WithSpans],
                activities=[shout],
                max_cached_workflows=cached,
            ):
                with get_tracer("test").start_as_current_span("test"):
                    await client.execute_workflow(WithSpans.run, id=f"w-{queue}", task_queue=queue)

    run(scenario())
    spans = global_exporter.get_finished_spans()
    assert _tree(spans) == [
        "test",
        "  StartWorkflow:WithSpans",
        "    RunWorkflow:WithSpans",
        "      outer",
        "        inner a",
        "          StartActivity:shout",
        "            RunActivity:shout",
        "        inner b",
        "          StartActivity:shout",
        "            RunActivity:shout",
    ]
    inner = next(span for span in spans if span.name == "inner a")
    assert inner.attributes == {"text": "a"}
    assert [event.name for event in inner.events] == ["calling"]


def test_the_plugin_refuses_a_provider_whose_ids_change_in_a_replay() -> None:
    provider = TracerProvider()
    with pytest.raises(ValueError, match="create_tracer_provider"):
        ReplaySafeTracerProvider(provider, create_tracer_provider().id_generator())

    async def scenario() -> None:
        async with await WorkflowEnvironment.start_local() as environment:
            config = environment.client.config()
            config["plugins"] = [OpenTelemetryPlugin()]
            with pytest.raises(ValueError, match="create_tracer_provider"):
                Worker(Client(**config), task_queue="q", workflows=[Child])

    run(scenario())


def test_ids_outside_of_workflows_come_from_the_given_generator_and_can_be_said() -> None:
    generator = create_tracer_provider().id_generator()
    generator.seed_span_id(5)
    generator.seed_trace_id(6)
    assert (generator.generate_span_id(), generator.generate_trace_id()) == (5, 6)
    assert generator.generate_span_id() != generator.generate_span_id()
    assert generator.generate_trace_id() != generator.generate_trace_id()


def test_a_context_that_ends_in_another_task_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        block: Any = attached(context.set_value("key", "inside"))

        async def enter() -> None:
            block.__enter__()

        async def leave() -> None:
            block.__exit__(None, None, None)

        await asyncio.create_task(enter())
        await asyncio.create_task(leave())
        with attached(None):
            assert context.get_value("key") is None

    run(scenario())
    assert not caplog.records
