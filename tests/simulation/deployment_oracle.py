"""What is known to be true of worker versions: who may be given which task, and what an acknowledged routing is worth.

Derived from events, from who took which task and from the stored routing; what a run's state says of versions is not
read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from perdure.api.enums.v1 import EventType
from perdure.api.history.v1 import HistoryEvent
from perdure.core.deployment.state import Deployment
from perdure.core.run.records import RunKey, TaskKind
from perdure.core.run.state import RunHeader, RunState
from perdure.core.run.versioning import AUTO_UPGRADE, PINNED
from perdure.store.protocol import StoredDeployment
from tests.simulation.model import check
from tests.simulation.trace import Trace

QUEUE = "versioned"
"""The task queue that only workers with a version serve."""
_STARTED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_STARTED")
_COMPLETED = EventType.Value("EVENT_TYPE_WORKFLOW_TASK_COMPLETED")
_ON_ITS_WAY_S = 30.0
"""How much older than its commit the routing may be that a transition was computed with, while there are faults..."""
_ON_ITS_WAY_CALM_S = 1.0
"""...and once they have ended."""
_DECODER = msgspec.json.Decoder(Deployment)


class Routing(NamedTuple):
    """Build ids, "" for none, and the share of the ramping one, 0 to 100."""

    current: str = ""
    ramping: str = ""
    percentage: float = 0.0

    def targets(self) -> frozenset[str]:
        """The builds that what is not pinned may go to."""
        found = {self.ramping} if self.ramping and self.percentage else set()
        return frozenset(found | ({self.current} if self.percentage < 100 else set()))


def behavior_of(workflow_id: str) -> int:
    """The VersioningBehavior of a workflow, whoever runs it."""
    return PINNED if workflow_id.startswith("pinned") else AUTO_UPGRADE


class DeploymentOracle:
    """Watches runs on the queue of versions, and the deployment.

    Args:
        trace: what happened.
        time_s: simulated time.

    Attributes:
        builds: the build of each worker, by identity.
        routing: as stored.
        wished: what the operator has asked for last.
        calm_since_s: when the faults ended.
    """

    def __init__(self, trace: Trace, time_s: Callable[[], float]) -> None:
        self._trace = trace
        self._time_s = time_s
        self.builds: dict[str, str] = {}
        self.routing = self.wished = Routing()
        self.calm_since_s: float | None = None
        self._routings: list[tuple[float, Routing]] = [(0.0, self.routing)]
        self._serves_activities: dict[str, float] = {}
        """Builds whose workers are known to take activities, and since when."""
        self._pinned: dict[RunKey, str] = {}
        self._last_build: dict[RunKey, str] = {}
        self._waiting: dict[RunKey, tuple[tuple[int, int, int], float]] = {}

    def put(self, stored: StoredDeployment) -> None:
        """A deployment was written."""
        state = _DECODER.decode(stored.data)
        self._serves_activities = {
            build: self._serves_activities.get(build, self._time_s())
            for build, version in state.versions.items()
            if (QUEUE, TaskKind.ACTIVITY) in version.queues
        }
        routing = Routing(state.current, state.ramping or "", state.percentage)
        if routing != self.routing:
            check(routing == self.wished, "a routing changes to what was asked for last", routing)
            self.routing = routing
            self._routings.append((self._time_s(), routing))

    def told(self, routing: Routing, asked_s: float) -> None:
        """The server has described its routing, which it was asked for at that time.

        What was asked for before, and given up, may have been done meanwhile.
        """
        known = {self.wished, *self._since(asked_s)}
        check(routing in known, "an acknowledged routing survives", routing)

    def pinned_to(self, build: str, open_runs: Iterable[RunKey]) -> set[RunKey]:
        """Which of these runs are pinned to a build."""
        return {run for run in open_runs if self._pinned.get(run) == build}

    # --- tasks

    def committed(self, previous: RunState | None, state: RunState, events: Sequence[HistoryEvent]) -> None:
        """Looks at a commit of any workflow run."""
        header = state.header
        if header.task_queue != QUEUE:
            return
        before = previous.header if previous is not None else RunHeader()
        for event in events:
            self._take(state.run, event)
        if header.has_pending_task and not header.has_started_task:
            key = (header.task_scheduled_event_id, header.task_attempt, header.task_stamp)
            known = self._waiting.get(state.run)
            if known is None or known[0] != key:
                self._waiting[state.run] = (key, self._time_s())
        elif header.has_started_task:
            if not before.has_started_task:
                self._begun(state.run, header, self._waiting.pop(state.run, None))
            elif (before.task_started_event_id, before.task_attempt) != (
                header.task_started_event_id,
                header.task_attempt,
            ):
                self._goes_on(state.run, header)

    def _take(self, run: RunKey, event: HistoryEvent) -> None:
        if event.event_type == _STARTED:
            inherited = event.workflow_execution_started_event_attributes.inherited_pinned_version.build_id
            if inherited:
                check(behavior_of(run.workflow_id) == PINNED, "only a pinned run hands on its version", run)
                self._trace.reach("pinned version inherited")
                self._pinned[run] = inherited
        elif event.event_type == _COMPLETED:
            attributes = event.workflow_task_completed_event_attributes
            build = attributes.deployment_version.build_id
            check(build == self.builds[attributes.identity], "a task is completed by its worker", run)
            behavior = attributes.versioning_behavior
            check(behavior == behavior_of(run.workflow_id), "a run behaves as its worker says", run)
            if self._last_build.setdefault(run, build) != build:
                self._trace.reach("run moved to another version")
                self._last_build[run] = build
            if behavior == PINNED:
                pinned = self._pinned.setdefault(run, build)
                check(pinned == build, "a pinned run keeps its version", f"{run} {pinned} {build}")

    def _begun(
        self, run: RunKey, header: RunHeader, waiting: tuple[tuple[int, int, int], float] | None
    ) -> None:
        """A worker was given a task."""
        if self._goes_on(run, header):
            return
        now_s = self._time_s()
        since_s = waiting[1] if waiting is not None else now_s
        allowed = self._targets_since(since_s)
        build = self.builds[header.task_worker_identity]
        check(build in allowed, "what is not pinned goes where the routing leads", f"{run} {build} {allowed}")

    def _goes_on(self, run: RunKey, header: RunHeader) -> bool:
        """Checks the worker of a pinned run's task. Returns whether the run is pinned."""
        build = self.builds.get(header.task_worker_identity)
        check(build is not None, "a task of a versioned queue goes to a version", header.task_worker_identity)
        pinned = self._pinned.get(run)
        if pinned is None:
            return False
        check(build == pinned, "a pinned run's task goes to its version only", f"{run} {pinned} {build}")
        if pinned not in self.routing.targets():
            self._trace.reach("pinned task of a version that gets nothing new")
        return True

    def _targets_since(self, since_s: float) -> set[str]:
        calm = self.calm_since_s is not None and since_s - self.calm_since_s > _ON_ITS_WAY_S
        since_s -= _ON_ITS_WAY_CALM_S if calm else _ON_ITS_WAY_S
        return {target for routing in self._since(since_s) for target in routing.targets()}

    def _since(self, since_s: float) -> list[Routing]:
        """The routings that were in force at a time, and all that followed."""
        ends = [*(begin for begin, _ in self._routings[1:]), self._time_s() + 1.0]
        return [routing for (_, routing), end in zip(self._routings, ends, strict=True) if end >= since_s]

    def activity_begins(self, run: RunKey, worker: str) -> None:
        """A worker was given an activity: of the run's version, or as routed if that is not known to take any."""
        pinned = self._pinned.get(run)
        if pinned is None or pinned == self.builds[worker]:
            return
        allowed = self._targets_since(self._time_s())
        served_s = self._time_s() - self._serves_activities.get(pinned, self._time_s())
        right = served_s <= _ON_ITS_WAY_S and self.builds[worker] in allowed
        check(right, "a pinned run's activity goes to its version only", f"{run} {pinned} {worker}")
