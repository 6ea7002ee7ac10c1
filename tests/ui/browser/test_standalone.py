"""Activities and Nexus operations that no workflow started, and worker deployments, in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from uuid import uuid4

import pytest
from playwright.sync_api import expect

from perdure.api.nexus.v1 import EndpointSpec, EndpointTarget
from perdure.api.operatorservice.v1 import CreateNexusEndpointRequest
from perdure.api.workflowservice.v1 import (
    DescribeWorkerDeploymentRequest,
    DescribeWorkerDeploymentResponse,
)
from perdure.common import RetryPolicy, VersioningBehavior, WorkerDeploymentVersion
from perdure.service import RPCError
from perdure.worker import Worker, WorkerDeploymentConfig
from tests.ui.application import QUEUE, Item, Nap, charge, never_works, reserve
from tests.ui.browser.conftest import Visitor
from tests.ui.stage import Stage

pytestmark = pytest.mark.serial
MINUTE = timedelta(minutes=1)
NOBODY = "queue-that-nobody-polls"


def _failing(stage: Stage) -> str:
    """An activity that fails again and again, seen to have failed."""
    activity_id = f"stuck-{uuid4().hex[:6]}"

    async def begin() -> None:
        policy = RetryPolicy(
            initial_interval=timedelta(milliseconds=50), maximum_interval=5 * MINUTE, backoff_coefficient=90
        )
        handle = await stage.client.start_activity(
            never_works,
            "aisle 3",
            id=activity_id,
            task_queue=QUEUE,
            start_to_close_timeout=MINUTE,
            retry_policy=policy,
        )

        async def has_failed() -> bool:
            return (await handle.describe()).attempt >= 2

        await stage.until(has_failed)

    stage.wait(begin())
    return activity_id


def test_standalone_activities_are_listed_and_one_shows_its_result(visitor: Visitor) -> None:
    """From the list, by its filter, to an activity's input and result."""
    activity_id = f"done-{uuid4().hex[:6]}"
    visitor.stage.wait(
        visitor.stage.client.execute_activity(
            reserve, Item("lamp"), id=activity_id, task_queue=QUEUE, start_to_close_timeout=MINUTE
        )
    )
    page = visitor.open("/activities")
    page.locator("#query").fill("ActivityType = 'reserve'")
    page.get_by_role("button", name="Filter", exact=True).click()
    expect(page.locator(".counts")).to_contain_text("completed")
    visitor.check_access()
    visitor.shoot("activities")
    page.get_by_role("link", name=activity_id).click()
    expect(page.locator("#result")).to_contain_text("reserved lamp")
    expect(page.locator("main")).to_contain_text("lamp")
    visitor.check_access()
    visitor.shoot("activity")


def test_a_wrong_filter_of_activities_is_explained(visitor: Visitor) -> None:
    """The list stays, with the mistake below the filter."""
    page = visitor.open("/activities?query=Nonsense%20%3D%201")
    expect(page.locator("#query-problem")).to_contain_text("Nonsense")
    visitor.expect_refusal(400)


def test_an_activity_is_started_by_hand(visitor: Visitor) -> None:
    """A mistake is told beside its field, then the activity runs on the stage's worker."""
    page = visitor.open("/start-activity")
    page.locator("[name=activity_type]").fill("quick")
    page.locator("[name=task_queue]").fill(QUEUE)
    page.locator("[name=input]").fill("21")
    page.locator("[name=start_to_close_timeout]").fill("")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator(".field-error")).to_contain_text("is needed")
    visitor.expect_refusal(400)
    visitor.check_access()
    page.locator("[name=start_to_close_timeout]").fill("1m")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator(".done")).to_contain_text("was started")
    expect(page.locator("#result")).to_contain_text("42")


def test_a_standalone_activity_lives_through_all_its_actions(visitor: Visitor) -> None:
    """Pause, other options, unpause, reset, cancel by request, terminate, delete."""
    activity_id = _failing(visitor.stage)
    page = visitor.open(f"/activities/{activity_id}")
    expect(page.locator("#result")).to_contain_text("aisle 3: the warehouse does not answer")
    visitor.shoot("activity-stuck")

    def act(link: str, button: str, done: str, **fields: str) -> None:
        page.locator("#actions").get_by_role("link", name=link, exact=True).click()
        for name, text in fields.items():
            page.locator(f"[name={name}]").fill(text)
        page.get_by_role("button", name=button, exact=True).click()
        expect(page.locator(".done")).to_contain_text(done)

    act("Pause", "Pause", "It is paused", reason="looking")
    expect(page.locator("#actions")).to_contain_text("Unpause")
    act("Options", "Change", "new options", start_to_close_timeout="33s", maximum_attempts="50")
    expect(page.locator("#one")).to_contain_text("of 50")
    act("Unpause", "Unpause", "It goes on")
    act("Reset", "Reset", "attempt 1")
    act("Cancel", "Request cancellation", "requested", reason="no longer needed")
    page = visitor.open(f"/activities/{_failing(visitor.stage)}")
    act("Terminate", "Terminate", "terminated", reason="enough")
    expect(page.locator("#status")).to_contain_text("Terminated")
    expect(page.locator("#actions")).not_to_contain_text("Pause")
    act("Delete", "Delete", "was deleted")


