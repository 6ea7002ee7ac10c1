"""What a start leaves on a run that was open: when its event is written, and how the request is remembered."""

from __future__ import annotations

from perdure.core.run import options
from tests.support.builders import complete_workflow
from tests.support.proto import common
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
