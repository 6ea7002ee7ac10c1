"""`WorkflowEnvironment` with real workers and clients, ours and the official ones."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import temporalio.client
import temporalio.testing
import temporalio.worker

from perdure import activity, workflow
from perdure.client import Client, WorkflowFailureError, WorkflowUpdateFailedError
from perdure.common import RetryPolicy, SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from perdure.exceptions import ActivityError, ApplicationError, TimeoutError, TimeoutType
from perdure.service import RPCError
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker
from tests.e2e.testing.official_workflows import OfficialSleeper
from tests.support.rpc import RawClient
from tests.unit.server.support import TIMEOUT_S, run

QUEUE = "environment-queue"
DAY = timedelta(days=1)
# No scenario takes longer: what is more was skipped.
BUSY = timedelta(seconds=TIMEOUT_S)
# Several programs start one after the other, and each imports everything.
PROGRAMS_LIMIT_S = 90.0


@workflow.defn
class Sleeper:
    """Sleeps, and says what time it is."""

    @workflow.run
    async def run(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "awake"

    @workflow.query
    def now(self) -> datetime:
        return workflow.now()

    @workflow.signal
    def tick(self) -> None:
        pass


@workflow.defn
class Asserting:
    """Fails an assertion, at once or in a signal handler."""

    @workflow.run
    async def run(self, in_handler: bool) -> None:
        assert in_handler, "in run"
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def go(self) -> None:
        raise AssertionError("in handler")

    @workflow.update
    def change(self) -> None:
        raise AssertionError("in update")


class Activities:
    """Activities that know the environment."""

    def __init__(self, env: WorkflowEnvironment) -> None:
        self.env = env
        self.attempts = 0

    @activity.defn
    async def sleep_through_heartbeats(self) -> None:
        await self.env.sleep(40)

    @activity.defn
    async def fail_four_times(self) -> int:
        self.attempts += 1
        if self.attempts < 5:
            raise ApplicationError("not yet")
        return self.attempts


@workflow.defn
class Calling:
    """Calls an activity."""

    @workflow.run
    async def run(self, name: str) -> int:
        result: int = await workflow.execute_activity(
            name,
            schedule_to_close_timeout=timedelta(days=20),
            heartbeat_timeout=timedelta(seconds=20),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(hours=1), maximum_attempts=1 if "heartbeat" in name else 0
            ),
        )
        return result


async def _elapsed(env: WorkflowEnvironment, since: datetime) -> timedelta:
    return await env.get_current_time() - since


def test_results_let_time_skip() -> None:
    """One after the other and at the same time: 30 days each time, in far less than a second each."""

    async def scenario() -> None:
        async with await WorkflowEnvironment.start_time_skipping() as env:
            assert env.supports_time_skipping
            begin = await env.get_current_time()
            assert abs(begin - datetime.now(UTC)) < BUSY
            async with Worker(env.client, task_queue=QUEUE, workflows=[Sleeper]):
                started_s = time.monotonic()
                await env.client.execute_workflow(Sleeper.run, 30 * 86_400, id="a", task_queue=QUEUE)
                assert 30 * DAY <= await _elapsed(env, begin) < 30 * DAY + BUSY
                results = await asyncio.gather(
                    *(
                        env.client.execute_workflow(
                            Sleeper.run, 30 * 86_400, id=f"b{number}", task_queue=QUEUE
                        )
                        for number in range(10)
                    )
                )
                assert results == ["awake"] * 10
                assert 60 * DAY <= await _elapsed(env, begin) < 60 * DAY + BUSY
                assert time.monotonic() - started_s < BUSY.total_seconds()
                await _assert_time_is_real(env, "c")

    run(scenario())


async def _assert_time_is_real(env: WorkflowEnvironment, workflow_id: str) -> None:
    """A workflow that sleeps, and for whose result nobody waits, is not skipped on."""
    begin = await env.get_current_time()
    handle = await env.client.start_workflow(Sleeper.run, 86_400, id=workflow_id, task_queue=QUEUE)
    await handle.query(Sleeper.now)
    for _ in range(200):  # a skip would happen within a few turns
        await asyncio.sleep(0)
    assert await _elapsed(env, begin) < BUSY


def test_sleeping_moves_time_by_hand() -> None:
    """Without waiting for a result; workflows see it."""

    async def scenario() -> None:
        async with await WorkflowEnvironment.start_time_skipping() as env:
            async with Worker(env.client, task_queue=QUEUE, workflows=[Sleeper]):
                handle = await env.client.start_workflow(Sleeper.run, 1e6, id="a", task_queue=QUEUE)

                async def ahead() -> timedelta:
                    await handle.signal(Sleeper.tick)
                    return await handle.query(Sleeper.now) - datetime.now(UTC)

                assert abs(await ahead()) < BUSY
                await env.sleep(timedelta(seconds=1000))
                assert abs(await ahead() - timedelta(seconds=1000)) < BUSY
                await env.sleep(2e6)
                assert (await handle.describe()).close_time is not None

    run(scenario())


def test_skipping_can_be_disabled() -> None:
    """For those who begin to wait within the block; the others go on skipping."""

    async def scenario() -> None:
        async with await WorkflowEnvironment.start_time_skipping() as env:
            async with Worker(env.client, task_queue=QUEUE, workflows=[Sleeper]):
                with env.auto_time_skipping_disabled():
                    started_s = time.monotonic()
                    await env.client.execute_workflow(Sleeper.run, 1.5, id="a", task_queue=QUEUE)
                    assert time.monotonic() - started_s >= 1.4
                started_s = time.monotonic()
                await env.client.execute_workflow(Sleeper.run, 3600, id="b", task_queue=QUEUE)
                assert time.monotonic() - started_s < BUSY.total_seconds()

    run(scenario())


def test_blocks_without_skipping_may_overlap() -> None:
    """As those of two tasks do: the first one that ends leaves the other as it is, and the last one ends it."""

    async def scenario() -> None:
        async with await WorkflowEnvironment.start_time_skipping() as env:
            first, second = env.auto_time_skipping_disabled(), env.auto_time_skipping_disabled()
            async with Worker(env.client, task_queue=QUEUE, workflows=[Sleeper]):
                with second:
                    with first:
                        pass
                    await _assert_time_is_real(env, "a")
                first, second = env.auto_time_skipping_disabled(), env.auto_time_skipping_disabled()
                first.__enter__()
                second.__enter__()
                first.__exit__(None, None, None)
                await _assert_time_is_real(env, "b")
                second.__exit__(None, None, None)
                started_s = time.monotonic()
                await env.client.execute_workflow(Sleeper.run, 3600, id="c", task_queue=QUEUE)
                assert time.monotonic() - started_s < BUSY.total_seconds()

    run(scenario())


def test_somebody_who_stops_waiting_locks_time_again() -> None:
    """A result with a limit that is reached: afterwards time is real."""

    async def scenario() -> None:
        async with await WorkflowEnvironment.start_time_skipping() as env:
            handle = await env.client.start_workflow("Nobody", id="a", task_queue="nobody")
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(handle.result(), 0.2)
            async with Worker(env.client, task_queue=QUEUE, workflows=[Sleeper]):
                await _assert_time_is_real(env, "b")

    run(scenario())


def test_activities_and_their_timeouts() -> None:
    """An activity sleeps through its heartbeat timeout; hours between attempts are skipped."""

    async def scenario() -> None:
        async with await WorkflowEnvironment.start_time_skipping() as env:
            activities = Activities(env)
            async with Worker(
                env.client,
                task_queue=QUEUE,
                workflows=[Calling],
                activities=[activities.sleep_through_heartbeats, activities.fail_four_times],
            ):
                with pytest.raises(WorkflowFailureError) as caught:
                    await env.client.execute_workflow(
                        Calling.run, "sleep_through_heartbeats", id="a", task_queue=QUEUE
                    )
                assert isinstance(caught.value.cause, ActivityError)
                assert isinstance(caught.value.cause.cause, TimeoutError)
                assert caught.value.cause.cause.type == TimeoutType.HEARTBEAT
                begin = await env.get_current_time()
                assert (
                    await env.client.execute_workflow(
                        Calling.run, "fail_four_times", id="b", task_queue=QUEUE
                    )
                    == 5
                )
                hours = await _elapsed(env, begin) / timedelta(hours=1)
                assert 15 <= hours < 15.1

    run(scenario())


async def _assert_fails(failing: Awaitable[None], message: str) -> None:
    with pytest.raises((WorkflowFailureError, WorkflowUpdateFailedError)) as caught:
        await failing
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.type == "AssertionError"
    assert caught.value.cause.message.startswith(message)


def test_assertions_fail_workflows() -> None:
    """In every kind of environment, in the workflow and in its signal handlers; one in an update fails that."""

    async def scenario() -> None:
        async with await WorkflowEnvironment.start_local() as local:
            async with WorkflowEnvironment.from_client(local.client) as env:
                async with Worker(env.client, task_queue=QUEUE, workflows=[Asserting]):
                    handle = await env.client.start_workflow(Asserting.run, False, id="a", task_queue=QUEUE)
                    await _assert_fails(handle.result(), "in run")
                    handle = await env.client.start_workflow(Asserting.run, True, id="b", task_queue=QUEUE)
                    await _assert_fails(handle.execute_update(Asserting.change), "in update")
                    await handle.signal(Asserting.go)
                    await _assert_fails(handle.result(), "in handler")

    run(scenario())


def test_a_local_environment_on_ipv6() -> None:
    """Its address can be connected to."""

    async def scenario() -> None:
        async with await WorkflowEnvironment.start_local(ip="::1") as env:
            assert env.client.service_client.config.target_host.startswith("[::1]:")
            other = await env.connect_client()
            assert await other.service_client.check_health()
            await other.close()

    run(scenario())


def test_an_environment_that_is_cancelled_while_it_ends_leaves_no_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its port is free again."""

    async def scenario() -> None:
        env = await WorkflowEnvironment.start_local()
        host, _, port = env.client.service_client.config.target_host.rpartition(":")

        async def hang() -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(env.client, "close", hang)
        ending = asyncio.create_task(env.shutdown())
        await asyncio.sleep(0)
        ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, int(port))

    run(scenario())


