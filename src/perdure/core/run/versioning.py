"""What a run knows of worker versions, and which version its tasks are for.

Two parts: what events say of versions (behaviour and version of the last completed workflow task, override, what was
inherited), and the move to another version that begins when one of its workers takes a workflow task. Which version is
current is not known here: `core/deployment` is asked.
"""

from __future__ import annotations

import json

from msgspec.structs import replace

from perdure.api.common.v1 import Payload, SearchAttributes
from perdure.api.enums.v1 import (
    ContinueAsNewInitiator,
    ContinueAsNewVersioningBehavior,
    VersioningBehavior,
    WorkerVersioningMode,
)
from perdure.api.history.v1 import (
    WorkflowExecutionStartedEventAttributes,
    WorkflowTaskCompletedEventAttributes,
)
from perdure.api.workflow.v1 import VersioningOverride, WorkflowExecutionVersioningInfo
from perdure.api.workflowservice.v1 import RespondWorkflowTaskCompletedRequest
from perdure.core.deployment.routes import (
    UNVERSIONED,
    Routes,
    message_text,
    split_dotted,
    split_version,
    version_message,
    version_text,
)
from perdure.core.errors import FailedPreconditionError, InvalidArgumentError
from perdure.core.run import properties
from perdure.core.run.records import TaskKey, TaskKind
from perdure.core.run.state import Activity, RunHeader, Versioning
from perdure.core.run.transition import Transition

PINNED = VersioningBehavior.Value("VERSIONING_BEHAVIOR_PINNED")
AUTO_UPGRADE = VersioningBehavior.Value("VERSIONING_BEHAVIOR_AUTO_UPGRADE")
VERSIONED = WorkerVersioningMode.Value("WORKER_VERSIONING_MODE_VERSIONED")
_USE_RAMP = ContinueAsNewVersioningBehavior.Value("CONTINUE_AS_NEW_VERSIONING_BEHAVIOR_USE_RAMPING_VERSION")
_PINNED_OVERRIDE = VersioningOverride.PinnedOverrideBehavior.Value("PINNED_OVERRIDE_BEHAVIOR_PINNED")
_BY_WORKFLOW = ContinueAsNewInitiator.Value("CONTINUE_AS_NEW_INITIATOR_WORKFLOW")
_BY_RETRY = ContinueAsNewInitiator.Value("CONTINUE_AS_NEW_INITIATOR_RETRY")
_BY_CRON = ContinueAsNewInitiator.Value("CONTINUE_AS_NEW_INITIATOR_CRON_SCHEDULE")
_SHOWN: dict[int, str] = {PINNED: "Pinned", AUTO_UPGRADE: "AutoUpgrade"}
_NOTHING = Versioning()
_DEPLOYMENT, _VERSION = "TemporalWorkerDeployment", "TemporalWorkerDeploymentVersion"
_BEHAVIOR, _USED = "TemporalWorkflowVersioningBehavior", "TemporalUsedWorkerDeploymentVersions"
_BUILD_IDS = "BuildIds"


# --- what holds now ---


def behavior(header: RunHeader) -> int:
    """The VersioningBehavior that holds: of the move under way, the override, or the last completed task."""
    known = header.versioning
    if known is None:
        return 0
    if known.is_moving:
        return AUTO_UPGRADE
    if known.override:
        return PINNED if known.override_version else AUTO_UPGRADE
    return known.behavior


def version(header: RunHeader) -> str:
    """The version that holds; "" for none."""
    known = header.versioning
    if known is None:
        return ""
    if known.is_moving:
        return known.moving_to
    if known.override_version:
        return known.override_version
    return known.version if behavior(header) else ""


def info(header: RunHeader) -> WorkflowExecutionVersioningInfo | None:
    """What descriptions show; None for a run that never had to do with versions. An override that was taken back
    leaves an empty message."""
    known = header.versioning
    if known is None or (known.deployment_name and replace(known, deployment_name="") == _NOTHING):
        return None
    shown = WorkflowExecutionVersioningInfo(
        behavior=known.behavior,  # type: ignore[arg-type]  # an enum number
        revision_number=known.revision,
        continue_as_new_initial_versioning_behavior=known.initial_behavior,  # type: ignore[arg-type]  # an enum number
    )
    if known.version:
        shown.deployment_version.CopyFrom(version_message(known.version))
        shown.version = _dotted(known.version)
    if known.override:
        shown.versioning_override.ParseFromString(known.override)
        _add_older_form(shown.versioning_override)
    if known.is_moving:
        shown.version_transition.SetInParent()
        if known.moving_to:
            shown.version_transition.deployment_version.CopyFrom(version_message(known.moving_to))
            shown.version_transition.version = _dotted(known.moving_to)
    return shown


