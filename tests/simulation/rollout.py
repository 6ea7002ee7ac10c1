"""A rollout: workers of two builds, and the operator who sends work to one of them, to both, and in the end to the new.

Workflows on a task queue of their own live through it, some pinned to the build that began them. The old build's
workers are stopped once the server says that it has drained; whatever goes on then goes on with the new one's.
"""

from __future__ import annotations

from random import Random
from typing import TypeVar

from google.protobuf.message import Message

from perdure.api.deployment.v1 import WorkerDeploymentOptions, WorkerDeploymentVersion
from perdure.api.enums.v1 import WorkerDeploymentVersionStatus
from perdure.api.workflowservice.v1 import (
    DescribeWorkerDeploymentRequest,
    DescribeWorkerDeploymentResponse,
    DescribeWorkerDeploymentVersionRequest,
    DescribeWorkerDeploymentVersionResponse,
    SetWorkerDeploymentCurrentVersionRequest,
    SetWorkerDeploymentCurrentVersionResponse,
    SetWorkerDeploymentRampingVersionRequest,
    SetWorkerDeploymentRampingVersionResponse,
)
from perdure.core.run.records import RunKey
from perdure.core.run.versioning import VERSIONED
from tests.simulation.client import Plan, SimClient
from tests.simulation.context import Context
from tests.simulation.deployment_oracle import QUEUE, Routing
from tests.simulation.loop import Node
from tests.simulation.model import RUNNING, check
from tests.simulation.network import CallFailed
from tests.simulation.program import CANCEL, Program, random_activity
from tests.simulation.worker import SimWorker

NAME = "shop"
OLD, NEW = "blue", "green"
_DRAINED = WorkerDeploymentVersionStatus.Value("WORKER_DEPLOYMENT_VERSION_STATUS_DRAINED")
_LATE_TASKS_S = 60.0
"""Longer than a worker has a workflow task: a run may be pinned to a build that has just lost its part."""
Response = TypeVar("Response", bound=Message)


class RolloutClient(SimClient):
    """Whoever starts the workflows. Runs that are over are not asked: the workers of their version may be gone."""

    async def _query_closed(self, plan: Plan, run_id: str) -> None:
        return


def draw_plans(random: Random, namespace: str) -> list[Plan]:
    """Workflows that live through the rollout."""
    plans = []
    for number in range(random.randint(3, 6)):
        workflow_id = f"{random.choice(('pinned', 'auto'))}{number}"
        program = _program(random, 4)
        if random.random() < 0.6:
            program["next"] = _program(random, 2)
        plans.append(Plan(namespace, workflow_id, QUEUE, program, random.uniform(0, 60)))
    return plans


def _program(random: Random, most_steps: int) -> Program:
    steps: list[list[object]] = []
    for number in range(random.randint(1, most_steps)):
        if random.random() < 0.5:
            steps.append(["activity", f"a{number}", random_activity(random)])
        else:
            steps.append(["timer", f"t{number}", random.choice((0.1, 3.0, 30.0, 60.0))])
    ends = random.choice(("complete", "complete", "fail"))
    return {"steps": steps, "ends": ends, "on_cancel": CANCEL, "signals": []}


