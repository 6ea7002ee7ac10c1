"""Worker deployments without a server: what changes them, and where the tasks of a queue go."""

from __future__ import annotations

import pytest

from perdure.core.deployment import changes
from perdure.core.deployment.routes import UNVERSIONED, Route, Routes, queue_name, version_text
from perdure.core.deployment.state import Deployment, routes
from perdure.core.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from perdure.core.run.records import TaskKind

QUEUE = ("orders", int(TaskKind.WORKFLOW))
WORKFLOWS = [f"workflow-{number}" for number in range(2_000)]


def deployed(*build_ids: str) -> Deployment:
    """A deployment whose versions were all polled on the queue."""
    deployment = Deployment(created_ns=1)
    for now_ns, build_id in enumerate(build_ids, 1):
        deployment = changes.registered("shop", deployment, build_id, QUEUE, now_ns)
    return deployment


def route_of(deployment: Deployment) -> Route:
    """Where the queue's tasks go."""
    return routes([("shop", deployment)]).route("orders", TaskKind.WORKFLOW)


def test_until_a_version_is_current_tasks_go_to_workers_without_one() -> None:
    """Deploying workers alone moves nothing."""
    assert route_of(deployed("1")).target("any") == (UNVERSIONED, 0)


def test_the_current_version_gets_the_tasks_and_the_one_before_ceases_to_be_current() -> None:
    """One at a time."""
    first = changes.set_current("shop", deployed("1", "2"), "1", 10, identity="op")
    second = changes.set_current("shop", first, "2", 20, identity="op", token=first.token)
    assert route_of(first).target("any") == ("shop:1", 1)
    assert route_of(second).target("any") == ("shop:2", 2)
    assert (second.versions["1"].current_since_ns, second.versions["1"].last_deactivation_ns) == (0, 20)
    assert changes.set_current("shop", second, "2", 30, identity="op") is second


@pytest.mark.parametrize("percentage", [0.0, 1.0, 37.5, 100.0])
def test_a_ramp_gets_its_share_and_always_the_same_workflows(percentage: float) -> None:
    """By the hash of the workflow's id."""
    deployment = changes.set_current("shop", deployed("1", "2"), "1", 10, identity="op")
    route = route_of(changes.set_ramping("shop", deployment, "2", percentage, 20, identity="op"))
    chosen = {workflow for workflow in WORKFLOWS if route.target(workflow)[0] == "shop:2"}
    assert abs(len(chosen) / len(WORKFLOWS) * 100 - percentage) < 3
    more = route_of(
        changes.set_ramping("shop", deployment, "2", min(percentage + 10, 100), 20, identity="op")
    )
    assert all(more.target(workflow)[0] == "shop:2" for workflow in chosen)
    assert route.target("any", prefers_ramp=True)[0] == "shop:2"


def test_a_ramping_version_that_becomes_current_ramps_no_more() -> None:
    """And gets all."""
    deployment = changes.set_current("shop", deployed("1", "2"), "1", 10, identity="op")
    deployment = changes.set_ramping("shop", deployment, "2", 50, 20, identity="op")
    deployment = changes.set_current("shop", deployment, "2", 30, identity="op")
    assert (deployment.ramping, deployment.percentage) == (None, 0.0)
    assert {route_of(deployment).target(workflow)[0] for workflow in WORKFLOWS} == {"shop:2"}


def test_a_queue_follows_the_deployment_that_changed_last() -> None:
    """A queue may move from one deployment to another."""
    older = changes.set_current("shop", deployed("1"), "1", 10, identity="op")
    newer = changes.set_current("mart", deployed("1"), "1", 20, identity="op")
    for order in ([("shop", older), ("mart", newer)], [("mart", newer), ("shop", older)]):
        assert routes(order).route("orders", TaskKind.WORKFLOW).current == "mart:1"


def test_what_leads_to_a_version_is_stronger_than_what_leads_to_none() -> None:
    """However new that is; among those that lead to none the newest counts, also one that ended a ramp."""
    shop = changes.set_ramping("shop", deployed("1"), "1", 30, 10, identity="op")
    mart = changes.set_current("mart", deployed("1"), "1", 20, identity="op")
    mart = changes.set_ramping("mart", mart, "", 50, 30, identity="op")
    over = changes.set_ramping("shop", shop, None, 0, 40, identity="op")
    for first, wanted in ((shop, ("mart:1", "shop:1", 30)), (over, ("mart:1", UNVERSIONED, 0))):
        for order in ([("shop", first), ("mart", mart)], [("mart", mart), ("shop", first)]):
            route = routes(order).route("orders", TaskKind.WORKFLOW)
            assert (route.current, route.ramping, route.percentage) == wanted


