"""Which browser test opens each page and sends each form. A test that does not do what is said of it here fails."""

from __future__ import annotations

from typing import Final

_NAMESPACE: Final = "/namespaces/{namespace}"
_RUN: Final = f"{_NAMESPACE}/workflows/{{workflow_id}}/{{run_id}}"
_ACTIVITY: Final = f"{_NAMESPACE}/activities/{{id}}/{{run_id}}"
_OPERATION: Final = f"{_NAMESPACE}/nexus-operations/{{id}}/{{run_id}}"
_SCHEDULE: Final = f"{_NAMESPACE}/schedules/{{schedule_id}}"
_OPENS: Final[dict[str, tuple[str, ...]]] = {
    "test_a_page_of_the_server_can_be_used[namespaces]": ("/namespaces",),
    "test_a_page_of_the_server_can_be_used[settings]": ("/settings",),
    "test_a_page_of_the_server_can_be_used[nexus-endpoints]": ("/nexus-endpoints",),
    "test_a_page_shows_what_it_is_about[namespace]": (_NAMESPACE,),
    "test_a_page_shows_what_it_is_about[workflows]": (f"{_NAMESPACE}/workflows",),
    "test_what_is_not_there_is_said_in_words": (f"{_NAMESPACE}/workflows/{{workflow_id}}",),
    "test_the_way_from_the_list_to_an_event": (
        _RUN,
        "/",
    ),
    "test_a_page_of_a_run_shows_what_it_is_about[history]": (f"{_RUN}/history",),
    "test_a_page_of_a_run_shows_what_it_is_about[queries]": (f"{_RUN}/queries",),
    "test_a_page_of_a_run_shows_what_it_is_about[call-stack]": (f"{_RUN}/call-stack",),
    "test_a_page_of_a_run_shows_what_it_is_about[relationships]": (f"{_RUN}/relationships",),
    "test_a_page_of_a_run_shows_what_it_is_about[run-workers]": (f"{_RUN}/workers",),
    "test_a_wrong_filter_of_activities_is_explained": (f"{_NAMESPACE}/activities",),
    "test_a_standalone_operation_is_shown_and_ended": (
        f"{_NAMESPACE}/nexus-operations",
        _OPERATION,
        f"{_NAMESPACE}/nexus-operations/{{id}}",
    ),
    "test_a_standalone_activity_lives_through_all_its_actions": (f"{_NAMESPACE}/activities/{{id}}",),
    "test_standalone_activities_are_listed_and_one_shows_its_result": (_ACTIVITY,),
    "test_a_page_shows_what_it_is_about[schedules]": (f"{_NAMESPACE}/schedules",),
    "test_a_page_shows_what_it_is_about[schedule]": (_SCHEDULE,),
    "test_a_page_shows_what_it_is_about[batches]": (f"{_NAMESPACE}/batches",),
    "test_a_batch_of_every_kind_does_it_to_all_that_match[cancel]": (f"{_NAMESPACE}/batches/{{job_id}}",),
    "test_a_page_shows_what_it_is_about[task-queues]": (f"{_NAMESPACE}/task-queues",),
    "test_a_page_shows_what_it_is_about[task-queue]": (f"{_NAMESPACE}/task-queues/{{task_queue}}",),
    "test_a_page_shows_what_it_is_about[workers]": (f"{_NAMESPACE}/workers",),
    "test_a_worker_says_what_it_has_room_for": (f"{_NAMESPACE}/workers/{{worker}}",),
    "test_a_page_shows_what_it_is_about[deployments]": (f"{_NAMESPACE}/deployments",),
    "test_a_deployment_gets_a_current_and_a_ramping_version": (f"{_NAMESPACE}/deployments/{{deployment}}",),
    "test_a_page_shows_what_it_is_about[search-attributes]": (f"{_NAMESPACE}/search-attributes",),
    "test_the_history_is_downloaded_whole": (f"{_RUN}/history/download",),
    "test_a_history_is_downloaded_and_looked_at_again": (f"{_NAMESPACE}/import-history",),
}
_SENDS: Final[dict[str, tuple[str, ...]]] = {
    "test_a_standalone_operation_is_shown_and_ended": (
        f"{_OPERATION}/actions/cancel",
        f"{_OPERATION}/actions/terminate",
        f"{_OPERATION}/actions/delete",
    ),
    "test_a_standalone_activity_lives_through_all_its_actions": (
        f"{_ACTIVITY}/actions/pause",
        f"{_ACTIVITY}/actions/unpause",
        f"{_ACTIVITY}/actions/reset",
        f"{_ACTIVITY}/actions/options",
        f"{_ACTIVITY}/actions/cancel",
        f"{_ACTIVITY}/actions/terminate",
        f"{_ACTIVITY}/actions/delete",
    ),
    "test_a_deployment_gets_a_current_and_a_ramping_version": (
        f"{_NAMESPACE}/deployments/{{deployment}}/set-current",
        f"{_NAMESPACE}/deployments/{{deployment}}/set-ramping",
    ),
    "test_columns_and_colours_are_kept": (
        "/settings",
        f"{_NAMESPACE}/workflows/columns",
    ),
    "test_a_history_is_downloaded_and_looked_at_again": (f"{_NAMESPACE}/import-history",),
    "test_an_access_token_is_kept_out_of_reach_of_scripts": ("/settings/token",),
    "test_a_filter_is_built_saved_used_and_removed": (f"{_NAMESPACE}/workflows/views",),
    "test_search_attributes_namespaces_and_endpoints_are_made_and_changed": (
        "/create-namespace",
        f"{_NAMESPACE}/edit",
        "/create-nexus-endpoint",
        "/nexus-endpoints/{endpoint_id}/edit",
        "/nexus-endpoints/{endpoint_id}/delete",
        f"{_NAMESPACE}/add-search-attribute",
        f"{_NAMESPACE}/search-attributes/{{attribute}}/remove",
    ),
    "test_a_workflow_is_started_and_one_like_it": (f"{_NAMESPACE}/start-workflow",),
    "test_a_signal_and_an_update_arrive_and_a_query_answers": (
        f"{_RUN}/actions/signal",
        f"{_RUN}/actions/update",
    ),
    "test_a_run_is_ended[cancel-Request cancellation-Cancellation was requested-Canceled]": (
        f"{_RUN}/actions/cancel",
    ),
    "test_a_run_is_ended[terminate-Terminate-was terminated-Terminated]": (f"{_RUN}/actions/terminate",),
    "test_a_run_is_deleted": (f"{_RUN}/actions/delete",),
    "test_a_run_is_paused_and_goes_on": (
        f"{_RUN}/actions/pause",
        f"{_RUN}/actions/unpause",
    ),
    "test_a_run_goes_on_from_an_event_that_was_chosen_with_the_keys_alone": (f"{_RUN}/actions/reset",),
    "test_a_failed_run_is_retried_from_the_failed_step": (f"{_RUN}/actions/retry",),
    "test_an_activity_is_paused_changed_reset_and_goes_on": (
        f"{_RUN}/activities/pause",
        f"{_RUN}/activities/unpause",
        f"{_RUN}/activities/reset",
        f"{_RUN}/activities/options",
    ),
    "test_an_activity_is_started_by_hand": (f"{_NAMESPACE}/start-activity",),
    "test_a_schedule_lives_through_all_its_actions": (
        f"{_NAMESPACE}/create-schedule",
        f"{_SCHEDULE}/edit",
        f"{_SCHEDULE}/pause",
        f"{_SCHEDULE}/unpause",
        f"{_SCHEDULE}/trigger",
        f"{_SCHEDULE}/backfill",
        f"{_SCHEDULE}/delete",
    ),
    "test_a_batch_of_every_kind_does_it_to_all_that_match[reset]": (f"{_NAMESPACE}/start-batch",),
    "test_a_batch_is_stopped": (f"{_NAMESPACE}/batches/{{job_id}}/stop",),
}
TABLE: Final = {
    **{("GET", route): name for name, routes in _OPENS.items() for route in routes},
    **{("POST", route): name for name, routes in _SENDS.items() for route in routes},
}
"""Method and route to the name of the test."""
