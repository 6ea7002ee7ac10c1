"""Runs the command's scenarios against one server and records what was printed, in a form that can be compared."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shlex
import time
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from temporalio.client import Client
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from tests.compat import cli_workflows
from tests.compat.cli_scenarios.model import Scenario, Step, find
from tests.differential.compare import Record
from tests.differential.normalise import Normaliser
from tests.support.servers import find_executable

CONCURRENCY: Final = 4
"""Scenarios at once on each server."""
COMMAND_TIMEOUT_S: Final = 60.0
CONDITION_TIMEOUT_S: Final = 60.0
CONDITION_POLL_S: Final = 0.1
HEARTBEAT: Final = timedelta(seconds=1)
WORKER_IDENTITY: Final = "cli-worker"

_NAME = re.compile(r"\{([a-z_]+)\}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?")
_RECENT = re.compile(r"20[23]\d-")
_HOST = re.compile(r"127\.0\.0\.1:\d+")
_DELETED = re.compile(r"-deleted-[0-9a-f]{5}\b")

PLACEHOLDERS: Final = {
    "taskId": "<task id>",
    "historySizeBytes": "<size>",
    "stateSizeBytes": "<size>",
    "totalHistorySizeBytes": "<size>",
    "executionDuration": "<duration>",
    "conflictToken": "<token>",
    "nextPageToken": "<token>",
    "clusterId": "<cluster>",
    "pollerGroupId": "<poller group>",
    "ratePerSecond": "<rate>",
    "lastAccessTime": "<time>",
    "approximateBacklogAge": "<duration>",
    "durationMillis": "<duration>",
    "longPollToken": "<token>",
    "currentHostMemUsage": "<share>",
    "currentHostCpuUsage": "<share>",
    "elapsedSinceLastHeartbeat": "<duration>",
    "backlogIncreaseRate": "<rate>",
    "tasksAddRate": "<rate>",
    "tasksDispatchRate": "<rate>",
    "last_access_time": "<time>",
    "currentRetryInterval": "<duration>",
    "workflowTaskStartedEventAttributes.requestId": "<request id>",
    "activityTaskStartedEventAttributes.requestId": "<request id>",
}
"""Members of the output (by name, some only within another) whose value says nothing about behaviour.

They are replaced when they are there.
"""
SETS: Final = frozenset(
    {
        "coreUsedFlags",
        "langUsedFlags",
        "stats",
        "pollers",
        "pendingActivities",
        "pendingChildren",
        "pendingNexusOperations",
        "callbacks",
        "links",
        "groups",
        "taskQueueInfos",
        "versionTaskQueues",
    }
)
"""Members that are lists whose order says nothing."""
COUNTED: Final = frozenset(
    {
        "totalProcessedTasks",
        "totalFailedTasks",
        "lastIntervalProcessedTasks",
        "lastIntervalFailureTasks",
        "totalStickyCacheHit",
        "totalStickyCacheMiss",
        "currentStickyCacheSize",
        "currentAvailableSlots",
        "currentUsedSlots",
        "currentPollers",
        "lastSuccessfulPollTime",
    }
)
"""Members left out: what the worker of all scenarios has done by now, and how many scenarios it has worked for."""


class Output:
    """Turns what the command printed into data in which two servers that behave the same print the same."""

    def __init__(self, token: str) -> None:
        self._texts = Normaliser(token)

    def text(self, value: str) -> str:
        """A string without what differs from run to run."""
        value = _DELETED.sub("-deleted-<id>", _HOST.sub("<address>", value))
        return self._texts.text(
            _TIME.sub(lambda match: "<time>" if _RECENT.match(match[0]) else match[0], value)
        )

    def data(self, value: Any, within: str = "") -> Any:
        """Parsed JSON, or text; `within` is the name of the member that holds it."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.data(item) for item in value]
        if not isinstance(value, dict):
            return value
        if set(value) == {"metadata", "data"} and isinstance(value["data"], str):
            value = _readable(value)
        members = {key: member for key, member in value.items() if key not in COUNTED}
        return {self.text(key): self._member(key, within, member) for key, member in members.items()}

    def _member(self, key: str, within: str, value: Any) -> Any:
        for name in (key, f"{within}.{key}"):
            if name in PLACEHOLDERS and value is not None:
                return PLACEHOLDERS[name]
        data = self.data(value, key)
        return sorted(data, key=_sort_key) if key in SETS and isinstance(data, list) else data


def _sort_key(data: Any) -> str:
    return json.dumps(data, sort_keys=True)


def _readable(payload: dict[str, Any]) -> dict[str, Any]:
    """A payload with its base64 taken off."""
    metadata = {name: _decoded(value) for name, value in payload["metadata"].items()}
    return {"metadata": metadata, "data": _decoded(payload["data"])}


def _decoded(value: str) -> str:
    return base64.b64decode(value).decode(errors="replace")


