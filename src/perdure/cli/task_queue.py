"""`perdure task-queue`: who polls a task queue, what waits in it, its limits."""

from __future__ import annotations

from typing import Any, Final

from perdure.api.enums import v1 as enums
from perdure.api.taskqueue import v1 as taskqueue
from perdure.api.workflowservice import v1 as service
from perdure.cli import flags as f
from perdure.cli import go_json, task_queue_builds, unserved, wire
from perdure.cli.command import Flags, Group
from perdure.cli.errors import WrongUsageError
from perdure.cli.session import Session
from perdure.cli.show import enum_label, look, nanoseconds_of, spaced_duration, time_of, to_json

task_queue = Group(
    "task-queue",
    "See who polls task queues and what waits in them, and limit them.",
    parts=(task_queue_builds.commands,),
)
config = task_queue.group_of("config", "Read and set limits of a task queue.")

_TYPES: Final = ("workflow", "activity", "nexus")
_UNVERSIONED: Final = "UNVERSIONED"
MAX_KEY_BYTES: Final = 64


@task_queue.add(
    "describe", f.TASK_QUEUE, f.WATCH,
    f.choices("--task-queue-type", of=_TYPES, help="Show this kind of tasks only."),
    f.texts("--select-build-id", metavar="ID", help="Show this build only."),
    f.switch("--select-unversioned", help="Show what belongs to no build."),
    f.switch("--select-all-active", help="Show all builds that poll or have tasks."),
    f.switch("--report-reachability", help="Say which builds workflows can still reach."),
    f.switch("--legacy-mode", help="Ask for the older description, which servers of any age have."),
    f.choice("--task-queue-type-legacy", of=_TYPES[:2], help="Kind of tasks in the older description.",
             default="workflow"),
    f.integer("--partitions-legacy", help="Partitions to ask in the older description.", default=1),
    f.switch("--disable-stats", help="Do not count what waits."),
    f.switch("--report-config", help="Show its limits, in the older description."),
    example="perdure task-queue describe --task-queue orders --watch",
)  # fmt: skip
async def describe(session: Session, flags: Flags) -> None:
    """Show who polls a task queue and how much waits in it."""
    if flags.legacy_mode:
        await _describe_legacy(session, flags)
        return
    selection = taskqueue.TaskQueueVersionSelection(
        build_ids=flags.select_build_id,
        unversioned=flags.select_unversioned,
        all_active=flags.select_all_active,
    )
    answer = await session.call(
        service.DescribeTaskQueueRequest(
            task_queue=taskqueue.TaskQueue(name=flags.task_queue),
            api_mode=enums.DESCRIBE_TASK_QUEUE_MODE_ENHANCED,
            versions=selection if selection.ListFields() else None,
            task_queue_types=[wire.enum_value(enums.TaskQueueType, each) for each in flags.task_queue_type],
            report_pollers=True,
            report_stats=not flags.disable_stats,
            report_task_reachability=flags.report_reachability,
        )
    )
    versions = sorted(answer.versions_info.items())
    pollers = [row for build, info in versions for row in _poller_rows(build or _UNVERSIONED, info)]
    stats = [row for build, info in versions for row in _stats_rows(build or _UNVERSIONED, info)]
    reachability = [
        {"buildId": build or _UNVERSIONED, "reachability": _reachability(info.task_reachability)}
        for build, info in versions
    ]
    shown = {
        "reachability": go_json.or_null(reachability) if flags.report_reachability else None,
        "pollers": go_json.or_null(pollers),
        "stats": None if flags.disable_stats else go_json.or_null(stats),
    }
    if session.out.is_json:
        session.out.json(shown)
        return
    _show_rows(session, shown, pollers)
    if not pollers:
        session.out.note(unserved.sentence(flags.task_queue))


def _show_rows(session: Session, shown: dict[str, Any], pollers: list[dict[str, Any]]) -> None:
    for heading, rows in (("Reachability:", shown["reachability"]), ("Statistics:", shown["stats"])):
        if rows:
            session.out.heading(heading)
            session.out.table(rows, list(rows[0]))
            session.out.blank()
    session.out.heading("Pollers:")
    session.out.table(pollers, ["buildId", "taskQueueType", "identity", "lastAccessTime", "ratePerSecond"])


def _type_label(kind: Any) -> str:
    return enum_label(enums.TaskQueueType.Name(kind), "TaskQueueType").lower()


def _reachability(value: Any) -> str:
    label = enum_label(enums.BuildIdTaskReachability.Name(value), "BuildIdTaskReachability")
    return label[0].lower() + label[1:]


