"""The official `temporal` command, as people type it, against the server; its JSON output is what is checked."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from datetime import timedelta
from typing import Any, Final

import pytest
from temporalio.client import Client

from tests.e2e.python_sdk import eventually, new_worker, on_server, unique
from tests.e2e.sdk_activities import ALL_ACTIVITIES, Elsewhere
from tests.e2e.sdk_workflows import ActivityCall, Collector, Fails, RunActivity
from tests.support.servers import find_executable

COMMAND_TIMEOUT_S: Final = 30.0
DELETION_TIMEOUT_S: Final = 60.0
WORKER_IDENTITY: Final = "cli-test-worker"


async def _command(client: Client, *words: str) -> tuple[int, str, str]:
    """Run `temporal WORDS` with nothing from this machine's configuration; exit code, output, errors."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}
    process = await asyncio.create_subprocess_exec(
        find_executable("temporal"),
        *words,
        *("--address", client.service_client.config.target_host, "-o", "json"),
        *("--disable-config-file", "--disable-config-env"),
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), COMMAND_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, output.decode(), errors.decode()


async def temporal(client: Client, *words: str) -> Any:
    """The parsed output of a command that must succeed; None when it printed nothing."""
    code, output, errors = await _command(client, *words)
    assert code == 0, f"temporal {' '.join(words)}: {errors or output}"
    return json.loads(output) if output.strip() else None


async def temporal_failing(client: Client, *words: str) -> tuple[Any, str]:
    """Output and error text of a command that must fail."""
    code, output, errors = await _command(client, *words)
    assert code == 1, f"temporal {' '.join(words)}: exit code {code}"
    return (json.loads(output) if output.strip() else None), errors


async def _start(client: Client, workflow_id: str, task_queue: str, *more: str) -> str:
    started = await temporal(
        client, "workflow", "start", "--type", "Collector", "--task-queue", task_queue,
        "--workflow-id", workflow_id, *more,
    )  # fmt: skip
    assert started == {
        "workflowId": workflow_id,
        "runId": started["runId"],
        "type": "Collector",
        "namespace": "default",
        "taskQueue": task_queue,
    }
    return str(started["runId"])


async def _status(client: Client, workflow_id: str) -> str:
    described = await temporal(client, "workflow", "describe", "-w", workflow_id)
    return str(described["workflowExecutionInfo"]["status"]).removeprefix("WORKFLOW_EXECUTION_STATUS_")


@on_server
async def test_execute_answers_the_result(client: Client) -> None:
    """`workflow execute` waits for the result; `workflow result` and `workflow show` find it again."""
    async with new_worker(client, workflows=[RunActivity], activities=ALL_ACTIVITIES) as worker:
        workflow_id = unique("cli")
        executed = await temporal(
            client, "workflow", "execute", "--type", "RunActivity", "--workflow-id", workflow_id,
            "--task-queue", worker.task_queue, "--input", '{"name": "greet", "arguments": ["Ada"]}',
        )  # fmt: skip
    assert (executed["status"], executed["result"]) == ("COMPLETED", "Hello, Ada!")
    assert (await temporal(client, "workflow", "result", "-w", workflow_id))["result"] == "Hello, Ada!"
    shown = await temporal(client, "workflow", "show", "-w", workflow_id)
    types = [event["eventType"].removeprefix("EVENT_TYPE_") for event in shown["events"]]
    assert types[0] == "WORKFLOW_EXECUTION_STARTED"
    assert types[4:7] == ["ACTIVITY_TASK_SCHEDULED", "ACTIVITY_TASK_STARTED", "ACTIVITY_TASK_COMPLETED"]
    assert types[-1] == "WORKFLOW_EXECUTION_COMPLETED"
    assert [int(event["eventId"]) for event in shown["events"]] == list(range(1, 12))


@on_server
async def test_failed_execution_fails_the_command(client: Client) -> None:
    """A failed workflow makes the command fail, with the failure in its output."""
    async with new_worker(client, workflows=[Fails]) as worker:
        output, errors = await temporal_failing(
            client, "workflow", "execute", "--type", "Fails", "--workflow-id", unique("cli"),
            "--task-queue", worker.task_queue, "--input", '"Odd"',
        )  # fmt: skip
    failure = output["closeEvent"]["workflowExecutionFailedEventAttributes"]["failure"]
    assert (output["status"], failure["message"]) == ("FAILED", "failed on purpose")
    assert failure["applicationFailureInfo"]["type"] == "Odd"
    assert "workflow failed" in errors


