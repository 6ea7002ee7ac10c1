"""The demonstration of `make demo` runs to its end and proves what it claims."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from examples.order_demo.activities import OrderActivities
from examples.order_demo.ledger import EFFECT, Ledger
from examples.order_demo.models import STATUS_OVERDUE, TASK_QUEUE, Order
from examples.order_demo.workflows import OrderWorkflow
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker
from tests.support.target import target_executable

pytestmark = pytest.mark.serial

REPOSITORY: Final = Path(__file__).resolve().parents[2]
DEMO_TIMEOUT_S: Final = 90.0
CHECKS: Final = 9


@pytest.fixture(
    scope="module",
    params=[pytest.param([], id="embedded"), pytest.param(["--server", target_executable()], id="server")],
)
def demonstration(request: pytest.FixtureRequest) -> subprocess.CompletedProcess[str]:
    """One run of the demonstration, shared by the tests that look at it."""
    command = [sys.executable, "-m", "examples.order_demo", *request.param]
    return subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=DEMO_TIMEOUT_S, check=False
    )


def test_demo_succeeds_and_every_check_held(demonstration: subprocess.CompletedProcess[str]) -> None:
    """Exit code 0, and each named check is reported as held."""
    assert demonstration.returncode == 0, demonstration.stdout + demonstration.stderr
    held = re.findall(r"^  ok    ", demonstration.stdout, re.MULTILINE)
    assert len(held) == CHECKS
    assert "FAIL" not in demonstration.stdout


def test_demo_kills_everything_before_the_order_completes(
    demonstration: subprocess.CompletedProcess[str],
) -> None:
    """The kills are in the timeline, after the charge and before the completion."""
    timeline = demonstration.stdout.partition("The event history of")[2]
    order = [
        timeline.index(text)
        for text in (
            "charge_card: done",
            "SIGKILL to ",
            "notify_customer: attempt 2 (attempt 1 ended with: heartbeat timeout)",
            "WorkflowExecutionCompleted",
        )
    ]
    assert order == sorted(order)


def test_demo_fails_when_the_server_does_not_start() -> None:
    """A server that ends at once makes the demonstration fail with a message and exit code 1."""
    command = [sys.executable, "-m", "examples.order_demo", "--server", "/bin/false"]
    run = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=DEMO_TIMEOUT_S, check=False
    )
    assert run.returncode == 1
    assert "the server ended with exit code 1" in run.stderr


def test_order_that_is_not_delivered_in_time_ends_as_overdue(tmp_path: Path) -> None:
    """Without the signal the timeout decides, and the customer is told."""
    ledger = Ledger(tmp_path / "ledger.jsonl")

    async def scenario() -> None:
        activities = OrderActivities(ledger)
        order = Order("order-1", "Ada", 100, delivery_timeout_s=3600)
        async with (
            await WorkflowEnvironment.start_time_skipping() as env,
            Worker(
                env.client,
                task_queue=TASK_QUEUE,
                workflows=[OrderWorkflow],
                activities=[activities.charge_card, activities.notify_customer],
            ),
        ):
            result = await env.client.execute_workflow(
                OrderWorkflow.run, order, id=order.order_id, task_queue=TASK_QUEUE
            )
        assert result.status == STATUS_OVERDUE
        assert ledger.count(EFFECT, f"{order.order_id}/overdue") == 1
        assert ledger.count(EFFECT, f"{order.order_id}/delivered") == 0

    asyncio.run(scenario())
