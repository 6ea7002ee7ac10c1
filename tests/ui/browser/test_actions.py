"""Every action of the UI, in a real browser: what it does is seen in the run, a schedule, a batch or the server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

from perdure.api.common.v1 import Payload, Payloads, WorkflowExecution
from perdure.api.workflowservice.v1 import DeleteWorkflowExecutionRequest, DescribeWorkflowExecutionResponse
from tests.ui.application import Broken, Item, Nap, Order, Stuck
from tests.ui.browser.conftest import Visitor
from tests.ui.stage import Stage

pytestmark = pytest.mark.serial


def _begin(stage: Stage, workflow: Any, *arguments: Any) -> str:
    """A run for one test."""
    workflow_id = f"run-{uuid4().hex[:8]}"
    stage.wait(stage.begin(workflow, workflow_id, *arguments))
    return workflow_id


def _described(stage: Stage, workflow_id: str) -> DescribeWorkflowExecutionResponse:
    return stage.wait(stage.client.get_workflow_handle(workflow_id).describe()).raw_description


def _until(
    stage: Stage, workflow_id: str, condition: Callable[[DescribeWorkflowExecutionResponse], bool]
) -> None:
    """Waits until what the server says of a run fulfils a condition."""

    async def holds() -> bool:
        return condition((await stage.client.get_workflow_handle(workflow_id).describe()).raw_description)

    stage.wait(stage.until(holds))


def _fill(page: Page, **fields: str) -> None:
    for name, text in fields.items():
        page.locator(f"[name={name}]").fill(text)


def _send(page: Page, button: str, done: str) -> None:
    page.get_by_role("button", name=button, exact=True).click()
    expect(page.locator(".done")).to_contain_text(done)


def test_a_workflow_is_started_and_one_like_it(visitor: Visitor) -> None:
    page = visitor.open("/start-workflow")
    workflow_id = f"by-hand-{uuid4().hex[:6]}"
    _fill(
        page,
        workflow_id=workflow_id,
        workflow_type="Stuck",
        task_queue="orders",
        input='"aisle 1" "too much"',
    )
    page.locator("[name=input]").fill('"aisle')
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator(".field-error")).to_contain_text("No JSON in line 1")
    expect(page.locator("[name=workflow_id]")).to_have_value(workflow_id)
    visitor.expect_refusal(400)
    visitor.check_access()
    visitor.shoot("start-with-mistake")
    _fill(page, input='"aisle 1"')
    _send(page, "Start", "was started")
    page.locator("summary", has_text="Actions").click()
    page.get_by_role("link", name="Start like this").click()
    expect(page.locator("[name=input]")).to_have_value('"aisle 1"')
    expect(page.locator("[name=workflow_type]")).to_have_value("Stuck")
    _send(page, "Start", "was started")


def test_a_signal_and_an_update_arrive_and_a_query_answers(visitor: Visitor) -> None:
    stage = visitor.stage
    workflow_id = _begin(stage, Order.run, Item("chair"))
    handle = stage.client.get_workflow_handle(workflow_id)
    stage.wait(stage.status_is(handle, "waiting for the delivery"))
    page = visitor.open(stage.page_of(workflow_id, "queries"))
    page.get_by_role("link", name="status").click()
    expect(page.locator(".value")).to_contain_text("waiting for the delivery")
    visitor.open(stage.page_of(workflow_id, "actions", "update"))
    _fill(page, name="change_address", input='""')
    page.get_by_role("button", name="Send update").click()
    expect(page.locator(".field-error")).to_contain_text("an address is needed")
    visitor.expect_refusal(400)
    _fill(page, input='"Harbour 3"')
    _send(page, "Send update", "Main Street 1")
    visitor.open(stage.page_of(workflow_id, "actions", "signal"))
    _fill(page, name="delivered")
    _send(page, "Send signal", "was sent")
    assert stage.wait(handle.result()) == "chair delivered to Harbour 3"


@pytest.mark.parametrize(
    ("action", "button", "done", "status"),
    [
        ("cancel", "Request cancellation", "Cancellation was requested", "Canceled"),
        ("terminate", "Terminate", "was terminated", "Terminated"),
    ],
)
def test_a_run_is_ended(visitor: Visitor, action: str, button: str, done: str, status: str) -> None:
    workflow_id = _begin(visitor.stage, Nap.run)
    page = visitor.open(visitor.stage.page_of(workflow_id))
    page.locator("summary", has_text="Actions").click()
    page.get_by_role("link", name=action.capitalize(), exact=True).click()
    _fill(page, reason="no longer needed")
    _send(page, button, done)
    expect(page.locator("#status")).to_contain_text(status)


def test_a_run_is_paused_and_goes_on(visitor: Visitor) -> None:
    workflow_id = _begin(visitor.stage, Nap.run)
    page = visitor.open(visitor.stage.page_of(workflow_id, "actions", "pause"))
    _fill(page, reason="maintenance")
    _send(page, "Pause", "is paused")
    expect(page.locator("#hints")).to_contain_text("maintenance")
    page.locator("summary", has_text="Actions").click()
    page.get_by_role("link", name="Unpause").click()
    _send(page, "Unpause", "goes on")
    assert not _described(visitor.stage, workflow_id).workflow_extended_info.HasField("pause_info")


def test_a_failed_run_is_retried_from_the_failed_step(visitor: Visitor) -> None:
    stage = visitor.stage
    workflow_id = _begin(stage, Broken.run, "aisle 2")
    _until(stage, workflow_id, lambda described: described.workflow_execution_info.HasField("close_time"))
    page = visitor.open(stage.page_of(workflow_id))
    page.get_by_role("link", name="Retry from the failed step").first.click()
    expect(page.locator("[name=event_id]")).to_have_value("4")
    _send(page, "Retry", "A new run goes on from event 4")
    assert stage.run_ids[workflow_id] not in page.url
    visitor.open(stage.page_of(workflow_id, "history"))
    page.locator("#event-4 summary").click()
    page.get_by_role("link", name="Retry from here").click()
    _fill(page, event_id="9999")
    page.get_by_role("button", name="Reset", exact=True).click()
    expect(page.locator(".problem")).to_be_visible()
    visitor.expect_refusal(400)


def test_an_activity_is_paused_changed_reset_and_goes_on(visitor: Visitor) -> None:
    stage = visitor.stage
    workflow_id = _begin(stage, Stuck.run, "aisle 3")
    _until(
        stage, workflow_id, lambda described: any(one.attempt >= 3 for one in described.pending_activities)
    )
    page = visitor.open(stage.page_of(workflow_id))
    page.locator("#pending").get_by_role("link", name="Pause").click()
    _send(page, "Pause", "is paused")
    assert _described(stage, workflow_id).pending_activities[0].paused
    page.locator("#pending").get_by_role("link", name="Options").click()
    _fill(page, start_to_close_timeout="7s", maximum_attempts="50")
    _send(page, "Change", "has the new options")
    options = _described(stage, workflow_id).pending_activities[0].activity_options
    assert options.start_to_close_timeout.ToSeconds() == 7
    page.locator("#pending").get_by_role("link", name="Unpause").click()
    _send(page, "Unpause", "goes on")
    page.locator("#pending").get_by_role("link", name="Reset").click()
    _send(page, "Reset", "attempt 1")


def test_a_run_is_deleted(visitor: Visitor) -> None:
    workflow_id = _begin(visitor.stage, Nap.run)
    page = visitor.open(visitor.stage.page_of(workflow_id, "actions", "delete"))
    _send(page, "Delete for ever", "is being deleted")


def test_selected_runs_are_terminated_in_a_batch_that_shows_its_progress(visitor: Visitor) -> None:
    stage = visitor.stage
    names = [_begin(stage, Nap.run) for _ in range(3)]
    page = visitor.open("/workflows")
    for name in names[:2]:
        page.get_by_label(f"Select {name}").check()
    page.get_by_role("button", name="Batch for 2 selected").click()
    page.locator("[name=operation]").select_option("terminate")
    _send(page, "Start batch", "2 runs matched")
    expect(page.locator("#batch")).to_contain_text("2 of 2 runs done")
    expect(page.locator("#batch")).to_contain_text("Completed")
    visitor.check_access()
    visitor.shoot("batch")
    assert not _described(stage, names[2]).workflow_execution_info.HasField("close_time")
    visitor.open("/start-batch")
    page.get_by_role("button", name="Start batch").click()
    expect(page.locator(".field-error")).to_contain_text("every run of the namespace")
    visitor.expect_refusal(400)


@pytest.mark.parametrize("operation", ["cancel", "signal", "reset", "delete"])
def test_a_batch_of_every_kind_does_it_to_all_that_match(visitor: Visitor, operation: str) -> None:
    """From the form to the end of the batch; what became of the runs is asked of the server."""
    stage = visitor.stage
    mark = f"batch-{uuid4().hex[:6]}"
    for number in range(2):
        stage.wait(stage.begin(Nap.run, f"{mark}-{number}"))
        _until(stage, f"{mark}-{number}", lambda described: _length(described) >= 10)
    page = visitor.open("/start-batch")
    page.locator("[name=operation]").select_option(operation)
    _fill(page, query=f"WorkflowId STARTS_WITH '{mark}'", reason="by hand", signal="poke")
    _send(page, "Start batch", "2 runs matched")
    expect(page.locator("#batch")).to_contain_text("2 of 2 runs done")
    expect(page.locator("#batch")).to_contain_text("Completed")
    ended = {"cancel": "Canceled", "reset": "Terminated", "signal": "Running"}.get(operation)
    if ended:
        stage.wait(stage.until(lambda: _has_status(stage, stage.run_ids[f"{mark}-1"], ended)))
    else:
        stage.wait(stage.until(lambda: _is_gone(stage, mark)))


async def _has_status(stage: Stage, run_id: str, status: str) -> bool:
    query = f"RunId = '{run_id}' AND ExecutionStatus = '{status}'"
    return (await stage.client.count_workflows(query)).count == 1


async def _is_gone(stage: Stage, mark: str) -> bool:
    return (await stage.client.count_workflows(f"WorkflowId STARTS_WITH '{mark}'")).count == 0


def _length(described: DescribeWorkflowExecutionResponse) -> int:
    return int(described.workflow_execution_info.history_length)


def test_a_batch_is_stopped(visitor: Visitor) -> None:
    """A slow one, from the list of batches."""
    mark = f"slow-{uuid4().hex[:6]}"
    # One a second: it is far from its end when it is stopped.
    for number in range(60):
        visitor.stage.wait(
            visitor.stage.begin(Nap.run, f"{mark}-{number}", task_queue="a-queue-nobody-polls")
        )
    page = visitor.open("/start-batch")
    page.locator("[name=operation]").select_option("cancel")
    _fill(page, query=f"WorkflowId STARTS_WITH '{mark}'", reason="too early", pace="1")
    _send(page, "Start batch", "60 runs matched")
    page.get_by_role("link", name="Stop").click()
    _fill(page, reason="a mistake")
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator(".done")).to_contain_text("stopped")
    # No other batch may start before this one has ended.
    expect(page.get_by_role("link", name="Stop")).to_have_count(0)
    # The tests of lists look for their runs on the first page.
    visitor.stage.wait(_delete(visitor.stage, [f"{mark}-{number}" for number in range(60)]))
    visitor.stage.wait(visitor.stage.until(lambda: _is_gone(visitor.stage, mark)))


async def _delete(stage: Stage, workflow_ids: list[str]) -> None:
    for workflow_id in workflow_ids:
        execution = WorkflowExecution(workflow_id=workflow_id)
        request = DeleteWorkflowExecutionRequest(namespace="default", workflow_execution=execution)
        await stage.client.workflow_service.delete_workflow_execution(request)


def test_a_run_goes_on_from_an_event_that_was_chosen_with_the_keys_alone(visitor: Visitor) -> None:
    """From the list to the run, to its history, to an event, and from there through the reset."""
    stage = visitor.stage
    workflow_id = _begin(stage, Nap.run)
    _until(stage, workflow_id, lambda described: _length(described) >= 10)
    page = visitor.open(f"/workflows?query=WorkflowId%3D'{workflow_id}'")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(workflow_id)
    # Pages are shown as they come, before the script that hears keys.
    page.wait_for_load_state()
    page.keyboard.press("h")
    expect(page.locator("#event-4")).to_be_visible()
    page.wait_for_load_state()
    for _ in range(4):
        page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Retry from here")).to_be_visible()
    while page.evaluate("document.activeElement.textContent") != "Retry from here":
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('#event-4') !== null")
    page.keyboard.press("Enter")
    expect(page.locator("[name=event_id]")).to_have_value("4")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Reset", exact=True).press("Enter")
    expect(page.locator(".done")).to_contain_text("A new run goes on from event 4")
    assert stage.run_ids[workflow_id] not in page.url
    page.wait_for_load_state()
    page.keyboard.press("a")
    expect(page.get_by_role("link", name="Send a signal")).to_be_focused()


def test_a_schedule_lives_through_all_its_actions(visitor: Visitor) -> None:
    page = visitor.open("/create-schedule")
    schedule_id = f"nightly-{uuid4().hex[:6]}"
    _fill(
        page,
        schedule_id=schedule_id,
        workflow_type="Nap",
        task_queue="orders",
        crons="0 3 * * *",
        intervals="soon",
    )
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.locator(".field-error")).to_contain_text("A duration is needed")
    visitor.expect_refusal(400)
    _fill(page, intervals="1d + 2h")
    _send(page, "Create", "was created")
    expect(page.locator("#schedule")).to_contain_text("every 1 d, offset 2 h")
    page.get_by_role("link", name="Pause").click()
    _fill(page, reason="holidays")
    _send(page, "Pause", "is paused")
    page.get_by_role("link", name="Unpause").click()
    _send(page, "Unpause", "goes on")
    page.get_by_role("link", name="Trigger").click()
    _send(page, "Trigger", "was taken")
    expect(page.locator("#schedule tbody tr")).to_have_count(1)
    page.get_by_role("link", name="Backfill").click()
    _fill(page, start="2026-01-02 00:00", end="2026-01-01 00:00")
    page.get_by_role("button", name="Backfill").click()
    expect(page.locator(".field-error")).to_contain_text("after the start")
    visitor.expect_refusal(400)
    _fill(page, end="2026-01-03 00:00")
    page.locator("[name=overlap]").select_option("ALLOW_ALL")
    _send(page, "Backfill", "being taken")
    page.get_by_role("link", name="Change").click()
    expect(page.locator("[name=crons]")).to_have_value("0 3 * * *")
    _fill(page, crons="30 4 * * *", notes="changed by hand")
    _send(page, "Save", "was changed")
    expect(page.locator("#schedule")).to_contain_text("cron 30 4 * * *")
    expect(page.locator("#schedule")).to_contain_text("changed by hand")
    visitor.check_access()
    page.get_by_role("link", name="Delete").click()
    _send(page, "Delete", "was deleted")


def test_search_attributes_namespaces_and_endpoints_are_made_and_changed(visitor: Visitor) -> None:
    name = f"Colour{uuid4().hex[:6]}"
    page = visitor.open("/add-search-attribute")
    _fill(page, name=name)
    _send(page, "Add", "was added")
    page.locator("tr", has_text=name).get_by_role("link", name="Remove").click()
    _send(page, "Remove", "was removed")
    url = visitor.stage.url
    visitor.open(f"{url}/create-namespace")
    _fill(page, name="second", description="the other one", retention="5d")
    _send(page, "Create", "was created")
    expect(page.locator("main")).to_contain_text("5 d")
    page.get_by_role("link", name="Change").click()
    _fill(page, description="renamed")
    _send(page, "Save", "was changed")
    expect(page.locator("main")).to_contain_text("renamed")
    visitor.open(f"{url}/create-nexus-endpoint")
    _fill(page, name="prices", description="What things cost")
    page.get_by_role("button", name="Create").click()
    expect(page.locator(".field-error")).to_contain_text("A task queue is needed")
    visitor.expect_refusal(400)
    _fill(page, task_queue="prices")
    _send(page, "Create", "was created")
    page.get_by_role("link", name="Change").click()
    expect(page.locator("[name=description]")).to_have_value("What things cost")
    _fill(page, task_queue="better-prices")
    _send(page, "Save", "was changed")
    expect(page.locator("main")).to_contain_text("better-prices")
    visitor.check_access()
    page.get_by_role("link", name="Remove").click()
    _send(page, "Remove", "was removed")


class _Codec(BaseHTTPRequestHandler):
    """A codec of the HTTP protocol that turns every byte around."""

    def do_POST(self) -> None:
        """Answers `/decode` and `/encode`."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        given = [self._payload(one) for one in body["payloads"]]
        is_decode = self.path.endswith("/decode")
        turned = [Payload.FromString(one.data[::-1]) if is_decode else self._encoded(one) for one in given]
        answer = json.dumps({"payloads": [self._json(one) for one in turned]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _payload(self, value: dict[str, Any]) -> Payload:
        from google.protobuf.json_format import ParseDict

        return ParseDict(value, Payload())

    def _encoded(self, one: Payload) -> Payload:
        return Payload(metadata={"encoding": b"binary/turned"}, data=one.SerializeToString()[::-1])

    def _json(self, one: Payload) -> dict[str, Any]:
        from google.protobuf.json_format import MessageToDict

        return dict(MessageToDict(one))

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def codec_url() -> Iterator[str]:
    """The address of a codec."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Codec)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_encrypted_payloads_are_read_and_written_through_a_codec(visitor: Visitor, codec_url: str) -> None:
    stage = visitor.stage
    page = visitor.open(f"{stage.url}/settings")
    _fill(page, codec_endpoint="not an address")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".field-error")).to_contain_text("must be an address")
    visitor.expect_refusal(400)
    _fill(page, codec_endpoint=codec_url)
    _send(page, "Save", "were saved")
    visitor.open("/start-workflow")
    workflow_id = f"secret-{uuid4().hex[:6]}"
    _fill(page, workflow_id=workflow_id, workflow_type="Nap", task_queue="nobody", input='"top secret"')
    _send(page, "Start", "was started")
    expect(page.locator(".value").first).to_have_text('"top secret"')
    stored = stage.wait(stage.client.get_workflow_handle(workflow_id).fetch_history()).events[0]
    found: Payloads = stored.workflow_execution_started_event_attributes.input
    assert found.payloads[0].metadata["encoding"] == b"binary/turned"
    assert b"top secret" not in found.payloads[0].data
    visitor.open(f"{stage.url}/settings")
    _fill(page, codec_endpoint="http://127.0.0.1:9")
    _send(page, "Save", "were saved")
    visitor.open(f"/workflows/{workflow_id}")
    expect(page.locator(".problem")).to_contain_text("cannot be reached")
    expect(page.locator(".note", has_text="binary/turned").first).to_be_visible()
    visitor.shoot("codec-unreachable")


def test_an_access_token_is_kept_out_of_reach_of_scripts(visitor: Visitor) -> None:
    page = visitor.open(f"{visitor.stage.url}/settings")
    _fill(page, token="abc")
    _send(page, "Save token", "is sent with every call")
    assert page.evaluate("document.cookie") == ""
    kept = {cookie.get("name"): cookie for cookie in visitor.context.cookies()}
    assert kept["perdure_ui_token"].get("sameSite") == "Strict"
    _send(page, "Save token", "was forgotten")