@on_server
async def test_signal_and_query(client: Client) -> None:
    """Signals reach the workflow, queries its state; an unknown query is an error."""
    async with new_worker(client, workflows=[Collector]) as worker:
        workflow_id = unique("cli")
        await _start(client, workflow_id, worker.task_queue)
        await temporal(client, "workflow", "signal", "-w", workflow_id, "--name", "add", "--input", '"one"')
        answer = await temporal(client, "workflow", "query", "-w", workflow_id, "--type", "items")
        assert answer["queryResult"] == [["one"]]
        _, errors = await temporal_failing(
            client, "workflow", "query", "-w", workflow_id, "--type", "nowhere"
        )
        assert "nowhere" in errors
        await temporal(client, "workflow", "signal", "-w", workflow_id, "--name", "stop")
        result = await temporal(client, "workflow", "result", "-w", workflow_id)
        assert result["result"] == ["one"]


@on_server
async def test_signal_with_start(client: Client) -> None:
    """`workflow signal-with-start` starts the workflow and signals it."""
    async with new_worker(client, workflows=[Collector]) as worker:
        workflow_id = unique("cli")
        await temporal(
            client, "workflow", "signal-with-start", "--type", "Collector", "--workflow-id", workflow_id,
            "--task-queue", worker.task_queue, "--signal-name", "add", "--signal-input", '"first"',
        )  # fmt: skip
        answer = await temporal(client, "workflow", "query", "-w", workflow_id, "--type", "items")
        assert answer["queryResult"] == [["first"]]
        await temporal(client, "workflow", "terminate", "-w", workflow_id)


@on_server
async def test_cancel_and_terminate(client: Client) -> None:
    """A cancellation is requested and recorded; a termination closes with its reason."""
    workflow_id = unique("cli")
    await _start(client, workflow_id, unique("nobody"))
    await temporal(client, "workflow", "cancel", "-w", workflow_id)
    described = await temporal(client, "workflow", "describe", "-w", workflow_id)
    assert described["workflowExtendedInfo"]["cancelRequested"] is True
    assert await _status(client, workflow_id) == "RUNNING"
    await temporal(client, "workflow", "terminate", "-w", workflow_id, "--reason", "enough")
    assert await _status(client, workflow_id) == "TERMINATED"
    output, _ = await temporal_failing(client, "workflow", "result", "-w", workflow_id)
    assert output["closeEvent"]["workflowExecutionTerminatedEventAttributes"]["reason"] == "enough"


@on_server
async def test_start_of_a_running_id_fails_when_asked_to(client: Client) -> None:
    """`--fail-existing` reports the id that is taken and the run that holds it."""
    workflow_id, queue = unique("cli"), unique("nobody")
    run_id = await _start(client, workflow_id, queue)
    _, errors = await temporal_failing(
        client, "workflow", "start", "--type", "Collector", "--task-queue", queue,
        "--workflow-id", workflow_id, "--fail-existing",
    )  # fmt: skip
    assert "already" in errors
    assert run_id in errors
    await temporal(client, "workflow", "terminate", "-w", workflow_id)


@on_server
async def test_describe_shows_what_was_asked_for(client: Client) -> None:
    """Timeouts, memo and search attributes given at the start are described, and the pending task too."""
    workflow_id, queue = unique("cli"), unique("nobody")
    await _start(
        client, workflow_id, queue, "--run-timeout", "90s", "--execution-timeout", "10m",
        "--memo", 'note="hello"', "--search-attribute", 'Colour="red"',
    )  # fmt: skip
    described = await temporal(client, "workflow", "describe", "-w", workflow_id)
    config, info = described["executionConfig"], described["workflowExecutionInfo"]
    assert config["taskQueue"]["name"] == queue
    assert (config["workflowRunTimeout"], config["workflowExecutionTimeout"]) == ("90s", "600s")
    assert (info["historyLength"], info["type"]["name"]) == ("2", "Collector")
    assert info["memo"]["fields"] == {"note": "hello"}
    colour = info["searchAttributes"]["indexedFields"]["Colour"]
    assert base64.b64decode(colour["data"]) == b'"red"'
    assert described["pendingWorkflowTask"]["state"] == "PENDING_WORKFLOW_TASK_STATE_SCHEDULED"
    await temporal(client, "workflow", "terminate", "-w", workflow_id)