def _poller_rows(build: str, info: Any) -> list[dict[str, Any]]:
    return [
        {
            "buildId": build,
            "taskQueueType": _type_label(kind),
            "identity": poller.identity,
            "lastAccessTime": go_json.time(poller, "last_access_time"),
            "ratePerSecond": poller.rate_per_second,
        }
        for kind, of_type in sorted(info.types_info.items())
        for poller in of_type.pollers
    ]


def _stats_rows(build: str, info: Any) -> list[dict[str, Any]]:
    return [
        {
            "buildId": build,
            "taskQueueType": _type_label(kind),
            "approximateBacklogCount": stats.approximate_backlog_count,
            "approximateBacklogAge": spaced_duration(nanoseconds_of(stats.approximate_backlog_age)),
            "backlogIncreaseRate": stats.tasks_add_rate - stats.tasks_dispatch_rate,
            "tasksAddRate": stats.tasks_add_rate,
            "tasksDispatchRate": stats.tasks_dispatch_rate,
        }
        for kind, of_type in sorted(info.types_info.items())
        for stats in (of_type.stats,)
    ]


async def _describe_legacy(session: Session, flags: Flags) -> None:
    kind = wire.enum_value(enums.TaskQueueType, flags.task_queue_type_legacy)
    statuses: list[dict[str, Any]] = []
    pollers: list[dict[str, Any]] = []
    found: dict[str, Any] = {}
    for partition in range(flags.partitions_legacy):
        name = f"/_sys/{flags.task_queue}/{partition}" if partition else flags.task_queue
        answer = await session.call(
            service.DescribeTaskQueueRequest(
                task_queue=wire.queue(name),
                task_queue_type=kind,
                include_task_queue_status=True,
                report_config=flags.report_config,
            )
        )
        statuses.append({"partition": partition, **go_json.record(answer.task_queue_status)})
        pollers += [{"partition": partition, **go_json.record(each)} for each in answer.pollers]
        if partition == 0:
            found = {"answer": answer}
            if flags.report_config and answer.HasField("config"):
                found["config"] = go_json.record(answer.config)
            if answer.HasField("versioning_info"):
                found["versioning_info"] = go_json.record(answer.versioning_info)
    answer = found.pop("answer", None)
    if session.out.is_json:
        session.out.json(
            {"taskQueues": go_json.or_null(statuses), "pollers": go_json.or_null(pollers), **found}
        )
        return
    session.out.heading("Pollers:")
    columns = {
        "Identity": "identity",
        "LastAccessTime": "last_access_time",
        "RatePerSecond": "rate_per_second",
    }
    session.out.messages(list(answer.pollers) if answer is not None else [], columns)
    if answer is not None and answer.HasField("versioning_info"):
        session.out.heading("Versioning:")
        session.out.card(found["versioning_info"])


@task_queue.add(
    "list-partition",
    f.TASK_QUEUE,
    f.WATCH,
    example="perdure task-queue list-partition --task-queue orders",
)
async def list_partition(session: Session, flags: Flags) -> None:
    """List the partitions of a task queue and where they are."""
    answer = await session.call(
        service.ListTaskQueuePartitionsRequest(task_queue=wire.queue(flags.task_queue))
    )
    if session.out.is_json:
        session.out.json(answer)
    for heading, found in (
        ("Workflow tasks:", answer.workflow_task_queue_partitions),
        ("Activity tasks:", answer.activity_task_queue_partitions),
    ):
        session.out.heading(heading)
        session.out.messages(list(found), {"Key": "key", "OwnerHostName": "owner_host_name"})


_TYPE: Final = f.choice("--task-queue-type", of=_TYPES, required=True, help="Kind of tasks.")


def _config_request(flags: Flags) -> service.DescribeTaskQueueRequest:
    return service.DescribeTaskQueueRequest(
        task_queue=wire.queue(flags.task_queue),
        task_queue_type=wire.enum_value(enums.TaskQueueType, flags.task_queue_type),
        report_config=True,
    )


@config.add(
    "get", f.TASK_QUEUE, _TYPE,
    example="perdure task-queue config get --task-queue orders --task-queue-type activity",
)  # fmt: skip
async def get_config(session: Session, flags: Flags) -> None:
    """Show the limits of a task queue."""
    answer = await session.call(_config_request(flags))
    if not answer.HasField("config"):
        session.out.note("The task queue has no limits")
        return
    if session.out.is_json:
        session.out.json(answer.config)
    for heading, field in (
        ("Queue rate limit", "queue_rate_limit"),
        ("Limit of each fairness key", "fairness_keys_rate_limit_default"),
    ):
        if answer.config.HasField(field):
            limit = getattr(answer.config, field)
            session.out.heading(heading)
            session.out.card(
                {
                    "RequestsPerSecond": look(limit, "rate_limit.requests_per_second"),
                    "Reason": look(limit, "metadata.reason"),
                    "UpdatedBy": look(limit, "metadata.update_identity"),
                    "UpdatedAt": time_of(limit.metadata.update_time),
                }
            )
    session.out.card(dict(answer.config.fairness_weight_overrides))