def _add_older_form(override: VersioningOverride) -> None:
    """What clients of earlier releases read of an override."""
    if override.HasField("pinned"):
        override.behavior = PINNED
        override.pinned_version = _dotted(message_text(override.pinned.version))
    elif override.auto_upgrade:
        override.behavior = AUTO_UPGRADE


def _dotted(version: str) -> str:
    return ".".join(split_version(version))


# --- events ---


def started(tx: Transition, attributes: WorkflowExecutionStartedEventAttributes) -> None:
    """Takes over what a run is started with: its override, and what it inherits."""
    known = _NOTHING
    if attributes.HasField("inherited_pinned_version"):
        inherited = message_text(attributes.inherited_pinned_version)
        known = replace(known, behavior=PINNED, version=inherited, inherited_pin=True)
    elif attributes.HasField("inherited_auto_upgrade_info"):
        source = attributes.inherited_auto_upgrade_info
        known = replace(
            known,
            behavior=AUTO_UPGRADE,
            version=message_text(source.source_deployment_version),
            revision=source.source_deployment_revision_number,
            initial_behavior=source.continue_as_new_initial_versioning_behavior,
        )
    if attributes.HasField("declined_target_version_upgrade"):
        declined = attributes.declined_target_version_upgrade
        known = replace(
            known,
            declined_revision=declined.revision_number,
            declined_version=message_text(declined.deployment_version),
        )
    if attributes.HasField("versioning_override"):
        known = _overridden(known, attributes.versioning_override)
    known = replace(known, deployment_name=split_version(known.override_version or known.version)[0])
    if known != _NOTHING:
        _set(tx, known)


def overridden(tx: Transition, override: VersioningOverride | None) -> None:
    """Sets the override, or takes it away; a move that was under way ends."""
    header = tx.header
    known = header.versioning or _NOTHING
    if (override is None and not known.override) or (
        override is not None and normalized(override).SerializeToString() == known.override
    ):
        return
    held = _dispatch(header)
    known = replace(known, is_moving=False, moving_to="", holds_activities=False, notified_revision=None)
    if override is None:
        known = replace(known, override=b"", override_version="", override_once=False)
        known = replace(known, deployment_name=split_version(known.version)[0])
    else:
        known = _overridden(known, override)
        if known.override_version:
            known = replace(known, deployment_name=split_version(known.override_version)[0])
    _set(tx, known)
    _leave_sticky_queue(header)
    if _dispatch(header) != held:
        _send_activities_anew(tx)


def _leave_sticky_queue(header: RunHeader) -> None:
    header.sticky_queue, header.sticky_timeout_ns = "", 0
    if header.has_pending_task and not header.has_started_task:
        header.task_rerouted = header.task_on_sticky_queue
        header.task_stamp += 1


def _dispatch(header: RunHeader) -> tuple[int, str, bool]:
    """What the dispatch of waiting activities depends on."""
    known = header.versioning
    return behavior(header), version(header), known is not None and known.holds_activities


def _send_activities_anew(tx: Transition) -> None:
    """Activities that wait may be for workers of another version now, or be held back, or not any more."""
    if not tx.header.is_open:
        return
    for scheduled_event_id in [item.scheduled_event_id for item in tx.activities if not item.started_ns]:
        tx.activities.edit(scheduled_event_id).stamp += 1


def _overridden(known: Versioning, override: VersioningOverride) -> Versioning:
    wanted = normalized(override)
    once = wanted.HasField("one_time")
    target = ""
    if once:
        target = message_text(wanted.one_time.target_deployment_version)
    elif wanted.HasField("pinned"):
        target = message_text(wanted.pinned.version)
    return replace(known, override=wanted.SerializeToString(), override_version=target, override_once=once)