@on_server
async def test_list_count_and_delete(client: Client) -> None:
    """A list and a count by query find the same workflows; a deleted one is in neither."""
    prefix, queue = unique("cli-list"), unique("nobody")
    for number in range(3):
        await _start(client, f"{prefix}-{number}", queue)
    await temporal(client, "workflow", "terminate", "-w", f"{prefix}-0")
    mine = f"TaskQueue = '{queue}'"

    async def counts(running: int, terminated: int) -> bool:
        answer = await temporal(client, "workflow", "count", "--query", f"{mine} GROUP BY ExecutionStatus")
        groups = {group["groupValues"][0]: int(group["count"]) for group in answer.get("groups", [])}
        wanted = {"Running": running, "Terminated": terminated}
        return groups == {name: count for name, count in wanted.items() if count}

    await eventually("all counted", lambda: counts(2, 1))
    listed = await temporal(client, "workflow", "list", "--query", f"{mine} AND ExecutionStatus = 'Running'")
    assert {each["execution"]["workflowId"] for each in listed} == {f"{prefix}-1", f"{prefix}-2"}
    assert {each["status"] for each in listed} == {"WORKFLOW_EXECUTION_STATUS_RUNNING"}
    assert len(await temporal(client, "workflow", "list", "--query", mine, "--limit", "2")) == 2
    assert (await temporal(client, "workflow", "count", "--query", mine))["count"] == "3"
    for number in range(3):
        await temporal(client, "workflow", "delete", "-w", f"{prefix}-{number}", "--yes")
    await eventually("all deleted", lambda: counts(0, 0), DELETION_TIMEOUT_S)


@on_server
async def test_batches_are_started_by_a_query_described_listed_and_stopped(client: Client) -> None:
    """`--query` makes a batch operation of a command for one workflow."""
    prefix, queue = unique("cli-batch"), unique("nobody")
    for number in range(3):
        await _start(client, f"{prefix}-{number}", queue)
    mine = f"TaskQueue = '{queue}'"

    async def count(status: str) -> int:
        query = f"{mine} AND ExecutionStatus = '{status}'"
        return int((await temporal(client, "workflow", "count", "--query", query))["count"])

    async def all_running() -> bool:
        return await count("Running") == 3

    await eventually("all listed", all_running)
    job_id = await _batch(client, "signal", mine, "--name", "add", "--input", '"from the batch"')
    for number in range(3):
        shown = await temporal(client, "workflow", "show", "-w", f"{prefix}-{number}")
        assert shown["events"][-1]["workflowExecutionSignaledEventAttributes"]["signalName"] == "add"
    listed = await temporal(client, "batch", "list")
    found = {job["jobId"]: job["state"] for job in listed}
    assert found[job_id] == "BATCH_OPERATION_STATE_COMPLETED"
    await _batch(client, "terminate", mine)

    async def all_terminated() -> bool:
        return await count("Terminated") == 3

    await eventually("all terminated", all_terminated)
    _, errors = await temporal_failing(client, "batch", "describe", "--job-id", unique("nobody"))
    assert "could not find Batch Job" in errors
    _, errors = await temporal_failing(
        client, "batch", "terminate", "--job-id", job_id, "--reason", "too late"
    )
    assert "could not find Batch Job" in errors


async def _batch(client: Client, verb: str, query: str, *more: str) -> str:
    """Start a batch with a command for workflows and wait for its end; its job id."""

    async def started() -> str:
        code, output, errors = await _command(
            client, "workflow", verb, "--query", query, "--reason", "tidying", "--yes", *more
        )
        if (
            "Max concurrent batch operations" in errors
        ):  # the official server forgets a job a moment after its end
            return ""
        assert code == 0, errors
        return str(json.loads(output)["batchJobId"])

    job_ids: list[str] = []

    async def is_started() -> bool:
        job_ids.append(await started())
        return bool(job_ids[-1])

    async def is_done() -> bool:
        described = await temporal(client, "batch", "describe", "--job-id", job_ids[-1])
        return str(described["state"]) == "BATCH_OPERATION_STATE_COMPLETED"

    await eventually(f"{verb} is started", is_started)
    await eventually(f"{verb} is done", is_done)
    described = await temporal(client, "batch", "describe", "--job-id", job_ids[-1])
    assert (described["completeOperationCount"], described["totalOperationCount"]) == ("3", "3")
    return job_ids[-1]


@on_server
async def test_bad_input_is_an_error_a_person_can_read(client: Client) -> None:
    """Unknown workflow, bad filter, unknown namespace: exit code 1 and a message that names the trouble."""
    cases = {
        ("workflow", "describe", "-w", "no-such-workflow"): "no-such-workflow",
        ("workflow", "list", "--query", "WorkflowType =="): "invalid query",
        ("workflow", "list", "--namespace", "no-such-namespace"): "no-such-namespace",
        ("operator", "namespace", "describe", "--namespace", "no-such-namespace"): "no-such-namespace",
    }
    for words, text in cases.items():
        _, errors = await temporal_failing(client, *words)
        assert text in errors, (words, errors)