def _limit(text: str | None, flag: str, reason: str | None) -> Any:
    """What a limit is to be, `default` takes it back; None if nobody says."""
    if text is None:
        return None
    update = service.UpdateTaskQueueConfigRequest.RateLimitUpdate
    if text.strip().lower() == "default":
        return update(reason=reason or "")
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value >= 0:
        raise WrongUsageError(f"{flag} {text!r} must be a number from 0 on, or 'default'")
    return update(rate_limit=taskqueue.RateLimit(requests_per_second=value), reason=reason or "")


def _weights(texts: tuple[str, ...]) -> tuple[dict[str, float], list[str]]:
    """Weights to set, and keys to take them back from."""
    found: dict[str, float] = {}
    removed: list[str] = []
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key or not value:
            raise WrongUsageError(f"--fairness-key-weight {text!r} must be KEY=WEIGHT or KEY=default")
        if key in found or key in removed:
            raise WrongUsageError(f"--fairness-key-weight names {key!r} twice")
        if value.lower() == "default":
            removed.append(key)
            continue
        try:
            found[key] = float(value)
        except ValueError:
            found[key] = 0.0
        if not found[key] > 0 or len(key.encode()) > MAX_KEY_BYTES:
            raise WrongUsageError(
                f"--fairness-key-weight {text!r}: the weight must be more than 0, the key at most {MAX_KEY_BYTES} bytes"
            )
    return found, removed


@config.add(
    "set", f.TASK_QUEUE, _TYPE,
    f.text("--queue-rps-limit", metavar="NUMBER|default", help="Tasks a second; default takes the limit back."),
    f.text("--queue-rps-limit-reason", help="Why."),
    f.text("--fairness-key-rps-limit-default", metavar="NUMBER|default", help="Tasks a second of each fairness key."),
    f.text("--fairness-key-rps-limit-reason", help="Why."),
    f.texts("--fairness-key-weight", metavar="KEY=WEIGHT", help="Weight of a fairness key; KEY=default takes it back."),
    f.switch("--fairness-key-weight-clear-all", help="Take back all weights."),
    example="perdure task-queue config set --task-queue orders --task-queue-type activity --queue-rps-limit 10",
)  # fmt: skip
async def set_config(session: Session, flags: Flags) -> None:
    """Limit how fast a task queue gives out tasks, in all and for each fairness key."""
    if flags.task_queue_type == "workflow" and (flags.queue_rps_limit or flags.queue_rps_limit_reason):
        raise WrongUsageError("the rate of workflow tasks cannot be limited")
    if flags.fairness_key_weight and flags.fairness_key_weight_clear_all:
        raise WrongUsageError("--fairness-key-weight cannot be used with --fairness-key-weight-clear-all")
    queue = _limit(flags.queue_rps_limit, "--queue-rps-limit", flags.queue_rps_limit_reason)
    each = _limit(
        flags.fairness_key_rps_limit_default,
        "--fairness-key-rps-limit-default",
        flags.fairness_key_rps_limit_reason,
    )
    weights, removed = _weights(flags.fairness_key_weight)
    if (
        queue is None
        and each is None
        and not flags.fairness_key_weight
        and not flags.fairness_key_weight_clear_all
    ):
        raise WrongUsageError("nothing is to be changed; give a limit or a weight")
    for update in (queue, each):
        if update is not None and update.HasField("rate_limit") and not update.rate_limit.requests_per_second:
            session.out.warn("a limit of 0 stops all tasks of the queue")
    if flags.fairness_key_weight_clear_all:
        before = await session.call(_config_request(flags))
        removed = list(before.config.fairness_weight_overrides)
    answer = await session.call(
        service.UpdateTaskQueueConfigRequest(
            task_queue=flags.task_queue,
            task_queue_type=wire.enum_value(enums.TaskQueueType, flags.task_queue_type),
            update_queue_rate_limit=queue,
            update_fairness_key_rate_limit_default=each,
            set_fairness_weight_overrides=weights,
            unset_fairness_weight_overrides=removed,
        )
    )
    if session.out.is_json:
        session.out.json(answer)
    session.out.card(to_json(answer.config))
