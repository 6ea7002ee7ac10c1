"""Random programs of operators and workers against a model of routing: starts, current and ramping versions, overrides,
completions, restarts. After each step every waiting workflow task waits for exactly the version that the model says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random

import pytest

from perdure.api.common.v1 import WorkflowExecution
from perdure.api.workflow.v1 import VersioningOverride
from perdure.api.workflowservice.v1 import (
    SetWorkerDeploymentRampingVersionRequest,
    UpdateWorkflowExecutionOptionsRequest,
)
from perdure.core.deployment.routes import UNVERSIONED, queue_name, version_text
from perdure.core.run.records import QueueKey, TaskKind
from perdure.core.run.versioning import AUTO_UPGRADE, PINNED
from perdure.server.config import ServerConfig
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.store.memory import MemoryStore
from tests.unit.server.local_client import LocalClient
from tests.unit.server.support import run
from tests.unit.server.test_deployments import (
    NAME,
    QUEUE,
    complete,
    make_current,
    pinned_to,
    poll,
    register,
    signal,
    start,
    status_of,
)

BUILDS = ("1", "2", "3")
STEPS = 40


@dataclass
class _Run:
    """What the model knows of a run."""

    behavior: int = 0
    build: str = ""
    override: str = ""
    has_task: bool = True


@dataclass
class _Model:
    current: str = ""
    ramping: str = ""
    was_active: set[str] = field(default_factory=set)
    runs: dict[str, _Run] = field(default_factory=dict)

    def build_for(self, found: _Run) -> str:
        if found.override:
            return found.override
        if found.behavior == PINNED:
            return found.build
        return self.ramping or self.current

    def waiting(self) -> dict[str, set[str]]:
        expected: dict[str, set[str]] = {build: set() for build in ("", *BUILDS)}
        for workflow_id, found in self.runs.items():
            if found.has_task:
                expected[self.build_for(found)].add(workflow_id)
        return expected


class _Program:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.store = MemoryStore()
        self.model = _Model()
        self.server = Server(self.store, ServerConfig(port=0), SystemRuntime(), "memory")
        self.client = LocalClient(self.server)

    async def begin(self) -> None:
        await self.server.start()
        await register(self.client, *BUILDS)

    async def restart(self) -> None:
        """The process ends, and another one goes on with what is stored."""
        await self.server.stop(0)
        self.server = Server(self.store, ServerConfig(port=0), SystemRuntime(), "memory")
        self.client = LocalClient(self.server)
        await self.server.start()

    async def start_workflow(self) -> None:
        workflow_id = f"w{len(self.model.runs)}"
        override = self.random.choice(("", "", *BUILDS))
        await start(self.client, workflow_id, pinned_to(override) if override else None)
        self.model.runs[workflow_id] = _Run(override=override)

    async def change_current(self) -> None:
        build = self.random.choice(("", *BUILDS))
        await make_current(self.client, build)
        self.model.current = build
        if self.model.ramping == build:
            self.model.ramping = ""
        self.model.was_active |= {build} - {""}

    async def change_ramp(self) -> None:
        others = [build for build in BUILDS if build != self.model.current]
        build = self.random.choice(("", *others))
        await self.client.invoke(
            SetWorkerDeploymentRampingVersionRequest(
                namespace="default",
                deployment_name=NAME,
                build_id=build,
                percentage=100 if build else 0,
                identity="operator",
            )
        )
        self.model.ramping = build
        self.model.was_active |= {build} - {""}

    async def change_override(self) -> None:
        if not self.model.runs:
            return
        workflow_id = self.random.choice(list(self.model.runs))
        found, override = self.model.runs[workflow_id], self.random.choice(("", *BUILDS))
        request = UpdateWorkflowExecutionOptionsRequest(
            namespace="default", workflow_execution=WorkflowExecution(workflow_id=workflow_id)
        )
        request.update_mask.paths.append("versioning_override")
        request.workflow_execution_options.versioning_override.CopyFrom(
            pinned_to(override) if override else VersioningOverride()
        )
        if not override:
            request.workflow_execution_options.ClearField("versioning_override")
        await self.client.invoke(request)
        found.override = override

    async def make_task(self) -> None:
        if not self.model.runs:
            return
        workflow_id = self.random.choice(list(self.model.runs))
        await signal(self.client, workflow_id)
        self.model.runs[workflow_id].has_task = True

    async def work(self) -> None:
        """A worker takes a task, which must be its version's, and completes it."""
        builds = [build for build, waiting in self.model.waiting().items() if build and waiting]
        if not builds:
            return
        build = self.random.choice(builds)
        task = await poll(self.client, build)
        workflow_id = task.workflow_execution.workflow_id
        assert workflow_id in self.model.waiting()[build]
        behavior = self.random.choice((PINNED, AUTO_UPGRADE))
        await complete(self.client, task, build, behavior)
        found = self.model.runs[workflow_id]
        found.behavior, found.build, found.has_task = behavior, build, False

    async def step(self) -> None:
        actions = (
            *(self.start_workflow, self.work, self.work, self.make_task),
            *(self.change_current, self.change_ramp, self.change_override),
        )
        crashes = self.random.random() < 0.2
        if crashes:  # before what waits was sent on
            self.server.deployments.on_routes = lambda namespace_id, changed: None
        await self.random.choice(actions)()
        if crashes:
            await self.restart()

    async def check_waiting(self) -> None:
        """Returns when every task waits where it should; sending them on takes a moment."""
        namespace_id = self.server.namespaces.get("default").namespace_id
        expected = self.model.waiting()
        found: dict[str, set[str]] = {}
        for _ in range(5_000):
            found = {}
            for build in expected:
                name = queue_name(QUEUE, version_text(NAME, build) if build else UNVERSIONED)
                rows = await self.store.read_tasks(
                    QueueKey(namespace_id, name, TaskKind.WORKFLOW), None, 1_000
                )
                found[build] = {task.run.workflow_id for _, task in rows}
            if found == expected:
                return
            await asyncio.sleep(0)
        assert found == expected

    async def check_drainage(self) -> None:
        for build in BUILDS:
            status = await status_of(self.client, build)
            holds = any(
                (found.override or (found.build if found.behavior == PINNED else "")) == build
                for found in self.model.runs.values()
            )
            if build == self.model.current:
                assert status == "CURRENT"
            elif build == self.model.ramping:
                assert status == "RAMPING"
            elif build in self.model.was_active:
                assert status == ("DRAINING" if holds else "DRAINED")


@pytest.mark.parametrize("seed", range(8))
def test_tasks_wait_where_the_routing_and_their_runs_say(seed: int) -> None:
    async def scenario() -> None:
        program = _Program(seed)
        await program.begin()
        try:
            for _ in range(STEPS):
                await program.step()
                await program.check_waiting()
            await program.check_drainage()
        finally:
            await program.server.stop(0)

    run(scenario())
