"""One seed from beginning to end: build the world, let it go wrong, let the faults end, check what is left."""

from __future__ import annotations

import gc
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from perdure.api.operatorservice.v1 import CreateNexusEndpointRequest
from perdure.core.deployment.routes import queue_name, version_text
from perdure.core.run.records import QueueKey, RunKey, TaskKey, TaskKind
from perdure.store.memory import MemoryStore
from tests.simulation import crons, fleet, knobs, limit_oracle, limits, removals, update_with_start
from tests.simulation.client import SimClient, draw_plan
from tests.simulation.context import Context
from tests.simulation.crons import CronClient
from tests.simulation.deployment_oracle import QUEUE
from tests.simulation.faults import Faults, draw_faults
from tests.simulation.fleet import Fleet
from tests.simulation.loop import MOST_STEPS, Node, SimLoop, new_loop
from tests.simulation.model import Broken, check
from tests.simulation.operations import OperationClient
from tests.simulation.operator_client import OperatorClient
from tests.simulation.oracle import Oracle, immediate
from tests.simulation.removals import RemovalClient
from tests.simulation.rollout import NAME, NEW, OLD, Rollout, RolloutClient, draw_plans
from tests.simulation.runtime import WallClock
from tests.simulation.schedule_client import ScheduleClient
from tests.simulation.schedules import draw_schedule
from tests.simulation.server import NAMESPACES, SimServer, server_config
from tests.simulation.standalone import StandaloneClient
from tests.simulation.trace import Trace
from tests.simulation.update_with_start import UpdateWithStartClient
from tests.simulation.worker import SimWorker

FINISH_WITHIN_S = 2_000.0
"""Simulated seconds after the end of the faults in which everything must be finished."""
SETTLES_WITHIN_S = 20.0
"""Simulated seconds after the end of the faults after which tasks must be brought to waiting workers at once..."""
DELIVERED_WITHIN_S = 5.0
"""...which is within this time."""
FIRED_WITHIN_S = 25.0
"""What is due is done within this time: what memory has lost is found by the next sweep."""
TASK_QUEUE = "queue"
VERSIONED_SHARE = 0.024
"""Of the seeds, in so many a rollout goes on beside everything else; one nearly doubles what a seed costs."""
Client = (
    SimClient
    | ScheduleClient
    | StandaloneClient
    | OperationClient
    | OperatorClient
    | RemovalClient
    | Rollout
    | Fleet
)
_HOUR_NS = 3_600_000_000_000


@dataclass(slots=True)
class Result:
    """What became of one seed.

    Attributes:
        error: what was found wrong, None if nothing was.
        digest: of the trace; the same seed must give the same.
        simulated_s: how much time passed.
        steps, commits: how much happened.
    """

    seed: int
    error: BaseException | None
    digest: str
    trace: Trace
    simulated_s: float
    steps: int
    commits: int

    @property
    def reached(self) -> Counter[str]:
        """Rare situations that occurred."""
        return self.trace.reached