@pytest.fixture
def endpoint(stage: Stage) -> str:
    """An endpoint whose operations wait, because no worker serves it."""
    name = f"endpoint-{uuid4().hex[:6]}"
    target = EndpointTarget(worker=EndpointTarget.Worker(namespace="default", task_queue=NOBODY))
    request = CreateNexusEndpointRequest(spec=EndpointSpec(name=name, target=target))
    stage.wait(stage.client.operator_service.create_nexus_endpoint(request))
    return name


def test_a_standalone_operation_is_shown_and_ended(visitor: Visitor, endpoint: str) -> None:
    """List, page, cancel, terminate, delete of a Nexus operation that waits for a worker."""
    operation_id = f"operation-{uuid4().hex[:6]}"

    async def begin() -> None:
        nexus = visitor.stage.client.create_nexus_client("billing", endpoint)
        await nexus.start_operation("charge", 5, id=operation_id, schedule_to_close_timeout=60 * MINUTE)

    visitor.stage.wait(begin())
    page = visitor.open("/nexus-operations")
    page.get_by_role("link", name=operation_id).click()
    expect(page.locator("#one")).to_contain_text("billing.charge")
    expect(page.locator("#one")).to_contain_text(endpoint)
    visitor.check_access()
    visitor.shoot("nexus-operation")
    visitor.open(f"/nexus-operations/{operation_id}")
    for link, button, done in (
        ("Cancel", "Request cancellation", "requested"),
        ("Terminate", "Terminate", "terminated"),
        ("Delete", "Delete", "was deleted"),
    ):
        page.locator("#actions").get_by_role("link", name=link, exact=True).click()
        page.get_by_role("button", name=button, exact=True).click()
        expect(page.locator(".done")).to_contain_text(done)


@pytest.fixture
def deployment(stage: Stage) -> Iterator[str]:
    """A deployment with the versions blue and green, a worker of each polling."""
    name = f"shop-{uuid4().hex[:6]}"
    workers = AsyncExitStack()

    async def begin() -> None:
        for build_id in ("blue", "green"):
            config = WorkerDeploymentConfig(
                WorkerDeploymentVersion(name, build_id), True, VersioningBehavior.PINNED
            )
            await workers.enter_async_context(
                Worker(
                    stage.client,
                    task_queue=name,
                    workflows=[Nap],
                    activities=[charge],
                    deployment_config=config,
                )
            )
        await stage.until(lambda: _is_registered(stage, name))

    stage.wait(begin())
    yield name
    stage.wait(workers.aclose())


async def _is_registered(stage: Stage, name: str) -> bool:
    try:
        return len((await _deployed(stage, name)).worker_deployment_info.version_summaries) == 2
    except RPCError:
        return False  # the first poll makes it


async def _deployed(stage: Stage, name: str) -> DescribeWorkerDeploymentResponse:
    request = DescribeWorkerDeploymentRequest(namespace="default", deployment_name=name)
    answer: DescribeWorkerDeploymentResponse = await stage.client.workflow_service.describe_worker_deployment(
        request
    )
    return answer


def test_a_deployment_gets_a_current_and_a_ramping_version(visitor: Visitor, deployment: str) -> None:
    """Set current, ramp another one, end the ramp; what the server then routes is asked of the server."""

    def routing(read: Callable[[DescribeWorkerDeploymentResponse], object]) -> object:
        return read(visitor.stage.wait(_deployed(visitor.stage, deployment)))

    page = visitor.open("/deployments")
    page.get_by_role("link", name=deployment).click()
    page.locator("tr", has_text="blue").get_by_role("link", name="Set current").click()
    expect(page.locator("[name=build_id]")).to_have_value("blue")
    page.get_by_role("button", name="Set current", exact=True).click()
    expect(page.locator(".done")).to_contain_text("“blue” is current")
    page.locator("tr", has_text="green").get_by_role("link", name="Ramp").click()
    page.locator("[name=percentage]").fill("101")
    page.get_by_role("button", name="Set ramping", exact=True).click()
    expect(page.locator(".field-error")).to_contain_text("100")
    visitor.expect_refusal(400)
    page.locator("[name=percentage]").fill("25")
    page.get_by_role("button", name="Set ramping", exact=True).click()
    expect(page.locator(".done")).to_contain_text("gets 25 %")
    visitor.check_access()
    visitor.shoot("deployment")
    assert routing(
        lambda found: found.worker_deployment_info.routing_config.ramping_version_percentage
    ) == pytest.approx(25)
    page.get_by_role("link", name="Set ramping").click()
    page.locator("[name=build_id]").fill("")
    page.get_by_role("button", name="Set ramping", exact=True).click()
    expect(page.locator(".done")).to_contain_text("No version is ramping")
    config = routing(lambda found: found.worker_deployment_info.routing_config)
    assert not config.HasField("ramping_deployment_version")  # type: ignore[attr-defined]
    assert config.current_deployment_version.build_id == "blue"  # type: ignore[attr-defined]
