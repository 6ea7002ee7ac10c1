"""What follows a run: continue-as-new, workflow retry and cron chains, timeouts over a chain."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.run import chain, commands
from perdure.core.run.limits import SECOND_NS, Limits
from tests.support.builders import (
    application_failure,
    complete_workflow,
    continue_as_new,
    duration,
    fail_workflow,
    header,
    keyword,
    memo,
    payloads,
    queue,
    retry_policy,
    schedule_activity,
    start_timer,
    upsert_search_attributes,
)
from tests.support.proto import common, enums
from tests.unit.core.driver import QUEUE, RUN, START_NS, Driver, begun, with_commands

RetryState = enums.RetryState


def started(driver: Driver) -> Any:
    """The attributes of a run's first event."""
    return driver.history[0].workflow_execution_started_event_attributes


def following(driver: Driver) -> Driver:
    """The run that follows, which there must be."""
    assert driver.following is not None
    return driver.following


def kw(value: str) -> common.SearchAttributes:
    """A search attribute."""
    return common.SearchAttributes(indexed_fields={"Kw": keyword(value)})


# --- continue as new ---


def test_continue_as_new_takes_over_what_its_command_leaves_out() -> None:
    driver = begun(
        workflow_run_timeout=duration(50),
        workflow_task_timeout=duration(7),
        priority=common.Priority(priority_key=2),
        memo=memo({"a": "b"}),
        input=payloads("in"),
        links=[common.Link(workflow_event=common.Link.WorkflowEvent(workflow_id="caller"))],
    )
    driver.complete(continue_as_new())
    after = following(driver)
    attributes = started(after)
    assert (attributes.workflow_type.name, attributes.task_queue.name) == ("type", QUEUE)
    assert attributes.workflow_run_timeout == duration(50)
    assert attributes.workflow_task_timeout == duration(7)
    assert attributes.priority.priority_key == 2
    assert attributes.initiator == enums.ContinueAsNewInitiator.CONTINUE_AS_NEW_INITIATOR_WORKFLOW
    assert after.history[0].links == driver.history[0].links
    assert not attributes.HasField("input")
    assert not attributes.memo.fields  # the worker sends what it wants to keep


def test_continue_as_new_hands_on_what_its_command_says() -> None:
    driver = with_commands(
        continue_as_new(
            workflow_type=common.WorkflowType(name="other"),
            task_queue=queue("elsewhere"),
            input=payloads("next"),
            workflow_run_timeout=duration(30),
            backoff_start_interval=duration(20),
            retry_policy=retry_policy(attempts=4),
            header=header({"h": "v"}),
            memo=memo({"m": "n"}),
            search_attributes=kw("green"),
            last_completion_result=payloads("result"),
            failure=application_failure("why"),
        )
    )
    after = following(driver)
    attributes = started(after)
    event = driver.history[-1].workflow_execution_continued_as_new_event_attributes
    assert attributes.workflow_type.name == event.workflow_type.name == "other"
    assert attributes.task_queue.name == event.task_queue.name == after.header.task_queue == "elsewhere"
    assert attributes.input == event.input == payloads("next")
    assert attributes.first_workflow_task_backoff == event.backoff_start_interval == duration(20)
    assert attributes.retry_policy.initial_interval == duration(1)
    assert attributes.memo == event.memo == memo({"m": "n"})
    assert attributes.search_attributes == event.search_attributes
    assert attributes.search_attributes.indexed_fields["Kw"].metadata["type"] == b"Keyword"
    assert attributes.last_completion_result == payloads("result")
    assert attributes.continued_failure == application_failure("why")
    assert after.header.run_expiration_ns == START_NS + 50 * SECOND_NS


def test_the_ids_of_a_chain() -> None:
    driver = begun()
    seen = [RUN.run_id]
    for _ in range(3):
        driver.complete(continue_as_new())
        after = following(driver)
        attributes = started(after)
        assert attributes.continued_execution_run_id == seen[-1]
        assert attributes.first_execution_run_id == RUN.run_id
        assert attributes.original_execution_run_id == after.state.run.run_id
        assert after.header.start_request_id not in (driver.header.start_request_id, "")
        seen.append(after.state.run.run_id)
        after.wake()
        driver = after
    assert len(set(seen)) == 4


def test_work_that_is_pending_ends_with_its_run() -> None:
    driver = with_commands(schedule_activity("a", QUEUE), start_timer("t", 60))
    driver.signal()
    driver.complete(continue_as_new())
    after = following(driver)
    assert not after.state.activities
    assert not after.state.timers
    assert not after.header.signal_count
    assert not driver.tasks