class CliRun:
    """One scenario on one server.

    Args:
        scenario: what to do.
        address: host:port of the server.
        token: what makes the ids of this server's run unique.
        queue: the queue of the worker.
    """

    def __init__(self, scenario: Scenario, address: str, token: str, queue: str) -> None:
        self._scenario = scenario
        self._address = address
        self._token = token
        prefix = scenario.name.replace("_", "-")
        self._prefix = prefix
        self._names = {"queue": queue, "scenario": f"{prefix}-"}
        self._output = Output(token)

    async def records(self) -> list[Record]:
        """Every step's output, in order."""
        records = []
        for step in self._scenario.steps:
            printed = await self._step(step)
            records.append(Record(step.label, self._output.data(printed)))
        return records

    async def _step(self, step: Step) -> dict[str, Any]:
        words = shlex.split(self._filled(step.command))
        deadline_s = time.monotonic() + CONDITION_TIMEOUT_S
        while True:
            printed = await self._command(words)
            output = self._selected(step, printed.get("output"))
            if step.until is None or step.until(output):
                break
            if time.monotonic() > deadline_s:
                printed["never"] = "what was waited for"
                break
            await asyncio.sleep(CONDITION_POLL_S)
        if "output" in printed:
            printed["output"] = output
        for name, path in step.keep.items():
            self._names[name] = str(find(output, path) or f"no-{name}")
        _drop(output, step.drop)
        return printed

    def _filled(self, text: str) -> str:
        return _NAME.sub(lambda match: self._named(match[1]), text)

    def _named(self, name: str) -> str:
        return self._names.setdefault(name, f"{self._prefix}-{name}-{self._token}")

    def _selected(self, step: Step, output: Any) -> Any:
        if isinstance(output, list):
            wanted = self._filled(step.only)
            output = [item for item in output if wanted in json.dumps(item)]
            if not step.in_order:
                output.sort(key=lambda item: _sort_key(self._output.data(item)))
        return output

    def _complete(self, words: Sequence[str]) -> list[str]:
        """The command line with what every command gets."""
        return [
            *words,
            *("--address", self._address, "-o", "json", "--disable-config-file", "--disable-config-env"),
            *("--identity", "cli-user", "--client-connect-timeout", f"{COMMAND_TIMEOUT_S:.0f}s"),
        ]

    async def _command(self, words: Sequence[str]) -> dict[str, Any]:
        """Run `temporal WORDS` with nothing from this machine's configuration."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}
        process = await asyncio.create_subprocess_exec(
            find_executable("temporal"),
            *self._complete(words),
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
            return {"exit": "none: it did not end"}
        return printed_of(process.returncode, output.decode(), errors.decode())


def printed_of(code: int | None, output: str, errors: str) -> dict[str, Any]:
    """What a command printed, in the form that is recorded."""
    printed: dict[str, Any] = {"exit": code}
    if output.strip():
        printed["output"] = _parsed(output)
    if errors.strip():
        printed["errors"] = errors.strip()
    return printed


def _drop(output: Any, paths: Sequence[str]) -> None:
    """Take members and items out of the output."""
    for path in paths:
        parent, _, member = path.rpartition(".")
        holder = find(output, parent) if parent else output
        if isinstance(holder, dict):
            holder.pop(member, None)
        elif isinstance(holder, list) and int(member) < len(holder):
            holder.pop(int(member))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.strip()


def new_worker(client: Client, queue: str) -> Worker:
    """The worker of all scenarios of one server."""
    return Worker(
        client,
        task_queue=queue,
        workflows=[
            cli_workflows.Echo, cli_workflows.Broken, cli_workflows.Everyday, cli_workflows.Parent,
            cli_workflows.Busy, cli_workflows.Attended,
        ],
        activities=[cli_workflows.echo, cli_workflows.broken, cli_workflows.attended],
        identity=WORKER_IDENTITY,
        build_id="cli-build",
        workflow_runner=UnsandboxedWorkflowRunner(),
    )  # fmt: skip


async def run_all(
    scenarios: Sequence[Scenario], address: str, run: type[CliRun] = CliRun
) -> dict[str, list[Record]]:
    """Run scenarios against one server, several at a time; what each recorded, by name."""
    token = uuid.uuid4().hex[:8]
    queue = f"cli-queue-{token}"
    runtime = Runtime(telemetry=TelemetryConfig(), worker_heartbeat_interval=HEARTBEAT)
    client = await Client.connect(address, runtime=runtime)
    slots = asyncio.Semaphore(CONCURRENCY)

    # A server takes one batch of a namespace at a time and refuses the next, so these take turns.
    turns = asyncio.Lock()

    async def one(scenario: Scenario) -> tuple[str, list[Record]]:
        if scenario.name.startswith("batch_"):
            async with turns:
                return scenario.name, await run(scenario, address, token, queue).records()
        async with slots:
            return scenario.name, await run(scenario, address, token, queue).records()

    async with new_worker(client, queue):
        return dict(await asyncio.gather(*(one(scenario) for scenario in scenarios)))
