"""A task queue with a rate limit in the simulation: its worker, and the client that sets the limit and counts on it.

Limits are set while faults occur. Once they have ended, many activities come at once, and how fast they begin is
measured: never faster than the limit allows, and never slower while a worker waits.
"""

from __future__ import annotations

from perdure.api.enums.v1 import TaskQueueType
from perdure.api.workflowservice.v1 import UpdateTaskQueueConfigRequest, UpdateTaskQueueConfigResponse
from tests.simulation.activity_worker import ActivityWorker
from tests.simulation.context import Context
from tests.simulation.limit_oracle import QUEUE
from tests.simulation.loop import Node
from tests.simulation.standalone import Plan, StandaloneClient

SHARE = 0.04
"""Of the seeds, in so many there is such a queue."""
_SETTLED_S = 30.0
"""After the end of the faults, no late copy of a request arrives and no slow commit is under way."""
_ACTIVITIES = TaskQueueType.Value("TASK_QUEUE_TYPE_ACTIVITY")


def start_worker(context: Context, node: Node, namespace: str) -> None:
    """Starts a worker of the limited queue, with two polls."""
    random = context.stream("limited worker")
    worker = ActivityWorker(context, random, namespace, QUEUE, node.name)
    for _ in range(2):
        context.start(node, worker.poll())


class LimitedClient(StandaloneClient):
    """A client whose activities go to the limited queue.

    Args:
        context: the world.
        node: the process.
        namespace: where all this is.
    """

    def __init__(self, context: Context, node: Node, namespace: str) -> None:
        super().__init__(context, node, "limited", (namespace,), QUEUE)
        self._namespace = namespace
        self._limits = context.oracle.standalone.limits
        self._begin(self._set_and_measure())

    def _plans(self, namespaces: tuple[str, ...]) -> list[Plan]:
        """Some activities that come while faults occur."""
        return [self._plan(number, namespaces[0], 20.0) for number in range(self._random.randint(0, 4))]

    def _plan(self, number: int, namespace: str, within_s: float) -> Plan:
        spec = {"attempts": 0, "duration_s": self._random.choice((0.0, 0.5))}
        starts_at_s = self._random.uniform(0, within_s)
        return Plan(
            namespace, f"limited{number}", spec, starts_at_s, None, None, None, delete=False, again=False
        )

    async def _set_and_measure(self) -> None:
        random = self._random
        per_second = random.choice((0.5, 2.0, 5.0))
        once = random.random() < 0.6
        await self._loop.sleep(random.uniform(0, 10))
        for limit in [per_second] if once else [random.choice((0.0, 0.5, 3.0)) for _ in range(3)]:
            await self._set(limit)
            await self._loop.sleep(random.uniform(0, 8))
        calm_since_s = self._context.calm_since_s
        while calm_since_s is None or self._loop.time() < calm_since_s + _SETTLED_S:
            await self._loop.sleep(1.0)
            calm_since_s = self._context.calm_since_s
        if not once:
            await self._set(per_second)
        self._limits.measure(per_second)
        for number in range(10, 10 + random.randint(8, 14)):
            self._begin(self._follow(self._plan(number, self._namespace, 1.0)))

    async def _set(self, per_second: float) -> None:
        request = UpdateTaskQueueConfigRequest(
            namespace=self._namespace, task_queue=QUEUE, task_queue_type=_ACTIVITIES, identity="operator"
        )
        request.update_queue_rate_limit.reason = "planned"
        request.update_queue_rate_limit.rate_limit.requests_per_second = per_second
        await self._call(request, UpdateTaskQueueConfigResponse)
        self._context.trace.reach("limited queue: limit set")