def normalized(override: VersioningOverride) -> VersioningOverride:
    """An override in its present form; earlier ones said it with a behaviour, a deployment or a dotted version."""
    wanted = VersioningOverride()
    if override.WhichOneof("override") is not None:
        wanted.CopyFrom(override)
        for name in ("behavior", "deployment", "pinned_version"):
            wanted.ClearField(name)
    elif override.behavior == AUTO_UPGRADE:
        wanted.auto_upgrade = True
    elif override.behavior == PINNED:
        wanted.pinned.behavior = _PINNED_OVERRIDE
        if override.HasField("deployment"):
            names = (override.deployment.series_name, override.deployment.build_id)
        else:
            names = split_dotted(override.pinned_version) or ("", "")
        wanted.pinned.version.deployment_name, wanted.pinned.version.build_id = names
    return wanted


def with_present_version(
    override: VersioningOverride, header: RunHeader, workflow_id: str
) -> VersioningOverride:
    """An override that pins a run without saying where: it stays where it is pinned now. Another one as it is.

    Raises:
        FailedPreconditionError: the run is not pinned.
    """
    if not override.pinned.behavior or override.pinned.HasField("version"):
        return override
    if behavior(header) != PINNED:
        raise FailedPreconditionError(
            f"must specify a specific pinned override version because workflow with id {workflow_id} has behavior "
            f"{_SHOWN.get(behavior(header), 'Unspecified')} and is not yet pinned to any version"
        )
    filled = VersioningOverride()
    filled.CopyFrom(override)
    filled.pinned.version.CopyFrom(version_message(version(header)))
    return filled


def check_completion(request: RespondWorkflowTaskCompletedRequest) -> None:
    """Checks what a worker says of its version when it completes a workflow task.

    Raises:
        InvalidArgumentError: it says how the run behaves between versions, and has none.
    """
    is_versioned = request.deployment_options.worker_versioning_mode == VERSIONED
    if request.versioning_behavior and not is_versioned and not request.HasField("deployment"):
        raise InvalidArgumentError(
            "versioning behavior cannot be specified without deployment options being set with versioned mode"
        )


def describe_completion(
    request: RespondWorkflowTaskCompletedRequest, attributes: WorkflowTaskCompletedEventAttributes
) -> None:
    """Writes what a worker says of its version into the event of the task that it completed."""
    options = request.deployment_options
    attributes.worker_deployment_name = options.deployment_name or request.deployment.series_name
    is_versioned = options.worker_versioning_mode == VERSIONED
    if is_versioned or not request.HasField("deployment_options"):
        attributes.versioning_behavior = request.versioning_behavior
    if is_versioned:
        attributes.deployment_version.deployment_name = options.deployment_name
        attributes.deployment_version.build_id = options.build_id


def completed_by(request: RespondWorkflowTaskCompletedRequest) -> str:
    """The version of the worker that completes a workflow task; "" for one without."""
    options = request.deployment_options
    if options.worker_versioning_mode != VERSIONED:
        return ""
    return version_text(options.deployment_name, options.build_id)


def completed(tx: Transition, attributes: WorkflowTaskCompletedEventAttributes) -> None:
    """A workflow task was completed: the run is of the worker's version now, and behaves as the worker says."""
    before = tx.header.versioning
    worker = message_text(attributes.deployment_version)
    if before is None and not worker and not attributes.worker_deployment_name:
        return
    known = before or _NOTHING
    held = _dispatch(tx.header)
    if known.is_moving:
        if known.moving_to == worker:
            known = replace(known, is_moving=False, moving_to="", holds_activities=False)
        else:
            tx.needs_task = True  # the task was under way before the move began
    known = replace(
        known,
        behavior=attributes.versioning_behavior,
        version=worker if attributes.versioning_behavior else "",
        deployment_name=attributes.worker_deployment_name,
    )
    if known.override_once and known.override_version == worker:
        known = replace(known, override=b"", override_version="", override_once=False)
    if known.notified_revision is not None and known.behavior != PINNED:
        known = replace(known, notified_revision=None, notified_version="")
    if known != before:
        _set(tx, known, used=worker)
    if _dispatch(tx.header) != held:
        _send_activities_anew(tx)


