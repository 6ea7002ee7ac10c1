"""Numbers at the ends of what messages can say, on a database with columns of 64 bits, and after a restart.

Whatever a request says is served or refused with a typed error; what was served can be loaded again by the next
process. Other wrong values, on a store in memory, are in `test_hostile_fields`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from perdure.api.command.v1 import Command
from perdure.api.operatorservice.v1 import CreateNexusEndpointRequest
from perdure.api.services import OPERATOR_SERVICE, WORKFLOW_SERVICE, method_path
from perdure.api.workflowservice.v1 import (
    CreateScheduleRequest,
    ListOpenWorkflowExecutionsRequest,
    PatchScheduleRequest,
    PollWorkflowTaskQueueRequest,
    RegisterNamespaceRequest,
    RespondWorkflowTaskCompletedRequest,
    SignalWithStartWorkflowExecutionRequest,
    StartActivityExecutionRequest,
    StartNexusOperationExecutionRequest,
    StartWorkflowExecutionRequest,
    UpdateActivityExecutionOptionsRequest,
    UpdateTaskQueueConfigRequest,
)
from perdure.core.errors import ServiceError
from perdure.core.run.records import RunKind
from perdure.server.config import ServerConfig
from perdure.server.doors.status import answer_to
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.server.service.call import Call
from perdure.store.sqlite import SqliteStore
from tests.support.proto import enums

DEPTH = 4
BOUND_S = 20.0
CENTURIES_S = 315_576_000_000
"""The longest that a Duration may say: ten thousand years."""
_TIMES: dict[str, tuple[int, ...]] = {
    "google.protobuf.Duration": (CENTURIES_S, 10**12),
    "google.protobuf.Timestamp": (-62_135_596_800, 253_402_300_799, -(10**12), 10**12),
}
"""Seconds: the ends of the type, and what is beyond them and fits on the wire."""
_FLOATS = (float("nan"), float("inf"))
_OWN_FAILURES = (2, 13)
"""UNKNOWN and INTERNAL: what a caller sees of a defect of the server."""
Spoil = Callable[[Any], None]


class Serving:
    """A server over a database of its own, driven call by call, that can be started again."""

    def __init__(self, path: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self._path = path
        self._call = Call(deadline_s=2.02)
        self.server = self._started()

    def _started(self) -> Server:
        config = ServerConfig(port=0, long_poll_s=0.5, history_wait_s=0.005)
        server = Server(SqliteStore(self._path), config, SystemRuntime(), "sqlite")
        self.loop.run_until_complete(server.start())
        return server

    def restart(self) -> None:
        self.stop()
        self.server = self._started()

    def stop(self) -> None:
        self.loop.run_until_complete(self.server.stop(0))

    def serve(self, request: Message) -> Any:
        """Serves the RPC that the request's type names."""
        is_operator = request.DESCRIPTOR.file.package.endswith("operatorservice.v1")
        service = OPERATOR_SERVICE if is_operator else WORKFLOW_SERVICE
        path = method_path(service, request.DESCRIPTOR.name.removesuffix("Request"))
        return self.loop.run_until_complete(self._bounded(path, request))

    async def _bounded(self, path: str, request: Message) -> Any:
        async with asyncio.timeout(BOUND_S):
            return await self.server.service.call(path, request, self._call)

    def complaint(self, request: Message) -> str | None:
        """What is wrong with how a request is answered."""
        try:
            self.serve(request)
        except ServiceError as error:
            code = int(answer_to(error, "/", lambda: "id").code)
            return f"{type(error).__name__}: {error}" if code in _OWN_FAILURES else None
        except asyncio.CancelledError:
            raise
        except Exception as error:  # whatever it is, it is what this test looks for
            return f"{type(error).__name__}: {error}"
        return None

    def load_everything(self) -> int:
        """Reads every execution from the store; returns how many there are."""
        return self.loop.run_until_complete(self._load_everything())

    async def _load_everything(self) -> int:
        engine, count = self.server.engine, 0
        runs = {
            RunKind.ACTIVITY: engine.activity_runs.state,
            RunKind.NEXUS_OPERATION: engine.operation_runs.state,
        }
        for namespace in engine.namespaces.all():
            for kind in RunKind:
                cursor: bytes | None = None
                while cursor != b"":
                    page = await engine.store.list_runs(namespace.namespace_id, None, 500, cursor, kind)
                    for row in page.rows:
                        count += 1
                        if kind in runs:
                            await runs[kind](row.run)
                            continue
                        slot = engine.runs.pin(row.run)
                        async with slot.alone():
                            await engine.load(slot)
                        engine.runs.unpin(slot)
                    cursor = page.next_cursor or b""
        return count


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    serving = Serving(tmp_path / "perdure.db")
    yield serving
    serving.stop()
    serving.loop.close()


