"""What a start leaves on a run that was open: when its event is written, and how the request is remembered."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.errors import InvalidArgumentError
from perdure.core.run import options
from perdure.core.run.transition import Transition
from tests.support.builders import complete_workflow
from tests.support.proto import common, workflow
from tests.unit.core.driver import Driver, begun

LINK = common.Link(batch_job=common.Link.BatchJob(job_id="job"))


def attach(driver: Driver, request_id: str = "request") -> None:
    """Attaches a request and a link."""
    driver.apply(lambda tx: options.attach(tx, request_id=request_id, links=[LINK]))


def test_an_attachment_is_written_at_once_and_calls_for_no_workflow_task() -> None:
    driver = begun()
    driver.complete()
    attach(driver)
    event = driver.last("WORKFLOW_EXECUTION_OPTIONS_UPDATED")
    assert event.worker_may_ignore
    assert event.workflow_execution_options_updated_event_attributes.attached_request_id == "request"
    assert list(event.links) == [LINK]
    assert driver.state.attached_requests == {"request": event.event_id}
    assert not driver.header.has_pending_task


def test_during_a_workflow_task_it_waits_and_gets_its_event_with_the_flush() -> None:
    driver = begun()
    driver.poll()
    attach(driver)
    assert driver.state.attached_requests == {"request": 0}
    assert driver.types(3) == []
    driver.respond()
    event = driver.last("WORKFLOW_EXECUTION_OPTIONS_UPDATED")
    assert driver.state.attached_requests == {"request": event.event_id}


def test_a_closed_run_still_knows_the_request() -> None:
    driver = begun()
    attach(driver)
    driver.complete(complete_workflow())
    assert driver.state.attached_requests == {"request": 3}


def test_links_alone_are_recorded_without_a_request() -> None:
    driver = begun()
    attach(driver, "")
    assert driver.state.attached_requests == {}
    assert list(driver.last("WORKFLOW_EXECUTION_OPTIONS_UPDATED").links) == [LINK]


# --- changed options


def update(driver: Driver, *paths: str, **fields: Any) -> workflow.WorkflowExecutionOptions:
    """Changes options; returns all."""
    wanted = workflow.WorkflowExecutionOptions(**fields)
    found: list[workflow.WorkflowExecutionOptions] = []
    driver.apply(lambda tx: found.append(options.update(tx, wanted, set(paths), "operator")))
    return found[0]


def test_changed_options_are_the_runs_and_one_event_says_all_of_them() -> None:
    """A later event repeats what an earlier one set: each is the whole truth."""
    driver = begun()
    update(driver, "priority", priority=common.Priority(priority_key=2))
    override = workflow.VersioningOverride(auto_upgrade=True)
    after = update(driver, "versioning_override", versioning_override=override)
    assert after.priority.priority_key == 2
    attributes = driver.last(
        "WORKFLOW_EXECUTION_OPTIONS_UPDATED"
    ).workflow_execution_options_updated_event_attributes
    assert attributes.priority.priority_key == 2
    assert attributes.versioning_override == override
    assert options.of(driver.header) == after


def test_options_that_are_what_they_were_leave_no_event() -> None:
    """A repeated request writes nothing."""
    driver = begun()
    update(driver, "priority", priority=common.Priority(priority_key=2))
    last = driver.header.next_event_id
    update(driver, "priority", priority=common.Priority(priority_key=2))
    assert driver.header.next_event_id == last


def test_only_named_options_change_and_what_is_named_without_value_is_taken_away() -> None:
    """The field mask decides, down to parts of the priority."""
    driver = begun()
    update(driver, "priority", priority=common.Priority(priority_key=2))
    part = update(driver, "priority.fairness_key", priority=common.Priority(fairness_key="k", priority_key=5))
    assert (part.priority.priority_key, part.priority.fairness_key) == (2, "k")
    gone = update(driver, "priority")
    assert not gone.HasField("priority")
    assert driver.header.priority == b""


@pytest.mark.parametrize(
    "paths",
    [
        ("versioning_override.behavior",),
        ("versioning_override.auto_upgrade",),
        ("versioning_override.pinned.version",),
    ],
)
def test_a_versioning_override_changes_as_a_whole(paths: tuple[str, ...]) -> None:
    """Half of one makes no sense."""
    with pytest.raises(InvalidArgumentError):
        update(begun(), *paths)


def test_an_attachment_changes_no_options() -> None:
    """Both are the same type of event."""
    driver = begun()
    update(driver, "priority", priority=common.Priority(priority_key=2))
    before = driver.header.priority
    attach(driver)
    event = driver.last("WORKFLOW_EXECUTION_OPTIONS_UPDATED")
    tx = Transition(driver.state, driver.now_ns)
    options.take(tx, event.workflow_execution_options_updated_event_attributes)
    assert tx.header.priority == before