def _set(tx: Transition, known: Versioning, used: str = "") -> None:
    tx.header.versioning = known
    shown = known.override_version or known.version
    how = _SHOWN.get(known.behavior, "")
    if known.override:
        how = _SHOWN[PINNED if known.override_version else AUTO_UPGRADE]
    wanted: dict[str, object] = {
        _DEPLOYMENT: split_version(shown)[0] if shown else known.deployment_name,
        _VERSION: shown,
        _BEHAVIOR: how,
        _BUILD_IDS: [f"pinned:{shown}"] if shown and how == _SHOWN[PINNED] else [],
    }
    fields = properties.search_attributes(tx)
    before = fields.SerializeToString(deterministic=True)
    if used:
        wanted[_USED] = _with(fields, used)
    for name, value in wanted.items():
        if value:
            label = b"KeywordList" if isinstance(value, list) else b"Keyword"
            fields.indexed_fields[name].CopyFrom(_payload(value, label))
        elif name in fields.indexed_fields:
            del fields.indexed_fields[name]
    after = fields.SerializeToString(deterministic=True)
    if after != before:
        tx.blobs.put(properties.SEARCH_ATTRIBUTES, after)
        tx.visibility_changed = True


def _with(fields: SearchAttributes, version: str) -> list[str]:
    used: list[str] = json.loads(fields.indexed_fields[_USED].data) if _USED in fields.indexed_fields else []
    return used if version in used else [*used, version]


def _payload(value: object, label: bytes) -> Payload:
    data = json.dumps(value, separators=(",", ":")).encode()
    return Payload(metadata={"encoding": b"json/plain", "type": label}, data=data)


# --- runs that follow ---


def inheritance(
    header: RunHeader,
    *,
    task_queue: str,
    routes: Routes,
    has_override: bool,
    initial_behavior: int = 0,
    initiator: int = 0,
) -> WorkflowExecutionStartedEventAttributes | None:
    """What a child, or the next run of a chain, takes over into its started event; None if it is nothing.

    On another task queue that is something only where the version that holds has workers for that queue's workflows.
    The run that a cron schedule starts takes over nothing but an override that pins. A retry keeps a pinned version
    only if the run had it from another run; one that its own worker pinned begins where the routing leads now.

    Args:
        header: of the parent, or of the run before.
        task_queue: the new run's.
        routes: say which task queues the version that holds has workers on.
        has_override: the new run has an override of its own.
        initial_behavior: how the next run is to begin, as the continue-as-new command says.
        initiator: a ContinueAsNewInitiator number of the next run of a chain; 0 for a child. A run that continues as
            new was told of another version, and may have chosen to stay.
    """
    known, now, holds = header.versioning, version(header), behavior(header)
    if known is None:
        return None
    target = WorkflowExecutionStartedEventAttributes()
    if task_queue != header.task_queue and not routes.has(now, task_queue, TaskKind.WORKFLOW):
        return target
    is_child = not initiator  # a child has even what counts for its parent's next workflow task alone
    if known.override_version and not has_override and (is_child or not known.override_once):
        target.versioning_override.ParseFromString(known.override)
    if not now or not holds or initiator == _BY_CRON:
        return target
    if initiator == _BY_RETRY:
        initial_behavior = known.initial_behavior if holds == AUTO_UPGRADE else 0
        if holds == PINNED and not known.inherited_pin:
            return target
    if holds == PINNED and not initial_behavior:
        target.inherited_pinned_version.CopyFrom(version_message(now))
        if initiator:
            _decline(known, target, is_told=initiator == _BY_WORKFLOW)
    elif known.revision or (initial_behavior and initiator != _BY_RETRY):
        source = target.inherited_auto_upgrade_info
        source.source_deployment_version.CopyFrom(version_message(now))
        source.source_deployment_revision_number = known.revision
        source.continue_as_new_initial_versioning_behavior = initial_behavior  # type: ignore[assignment]  # enum number
    return target


def _decline(known: Versioning, target: WorkflowExecutionStartedEventAttributes, *, is_told: bool) -> None:
    """Says that the runs before were told of another version, and stayed."""
    revision, declined = known.declined_revision, known.declined_version
    if is_told and known.notified_revision is not None:
        revision, declined = known.notified_revision, known.notified_version
    if revision is not None:
        target.declined_target_version_upgrade.revision_number = revision
        if declined:
            target.declined_target_version_upgrade.deployment_version.CopyFrom(version_message(declined))


# --- tasks ---


def taken_by(tx: Transition, worker: str, routes: Routes) -> None:
    """A worker of a version ("" for none) takes the pending workflow task: the run may begin to move there."""
    header = tx.header
    if header.versioning is None and not worker:
        return
    known = header.versioning or _NOTHING
    wanted, revision = _target(header, tx.state.run.workflow_id, routes)
    if behavior(header) != PINNED:
        if version(header) != worker:
            _move(tx, worker, revision)
            header.sticky_queue, header.sticky_timeout_ns = "", 0
        return
    if known.override or wanted == version(header):
        known = _told(known, None)
    elif known.declined_revision is None or revision > known.declined_revision:
        known = _told(known, revision, wanted)
    header.versioning = known if known != _NOTHING else header.versioning


