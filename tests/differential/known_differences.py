"""The differences from the official server that are intended, each with its reason.

An entry that no longer matches anything makes the tests fail: a difference that is gone must leave the list.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tests.differential.compare import Difference


@dataclass(frozen=True)
class KnownDifference:
    """One accepted difference.

    Attributes:
        scenario: the scenario's name; `*` stands for any characters.
        path: where the difference is, as printed in a failure; `*` stands for any characters.
        reason: why Perdure differs on purpose.
        real: what the official server has there, as JSON; `*` stands for any characters.
        depends_on_timing: a run may not show it.
    """

    scenario: str
    path: str
    reason: str
    real: str = "*"
    depends_on_timing: bool = False

    def covers(self, scenario: str, difference: Difference) -> bool:
        """Whether this entry accepts that difference of that scenario."""
        return (
            fnmatchcase(scenario, self.scenario)
            and _matches(difference.path, self.path)
            and (self.real == "*" or _matches(json.dumps(difference.real), self.real))
        )


def _matches(text: str, pattern: str) -> bool:
    # Brackets are index syntax in a path and lists in JSON, not the character classes fnmatch would read.
    return fnmatchcase(text, pattern.replace("[", "[[]"))


_PARSER = "the query is refused for the same reason, in the words of another parser"

_NO_TASK_YET = (
    "a run that waits for its first task can be paused; the official server meets a defect of its own"
)

_QUERIES_WORDED_DIFFERENTLY = ("not a query", "unbalanced", "function", "semicolon")

_EMPTY_LAST_PAGES = {
    "history_pages": ("page 0.more", "page 1"),
    "history_pages_of_open_run": ("first.more", "second"),
}

_UNVERSIONED = (
    '{"metadata": {"encoding": "json/plain", "type": "KeywordList"}, "data": "[\\"unversioned\\"]"}'
)
"""The search attribute by which the official server marks a run whose workers have no versions."""
_BUILD_IDS = (
    "a run whose workers have no versions is not marked as unversioned in its search attributes; BuildIds names the "
    "versions of deployments"
)
_RESET_POINTS = (
    "no points to reset to are kept by build id, which are of the versioning of earlier releases; any workflow task "
    "can be reset to"
)
_REQUEST_OF_UPDATE = "the official server never learns the id of an event that a request to an update left"

_RESET_AGAIN = "placeholders of run ids, of which there is one more where the same request resets twice"
_CLOSED_RUN = (
    "a closed run keeps what can still be asked for; activities and tasks that can no longer happen are not shown as "
    "pending"
)

_CLOSED_CALLER = (
    "a closed run has no pending Nexus operations: nothing is done for them any more, there as here, and only there "
    "they go on to be shown"
)

_CANCEL_IN_OLDER_FORM = (
    "a handler's refusal to cancel is told as it was given; the official server asks itself by HTTP in an older form, "
    "in which the words are lost when there is a cause, and the type when there is none"
)

_END_AMONG_CAUSES = (
    "an error of a handler stays one, whatever its cause is; the official server finds an end of the operation "
    "among the causes"
)
_UNKNOWN_STATE = "an answer with a state that there is not says so in the failure of the attempt"
_FAILURES_IN_OLDER_FORM = {
    "refused operation error: *": _END_AMONG_CAUSES,
    "no state: pending[0].last_attempt_failure.message": _UNKNOWN_STATE,
    "odd state: pending[0].last_attempt_failure.message": _UNKNOWN_STATE,
    "succeeded: pending[0].last_attempt_failure.message": _UNKNOWN_STATE,
}

_REPEATED = (
    "a repeated request finds what the first did and writes nothing; "
    "the official server counts it as a transition"
)
_STANDALONE_LISTS = {
    "count: unknown status.*": "a status that does not exist is refused, as in lists of workflows",
    "count: workflow type.count": "the type of a standalone activity is found by either name",
    "count: syntax.message": _PARSER,
    "list: *.indexed_fields.TemporalNamespaceDivision": "what tells kinds of runs apart is not shown",
    "list: closed.executions[0].state_size_bytes": "the size is known; the official server lists none on SQLite",
}

_PART_OF_A_POLICY = (
    "what a changed retry policy leaves open has its default, and the policy must make sense as a whole; the official "
    "server keeps what comes, with a coefficient of zero and times below zero, or refuses what is not given"
)
_POLICIES_IN_PART = (
    "whole, with *",
    "whole, empty",
    "whole and a field",
    "whole in camel case",
    "no initial",
    "no coefficient",
    "no maximum",
    "negative initial",
    "wrong timeout",
)

KNOWN_DIFFERENCES: tuple[KnownDifference, ...] = (
    *(
        KnownDifference("policy_of_an_activity", f"{how}: {label}*", _PART_OF_A_POLICY)
        for how in ("with", "without")
        for label in _POLICIES_IN_PART
    ),
    *(
        KnownDifference("policy_of_a_standalone_activity", f"{label}*", _PART_OF_A_POLICY)
        for label in ("no initial", "no coefficient", "no maximum")
    ),
    *(
        KnownDifference(scenario, "*.info.state_transition_count", _REPEATED)
        for scenario in (
            "standalone_cancel_running",
            "standalone_links_attached",
            "standalone_paused_before_start",
            "standalone_options",
        )
    ),
    KnownDifference(
        "options_priority",
        "described without.priority_key",
        "a priority that was taken away is gone; the official server says so and keeps it",
    ),
    KnownDifference(
        "solo_operation_lists", "*.state_size_bytes", "the size is known; theirs lists none on SQLite"
    ),
    *(
        KnownDifference("solo_operation_lists", path, "what tells kinds of runs apart is not shown")
        for path in ("*.search_attributes.indexed_fields", "*.indexed_fields.TemporalNamespaceDivision")
    ),
    *(KnownDifference("standalone_lists", path, reason) for path, reason in _STANDALONE_LISTS.items()),
    KnownDifference(
        "standalone_requests_refused",
        "bad page.*",
        "a page token that no server gave is the caller's mistake",
    ),
    *(
        KnownDifference("callback_each_end", f"{label} described.pending_workflow_task", _CLOSED_RUN)
        for label in ("terminated", "timed out")
    ),
    *(
        KnownDifference("paused_while_held_back", f"{label}.*", _NO_TASK_YET)
        for label in ("retry", "cron", "delay", "continued")
    ),
    *(
        KnownDifference(
            scenario,
            "caller in order.times",
            "an operation that is started and ended by its completion has started when its workflow did; the official "
            "server has that time in whole seconds",
            depends_on_timing=True,
        )
        for scenario in ("callback_before_answer", "callback_after_failed_answer")
    ),
    KnownDifference(
        "nexus_reset",
        "new in order.times",
        "what a reset does once more happens when it is done; the official server keeps some times of before",
        depends_on_timing=True,
    ),
    KnownDifference(
        "callback_of_done",
        "callbacks[0].last_attempt_failure.message",
        "the official server tells what its state machines are called",
    ),
    *(
        KnownDifference(scenario, "described.pending_nexus_operations", _CLOSED_CALLER)
        for scenario in (
            "nexus_closed_caller",
            "nexus_closed_right_after_scheduling",
            "nexus_cancel_and_close",
        )
    ),
    *(
        KnownDifference(
            "nexus_cancel_answers", f"{label}.last_attempt_failure.{field}", _CANCEL_IN_OLDER_FORM
        )
        for label, field in (
            ("not found again: pending[0].cancellation_info", "message"),
            ("older no type: pending[0].cancellation_info", "nexus_handler_failure_info.type"),
        )
    ),
    *(
        KnownDifference("nexus_failures_in_older_form", path, reason)
        for path, reason in _FAILURES_IN_OLDER_FORM.items()
    ),
    KnownDifference(
        "deployment_told_of_lower_revision",
        "next.workflow_execution_started_event_attributes.declined_target_version_upgrade.*",
        "the version that a run was told of last is what it declines; the official server takes a lower revision for "
        "old news, even if it is that of another deployment",
    ),
    KnownDifference(
        "nexus_endpoints",
        "updated.endpoint.created_time",
        "an endpoint keeps the time of its creation when it is updated",
    ),
    *(KnownDifference("list_errors", f"* {label}.message", _PARSER) for label in _QUERIES_WORDED_DIFFERENTLY),
    *(
        KnownDifference(
            scenario, path, "the last page says so; theirs has a token that leads to an empty one"
        )
        for scenario, paths in _EMPTY_LAST_PAGES.items()
        for path in paths
    ),
    KnownDifference(
        "list_errors",
        "list order by.*",
        "lists can be ordered by what is indexed: StartTime, CloseTime, attributes",
    ),
    KnownDifference("workers_refused", "bad query.message", _PARSER),
    KnownDifference("*", "*.indexed_fields.BuildIds", _BUILD_IDS, real=_UNVERSIONED),
    KnownDifference(
        "*", "*.search_attributes.indexed_fields", _BUILD_IDS, real=f'{{"BuildIds": {_UNVERSIONED}}}'
    ),
    KnownDifference("*", "*auto_reset_points", _RESET_POINTS),
    KnownDifference(
        "*",
        "*execution_config.workflow_run_timeout",
        "after a continue-as-new the official server says of an unlimited run that its limit is 0 s; Perdure leaves it "
        "out",
        real='"0s"',
    ),
    *(
        KnownDifference(scenario, f"describe.{path}", _CLOSED_RUN)
        for scenario, path in (
            ("activity_started_after_close", "pending_activities"),
            ("terminate_with_pending", "pending_activities"),
            ("run_timeout", "pending_workflow_task"),
        )
    ),
    KnownDifference("pause_then_terminate", "terminated: pause.*", _CLOSED_RUN),
    KnownDifference("child_full", "parent described.pending_children", _CLOSED_RUN),
    KnownDifference("reset_open_run", "old described.pending_workflow_task", _CLOSED_RUN),
    KnownDifference("reset_with_work_pending", "old described.pending_activities", _CLOSED_RUN),
    KnownDifference(
        "reset_closed_run",
        "same request.run_id",
        "a repeated request to reset is recognised by its request id; the official server resets once more",
    ),
    *(
        KnownDifference(scenario, f"{label}.request *.{field}", _REQUEST_OF_UPDATE)
        for scenario, labels in (
            ("update_callback_attached", ("sent", "accepted", "completed")),
            ("update_callback_reset", ("known",)),
        )
        for label in labels
        for field in ("buffered", "event_id")
    ),
    KnownDifference("reset_closed_run", "once more.run_id", _RESET_AGAIN),
    KnownDifference("reset_closed_run", "again*.new_run_id", _RESET_AGAIN),
    *(
        KnownDifference(
            "reset_errors",
            f"{label} the task.message",
            "the official server words differently that an event lies inside of what was written together",
        )
        for label in ("before", "after")
    ),
    *(
        KnownDifference("links_of_requests", f"{label}: closed, described.pending_workflow_task", _CLOSED_RUN)
        for label in ("idle", "busy")
    ),
    KnownDifference("links_of_a_run_that_gives_way", "first, described.pending_workflow_task", _CLOSED_RUN),
    KnownDifference(
        "links_of_signal_with_start",
        "started, described.workflow_extended_info.request_id_infos.*.event_id",
        "a request that started a run with a signal led to the event that started it; the official server says the "
        "type of that event and the id of the signal's",
    ),
    *(
        KnownDifference(
            "links_of_updates_over_a_reset",
            f"{label}, described.workflow_extended_info.*.{field}",
            _REQUEST_OF_UPDATE,
        )
        for label in ("new", "done")
        for field in ("buffered", "event_id")
    ),
    KnownDifference(
        "links_refused_by_each_request",
        "no run: update.*",
        "links of an update are checked like those of any request; the official server takes whatever comes",
    ),
    KnownDifference(
        "links_refused_by_each_request",
        "workflow: *.message",
        "links to a whole workflow are taken, as by later releases",
    ),
    *(
        KnownDifference(
            "reset_of_the_run_before",
            path,
            "what came to the attempts that followed comes again; the official server looks only at runs that were "
            "continued as new, and ends the next attempt with the signals that it had",
        )
        for path in ("retry: new[*", "retry: new, described.workflow_execution_info.history_length")
    ),
    KnownDifference(
        "signals_sent_again_after_a_reset",
        "*: signals*",
        "a request to signal whose signal the new run has from the one before is recognised; the official server "
        "signals once more",
    ),
    KnownDifference(
        "delay_and_reset_of_the_first",
        "begins when it starts",
        "a run that a reset made waits for nothing and begins when it starts; the official server adds the delay of "
        "the first run to its time once more, and does not wait either",
    ),
    KnownDifference(
        "delayed_start_over_an_open_run",
        "open: attach and terminate, old, described.pending_workflow_task",
        _CLOSED_RUN,
    ),
    KnownDifference(
        "changed_properties_over_chains",
        "*.search_attributes.indexed_fields.Note.metadata.type",
        "an attribute is described with the type that it has, as it is listed; the official server describes it with "
        "the type that its value came with",
    ),
    KnownDifference("parent_close_policies", "terminate: described.pending_workflow_task", _CLOSED_RUN),
    KnownDifference(
        "retry_with_timeouts", "held back until the end, described.pending_workflow_task", _CLOSED_RUN
    ),
    KnownDifference("continue_as_new_with_work_pending", "first described.pending_activities", _CLOSED_RUN),
    *(
        KnownDifference(
            "activity_options_updated",
            path,
            "options that were changed by hand hold everywhere: the worker is told the changed timeouts, too, and an "
            "activity with a limit of time is shown when it ends",
        )
        for path in ("task.*_timeout", "updated[0].expiration_time")
    ),
    KnownDifference(
        "activity_heartbeat_*",
        "describe.workflow_execution_info.state_transition_count",
        "the official server counts each time its heartbeat timer finds an activity alive; in Perdure a deadline that "
        "moved is no transition",
    ),
    KnownDifference(
        "namespace_register_errors",
        "system name*",
        "Perdure runs no internal workflows, so it has no system namespace whose name is taken",
    ),
    *(
        KnownDifference(
            scenario, path, "Perdure limits no task queue by default, so there is no limit to report"
        )
        for scenario, path in (
            ("task_on_another_queue", "describe queue.effective_rate_limit"),
            ("queue_configured", "of workflows.effective_rate_limit"),
            ("queue_stats", "without asking*"),
        )
    ),
    KnownDifference(
        "queue_stats",
        "described.task_queue_status.*",
        "a task queue has one partition, all of which is counted, and no blocks of task ids",
    ),
    *(
        KnownDifference("every_workflow_rpc_plausible", rpc, reason)
        for rpc, reason in (
            ("RequestCancelWorkflowExecution", "the run that is not there is named"),
            ("TerminateWorkflowExecution", "the run that is not there is named"),
            ("CreateSchedule", "a schedule that does nothing is refused"),
            ("DescribeSchedule", "a schedule is not a workflow here: what is missing is called a schedule"),
            ("ListScheduleMatchingTimes", "a schedule that is not there is said to be, at once"),
            ("DeleteSchedule", "a schedule that is not there is said to be"),
            (
                "DeleteWorkerDeploymentVersion",
                "a deployment is not a workflow here: what is missing is called what it is",
            ),
            (
                "SetWorkerDeploymentManager",
                "a deployment is not a workflow here: what is missing is called what it is",
            ),
            ("UpdateActivityOptions", "what is wrong with a request is said before its run is looked for"),
        )
    ),
    *(
        KnownDifference(
            f"deployment_text_{how}",
            "colon and dot*",
            "a version is found whichever of the delimiters a text has, for routing as for everything else",
        )
        for how in ("made_current", "ramped")
    ),
    KnownDifference(
        "deployment_text_pinned_to",
        "unversioned*",
        "to be pinned to workers without version is refused with the reason; the official server breaks down",
    ),
    KnownDifference(
        "deployment_text_deleted",
        "another name*.message",
        "a deployment is not a workflow here: what is missing is called what it is",
    ),
    KnownDifference(
        "queue_config_refused", "no queue.*", "a task queue without a name is refused everywhere"
    ),
)


def unexpected(
    scenario: str,
    found: Sequence[Difference],
    known: Sequence[KnownDifference] = KNOWN_DIFFERENCES,
) -> list[Difference]:
    """The differences that no entry accepts."""
    return [
        difference for difference in found if not any(entry.covers(scenario, difference) for entry in known)
    ]


def unused(
    found: Sequence[tuple[str, Difference]], known: Sequence[KnownDifference] = KNOWN_DIFFERENCES
) -> list[KnownDifference]:
    """The entries that accept none of the differences found (pairs of scenario name and difference)."""
    return [
        entry
        for entry in known
        if not entry.depends_on_timing
        and not any(entry.covers(name, difference) for name, difference in found)
    ]
