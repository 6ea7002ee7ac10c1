"""Which handler groups make up the service, and how they are wired to an engine. The one place that knows them all."""

from __future__ import annotations

import asyncio

from perdure.server.deployments import Deployments
from perdure.server.engine.batches import Batches
from perdure.server.engine.effects import Effects
from perdure.server.engine.engine import Engine
from perdure.server.engine.histories import Histories
from perdure.server.engine.queries import Queries
from perdure.server.engine.resets import Resets
from perdure.server.engine.schedules import Schedules
from perdure.server.engine.starts import Starts
from perdure.server.engine.updates import Updates
from perdure.server.engine.worker_registry import WorkerRegistry
from perdure.server.nexus import Nexus
from perdure.server.nexus_system import NexusSystem
from perdure.server.queue_configs import QueueConfigs
from perdure.server.service.activity_controls import ActivityControls
from perdure.server.service.activity_tasks import ActivityTasks
from perdure.server.service.batch_rpcs import BatchRpcs
from perdure.server.service.deployment_rpcs import DeploymentRpcs
from perdure.server.service.execution_options import ExecutionOptions
from perdure.server.service.executions import Executions
from perdure.server.service.multi_operations import MultiOperations
from perdure.server.service.nexus_endpoint_rpcs import NexusEndpointRpcs
from perdure.server.service.nexus_tasks import NexusTaskRpcs
from perdure.server.service.pauses import Pauses
from perdure.server.service.readings import Readings
from perdure.server.service.reset_rpcs import ResetRpcs
from perdure.server.service.schedule_rpcs import ScheduleRpcs
from perdure.server.service.standalone_activities import StandaloneActivities
from perdure.server.service.standalone_operations import StandaloneOperations
from perdure.server.service.task_queues import TaskQueues
from perdure.server.service.task_responses import TaskResponses
from perdure.server.service.update_rpcs import UpdateRpcs
from perdure.server.service.worker_rpcs import WorkerRpcs
from perdure.server.service.worker_tasks import WorkerTasks


def engine_groups(
    engine: Engine,
    *,
    deployments: Deployments,
    long_poll_s: float = 60.0,
    history_wait_s: float = 20.0,
    history_page_batches: int = 256,
    query_wait_s: float = 20.0,
    list_page_size: int = 1_000,
    schedules: Schedules | None = None,
    nexus: Nexus | None = None,
    configs: QueueConfigs | None = None,
    batches: Batches | None = None,
) -> list[object]:
    """The handler groups that work on an engine's runs and task queues.

    Args:
        engine: the runs.
        deployments: the worker deployments whose routes the engine follows.
        long_poll_s: how long polls of workers wait at most.
        history_wait_s: how long a request for a history or an update waits for news at most.
        history_page_batches: batches of events of one page of history at most.
        query_wait_s: how long a query waits whose caller sets no deadline.
        list_page_size: rows of a page of a list at most.
        schedules: the engine's schedules; None for a service without their RPCs.
        configs: what operators set of task queues; None for nothing.
        nexus: the engine's Nexus; None for one without endpoints and without requests by HTTP.
        batches: the engine's batch operations; None for a service without their RPCs.
    """
    histories = Histories(engine, history_page_batches)
    queries = Queries(engine, histories)
    responses = TaskResponses(engine, histories)
    updates = Updates(engine, histories, history_wait_s)
    workers = WorkerRegistry(lambda: asyncio.get_running_loop().time())
    starts = Starts(engine)
    nexus = nexus or Nexus(engine)
    configs = (configs or QueueConfigs(engine.store, engine.namespaces)).applied_to(engine.matching)
    effects = Effects(engine, histories, starts, nexus.calls, nexus.completions)
    engine.deliver_effects = effects.deliver
    executions = Executions(engine, starts, histories, responses, nexus.callback_rules)
    nexus.requests.system = NexusSystem(engine, executions)
    if schedules is not None:
        schedules.prepare = executions.prepare_start
    return [
        *([ScheduleRpcs(engine, schedules)] if schedules is not None else []),
        *([BatchRpcs(batches, engine.namespaces, engine.limits.run)] if batches is not None else []),
        executions,
        WorkerTasks(
            engine, histories, queries, responses, workers, nexus.endpoints, deployments, long_poll_s
        ),
        WorkerRpcs(engine, workers),
        ActivityTasks(engine, histories, responses, deployments, long_poll_s),
        Readings(engine, histories, queries, history_wait_s, query_wait_s),
        UpdateRpcs(engine, histories, updates, nexus.callback_rules),
        StandaloneActivities(engine, history_wait_s, list_page_size),
        StandaloneOperations(engine, nexus.endpoints, history_wait_s, list_page_size),
        ActivityControls(engine, histories),
        Pauses(engine, histories),
        ExecutionOptions(engine, histories),
        ResetRpcs(engine, histories, Resets(engine, histories, effects)),
        MultiOperations(engine, starts, updates, executions),
        TaskQueues(engine, configs, deployments),
        DeploymentRpcs(engine, deployments, list_page_size),
        NexusTaskRpcs(engine, nexus.tasks, workers, deployments, long_poll_s),
        NexusEndpointRpcs(nexus.endpoints, engine.namespaces, engine.runtime, engine.limits.run),
    ]