@pytest.mark.parametrize(("lived_s", "wanted_s"), [(0, 1), (0.25, 0.75), (1, 0), (5, 0)])
def test_runs_of_a_chain_do_not_follow_each_other_too_closely(lived_s: float, wanted_s: float) -> None:
    driver = begun()
    driver.sleep(lived_s)
    driver.complete(continue_as_new())
    after = following(driver)
    assert started(after).first_workflow_task_backoff == duration(wanted_s)
    assert after.header.has_pending_task == (wanted_s == 0)


def test_events_that_the_worker_has_not_seen_keep_a_run_from_continuing() -> None:
    driver = begun()
    driver.poll()
    driver.signal()
    driver.respond(continue_as_new())
    assert driver.following is None
    failed = driver.last("WORKFLOW_TASK_FAILED").workflow_task_failed_event_attributes
    assert failed.cause == commands.cause_number("UNHANDLED_COMMAND")
    assert driver.header.is_open


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"workflow_type": common.WorkflowType(name="x" * 1001)}, "WorkflowType on"),
        ({"task_queue": queue("x" * 1001)}, "taskQueue length exceeds limit"),
        ({"task_queue": queue("/_sys/x")}, "reserved prefix"),
        ({"workflow_run_timeout": duration(-1)}, "Invalid WorkflowRunTimeout on"),
        ({"workflow_task_timeout": duration(-1)}, "Invalid WorkflowTaskTimeout on"),
        ({"backoff_start_interval": duration(-1)}, "Invalid BackoffStartInterval on"),
        ({"retry_policy": retry_policy(initial_s=1, coefficient=0.5)}, "invalid WorkflowRetryPolicy on"),
        ({"cron_schedule": "nonsense"}, "invalid CronSchedule."),
        ({"search_attributes": common.SearchAttributes(indexed_fields={"No": keyword("x")})}, "no mapping"),
    ],
)
def test_a_bad_command_fails_the_task(fields: dict[str, Any], message: str) -> None:
    driver = with_commands(continue_as_new(**fields))
    assert (
        message in driver.last("WORKFLOW_TASK_FAILED").workflow_task_failed_event_attributes.failure.message
    )
    assert driver.header.is_open
    assert driver.following is None


@pytest.mark.parametrize("fields", [{"input": payloads("x" * 600)}, {"memo": memo({"k": "x" * 600})}])
def test_too_large_a_command_terminates_the_run(fields: dict[str, Any]) -> None:
    driver = with_commands(continue_as_new(**fields), limits=Limits(blob_bytes=500, memo_bytes=500))
    assert driver.types()[-1] == "WORKFLOW_EXECUTION_TERMINATED"
    assert driver.following is None


# --- retry ---


def retried(**fields: Any) -> Driver:
    """A run with a retry policy of three attempts whose first attempt failed."""
    policy = retry_policy(initial_s=5, coefficient=2, attempts=3)
    driver = begun(**{"retry_policy": policy, "input": payloads("in"), "memo": memo({"a": "b"})} | fields)
    driver.complete(upsert_search_attributes({"Kw": keyword("blue")}), fail_workflow(application_failure()))
    return driver


def test_a_failed_workflow_starts_again_as_it_was_started() -> None:
    driver = retried(search_attributes=kw("red"), header=header({"h": "v"}))
    failed = driver.history[-1].workflow_execution_failed_event_attributes
    assert failed.retry_state == RetryState.RETRY_STATE_IN_PROGRESS
    after = following(driver)
    attributes = started(after)
    assert (attributes.attempt, after.header.attempt) == (2, 2)
    assert attributes.initiator == chain.BY_RETRY
    assert attributes.continued_failure == application_failure()
    assert (attributes.input, attributes.header) == (payloads("in"), header({"h": "v"}))
    assert (attributes.memo, attributes.search_attributes) == (memo({"a": "b"}), kw("red"))
    assert attributes.first_workflow_task_backoff == duration(5)
    assert not after.header.has_pending_task
    after.wake()
    assert after.header.has_pending_task