def _told(known: Versioning, revision: int | None, target: str = UNVERSIONED) -> Versioning:
    """The worker of a pinned run is told of a version, of none, or (revision None) of nothing."""
    return replace(
        known,
        notified_revision=revision,
        notified_version=target,
        declined_revision=None,
        declined_version="",
    )


def _move(tx: Transition, to: str, revision: int) -> None:
    """The move to a version begins. Activities wait for its end; a task that is in memory only does not hold them."""
    known = tx.header.versioning or _NOTHING
    holds = known.holds_activities or not tx.header.task_is_speculative
    tx.header.versioning = replace(
        known, is_moving=True, moving_to=to, revision=revision, holds_activities=holds
    )
    if holds and not known.holds_activities:
        _send_activities_anew(tx)


def moves_before_activity(tx: Transition, worker: str, routes: Routes) -> bool:
    """Whether a run first moves to the version of a worker ("" for none) that would take an activity of it.

    That is where its next workflow task goes: its code runs there before the activity does. A queue that only
    activities use may have versions of its own.
    """
    header = tx.header
    if behavior(header) == PINNED or version(header) == worker:
        return False
    return _target(header, tx.state.run.workflow_id, routes)[0] == worker


def move_for_activity(tx: Transition, worker: str, routes: Routes) -> None:
    """Begins the move to the version of a worker that would take an activity; the run gets a workflow task for it."""
    _move(tx, worker, _target(tx.header, tx.state.run.workflow_id, routes)[1])
    _leave_sticky_queue(tx.header)
    tx.needs_task = True


def route(tx: Transition, routes: Routes) -> None:
    """Says where the tasks wait that this transition dispatches."""
    header, before = tx.header, tx.state.header
    if header.has_pending_task and not header.has_started_task:
        is_new = not tx.state.version or header.task_stamp != before.task_stamp
        if is_new:
            header.task_version = workflow_task_version(header, tx.state.run.workflow_id, routes)
            leaves = header.task_version != version(header)
            if header.task_on_sticky_queue and not header.task_rerouted and leaves:
                header.task_rerouted = True
    if not header.is_open:
        return
    for key, changed in list(tx.activities.changes.items()):
        if changed is None or changed.started_ns:
            continue
        wanted = activity_version(header, changed, tx.state.run.workflow_id, routes)
        if changed.version != wanted:
            tx.activities.edit(key).version = wanted


def redispatch(tx: Transition, key: TaskKey, routes: Routes) -> bool:
    """Sends a waiting task where the routes lead now. Returns whether that is somewhere else."""
    header, workflow_id = tx.header, tx.state.run.workflow_id
    if key.kind is TaskKind.WORKFLOW:
        task = tx.waiting_workflow_task(header)
        if task is None or task.key != key:
            return False
        if header.task_version == workflow_task_version(header, workflow_id, routes):
            return False
        header.task_stamp += 1
        return True
    activity = tx.activities.get(key.scheduled_event_id)
    if activity is None or activity.started_ns or tx.activity_dispatch(activity) is None:
        return False
    if activity.version == activity_version(header, activity, workflow_id, routes):
        return False
    tx.activities.edit(key.scheduled_event_id).stamp += 1
    return True


def workflow_task_version(header: RunHeader, workflow_id: str, routes: Routes) -> str:
    """The version whose workers the run's next workflow task is for."""
    if behavior(header) == PINNED:
        return version(header)
    return _target(header, workflow_id, routes)[0]


def activity_version(header: RunHeader, activity: Activity, workflow_id: str, routes: Routes) -> str:
    """The version whose workers an activity is for: the run's own where that has the queue, else the queue's."""
    queue = (activity.task_queue, TaskKind.ACTIVITY)
    if behavior(header) == PINNED and routes.has(version(header), *queue):
        return version(header)
    return routes.route(*queue).target(workflow_id)[0]


def _target(header: RunHeader, workflow_id: str, routes: Routes) -> tuple[str, int]:
    known = header.versioning
    prefers_ramp = known is not None and known.initial_behavior == _USE_RAMP
    return routes.route(header.task_queue, TaskKind.WORKFLOW).target(workflow_id, prefers_ramp=prefers_ramp)
