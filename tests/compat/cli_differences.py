"""The differences in what the official command prints that are intended, each with its reason."""

from __future__ import annotations

from tests.differential.known_differences import KnownDifference

_VERSIONED = (
    "a run shows the versions of deployments; nothing of the versions that workers had in earlier releases, nor that "
    "there is none"
)
_ZERO = "the command sends durations of zero, which mean no limit: a limit that does not exist is not shown"
_EMPTY = "a message without content is not shown"
_TRANSITIONS = "a task that goes to a waiting worker at once is one transition with what made it"
_CLOSED = "a closed run shows nothing as pending: it can no longer happen"
_PARSER = "the query is refused for the same reason, in the words of another parser"
_SCHEDULE = "a schedule is not a workflow here: what is missing is called a schedule"
_DEPLOYMENT = "a deployment is not a workflow here: what is missing is called what it is"
_QUEUE = "a task queue has one partition and neither levels nor blocks of task ids"

_IDENTITY = "our command says who asks wherever the protocol has a place for it"
_REQUEST_ID = "our command sends a request id, so that a repeated request does nothing twice"
_DEPRECATED = "the official command prints a warning into its output"

_EVERYWHERE = {
    "*.executionConfig.workflowExecutionTimeout": (_ZERO, '"0s"'),
    "*.executionConfig.workflowRunTimeout": (_ZERO, '"0s"'),
    "*.info.startDelay": (_ZERO, '"0s"'),
    "*.priority": (_EMPTY, "{}"),
    "*.autoResetPoints": (_VERSIONED, "*"),
    "*.mostRecentWorkerVersionStamp": (_VERSIONED, "*"),
    "*.searchAttributes.indexedFields": (_VERSIONED, '{"BuildIds": {*}}'),
    "*.searchAttributes.indexedFields.BuildIds": (_VERSIONED, "*"),
    "*.stateTransitionCount": (_TRANSITIONS, "*"),
}
EVERYWHERE: tuple[KnownDifference, ...] = tuple(
    KnownDifference("*", path, reason, real) for path, (reason, real) in _EVERYWHERE.items()
)
_BY_SCENARIO: dict[str, dict[str, str]] = {
    "workflow_start_options": {"first run.output.pendingWorkflowTask": _CLOSED},
    "workflow_pending": {
        "closed.output.pendingActivities": _CLOSED,
        "closed.output.pendingChildren": _CLOSED,
    },
    "workflow_reset": {
        "in the middle.errors": "an event inside of what was written together is refused in other words",
    },
    "batch_*": {
        "history.output.events[2].*.identity": "what a batch does is done in the name of who started it",
        "bad query.errors": _PARSER,
    },
    "workflow_list": {"syntax.errors": _PARSER},
    "activity_standalone": {
        "listed.*.TemporalNamespaceDivision": "what tells kinds of runs apart is not shown",
        "bad query.errors": _PARSER,
    },
    "schedule_nobody_there": {"*.errors": _SCHEDULE},
    "operator_nexus": {"updated.output.createdTime": "an endpoint keeps the time of its creation"},
    "operator_cluster": {
        "*Store": "each server names the store that it has",
        "list.output[0].httpAddress": "a server without a door for HTTP has no address of it",
    },
    "task_queue_describe": {
        "*.taskQueues*": _QUEUE,
        "partitions.*": _QUEUE,
    },
    "workers": {"bad query.errors": _PARSER},
    "worker_deployment": {"metadata.errors": _DEPLOYMENT},
    "worker_deployment_nobody_there": {
        "update-version-metadata.errors": _DEPLOYMENT,
        "delete-version.errors": _DEPLOYMENT,
    },
}

CLI_DIFFERENCES: tuple[KnownDifference, ...] = (
    *EVERYWHERE,
    *(
        KnownDifference(scenario, path, reason)
        for scenario, paths in _BY_SCENARIO.items()
        for path, reason in paths.items()
    ),
)

_OWN: dict[str, dict[str, str]] = {
    "workflow_start_options": {"cron.output": _DEPRECATED, "bad cron.output": _DEPRECATED},
    "workflow_cancel_terminate": {
        "cancel live.*": "a reason of a cancellation is taken, and not only for batches",
        "cancelled*": "and so the workflow is cancelled",
    },
    "workflow_pause": {
        "described.output.closeEvent": "a paused workflow is not closed",
        "*.requestId": _REQUEST_ID,
    },
    "workflow_update_options": {"*.identity": _IDENTITY},
    "workers": {
        "*.workerHeartbeat.*": "each command's scenarios have a worker of their own, which counts its own tasks"
    },
    "workflow_trace": {"traced.*": "a trace has a form in JSON, too"},
}
OWN_DIFFERENCES: tuple[KnownDifference, ...] = (
    KnownDifference("*", "*.stateTransitionCount", _TRANSITIONS),
    *(
        KnownDifference(scenario, path, reason)
        for scenario, paths in _OWN.items()
        for path, reason in paths.items()
    ),
)
"""What our command prints otherwise than the official one on the same server."""