class World:
    """The world of one seed."""

    def __init__(self, seed: int, *, keep_trace: bool = False, faults: Faults | None = None) -> None:
        self.seed = seed
        self.random = Random(f"{seed} world")
        self.trace = Trace(keep_all=keep_trace)
        self.loop = new_loop(Random(f"{seed} loop"))
        self.clock = WallClock(self.loop)
        self.durable = MemoryStore()
        self.oracle = Oracle(self.durable, self.trace, lambda: self.loop.now_ns)
        self.faults = draw_faults(self.random) if faults is None else faults
        self.context = Context(seed, self.loop, self.clock, self.trace, self.oracle, self.faults.ended())
        self.config = server_config(self.random, clock_jumps=bool(self.faults.clock_jump_every_s))
        self.employs = self.random.random() < 0.5
        self.server: SimServer | None = None
        self._server_ended = self.loop.create_future()
        self._servers = 0
        self._workers = 0
        self._worker_nodes: list[Node] = []
        self._stood_still_until_s = 0.0

    # --- processes

    def crash_server(self, node: Node) -> None:
        """Ends a server process at once."""
        if node.alive:
            self.context.note(node.name, "killed")
            self.loop.kill(node)
        if self.server is not None and self.server.node is node:
            self.server = None
            self.context.network.server = None
            self.loop.run_in(self.loop.world, 0, self._server_ended.set_result, None)

    async def _run_servers(self) -> None:
        """Keeps a server running: a new process soon after the end of the old one."""
        while True:
            await self._server_ended
            self._server_ended = self.loop.create_future()
            await self.loop.sleep(self.random.uniform(0.05, 4.0))
            await self._start_server()

    async def _start_server(self) -> None:
        self._servers += 1
        server = self.server = SimServer(
            self.context, self.durable, self.config, self._servers, self.crash_server
        )
        self.context.note(server.node.name, "starts")

        async def boot() -> None:
            if not await server.boot():
                self.crash_server(server.node)
            elif self.employs:
                self.trace.reach("a worker inside a server")
                for namespace in NAMESPACES:
                    server.employ(namespace, TASK_QUEUE, f"inside {server.node.name} {namespace}")

        self.context.start(server.node, boot())

    async def _stop_server(self) -> None:
        """Ends the server as SIGTERM does."""
        server = self.server
        if server is None:
            return
        self.trace.reach("stopped in order")
        self.context.network.server = None
        stopping = self.loop.spawn(server.node, server.server.stop(1.0))
        for _ in range(400):
            if stopping.done() or not server.node.alive:
                break
            await self.loop.sleep(0.25)
        check(stopping.done() or not server.node.alive, "a server stops", server.node.name)
        self.crash_server(server.node)

    def _start_worker(self, namespace: str) -> tuple[Node, SimWorker]:
        self._workers += 1
        name = f"worker{self._workers}"
        node = self.loop.new_node(name)
        return node, SimWorker(self.context, node, namespace, TASK_QUEUE, name)

    async def _run_worker(self, namespace: str) -> None:
        """Keeps a worker running."""
        node, worker = self._start_worker(namespace)
        self._worker_nodes.append(node)
        while True:
            every_s = self.context.faults.worker_crash_every_s
            if not every_s:
                await self.loop.sleep(5.0)
                continue
            await self.loop.sleep(self.random.expovariate(1 / every_s))
            if not self.context.faults.worker_crash_every_s:
                continue
            if self.random.random() < 0.3:
                self.trace.reach("worker said goodbye")
                goodbye = self.loop.spawn(node, worker.say_goodbye())
                while not goodbye.done():
                    await self.loop.sleep(0.25)
            else:
                self.trace.reach("worker crashed")
            self.context.note(node.name, "killed")
            self.loop.kill(node)
            self.context.network.drop_client(node)
            await self.loop.sleep(self.random.uniform(0.0, 5.0))
            self._worker_nodes.remove(node)
            node, worker = self._start_worker(namespace)
            self._worker_nodes.append(node)

    # --- faults

    async def _crash_now_and_then(self) -> None:
        while every_s := self.context.faults.server_crash_every_s:
            await self.loop.sleep(self.random.expovariate(1 / every_s))
            if not self.context.faults.server_crash_every_s:
                return
            if self.random.random() < 0.25:
                await self._stop_server()
            elif self.server is not None:
                self.trace.reach("server crashed")
                self.crash_server(self.server.node)

    async def _turn_the_clock(self) -> None:
        while every_s := self.context.faults.clock_jump_every_s:
            await self.loop.sleep(self.random.expovariate(1 / every_s))
            if not self.context.faults.clock_jump_every_s:
                return
            jump_s = self.random.choice((-300.0, -30.0, -1.0, 1.0, 30.0, 3600.0))
            self.trace.reach("clock set back" if jump_s < 0 else "clock set forward")
            self.context.set_back_s += max(-jump_s, 0.0)
            self.oracle.clock_set_back = self.context.set_back_s > 0
            self.clock.offset_ns += int(jump_s * 1e9)
            self.context.note("clock", f"jumps by {jump_s} s")

    async def _stand_still(self) -> None:
        while every_s := self.context.faults.server_pause_every_s:
            await self.loop.sleep(self.random.expovariate(1 / every_s))
            if not self.context.faults.server_pause_every_s or self.server is None:
                continue
            node = self.server.node
            self.trace.reach("server stands still")
            self.loop.pause(node)
            await self.loop.sleep(self.random.uniform(0, self.faults.pause_s))
            self.loop.resume(node)
            self._stood_still_until_s = self.loop.time()

    async def _take_the_store_down(self) -> None:
        while every_s := self.context.faults.store_outage_every_s:
            await self.loop.sleep(self.random.expovariate(1 / every_s))
            if not self.context.faults.store_outage_every_s:
                return
            await self.context.take_the_store_down(self.random.uniform(0, self.faults.outage_s))

    # --- the run

    async def _prepare(self) -> None:
        """The first server makes the namespaces before anything can go wrong."""
        await self._start_server()
        while self.context.network.server is None:
            await self.loop.sleep(0.01)
        assert self.server is not None
        for name in NAMESPACES:
            self.context.namespace_ids[name] = self.server.server.namespaces.get(name).namespace_id
            request = CreateNexusEndpointRequest()
            request.spec.name = name
            request.spec.target.worker.namespace = name
            request.spec.target.worker.task_queue = TASK_QUEUE
            await self.server.serve_local(request, 10.0)

    async def run(self) -> None:
        """The whole life of the world."""
        context, random = self.context, self.random
        context.note("world", f"seed {self.seed} {self.faults}")
        await self._prepare()
        context.faults = self.faults
        world = self.loop.world
        context.start(world, self._run_servers())
        for namespace in (NAMESPACES[0], NAMESPACES[0], NAMESPACES[1]):
            context.start(world, self._run_worker(namespace))
        context.start(world, self._crash_now_and_then())
        context.start(world, self._turn_the_clock())
        context.start(world, self._stand_still())
        context.start(world, self._take_the_store_down())
        clients: list[Client] = [
            *self._start_clients(),
            *self._start_schedules(),
            self._start_standalone_client(),
            self._start_operation_client(),
            *self._start_operator(),
            *self._start_rollout(),
            *self._start_updates_with_starts(),
            *self._start_crons(),
            *self._start_limits(),
            *self._start_removals(),
            *self._start_fleet(),
        ]
        await self.loop.sleep(random.uniform(10, 90))
        context.faults = self.faults.ended()
        context.calm_since_s = self.oracle.deployments.calm_since_s = self.loop.time()
        context.note("world", "the faults end")
        await self._until_finished(clients)
        await self._look_back()

    def _start_clients(self) -> list[SimClient]:
        clients = []
        number = 0
        for index in range(self.random.randint(1, 3)):
            plans = []
            for _ in range(self.random.randint(2, 6)):
                number += 1
                namespace = self.random.choice(NAMESPACES)
                # Both namespaces use the same ids: they must never meet.
                plans.append(draw_plan(self.random, number, namespace, TASK_QUEUE))
                if self.random.random() < 0.2:
                    other = NAMESPACES[1 - NAMESPACES.index(namespace)]
                    plans.append(draw_plan(self.random, number, other, TASK_QUEUE))
            clients.append(
                SimClient(self.context, self.loop.new_node(f"client{index}"), f"client{index}", plans)
            )
        return clients

    def _start_schedules(self) -> list[ScheduleClient]:
        """Schedules in every other seed, with randomness of their own."""
        random = self.context.stream("schedules")
        if random.random() < 0.5:
            return []
        plans = [
            draw_schedule(random, number, random.choice(NAMESPACES), TASK_QUEUE)
            for number in range(1, random.randint(2, 3))
        ]
        return [
            ScheduleClient(self.context, self.loop.new_node(f"client of {plan.schedule_id}"), plan)
            for plan in plans
        ]

    def _start_standalone_client(self) -> StandaloneClient:
        node = self.loop.new_node("standalone")
        return StandaloneClient(self.context, node, "standalone", NAMESPACES, TASK_QUEUE)

    def _start_operation_client(self) -> OperationClient:
        node = self.loop.new_node("operations")
        return OperationClient(self.context, node, "operations", NAMESPACES, TASK_QUEUE)

    def _start_operator(self) -> list[OperatorClient]:
        """An operator in half of the seeds, with randomness of its own."""
        if self.context.stream("has operator").random() < 0.5:
            return []
        return [OperatorClient(self.context, self.loop.new_node("operator"))]

    def _start_rollout(self) -> list[Client]:
        """Workers with versions in a few of the seeds, with randomness of their own."""
        random = self.context.stream("deployments")
        if random.random() >= VERSIONED_SHARE:
            return []
        client = RolloutClient(
            self.context,
            self.loop.new_node("rollout client"),
            "rollout client",
            draw_plans(random, NAMESPACES[0]),
        )
        operator = self.loop.new_node("operator of versions")
        return [client, Rollout(self.context, operator, NAMESPACES[0], self._worker_nodes)]

    def _start_updates_with_starts(self) -> list[UpdateWithStartClient]:
        """Starts that bring an update in a few of the seeds, with randomness of their own."""
        random = self.context.stream("updates with starts")
        if random.random() >= update_with_start.SHARE:
            return []
        name = "update with start"
        plans = update_with_start.draw_plans(random, NAMESPACES, TASK_QUEUE)
        return [UpdateWithStartClient(self.context, self.loop.new_node(name), name, plans)]

    def _start_crons(self) -> list[CronClient]:
        """Workflows with a cron schedule in a few of the seeds, with randomness of their own."""
        random = self.context.stream("crons")
        if random.random() >= crons.SHARE:
            return []
        plans = crons.draw_plans(random, NAMESPACES, TASK_QUEUE)
        return [CronClient(self.context, self.loop.new_node("cron"), "cron", plans)]

    def _start_limits(self) -> list[limits.LimitedClient]:
        """A task queue with a rate limit in a few of the seeds, with randomness of its own."""
        if self.context.stream("limits").random() >= limits.SHARE:
            return []
        node = self.loop.new_node("limited worker")
        self._worker_nodes.append(node)
        limits.start_worker(self.context, node, NAMESPACES[0])
        return [limits.LimitedClient(self.context, self.loop.new_node("limited"), NAMESPACES[0])]

    def _start_removals(self) -> list[RemovalClient]:
        """Namespaces that are deleted in a few of the seeds, with randomness of their own."""
        if self.context.stream("removals").random() >= removals.SHARE:
            return []
        node = self.loop.new_node("doomed worker")
        self._worker_nodes.append(node)
        removals.start_worker(self.context, node)
        return [RemovalClient(self.context, self.loop.new_node("removals"))]

    def _start_fleet(self) -> list[Fleet]:
        """Workers that say how they are in a few of the seeds, with randomness of their own."""
        if self.context.stream("has fleet").random() >= fleet.SHARE:
            return []
        return [Fleet(self.context, self.loop.new_node("fleet client"), NAMESPACES)]

    async def _until_finished(self, clients: Sequence[Client]) -> None:
        began = self.loop.time()
        deadline = began + FINISH_WITHIN_S + self.context.set_back_s
        waiting: dict[tuple[RunKey, TaskKey, str], float] = {}
        callbacks = self.oracle.callbacks
        while any(client.unfinished for client in clients) or self._open_runs() or callbacks.open():
            now = self.loop.time()
            if now > deadline:
                left = [
                    f"{run.workflow_id} {run.run_id[-6:]}" for run in (*self._open_runs(), *callbacks.open())
                ]
                raise Broken("everything finishes once the faults have ended", left or "clients wait")
            if now > began + SETTLES_WITHIN_S:
                waiting = self._check_waiting(waiting, now)
                self._check_deadlines()
            await self.loop.sleep(0.5)

    def _check_deadlines(self) -> None:
        """Checks that nothing that is due is left undone for long."""
        context = self.context
        # What was due meanwhile begins only then, and a call to a handler that hangs takes its time.
        idle_until_s = max(context.store_is_up_since_s, self._stood_still_until_s)
        was_down = context.store_is_down or self.loop.time() < idle_until_s + FIRED_WITHIN_S
        if self.server is None or was_down:
            return
        overdue_ns = self.server.now_ns() - int(FIRED_WITHIN_S * 1e9)
        for run in self._open_runs():
            oracle = self.oracle
            known = oracle.standalone.states.get(run) or oracle.operations.states.get(run)
            wakeup_ns = (known or oracle.states[run]).wakeup_ns
            began_ns = oracle.states[run].header.start_ns if known is None else 0
            # What a reset copies may have been due long before the new run began.
            due = wakeup_ns is not None and max(wakeup_ns, began_ns) <= overdue_ns
            check(not due, "no deadline is missed", (run, wakeup_ns))
        self.oracle.schedules.check_timely(self.server.now_ns(), int(FIRED_WITHIN_S * 1e9))

    def _check_waiting(
        self, before: dict[tuple[RunKey, TaskKey, str], float], now: float
    ) -> dict[tuple[RunKey, TaskKey, str], float]:
        """Checks that no task waits while a worker waits on its queue. Returns since when each task waits."""
        waiting: dict[tuple[RunKey, TaskKey, str], float] = {}
        of_workflows = (model.tasks for model in self.oracle.models.values())
        for tasks in (*of_workflows, *self.oracle.standalone.tasks.values()):
            for task in tasks.values():
                if self.server is None or not self.server.has_waiting_poller(task.queue):
                    continue
                key = (task.run, task.key, task.delivery_id)
                waiting[key] = before.get(key, now)
                if task.queue.name == limit_oracle.QUEUE:
                    self.oracle.standalone.limits.check_moving(waiting[key])
                    continue
                patient = now - waiting[key] <= DELIVERED_WITHIN_S
                check(patient, "no task waits while a worker waits on its queue", task)
        return waiting

    def _open_runs(self) -> list[Any]:
        open_ones = [run for run, model in self.oracle.models.items() if model.status == 1]
        return open_ones + self.oracle.standalone.open() + self.oracle.operations.open()

    async def _look_back(self) -> None:
        """Everything is over: checks what is left, then that nothing is left once retention is over."""
        self.oracle.check_histories()
        versioned = [queue_name(QUEUE, version_text(NAME, build)) for build in (OLD, NEW)]
        for namespace_id in self.context.namespace_ids.values():
            for kind in TaskKind:
                for name in (TASK_QUEUE, limit_oracle.QUEUE, QUEUE, *versioned):
                    tasks = immediate(self.durable.read_tasks(QueueKey(namespace_id, name, kind), None, 10))
                    check(not tasks, "no task is left", tasks)
        for node in self._worker_nodes:
            self.loop.kill(node)
            self.context.network.drop_client(node)
        await self.loop.sleep(70.0)  # longer than the longest poll
        if self.server is None:
            raise Broken("a server runs once the faults have ended", self._servers)
        self.server.check_memory()
        self.clock.offset_ns += (
            int(self.config.retention_s * 1e9) + _HOUR_NS + int(self.context.set_back_s * 1e9)
        )
        for _ in range(240):
            if not (self.oracle.models or self.oracle.standalone.states or self.oracle.operations.states):
                break
            await self.loop.sleep(1.0)
        left = [*self.oracle.standalone.states, *self.oracle.operations.states][:3]
        check(not left, "retention deletes every closed execution", left)
        check(not self.oracle.models, "retention deletes every closed run", list(self.oracle.models)[:3])
        await self._stop_server()


