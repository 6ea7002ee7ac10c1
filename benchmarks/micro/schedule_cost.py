"""What an action of a schedule costs without any door: thousands of schedules due at one second, in this process.

The clock is moved to that second as soon as the schedules are made, so a run takes as long as the work does. The CPU is
of the whole process, from that moment until the last workflow is started and every schedule is at rest. Further rounds
move it on to the next actions of the same schedules: from the second on, their requests are prepared.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from perdure.api.enums.v1 import ScheduleOverlapPolicy
from perdure.api.workflowservice.v1 import CountWorkflowExecutionsRequest, CreateScheduleRequest
from perdure.server.config import ServerConfig
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.server.service.call import Call
from perdure.store.memory import MemoryStore
from perdure.store.protocol import Store
from perdure.store.sqlite import SqliteStore

SERVICE = "/temporal.api.workflowservice.v1.WorkflowService/"
CALL = Call(deadline_s=60)
EVERY_S = 3_600
AT_ONCE = 100
SECOND_NS = 1_000_000_000


class MovedRuntime(SystemRuntime):
    """The real clock, ahead by `ahead_ns`."""

    ahead_ns = 0

    def now_ns(self) -> int:
        """The time that is pretended."""
        return super().now_ns() + self.ahead_ns


def request(number: int, phase_s: int, policy: int) -> CreateScheduleRequest:
    """CreateSchedule of one that acts each hour."""
    create = CreateScheduleRequest(namespace="default", schedule_id=f"s{number}", request_id=f"r{number}")
    interval = create.schedule.spec.interval.add()
    interval.interval.FromSeconds(EVERY_S)
    interval.phase.FromSeconds(phase_s)
    create.schedule.policies.overlap_policy = policy  # type: ignore[assignment]  # a number
    template = create.schedule.action.start_workflow
    template.workflow_id = f"w{number}"
    template.workflow_type.name = "Tick"
    template.task_queue.name = "ticks"
    return create


async def measure(store: Store, options: argparse.Namespace) -> None:
    """Makes the schedules, moves the clock and prints what their actions cost."""
    runtime = MovedRuntime()
    server = Server(store, ServerConfig(port=0), runtime, "sqlite")
    await server.start()
    policy = ScheduleOverlapPolicy.Value(f"SCHEDULE_OVERLAP_POLICY_{options.policy}")
    due_s = int(runtime.now_ns() // SECOND_NS) + EVERY_S // 2
    for first in range(0, options.count, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, options.count))
        calls = (request(number, due_s % EVERY_S, policy) for number in numbers)
        await asyncio.gather(*(server.service.call(SERVICE + "CreateSchedule", call, CALL) for call in calls))
    for number in range(options.rounds):
        await measure_round(server, runtime, due_s + number * EVERY_S, (number + 1) * options.count, options)
    await server.stop(0)


async def measure_round(
    server: Server, runtime: MovedRuntime, due_s: int, until: int, options: argparse.Namespace
) -> None:
    """Moves the clock to `due_s` and prints what it costs until there are `until` workflows."""
    count = CountWorkflowExecutionsRequest(namespace="default")
    profile = cProfile.Profile()
    if options.profile:
        profile.enable()
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    on_loop_s = time.thread_time()
    runtime.ahead_ns += due_s * SECOND_NS - runtime.now_ns() + 1
    server.schedules.clock_moved()
    while True:
        await asyncio.sleep(0.1)
        answer: Any = await server.service.call(SERVICE + "CountWorkflowExecutions", count, CALL)
        if answer.count >= until and not server.schedules.running():
            break
    elapsed_s, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    if options.profile:
        profile.disable()
        pstats.Stats(profile).sort_stats(options.sort).print_stats(60)
    on_loop_s = time.thread_time() - on_loop_s
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"{options.count} actions in {elapsed_s:.2f} s, "
        f"{used_s * 1e3 / options.count:.3f} ms CPU per action ({on_loop_s * 1e3 / options.count:.3f} on the loop)",
        flush=True,
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=1, help="actions of each schedule")
    parser.add_argument("--policy", default="ALLOW_ALL", help="overlap policy, such as SKIP")
    parser.add_argument("--memory", action="store_true", help="a store in memory")
    parser.add_argument("--profile", action="store_true", help="cProfile the actions (it slows everything)")
    parser.add_argument("--sort", default="tottime")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store: Store = MemoryStore() if options.memory else SqliteStore(Path(folder) / "bench.db")
        asyncio.run(measure(store, options))


if __name__ == "__main__":
    main()