def test_a_local_environment() -> None:
    """Namespace, search attributes, real time, and others reach it at its address."""
    shade = SearchAttributeKey.for_keyword("Shade")
    attributes = TypedSearchAttributes([SearchAttributePair(shade, "blue")])

    async def scenario() -> None:
        async with await WorkflowEnvironment.start_local(
            namespace="shop",
            search_attributes=[shade],
            dev_server_extra_args=["--search-attribute", "Count=Int"],
        ) as env:
            assert not env.supports_time_skipping
            assert abs(await env.get_current_time() - datetime.now(UTC)) < timedelta(seconds=1)
            handle = await env.client.start_workflow(
                "any", id="a", task_queue=QUEUE, search_attributes=attributes
            )
            assert (await handle.describe()).typed_search_attributes[shade] == "blue"
            address = env.client.service_client.config.target_host
            async with RawClient(address, namespace="shop") as outside:
                await outside.describe("a")
            official = await temporalio.client.Client.connect(address, namespace="shop")
            assert (await official.get_workflow_handle("a").describe()).workflow_type == "any"
            started_s = time.monotonic()
            await env.sleep(0.05)
            assert time.monotonic() - started_s >= 0.04
            with env.auto_time_skipping_disabled():
                pass
        with pytest.raises(RuntimeError):
            await handle.describe()
        await env.shutdown()

    run(scenario())


