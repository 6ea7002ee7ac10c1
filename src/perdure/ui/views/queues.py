"""Task queues with backlog and pollers, and the workers that send heartbeats."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from perdure.api.enums.v1 import TaskQueueKind, TaskQueueType
from perdure.api.taskqueue.v1 import TaskQueue
from perdure.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeWorkerRequest,
    ListWorkersRequest,
    ListWorkflowExecutionsRequest,
)
from perdure.ui.config import DEFAULT_PAGE_ROWS
from perdure.ui.context import Context, part
from perdure.ui.page import Page, Redirect
from perdure.ui.plain import plain
from perdure.ui.views.workflows import decode_token, encode_token

TYPES: Final = (
    ("workflow", TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW),
    ("activity", TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY),
    ("nexus", TaskQueueType.TASK_QUEUE_TYPE_NEXUS),
)
SEEN_RUNS: Final = 200
SEEN_WORKERS: Final = 200


async def describe(context: Context, name: str, kind: Any) -> Any:
    """What a server says of one type of a task queue.

    Raises:
        RPCError: what the server answered.
    """
    request = DescribeTaskQueueRequest(
        namespace=context.namespace,
        task_queue=TaskQueue(name=name, kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL),
        task_queue_type=kind,
        report_stats=True,
    )
    return await context.call("describe_task_queue", request)


def _pollers(types: Iterable[tuple[str, Any]]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for word, answer in types:
        for poller in answer.pollers:
            shown = found.setdefault(poller.identity, {**plain(poller), "polls": []})
            shown["polls"].append(word)
            shown["last_access_time"] = max(
                str(shown.get("last_access_time", "")), str(plain(poller).get("last_access_time", ""))
            )
    return sorted(found.values(), key=lambda poller: str(poller["identity"]))


async def pollers_of(context: Context, name: str) -> list[dict[str, Any]]:
    """Who polls a task queue, and for what.

    Raises:
        RPCError: what the server answered.
    """
    answers = await asyncio.gather(*(describe(context, name, kind) for _, kind in TYPES))
    return _pollers(zip((word for word, _ in TYPES), answers, strict=True))


async def show_all(context: Context) -> Page | Redirect:
    """Task queues that are seen: there is no list of all of them."""
    name = context.query.get("name", "").strip()
    if name:
        return Redirect(context.url("namespaces", context.namespace, "task-queues", name))
    workers, workers_error = await part(
        context.call("list_workers", ListWorkersRequest(namespace=context.namespace, page_size=SEEN_WORKERS))
    )
    runs, runs_error = await part(
        context.call(
            "list_workflow_executions",
            ListWorkflowExecutionsRequest(namespace=context.namespace, page_size=SEEN_RUNS),
        )
    )
    queues: dict[str, dict[str, Any]] = {}
    for execution in runs.executions if runs is not None else ():
        shown = queues.setdefault(execution.task_queue, {"runs": 0, "workers": 0})
        shown["runs"] += 1
    for worker in workers.workers if workers is not None else ():
        queues.setdefault(worker.task_queue, {"runs": 0, "workers": 0})["workers"] += 1
    data = {
        "namespace": context.namespace,
        "queues": [
            {
                "name": queue,
                "url": context.url("namespaces", context.namespace, "task-queues", queue),
                **shown,
            }
            for queue, shown in sorted(queues.items())
            if queue
        ],
        "seen_runs": SEEN_RUNS,
        "runs_error": runs_error,
        "workers_error": workers_error,
    }
    return Page("task_queues.html", f"Task queues · {context.namespace}", data)


async def show(context: Context) -> Page:
    """One task queue: backlog and rates by type, pollers."""
    name = context.names["task_queue"]
    answers = await asyncio.gather(*(part(describe(context, name, kind)) for _, kind in TYPES))
    types, answered = [], []
    for (word, _), (answer, error) in zip(TYPES, answers, strict=True):
        shown = plain(answer) if answer is not None else {}
        types.append(
            {"type": word, "error": error, "stats": shown.get("stats", {}), "config": shown.get("config", {})}
        )
        answered += [(word, answer)] if answer is not None else []
    data = {
        "namespace": context.namespace,
        "task_queue": name,
        "types": types,
        "pollers": _pollers(answered),
        "error": next((error for _, error in answers if error is not None), None),
    }
    return Page("task_queue.html", f"{name} · Task queue", data)


async def workers(context: Context) -> Page:
    """Workers that send heartbeats."""
    request = ListWorkersRequest(
        namespace=context.namespace,
        page_size=context.number("rows", DEFAULT_PAGE_ROWS, least=1),
        next_page_token=decode_token(context.query.get("page", "")),
        query=context.query.get("query", ""),
    )
    answer, error = await part(context.call("list_workers", request))
    found = answer.workers if answer is not None else ()
    data = {
        "namespace": context.namespace,
        "query": context.query.get("query", ""),
        "workers": [
            {
                **plain(worker),
                "url": context.url("namespaces", context.namespace, "workers", worker.worker_instance_key),
            }
            for worker in found
        ],
        "next_page": encode_token(answer.next_page_token) if answer is not None else "",
        "error": error,
    }
    return Page("workers.html", f"Workers · {context.namespace}", data)


async def worker(context: Context) -> Page:
    """One worker, as its last heartbeat has it."""
    request = DescribeWorkerRequest(namespace=context.namespace, worker_instance_key=context.names["worker"])
    answer = await context.call("describe_worker", request)
    shown = plain(answer.worker_info.worker_heartbeat)
    data = {"namespace": context.namespace, "worker": shown}
    return Page("worker.html", f"{shown.get('worker_identity', '')} · Worker", data)
