"""How late schedules start their workflows: thousands of them act each minute, spread over it or all at one second."""

from __future__ import annotations

import asyncio
import datetime
import statistics
import time
from collections.abc import Callable

from temporalio.api.enums.v1 import ScheduleOverlapPolicy
from temporalio.api.workflowservice.v1 import (
    CreateScheduleRequest,
    ListWorkflowExecutionsRequest,
    ListWorkflowExecutionsResponse,
)

from benchmarks.procstat import machine_busy_s, tree_usage
from benchmarks.requests import SERVICE
from benchmarks.rounds import Json, machine
from benchmarks.targets import NAMESPACE, TARGETS, RunningServer, running
from benchmarks.wire import Method, RawChannel, connect

EVERY_S = 60
CREATED_AT_ONCE = 50
MOST_LATE_S = 5.0
"""The goal: no action begins later than this."""
PAGE = 1_000
PATIENCE_S = 120
"""How long is waited for the last actions to begin."""


def request(number: int, phase_s: int) -> bytes:
    """CreateSchedule of one that acts each minute, whatever runs."""
    create = CreateScheduleRequest(namespace=NAMESPACE, schedule_id=f"s{number}", request_id=f"r{number}")
    interval = create.schedule.spec.interval.add()
    interval.interval.FromSeconds(EVERY_S)
    interval.phase.FromSeconds(phase_s)
    create.schedule.policies.overlap_policy = ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL
    template = create.schedule.action.start_workflow
    template.workflow_id = f"w{number}"
    template.workflow_type.name = "Tick"
    template.task_queue.name = "ticks"
    return create.SerializeToString()


async def create_all(channel: RawChannel, address: str, count: int, phases: list[int]) -> float:
    """Creates the schedules; returns how many seconds that took."""
    method = Method(SERVICE + "CreateSchedule", address, 60)
    began = time.perf_counter()
    for first in range(0, count, CREATED_AT_ONCE):
        numbers = range(first, min(first + CREATED_AT_ONCE, count))
        await asyncio.gather(
            *(channel.unary(method, request(number, phases[number % len(phases)])) for number in numbers)
        )
    return time.perf_counter() - began


async def started(channel: RawChannel, address: str, from_s: int, to_s: int) -> list[float]:
    """How late each run began whose time, which its id ends with, lies in [from_s, to_s)."""
    method = Method(SERVICE + "ListWorkflowExecutions", address, 60)
    late: list[float] = []
    token = b""
    while True:
        page = ListWorkflowExecutionsRequest(namespace=NAMESPACE, page_size=PAGE, next_page_token=token)
        found = ListWorkflowExecutionsResponse.FromString(
            await channel.unary(method, page.SerializeToString())
        )
        for execution in found.executions:
            text = execution.execution.workflow_id.partition("-")[2].replace("Z", "+00:00")
            due_s = datetime.datetime.fromisoformat(text).timestamp()
            if from_s <= due_s < to_s:
                late.append(execution.start_time.ToNanoseconds() / 1e9 - due_s)
        token = found.next_page_token
        if not token:
            return late


async def measure(
    server: RunningServer, count: int, minutes: int, together: bool, tell: Callable[[str], None]
) -> Json:
    """Creates the schedules, lets them act for so many whole minutes, and looks how late each action was."""
    channel = await connect(server.address)
    try:
        # All at one second of the minute: far enough from now that the creation is over by then.
        second = int(time.time() + 30 + count / 150) % EVERY_S
        phases = [second] if together else list(range(EVERY_S))
        created_s = await create_all(channel, server.address, count, phases)
        tell(f"created in {created_s:.1f} s")
        from_s = int(time.time()) + 1
        to_s = from_s + minutes * EVERY_S
        before, (busy, total) = tree_usage(server.pid), machine_busy_s()
        wanted, late = count * minutes, []
        await asyncio.sleep(to_s - time.time())
        usage, (busy_after, total_after) = tree_usage(server.pid), machine_busy_s()
        while time.time() < to_s + PATIENCE_S:
            late = await started(channel, server.address, from_s, to_s)
            if len(late) >= wanted:
                break
            await asyncio.sleep(1)
    finally:
        channel.close()
    cpu_s = usage.cpu_s - before.cpu_s
    others = (busy_after - busy - cpu_s) / max(total_after - total, 1e-9)
    return {
        "together": together,
        "schedules": count,
        "minutes": minutes,
        "created_s": created_s,
        "wanted": wanted,
        "started": len(late),
        "late_p50_s": statistics.median(late) if late else None,
        "late_p99_s": sorted(late)[int(len(late) * 0.99)] if late else None,
        "late_max_s": max(late, default=None),
        "server_cpu_ms_per_action": cpu_s * 1e3 / max(len(late), 1),
        "others_share": others,
        "resident_mb": usage.resident_mb,
    }


def run_schedules(count: int, minutes: int, ways: list[bool], tell: Callable[[str], None]) -> Json:
    """Measures each way (True: all at one second) on a new file; valid if nothing is missing, doubled or too late."""
    results: list[Json] = []
    reasons: list[str] = []
    for together in ways:
        name = "together" if together else "spread"
        with running(TARGETS["perdure-file"]) as server:
            result = asyncio.run(measure(server, count, minutes, together, tell))
        results.append(result)
        tell(f"{name}: " + ", ".join(f"{key} {_short(value)}" for key, value in result.items()))
        if result["started"] != result["wanted"]:
            reasons.append(f"{name}: {result['started']} of {result['wanted']} actions")
        elif result["late_max_s"] > MOST_LATE_S:
            reasons.append(f"{name}: {result['late_max_s']:.1f} s late")
    return {"machine": machine(), "rounds": results, "valid": not reasons, "invalid_reasons": reasons}


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