def test_attempts_end() -> None:
    driver = following(retried())
    driver.wake()
    driver.complete(fail_workflow(application_failure()))
    driver = following(driver)
    assert started(driver).first_workflow_task_backoff == duration(10)
    driver.wake()
    driver.complete(fail_workflow(application_failure()))
    assert driver.following is None
    attributes = driver.history[-1].workflow_execution_failed_event_attributes
    assert attributes.retry_state == RetryState.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"retry_policy": retry_policy(non_retryable=("Boom",))}, "NON_RETRYABLE_FAILURE"),
        ({"retry_policy": retry_policy(attempts=1)}, "MAXIMUM_ATTEMPTS_REACHED"),
        ({"workflow_execution_timeout": duration(4), "workflow_run_timeout": duration(4)}, "TIMEOUT"),
    ],
)
def test_failures_that_are_the_last(fields: dict[str, Any], state: str) -> None:
    driver = retried(**fields)
    assert driver.following is None
    attributes = driver.history[-1].workflow_execution_failed_event_attributes
    assert attributes.retry_state == RetryState.Value(f"RETRY_STATE_{state}")


def test_a_run_that_times_out_is_tried_again() -> None:
    driver = begun(retry_policy=retry_policy(initial_s=5, coefficient=1), workflow_run_timeout=duration(9))
    driver.wake()
    attributes = driver.history[-1].workflow_execution_timed_out_event_attributes
    assert attributes.retry_state == RetryState.RETRY_STATE_IN_PROGRESS
    failure = started(following(driver)).continued_failure
    assert failure.timeout_failure_info.timeout_type == enums.TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE
    assert following(driver).header.run_expiration_ns == driver.now_ns + 14 * SECOND_NS


def test_termination_and_cancellation_end_a_chain() -> None:
    driver = begun(retry_policy=retry_policy(initial_s=5, coefficient=1))
    driver.terminate()
    assert driver.following is None


# --- the whole chain's time ---


def test_the_execution_timeout_counts_from_the_first_run() -> None:
    driver = begun(
        workflow_execution_timeout=duration(20),
        workflow_run_timeout=duration(20),
        retry_policy=retry_policy(initial_s=1, coefficient=1),
    )
    driver.sleep(15)
    driver.complete(continue_as_new(retry_policy=retry_policy(initial_s=1, coefficient=1)))
    after = following(driver)
    assert after.header.run_expiration_ns == START_NS + 20 * SECOND_NS
    after.sleep(5)
    after.fire()
    attributes = after.history[-1].workflow_execution_timed_out_event_attributes
    assert attributes.retry_state == RetryState.RETRY_STATE_TIMEOUT
    assert after.following is None


# --- cron ---


def test_the_first_run_of_a_schedule_waits_for_its_time() -> None:
    driver = begun(cron_schedule="@every 30s")
    attributes = started(driver)
    assert (attributes.cron_schedule, attributes.initiator) == ("@every 30s", chain.BY_CRON)
    assert attributes.first_workflow_task_backoff == duration(30)


def test_a_schedule_hands_on_the_last_result_and_the_last_failure() -> None:
    driver = begun(cron_schedule="@every 10s", input=payloads("in"))
    driver.wake()
    driver.complete(complete_workflow(payloads("one")))
    second = following(driver)
    assert driver.history[-1].workflow_execution_completed_event_attributes.new_execution_run_id
    assert started(second).last_completion_result == payloads("one")
    assert started(second).first_workflow_task_backoff == duration(10)
    second.wake()
    second.complete(fail_workflow(application_failure("two")))
    third = following(second)
    assert started(third).last_completion_result == payloads("one")
    assert started(third).continued_failure == application_failure("two")
    assert started(third).input == payloads("in")
    third.wake()
    third.complete(complete_workflow())
    assert not started(following(third)).HasField("last_completion_result")


def test_a_schedule_goes_on_after_the_last_attempt_of_a_retry() -> None:
    policy = retry_policy(initial_s=5, coefficient=1, attempts=2)
    driver = begun(cron_schedule="@every 60s", retry_policy=policy)
    driver.wake()
    driver.complete(fail_workflow(application_failure("one")))
    second = following(driver)
    assert (started(second).attempt, started(second).initiator) == (2, chain.BY_RETRY)
    second.wake()
    second.complete(fail_workflow(application_failure("two")))
    third = following(second)
    assert (started(third).attempt, started(third).initiator) == (1, chain.BY_CRON)


def test_times_that_pass_while_a_run_is_open_are_left_out() -> None:
    driver = begun(cron_schedule="@every 10s")
    driver.wake()
    driver.sleep(25)
    driver.complete(complete_workflow())
    assert started(following(driver)).first_workflow_task_backoff == duration(5)