@contextmanager
def _quiet() -> Iterator[None]:
    """The server's log lines about injected faults are not for the terminal."""
    logger = logging.getLogger("perdure")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


def run_seed(
    seed: int, *, keep_trace: bool = False, faults: Faults | None = None, most_steps: int = MOST_STEPS
) -> Result:
    """Runs one seed.

    Args:
        seed: decides everything.
        keep_trace: keep every line of the trace.
        faults: instead of those drawn from the seed.
        most_steps: callbacks after which the run ends with an error.
    """
    collecting = gc.isenabled()
    gc.disable()
    gc.freeze()  # what others have made costs no time when this seed's leavings are collected
    try:
        return _run(seed, keep_trace=keep_trace, faults=faults, most_steps=most_steps)
    finally:
        # The world, whose parts know each other: left frozen by the next seed, it would stay for ever.
        gc.collect()
        gc.unfreeze()
        if collecting:
            gc.enable()


def _run(seed: int, *, keep_trace: bool, faults: Faults | None, most_steps: int) -> Result:
    world = World(seed, keep_trace=keep_trace, faults=faults)
    world.loop.max_steps = most_steps
    if faults is not None:
        world.faults = replace(faults)
    error: BaseException | None = None
    try:
        with _quiet(), knobs.turned(Random(f"{seed} knobs")) as turned:
            world.context.note("world", turned)
            try:
                world.loop.run_until_complete(world.run())
                gc.collect()
                _check_unhandled(world.loop)
            except Exception as found:  # everything that ends a run is its result
                error = found
    finally:
        digest = world.trace.digest()
        world.loop.close()
    return Result(
        seed, error, digest, world.trace, world.loop.now_ns / 1e9, world.loop.steps, world.oracle.commits
    )


def _check_unhandled(loop: SimLoop) -> None:
    for context in loop.errors:
        found = context.get("exception")
        raise Broken("no error is dropped", f"{context.get('message')}: {found!r}") from found