def test_a_local_environment_with_a_file_goes_on_where_it_was(tmp_path: Path) -> None:
    """And says who has the file, if somebody has."""
    path = str(tmp_path / "orders.db")

    async def scenario() -> None:
        async with await WorkflowEnvironment.start_local(dev_server_database_filename=path) as env:
            await env.client.start_workflow("any", id="a", task_queue=QUEUE)
            with pytest.raises(Exception, match="open in this process already"):
                await WorkflowEnvironment.start_local(dev_server_database_filename=path)
        async with await WorkflowEnvironment.start_local(dev_server_database_filename=path) as env:
            await env.client.get_workflow_handle("a").describe()
            other = await Client.connect(f"sqlite:///{path}")
            await other.get_workflow_handle("a").describe()
            await other.close()

    run(scenario())


def test_a_port_that_is_taken_leaves_nothing_behind() -> None:
    """The error names the address; the next environment starts."""

    async def scenario() -> None:
        async with await WorkflowEnvironment.start_local() as env:
            port = int(env.client.service_client.config.target_host.rpartition(":")[2])
            with pytest.raises(Exception, match=str(port)):
                await WorkflowEnvironment.start_local(port=port)
        with pytest.raises(ValueError, match="tls"):
            await WorkflowEnvironment.start_local(tls=True)

    run(scenario())


