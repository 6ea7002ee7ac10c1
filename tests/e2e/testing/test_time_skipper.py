"""Clocks of single workflows: on the official dev server, which has them, and refused where there are none."""

from __future__ import annotations

import sysconfig
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perdure import workflow
from perdure.client import WithStartWorkflowOperation
from perdure.common import WorkflowIDConflictPolicy
from perdure.service import RPCError, RPCStatusCode
from perdure.testing import FastForwardConfig, TimeSkipper, TimeSkippingConfig, WorkflowEnvironment
from perdure.worker import Worker
from tests.unit.server.support import run

QUEUE = "clocks"
HOUR = timedelta(hours=1)
_ENABLED = ["--dynamic-config-value", "frontend.WorkflowTimeSkippingEnabled=true"]


@workflow.defn
class Sleeper:
    """Sleeps twice, for an hour and for ten."""

    @workflow.run
    async def run(self) -> datetime:
        """The time at its end."""
        await workflow.sleep(HOUR)
        await workflow.sleep(10 * HOUR)
        return workflow.now()

    @workflow.update
    async def ask(self) -> str:
        """An answer."""
        return "yes"


# A program of its own, which takes seconds to start.
@pytest.mark.serial
def test_each_workflow_has_a_clock_of_its_own() -> None:
    """They skip by themselves, or as far as they are moved; one moves and the others do not."""

    async def scenario() -> None:
        server = Path(sysconfig.get_path("scripts")) / "temporal"
        async with (
            await WorkflowEnvironment.start_time_skipping_v2(
                dev_server_existing_path=str(server),
                dev_server_extra_args=_ENABLED,
                dev_server_log_level="error",
                dev_server_startup_timeout=timedelta(seconds=60),
            ) as env,
            Worker(env.client, task_queue=QUEUE, workflows=[Sleeper]),
        ):
            assert env.supports_time_skipping
            assert env.supports_time_skipping_v2
            assert not env.supports_time_skipping_v1
            begin = datetime.now(UTC)
            end = await env.client.execute_workflow(Sleeper.run, id="by-itself", task_queue=QUEUE)
            assert end - begin >= 11 * HOUR
            await _move(env)
            for refused in (lambda: env.sleep(1), lambda: env.get_current_time()):
                with pytest.raises(RuntimeError, match="Each workflow has its own time here"):
                    await refused()
            with pytest.raises(RuntimeError, match="with_time_skipping_disabled"):
                env.auto_time_skipping_disabled()

    run(scenario(), 90.0)


async def _move(env: WorkflowEnvironment) -> None:
    with env.with_time_skipping_disabled():
        still = await env.client.start_workflow(Sleeper.run, id="still", task_queue=QUEUE)
    assert await env.get_time_skipping_info(still) is None
    begin = datetime.now(UTC)
    moved = TimeSkipper(env.client, config=TimeSkippingConfig(enabled=False))
    starting = WithStartWorkflowOperation(
        Sleeper.run, id="moved", task_queue=QUEUE, id_conflict_policy=WorkflowIDConflictPolicy.FAIL
    )
    await moved.client.execute_update_with_start_workflow(Sleeper.ask, start_workflow_operation=starting)
    handle = await starting.workflow_handle()
    assert await env.fast_forward(handle, 2 * HOUR)
    now = await env.get_current_time(handle)
    assert 2 * HOUR <= now - begin < 3 * HOUR
    assert await env.get_current_time(still) - begin < HOUR
    assert not await env.fast_forward(handle)
    assert await handle.result() - begin >= 11 * HOUR
    with pytest.raises(RPCError, match="already completed"):
        await env.fast_forward(handle, HOUR)


def test_a_server_with_one_clock_says_so() -> None:
    """The environment inside the process before it starts; a skipper's start, as on an official server without it."""

    async def scenario() -> None:
        with pytest.raises(
            ValueError, match=r"use start_time_skipping\(\), or give dev_server_existing_path"
        ):
            await WorkflowEnvironment.start_time_skipping_v2()
        async with await WorkflowEnvironment.start_local() as env:
            handle = await env.client.start_workflow("any", id="real", task_queue=QUEUE)
            with (
                env.with_time_skipping_disabled(),
                pytest.raises(RuntimeError, match="start_time_skipping_v2"),
            ):
                await env.fast_forward(handle, 1)
            with pytest.raises(RuntimeError, match="start_time_skipping_v2"):
                await env.get_time_skipping_info(handle)
            skipper = TimeSkipper(env.client)
            assert skipper.config == TimeSkippingConfig()
            for refused in (
                skipper.client.start_workflow("any", id="skips", task_queue=QUEUE),
                skipper.client.start_workflow("any", id="skips", task_queue=QUEUE, start_signal="x"),
                skipper.fast_forward(handle, 1),
            ):
                with pytest.raises(RPCError, match="The Time-Skipping feature is not enabled") as error:
                    await refused
                assert error.value.status is RPCStatusCode.UNIMPLEMENTED
            with skipper.with_time_skipping_disabled():
                await skipper.client.start_workflow("any", id="skips", task_queue=QUEUE)
            other = await env.connect_client(namespace="default", identity="other")
            assert (await other.get_workflow_handle("real").describe()).id == "real"
            await other.close()

    run(scenario())


def test_a_jump_needs_time_that_skips() -> None:
    """The two together make no sense."""
    with pytest.raises(ValueError, match="cannot be set when enabled is False"):
        TimeSkippingConfig(enabled=False, fast_forward_config=FastForwardConfig("a", HOUR))