class Rollout:
    """The operator's process, and the workers of both builds.

    Args:
        context: the world.
        node: the operator's process.
        namespace: where all this is.
        workers: the processes of workers that run now; kept up to date.
    """

    def __init__(self, context: Context, node: Node, namespace: str, workers: list[Node]) -> None:
        self._context = context
        self._loop = context.loop
        self._oracle = context.oracle.deployments
        self._random = context.stream("operator of versions")
        self._namespace = namespace
        self._workers = workers
        self._retired: set[str] = set()
        self.unfinished = 1
        for build in (OLD, NEW):
            context.start(context.loop.world, self._keep_worker(build))
        context.start(node, self._roll_out())

    # --- workers

    async def _keep_worker(self, build: str) -> None:
        """Keeps a worker of a build running until the build is retired."""
        random, number = self._context.stream(f"workers of {build}"), 0
        while build not in self._retired:
            number += 1
            node = self._loop.new_node(f"{build} worker{number}")
            self._oracle.builds[node.name] = build
            options = WorkerDeploymentOptions(
                deployment_name=NAME, build_id=build, worker_versioning_mode=VERSIONED
            )
            SimWorker(self._context, node, self._namespace, QUEUE, node.name, options)
            self._workers.append(node)
            await self._live(build, random)
            self._context.note(node.name, "killed")
            self._loop.kill(node)
            self._context.network.drop_client(node)
            self._workers.remove(node)
            await self._loop.sleep(random.uniform(0.0, 5.0))

    async def _live(self, build: str, random: Random) -> None:
        """Returns when a worker of the build ends."""
        while build not in self._retired:
            every_s = self._context.faults.worker_crash_every_s
            await self._loop.sleep(random.expovariate(1 / every_s) if every_s else 5.0)
            if every_s and self._context.faults.worker_crash_every_s:
                return

    # --- the operator

    async def _roll_out(self) -> None:
        random = self._random
        await self._loop.sleep(random.uniform(0, 5))
        await self._change(Routing(OLD))
        for _ in range(random.randint(1, 4)):
            await self._loop.sleep(random.uniform(1, 12))
            current = self._oracle.routing.current
            other = NEW if current == OLD else OLD
            ramp = Routing(current, other, float(random.choice((0, 20, 50, 100))))
            await self._change(Routing(other) if random.random() < 0.4 else ramp)
            await self._is_drained(random.choice((OLD, NEW)))
        while self._context.calm_since_s is None:
            await self._loop.sleep(1.0)
        await self._loop.sleep(random.uniform(1, 10))
        await self._change(Routing(NEW))
        since_s = self._loop.time()
        while not await self._is_drained(OLD) or self._loop.time() < since_s + _LATE_TASKS_S:
            await self._loop.sleep(random.uniform(1, 10))
        self._context.trace.reach("version retired")
        self._retired.add(OLD)
        self.unfinished = 0

    async def _call(self, request: Message, response: type[Response]) -> Response | None:
        """One call; None when it failed as calls do."""
        try:
            return await self._context.network.call(request, response)
        except CallFailed as error:
            # Workers have not polled yet, or the token is of before a change that was done and not answered.
            self._context.accept(error, "NotFoundError", "FailedPreconditionError")
            await self._loop.sleep(self._random.uniform(0.05, 2.0))
            return None

    async def _change(self, goal: Routing) -> None:
        """Changes the routing, in two steps if need be. A late copy of a request does nothing: its token is old."""
        while True:
            asked_s = self._loop.time()
            description = await self._call(
                DescribeWorkerDeploymentRequest(namespace=self._namespace, deployment_name=NAME),
                DescribeWorkerDeploymentResponse,
            )
            if description is None:
                continue
            known = description.worker_deployment_info.routing_config
            routing = Routing(
                known.current_deployment_version.build_id,
                known.ramping_deployment_version.build_id,
                known.ramping_version_percentage,
            )
            self._oracle.told(routing, asked_s)
            if routing == goal:
                return
            await self._step(routing, goal, description.conflict_token)

    async def _step(self, routing: Routing, goal: Routing, token: bytes) -> None:
        if (routing.ramping, routing.percentage) != (goal.ramping, goal.percentage) and (
            goal.ramping or routing.ramping != goal.current
        ):
            wished = routing._replace(ramping=goal.ramping, percentage=goal.percentage)
            await self._ask(
                wished,
                SetWorkerDeploymentRampingVersionRequest(build_id=goal.ramping, percentage=goal.percentage),
                SetWorkerDeploymentRampingVersionResponse,
                token,
            )
        else:
            ramps_on = routing.ramping != goal.current
            wished = routing._replace(current=goal.current) if ramps_on else Routing(goal.current)
            await self._ask(
                wished,
                SetWorkerDeploymentCurrentVersionRequest(build_id=goal.current),
                SetWorkerDeploymentCurrentVersionResponse,
                token,
            )

    async def _ask(
        self,
        wished: Routing,
        request: SetWorkerDeploymentRampingVersionRequest | SetWorkerDeploymentCurrentVersionRequest,
        response: type[Message],
        token: bytes,
    ) -> None:
        request.namespace, request.deployment_name = self._namespace, NAME
        request.identity, request.conflict_token = "operator", token
        self._oracle.wished = wished
        if await self._call(request, response) is not None:
            self._context.trace.reach(f"rollout: {type(request).__name__.removesuffix('Request')}")
            check(self._oracle.routing == wished, "an acknowledged routing is durable", self._oracle.routing)

    async def _is_drained(self, build: str) -> bool:
        """Whether the server says that a version has drained; it must not while open runs are pinned to it."""
        before = self._pinned(build)
        description = await self._call(
            DescribeWorkerDeploymentVersionRequest(
                namespace=self._namespace,
                deployment_version=WorkerDeploymentVersion(deployment_name=NAME, build_id=build),
            ),
            DescribeWorkerDeploymentVersionResponse,
        )
        if description is None:
            return False
        drained = description.worker_deployment_version_info.status == _DRAINED
        left = before & self._pinned(build)
        check(not (drained and left), "a version has drained when no open run is pinned to it", left)
        if left and build not in self._oracle.routing.targets():
            self._context.trace.reach("version drains")
        return drained

    def _pinned(self, build: str) -> set[RunKey]:
        models = self._context.oracle.models
        return self._oracle.pinned_to(build, [run for run, it in models.items() if it.status == RUNNING])
