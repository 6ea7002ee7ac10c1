"""What a call to an embedded engine costs above its handler; from another thread; over gRPC; and starting environments.

python -m benchmarks.micro.embedded_cost
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

from perdure.api.command.v1 import Command
from perdure.api.common.v1 import Payload
from perdure.api.enums.v1 import CommandType
from perdure.api.services import WORKFLOW_SERVICE, method_path
from perdure.api.workflowservice.v1 import (
    GetSystemInfoRequest,
    GetSystemInfoResponse,
    RespondWorkflowTaskCompletedRequest,
)
from perdure.server import Server
from perdure.server.service.call import Call
from perdure.service import ConnectConfig, ServiceClient
from perdure.service.embedded import open_embedded
from perdure.testing import WorkflowEnvironment

CALLS = 20_000
ENVIRONMENTS = 30
PATH = method_path(WORKFLOW_SERVICE, "GetSystemInfo")


async def _microseconds(call: Callable[[], Awaitable[object]], calls: int = CALLS) -> float:
    """The mean time of a call, best of three rounds."""
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        for _ in range(calls):
            await call()
        best = min(best, (time.perf_counter() - started) / calls * 1e6)
    return best


async def _call_costs() -> None:
    async with Server("sqlite://?name=cost", grpc="127.0.0.1:0") as server:
        transport = await open_embedded(server.address)
        serve = transport._engine.server.service.methods[PATH].serve
        assert serve is not None
        request = GetSystemInfoRequest()

        async def through() -> object:
            return await transport.call(
                WORKFLOW_SERVICE, PATH, request, GetSystemInfoResponse, metadata={}, timeout=30
            )

        handler_us = await _microseconds(lambda: serve(request, Call(30.0, {})))
        print(f"handler alone                      {handler_us:8.1f} us")
        print(f"above it, in process               {await _microseconds(through) - handler_us:8.1f} us")
        outcome: list[float] = []
        thread = threading.Thread(
            target=lambda: outcome.append(asyncio.run(_microseconds(through, CALLS // 10)))
        )
        thread.start()
        await asyncio.to_thread(thread.join)
        print(f"above it, from another thread      {outcome[0] - handler_us:8.1f} us")
        client = await ServiceClient.connect(ConnectConfig(target_host=server.grpc_address))
        over_us = await _microseconds(lambda: client.workflow_service.get_system_info(request), CALLS // 10)
        print(f"above it, over gRPC (own client)   {over_us - handler_us:8.1f} us")
        await client.close()
        await transport.close()


async def _copy_cost() -> None:
    command = Command(command_type=CommandType.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK)
    attributes = command.schedule_activity_task_command_attributes
    attributes.activity_id = "1"
    attributes.activity_type.name = "echo"
    attributes.task_queue.name = "queue"
    attributes.start_to_close_timeout.seconds = 10
    attributes.input.payloads.append(Payload(metadata={"encoding": b"json/plain"}, data=b"x" * 100))
    request = RespondWorkflowTaskCompletedRequest(task_token=b"t" * 200, identity="me", commands=[command])

    async def copy() -> object:
        own = RespondWorkflowTaskCompletedRequest()
        own.CopyFrom(request)
        return own

    print(f"copy of a completed workflow task  {await _microseconds(copy):8.1f} us")


async def _environment_costs() -> None:
    for name, start in (
        ("start_local", WorkflowEnvironment.start_local),
        ("start_time_skipping", WorkflowEnvironment.start_time_skipping),
    ):
        starts: list[float] = []
        for _ in range(ENVIRONMENTS):
            begun = time.perf_counter()
            env = await start()
            starts.append((time.perf_counter() - begun) * 1e3)
            await env.shutdown()
        starts.sort()
        print(f"{name:20} median {starts[len(starts) // 2]:6.1f} ms, longest {starts[-1]:6.1f} ms")


async def main() -> None:
    """Prints all figures."""
    await _call_costs()
    await _copy_cost()
    await _environment_costs()


if __name__ == "__main__":
    asyncio.run(main())