def _program(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found is not None, f"{name} is not installed; install the package again"
    return found


def test_environments_of_programs() -> None:
    """A test server and a dev server that a test names are started, used and stopped."""

    async def scenario() -> None:
        async with await WorkflowEnvironment.start_time_skipping(
            test_server_existing_path=_program("perdure-test-server")
        ) as env:
            async with Worker(env.client, task_queue=QUEUE, workflows=[Sleeper]):
                await env.client.execute_workflow(Sleeper.run, 86_400, id="a", task_queue=QUEUE)
        async with await WorkflowEnvironment.start_local(
            dev_server_existing_path=_program("perdure"), namespace="shop"
        ) as env:
            await env.client.start_workflow("any", id="a", task_queue=QUEUE)
        with pytest.raises(RuntimeError, match="ended with exit code"):
            await WorkflowEnvironment.start_local(
                dev_server_existing_path=_program("perdure"), dev_server_extra_args=["--no-such-flag"]
            )

    run(scenario(), PROGRAMS_LIMIT_S)


def test_the_official_sdk_skips_time_on_our_test_server() -> None:
    """Its environment starts our program by the path of a test server; its worker and client run on it."""

    async def scenario() -> None:
        async with await temporalio.testing.WorkflowEnvironment.start_time_skipping(
            test_server_existing_path=_program("perdure-test-server"),
            # Instead of five seconds, for a busy machine.
            test_server_startup_timeout=timedelta(seconds=PROGRAMS_LIMIT_S),
        ) as env:
            begin = await env.get_current_time()
            async with temporalio.worker.Worker(
                env.client, task_queue=QUEUE, workflows=[OfficialSleeper], debug_mode=True
            ):
                started_s = time.monotonic()
                await env.client.execute_workflow(OfficialSleeper.run, 30 * 86_400, id="a", task_queue=QUEUE)
                assert time.monotonic() - started_s < BUSY.total_seconds()
            assert await env.get_current_time() - begin >= 30 * DAY
            await env.sleep(1000)

    run(scenario(), PROGRAMS_LIMIT_S)


def test_an_unknown_namespace_says_so() -> None:
    """Not every environment has every namespace."""

    async def scenario() -> None:
        async with await WorkflowEnvironment.start_time_skipping() as env:
            client = Client(env.client.service_client, namespace="nowhere")
            with pytest.raises(RPCError, match="nowhere"):
                await client.start_workflow("any", id="a", task_queue=QUEUE)

    run(scenario())