@on_server
async def test_activity_is_completed_by_id(client: Client) -> None:
    """`activity complete` delivers the result of an activity that completes elsewhere."""
    elsewhere = Elsewhere()
    call = ActivityCall("complete_elsewhere", activity_id="parcel")
    async with new_worker(
        client, workflows=[RunActivity], activities=[elsewhere.complete_elsewhere]
    ) as worker:
        handle = await client.start_workflow(
            RunActivity.run, call, id=unique("cli"), task_queue=worker.task_queue
        )
        await asyncio.wait_for(elsewhere.began.wait(), COMMAND_TIMEOUT_S)
        await temporal(
            client, "activity", "complete", "-w", handle.id, "--activity-id", "parcel",
            "--result", '"signed by Ada"',
        )  # fmt: skip
        assert await handle.result() == "signed by Ada"


@on_server
async def test_namespaces(client: Client) -> None:
    """Namespaces are created, described, listed and updated; a workflow of one is not seen in another."""
    name = unique("cli-space")
    await temporal(
        client, "operator", "namespace", "create", "--namespace", name, "--retention", "48h",
        "--description", "first",
    )  # fmt: skip
    described = await temporal(client, "operator", "namespace", "describe", "--namespace", name)
    assert described["namespaceInfo"]["name"] == name
    assert described["namespaceInfo"]["state"] == "NAMESPACE_STATE_REGISTERED"
    assert described["namespaceInfo"]["description"] == "first"
    assert described["config"]["workflowExecutionRetentionTtl"] == "172800s"
    listed = await temporal(client, "operator", "namespace", "list")
    assert {"default", name} <= {each["namespaceInfo"]["name"] for each in listed}
    await temporal(
        client, "operator", "namespace", "update", "--namespace", name, "--retention", "72h",
        "--description", "second",
    )  # fmt: skip
    described = await temporal(client, "operator", "namespace", "describe", "--namespace", name)
    assert described["namespaceInfo"]["description"] == "second"
    assert described["config"]["workflowExecutionRetentionTtl"] == "259200s"
    _, errors = await temporal_failing(client, "operator", "namespace", "create", "--namespace", name)
    assert "already exists" in errors
    await _isolated(client, name)


async def _isolated(client: Client, name: str) -> None:
    workflow_id = unique("cli")
    start = ("workflow", "start", "--type", "X", "--task-queue", "x", "--workflow-id", workflow_id)

    async def started() -> bool:
        return (await _command(client, *start, "--namespace", name))[0] == 0

    await eventually("the namespace is in use", started)
    await temporal_failing(client, "workflow", "describe", "-w", workflow_id)
    await temporal(client, "workflow", "terminate", "-w", workflow_id, "--namespace", name)


@on_server
async def test_task_queue_describe_shows_the_poller(client: Client) -> None:
    """Both forms of `task-queue describe` name the worker that polls."""
    async with new_worker(client, workflows=[Collector], identity=WORKER_IDENTITY) as worker:

        async def seen(*more: str) -> bool:
            described = await temporal(client, "task-queue", "describe", "-t", worker.task_queue, *more)
            pollers = {poller["identity"] for poller in described["pollers"] or ()}
            return pollers == {WORKER_IDENTITY}

        await eventually("the poller is shown", seen)
        await eventually("the poller is shown in the older form", lambda: seen("--legacy-mode"))


@on_server
async def test_cluster_health_and_system(client: Client) -> None:
    """The server says that it serves, what it is, and what it can do."""
    assert await temporal(client, "operator", "cluster", "health") == {"status": "SERVING"}
    system = await temporal(client, "operator", "cluster", "system")
    assert system["serverVersion"]
    assert {"signalAndQueryHeader", "encodedFailureAttributes", "sdkMetadata"} <= set(system["capabilities"])
    cluster = await temporal(client, "operator", "cluster", "describe")
    assert cluster["clusterId"]
    assert "temporal-cli" in cluster["supportedClients"]


@on_server
async def test_long_poll_of_show_follow_ends_with_the_workflow(client: Client) -> None:
    """`workflow show --follow` prints the events to come and ends when the workflow does."""
    async with new_worker(client, workflows=[Collector]) as worker:
        handle = await client.start_workflow(
            Collector.run, id=unique("cli"), task_queue=worker.task_queue, run_timeout=timedelta(minutes=1)
        )
        follow = asyncio.create_task(temporal(client, "workflow", "show", "-w", handle.id, "--follow"))
        await handle.signal(Collector.add, "while following")
        await handle.signal(Collector.stop)
        shown = await follow
    assert shown["events"][-1]["eventType"] == "EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED"


@pytest.mark.parametrize("verb", ["signal", "cancel", "terminate"])
def test_verbs_on_an_unknown_workflow_fail(shared_server: Any, verb: str) -> None:
    """Each verb on a workflow that does not exist exits with 1 and says so."""

    async def scenario(client: Client) -> None:
        more = ("--name", "x") if verb == "signal" else ()
        _, errors = await temporal_failing(client, "workflow", verb, "-w", "no-such-workflow", *more)
        assert "not found" in errors

    shared_server.run(scenario)
