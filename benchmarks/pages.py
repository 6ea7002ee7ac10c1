"""How fast the web UI's pages begin over very many runs and a very long history.

The runs are rows of lists only, written straight into the file; the long history is made through the server.

    python -m benchmarks.pages --runs 1000000 --events 50000
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

from benchmarks.micro.visibility_cost import ATTRIBUTES, fill
from benchmarks.targets import NAMESPACE, TARGETS, Target, free_port, running
from perdure.api.command.v1 import Command, RecordMarkerCommandAttributes
from perdure.api.common.v1 import Payload, Payloads, WorkflowType
from perdure.api.enums.v1 import CommandType
from perdure.api.taskqueue.v1 import TaskQueue
from perdure.api.workflowservice.v1 import (
    PollWorkflowTaskQueueRequest,
    RespondWorkflowTaskCompletedRequest,
    StartWorkflowExecutionRequest,
)
from perdure.core.visibility import AttributeType
from perdure.service import ConnectConfig, ServiceClient
from perdure.store.sqlite import SqliteStore

MOST_MS = 100.0
"""The goal: no page's first byte comes later than this."""
ASKED = 9
"""How often each page is asked for."""
MARKERS = 200
QUEUE = "long"
_KINDS = {
    AttributeType.KEYWORD: "Keyword",
    AttributeType.INT: "Int",
    AttributeType.KEYWORD_LIST: "KeywordList",
    AttributeType.TEXT: "Text",
}
LIMITS = ("limit.historyCount.error=200000", "limit.historyCount.suggestContinueAsNew=200000")


def with_ui(ui_port: int) -> Target:
    """Perdure on a file, with its UI."""
    target = TARGETS["perdure-file"]

    def command(port: int, path: Path) -> list[str]:
        shown = [part for part in target.command(port, path) if part != "--headless"]
        settings = [part for limit in LIMITS for part in ("--dynamic-config-value", limit)]
        found = [
            part
            for name, kind in ATTRIBUTES.items()
            for part in ("--search-attribute", f"{name}={_KINDS[kind]}")
        ]
        return [*shown, "--ui-port", str(ui_port), *settings, *found]

    return replace(target, command=command)


async def namespace_id(path: Path) -> str:
    """Of the namespace that a server made in this file."""
    store = SqliteStore(path)
    await store.open()
    try:
        return next(one.namespace_id for one in await store.list_namespaces() if one.name == NAMESPACE)
    finally:
        await store.close()


def _marker(number: int) -> Command:
    data = Payload(metadata={"encoding": b"json/plain"}, data=b"%d" % number)
    return Command(
        command_type=CommandType.COMMAND_TYPE_RECORD_MARKER,
        record_marker_command_attributes=RecordMarkerCommandAttributes(
            marker_name=f"marker-{number % 7}", details={"data": Payloads(payloads=[data])}
        ),
    )


async def make_long(address: str, events: int) -> str:
    """Makes an open run with at least so many events; returns its run id."""
    client = await ServiceClient.connect(ConnectConfig(target_host=address))
    service, queue = client.workflow_service, TaskQueue(name=QUEUE)
    request = StartWorkflowExecutionRequest(
        namespace=NAMESPACE,
        workflow_id="long",
        workflow_type=WorkflowType(name="Long"),
        task_queue=queue,
        request_id="long",
    )
    run_id: str = (await service.start_workflow_execution(request)).run_id
    for first in range(0, events, MARKERS):
        task = await service.poll_workflow_task_queue(
            PollWorkflowTaskQueueRequest(namespace=NAMESPACE, task_queue=queue, identity="benchmark")
        )
        await service.respond_workflow_task_completed(
            RespondWorkflowTaskCompletedRequest(
                namespace=NAMESPACE,
                task_token=task.task_token,
                commands=[_marker(first + number) for number in range(MARKERS)],
                force_create_new_workflow_task=True,
                identity="benchmark",
            )
        )
    await client.close()
    return run_id


def pages(run_id: str) -> Iterator[tuple[str, str]]:
    """A title and a path for each page."""
    base = f"/namespaces/{NAMESPACE}"
    queries = (
        "",
        "ExecutionStatus = 'Failed'",
        "WorkflowType = 'Refund'",
        "Customer = 'customer-7'",
        "WorkflowId STARTS_WITH 'order-0000'",
    )
    for query in queries:
        yield f"workflows, {query or 'all'}", f"{base}/workflows?{urlencode({'query': query})}"
    yield "workflows, status Running chosen", f"{base}/workflows?status=Running"
    long = f"{base}/workflows/long/{run_id}"
    yield "long run: timeline", long
    yield "long run: history", f"{long}/history"
    yield "long run: history, newest first", f"{long}/history?order=newest"
    yield "long run: one event", f"{long}/history?event=25000"
    yield "schedules", f"{base}/schedules"
    yield "task queues", f"{base}/task-queues"
    yield "namespaces", "/namespaces"


def measure(port: int, path: str) -> tuple[float, float, int]:
    """Median milliseconds to the first byte and to the last one, and bytes."""
    firsts, wholes, size = [], [], 0
    for _ in range(ASKED):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        began = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read(1)
        firsts.append(time.perf_counter() - began)
        size = len(answer.read()) + 1
        wholes.append(time.perf_counter() - began)
        connection.close()
        if answer.status != 200:
            raise SystemExit(f"{path} was answered with {answer.status}")
    return statistics.median(firsts) * 1e3, statistics.median(wholes) * 1e3, size


def main() -> None:
    """Entry of `python -m benchmarks.pages`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=50_000)
    options = parser.parse_args()
    ui_port = free_port()
    target = with_ui(ui_port)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.db"
        with running(target, path):
            pass  # makes the file and its namespace
        seconds = fill(path, options.runs, asyncio.run(namespace_id(path)))
        print(f"{options.runs} runs written in {seconds:.0f} s, {path.stat().st_size >> 20} MB")
        with running(target, path) as server:
            run_id = asyncio.run(make_long(server.address, options.events))
            print(f"{'page':55} {'first byte':>12} {'whole':>12} {'bytes':>10}")
            for title, address in pages(run_id):
                first_ms, whole_ms, size = measure(ui_port, address)
                late = "  later than the goal" if first_ms > MOST_MS else ""
                print(f"{title:55} {first_ms:9.1f} ms {whole_ms:9.1f} ms {size:10}{late}")


if __name__ == "__main__":
    main()