def test_workers_without_version_are_current_again_by_a_revision() -> None:
    """A pinned run is told of it."""
    deployment = changes.set_current("shop", deployed("1"), "1", 10, identity="op")
    deployment = changes.set_current("shop", deployment, "", 20, identity="op")
    assert route_of(deployment).target("any") == (UNVERSIONED, 2)


def test_queues_have_one_order_in_every_process() -> None:
    """Tasks are sent on queue by queue: in an order of their hashes, a seed of the simulation would be two runs."""
    queues = [(f"queue-{n}", int(TaskKind.WORKFLOW)) for n in range(20)]
    deployment = Deployment(created_ns=1)
    for now_ns, queue in enumerate(queues, 1):
        deployment = changes.registered("shop", deployment, "1", queue, now_ns)
    assert list(routes([("shop", deployment)]).by_queue) == sorted(queues)


def test_what_is_refused() -> None:
    """Each with the error that clients know."""
    deployment = changes.set_current("shop", deployed("1", "2"), "1", 10, identity="op")
    with pytest.raises(FailedPreconditionError, match="conflict token mismatch"):
        changes.set_current("shop", deployment, "2", 20, identity="op", token=b"another")
    with pytest.raises(NotFoundError, match="build ID '9' not found"):
        changes.set_current("shop", deployment, "9", 20, identity="op")
    with pytest.raises(FailedPreconditionError, match="already current"):
        changes.set_ramping("shop", deployment, "1", 5, 20, identity="op")
    with pytest.raises(FailedPreconditionError, match="current or ramping"):
        changes.without_version("shop", deployment, "1", identity="op")
    managed = changes.set_manager(deployment, "boss", 20, identity="boss", token=b"")
    with pytest.raises(FailedPreconditionError, match="ManagerIdentity 'boss'"):
        changes.set_current("shop", managed, "2", 30, identity="op")
    assert changes.set_current("shop", managed, "2", 30, identity="boss").current == "2"


def test_versions_and_queues_have_limits() -> None:
    """They are all in memory."""
    full = deployed(*(str(number) for number in range(changes.MAX_VERSIONS)))
    with pytest.raises(ResourceExhaustedError, match="maximum number of versions"):
        changes.registered("shop", full, "one more", QUEUE, 1)
    deployment = deployed("1")
    for number in range(1, changes.MAX_QUEUES):
        deployment = changes.registered("shop", deployment, "1", (f"queue {number}", 1), 1)
    with pytest.raises(ResourceExhaustedError, match="maximum number of task queues"):
        changes.registered("shop", deployment, "1", ("one more", 1), 1)
    again = changes.registered("shop", deployment, "1", (QUEUE[0], int(TaskKind.ACTIVITY)), 1)
    assert (
        len(again.versions["1"].queues) == changes.MAX_QUEUES + 1
    )  # a known name, polled for activities too


def test_a_version_that_is_active_again_was_not_deactivated() -> None:
    """The time of its last deactivation is of its present inactivity; that of its first activation stays."""
    deployment = changes.set_current("shop", deployed("1", "2"), "1", 10, identity="op")
    deployment = changes.set_current("shop", deployment, "2", 20, identity="op")
    assert deployment.versions["1"].last_deactivation_ns == 20
    for active in (
        changes.set_current("shop", deployment, "1", 30, identity="op"),
        changes.set_ramping("shop", deployment, "1", 5, 30, identity="op"),
    ):
        version = active.versions["1"]
        assert (version.last_deactivation_ns, version.first_activation_ns) == (0, 10)


def test_a_versions_part_of_a_queue_cannot_be_mistaken_for_another() -> None:
    """Names may hold any character."""
    names = [("a/b", "d:c"), ("a", "b/d:c"), ("a/b/d:c", ""), ("a", "d:b/c")]
    assert len({queue_name(name, version) for name, version in names}) == len(names)
    assert queue_name("orders", UNVERSIONED) == "orders"
    assert Routes().route("orders", TaskKind.WORKFLOW) == Route()
    assert version_text("shop", "1:2").partition(":")[0] == "shop"


def test_metadata_of_a_version_has_a_limit_over_all_requests() -> None:
    """Each request may be small: deployments are all in memory, so what they add up to counts."""
    deployment = deployed("1")
    half = b"x" * (changes.MAX_METADATA_BYTES // 2)
    deployment = changes.with_metadata("shop", deployment, "1", {"a": half}, (), "op")
    with pytest.raises(InvalidArgumentError, match="exceeds size limit"):
        changes.with_metadata("shop", deployment, "1", {"b": half}, (), "op")
    replaced = changes.with_metadata("shop", deployment, "1", {"b": half}, ("a",), "op")
    assert dict(replaced.versions["1"].metadata) == {"b": half}
    with pytest.raises(NotFoundError, match="build ID '2' not found in Worker Deployment 'shop'"):
        changes.with_metadata("shop", deployment, "2", {"b": half}, (), "op")