# --- the numbers of a message ---


def _extremes(descriptor: Any, depth: int = 0) -> Iterator[tuple[str, Spoil]]:
    """Ways to put an extreme number into a message of this type, each with its name."""
    for field in descriptor.fields:
        message = field.message_type
        if message is not None and message.GetOptions().map_entry:
            if message.fields_by_name["value"].cpp_type in _REAL:
                for value in _FLOATS:
                    yield f"{field.name}[k]={value}", _keying(field.name, value)
        elif message is None:
            if field.cpp_type in _REAL and not field.is_repeated:
                for value in _FLOATS:
                    yield f"{field.name}={value}", _setting(field.name, value)
        elif message.full_name in _TIMES:
            if not field.is_repeated:
                for seconds in _TIMES[message.full_name]:
                    yield f"{field.name}={seconds}s", _inside(field.name, _setting("seconds", seconds))
        elif depth < DEPTH:
            for name, spoil in _extremes(message, depth + 1):
                put = _adding if field.is_repeated else _inside
                yield f"{field.name}.{name}", put(field.name, spoil)


_REAL = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)


def _setting(name: str, value: Any) -> Spoil:
    return lambda message: setattr(message, name, value)


def _keying(name: str, value: float) -> Spoil:
    return lambda message: getattr(message, name).__setitem__("k", value)


def _inside(name: str, spoil: Spoil) -> Spoil:
    return lambda message: spoil(getattr(message, name))


def _adding(name: str, spoil: Spoil) -> Spoil:
    return lambda message: spoil(getattr(message, name).add())


# --- the requests that are spoiled: they would be served ---


def _workflow(number: int) -> Any:
    request = StartWorkflowExecutionRequest(
        namespace="default", workflow_id=f"w{number}", request_id=f"r{number}"
    )
    request.workflow_type.name = request.task_queue.name = "q"
    return request


def _signal_with_start(number: int) -> Any:
    request = SignalWithStartWorkflowExecutionRequest(
        namespace="default", workflow_id=f"s{number}", request_id=f"r{number}", signal_name="signal"
    )
    request.workflow_type.name = request.task_queue.name = "q"
    return request


def _activity(number: int) -> Any:
    request = StartActivityExecutionRequest(
        namespace="default", activity_id=f"a{number}", request_id=f"r{number}"
    )
    request.activity_type.name = request.task_queue.name = "q"
    request.start_to_close_timeout.seconds = 10
    return request


def _activity_once(number: int) -> Any:
    request = _activity(number)
    request.retry_policy.maximum_attempts = 1
    return request


def _operation(number: int) -> Any:
    return StartNexusOperationExecutionRequest(
        namespace="default",
        operation_id=f"o{number}",
        request_id=f"r{number}",
        endpoint="endpoint",
        service="service",
        operation="operation",
    )


def _schedule(number: int) -> Any:
    request = CreateScheduleRequest(namespace="default", schedule_id=f"c{number}", request_id=f"r{number}")
    action = request.schedule.action.start_workflow
    action.workflow_id = f"of schedule {number}"
    action.workflow_type.name = action.task_queue.name = "q"
    request.schedule.spec.interval.add().interval.seconds = 3600
    return request


def _patch(number: int) -> Any:
    return PatchScheduleRequest(namespace="default", schedule_id="schedule", request_id=f"r{number}")


def _options(number: int) -> Any:
    request = UpdateActivityExecutionOptionsRequest(
        namespace="default", activity_id="activity", request_id=f"r{number}"
    )
    request.update_mask.paths.extend(("schedule_to_close_timeout", "priority", "retry_policy", "start_delay"))
    request.activity_options.retry_policy.maximum_attempts = 3
    return request


def _queue_config(number: int) -> Any:
    return UpdateTaskQueueConfigRequest(
        namespace="default",
        task_queue=f"q{number}",
        task_queue_type=enums.TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
    )


def _list_open(number: int) -> Any:
    return ListOpenWorkflowExecutionsRequest(namespace="default")


REQUESTS: tuple[Callable[[int], Any], ...] = (
    _workflow, _signal_with_start, _activity, _activity_once, _operation, _schedule, _patch, _options, _queue_config,
    _list_open,
)  # fmt: skip


def test_extreme_numbers_in_requests_are_served_or_refused_and_can_be_loaded_again(serving: Serving) -> None:
    """An INTERNAL answer, a row that is written and cannot be read, or a server that does not start again fail."""
    endpoint = CreateNexusEndpointRequest()
    endpoint.spec.name = "endpoint"
    endpoint.spec.target.worker.namespace, endpoint.spec.target.worker.task_queue = "default", "q"
    serving.serve(endpoint)
    for first in (_activity(0), _schedule(0)):
        for name in ("activity_id", "schedule_id"):
            if name in first.DESCRIPTOR.fields_by_name:
                setattr(first, name, name.removesuffix("_id"))
        serving.serve(first)
    complaints, number = [], 0
    for make in REQUESTS:
        for name, spoil in _extremes(make(0).DESCRIPTOR):
            number += 1
            request = make(number)
            spoil(request)
            if complaint := serving.complaint(request):
                complaints.append(f"{make.__name__} {name}: {complaint}")
    assert not complaints, "\n".join(complaints)
    serving.restart()
    assert serving.load_everything() > 50


def _command(field: FieldDescriptor) -> Any:
    """A command that would be taken, with the attributes that this field holds."""
    kind = f"COMMAND_TYPE_{field.name.removesuffix('_command_attributes').upper()}"
    command = Command(command_type=enums.CommandType.Value(kind))
    attributes: Any = getattr(command, field.name)
    attributes.SetInParent()
    known = attributes.DESCRIPTOR.fields_by_name
    for name in ("timer_id", "activity_id", "workflow_id", "signal_name", "service", "operation", "endpoint"):
        if name in known:
            setattr(attributes, name, name.removesuffix("_id"))
    for name in ("activity_type", "workflow_type", "task_queue"):
        if name in known:
            getattr(attributes, name).name = "other"
    for name in ("start_to_close_timeout", "start_to_fire_timeout"):
        if name in known:
            getattr(attributes, name).seconds = 5
    return command


def test_extreme_numbers_in_commands_are_recorded_or_refused_and_can_be_loaded_again(
    serving: Serving,
) -> None:
    """The same for what workers answer: a workflow that cannot go on since its answer is INTERNAL is stuck for ever."""
    complaints, number = [], 0
    for field in Command.DESCRIPTOR.fields:
        if not field.name.endswith("_command_attributes"):
            continue
        for name, spoil in _extremes(field.message_type):
            number += 1
            serving.serve(_workflow(number))
            poll = PollWorkflowTaskQueueRequest(namespace="default")
            poll.task_queue.name = "q"
            task = serving.serve(poll)
            assert task.task_token
            command = _command(field)
            spoil(getattr(command, field.name))
            answer = RespondWorkflowTaskCompletedRequest(
                namespace="default", task_token=task.task_token, commands=[command]
            )
            if complaint := serving.complaint(answer):
                complaints.append(f"{field.name} {name}: {complaint}")
    assert not complaints, "\n".join(complaints)
    assert number > 50
    serving.restart()
    assert serving.load_everything() > 50


def test_runs_close_in_a_namespace_that_keeps_them_for_ten_thousand_years(serving: Serving) -> None:
    """A retention that is longer than any time column holds is cut; runs could not be closed otherwise."""
    register = RegisterNamespaceRequest(namespace="long")
    register.workflow_execution_retention_period.seconds = CENTURIES_S
    serving.serve(register)
    start = _workflow(1)
    start.namespace = "long"
    serving.serve(start)
    again = _workflow(2)
    again.namespace, again.workflow_id = "long", start.workflow_id
    again.workflow_id_conflict_policy = (
        enums.WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING
    )
    serving.serve(again)
