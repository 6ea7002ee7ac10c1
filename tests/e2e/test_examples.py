"""The examples do what they say, in an environment whose time skips; and `perdure lint` finds nothing in them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from examples import approval, encryption, fan_out, subscription
from perdure.api.common.v1 import Payload
from perdure.client import Client, WorkflowUpdateFailedError
from perdure.lint import check_paths
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker

REPOSITORY = Path(__file__).resolve().parents[2]
SCENARIO_TIMEOUT_S = 60


def skipping(scenario: Callable[[WorkflowEnvironment], Awaitable[None]]) -> None:
    """Runs a scenario in an environment of its own."""

    async def run() -> None:
        async with (
            asyncio.timeout(SCENARIO_TIMEOUT_S),
            await WorkflowEnvironment.start_time_skipping() as env,
        ):
            await scenario(env)

    asyncio.run(run())


def test_a_subscription_lives_over_several_runs_and_hears_signals() -> None:
    async def scenario(env: WorkflowEnvironment) -> None:
        begun = subscription.Subscription("Ada", 999, months_limit=30)
        async with Worker(
            env.client,
            task_queue=subscription.TASK_QUEUE,
            workflows=[subscription.Subscribe],
            activities=[subscription.charge],
        ):
            handle = await env.client.start_workflow(
                subscription.Subscribe.run, begun, id="s1", task_queue=subscription.TASK_QUEUE
            )
            first_run_id = handle.first_execution_run_id
            await handle.signal(subscription.Subscribe.change_price, 1_299)
            ended = await handle.result()
            assert (ended.months_billed, ended.price_cents) == (30, 1_299)
            last = await env.client.get_workflow_handle("s1").describe()
            assert last.run_id != first_run_id
            assert last.close_time is not None
            now = await env.get_current_time()
            first = await env.client.get_workflow_handle("s1", run_id=first_run_id).describe()
            assert now - first.start_time >= timedelta(days=29 * 30)

    skipping(scenario)


def test_a_subscription_can_be_cancelled() -> None:
    async def scenario(env: WorkflowEnvironment) -> None:
        async with Worker(
            env.client,
            task_queue=subscription.TASK_QUEUE,
            workflows=[subscription.Subscribe],
            activities=[subscription.charge],
        ):
            handle = await env.client.start_workflow(
                subscription.Subscribe.run,
                subscription.Subscription("Ada", 999),
                id="s2",
                task_queue=subscription.TASK_QUEUE,
            )
            await handle.signal(subscription.Subscribe.cancel)
            assert (await handle.result()).months_billed == 1

    skipping(scenario)


def test_an_approval_refuses_the_wrong_person_and_a_second_decision_is_told_so() -> None:
    async def scenario(env: WorkflowEnvironment) -> None:
        async with Worker(
            env.client,
            task_queue=approval.TASK_QUEUE,
            workflows=[approval.Approve],
            activities=[approval.remind],
        ):
            handle = await env.client.start_workflow(
                approval.Approve.run, approval.Expense("Ada", 1), id="a1", task_queue=approval.TASK_QUEUE
            )
            with pytest.raises(WorkflowUpdateFailedError) as raised:
                await handle.execute_update(approval.Approve.decide, approval.Decision("Ada", True))
            assert "nobody decides on their own expenses" in str(raised.value.cause)
            decided = await handle.execute_update(approval.Approve.decide, approval.Decision("Grace", True))
            assert decided == await handle.result() == approval.Decision("Grace", True)

    skipping(scenario)


def test_an_approval_that_nobody_decides_reminds_three_times_and_ends_as_a_no() -> None:
    async def scenario(env: WorkflowEnvironment) -> None:
        async with Worker(
            env.client,
            task_queue=approval.TASK_QUEUE,
            workflows=[approval.Approve],
            activities=[approval.remind],
        ):
            handle = await env.client.start_workflow(
                approval.Approve.run, approval.Expense("Ada", 1), id="a2", task_queue=approval.TASK_QUEUE
            )
            assert await handle.result() == approval.Decision("nobody", is_approved=False)
            assert await handle.query(approval.Approve.reminders) == approval.REMINDERS

    skipping(scenario)


def test_a_fan_out_collects_failures_and_tells_its_progress() -> None:
    async def scenario(env: WorkflowEnvironment) -> None:
        album = fan_out.Album([*(f"{number}.jpg" for number in range(12)), "notes.txt"], at_once=3)
        async with Worker(
            env.client,
            task_queue=fan_out.TASK_QUEUE,
            workflows=[fan_out.MakeThumbnails],
            activities=[fan_out.make_thumbnail],
        ):
            handle = await env.client.start_workflow(
                fan_out.MakeThumbnails.run, album, id="f1", task_queue=fan_out.TASK_QUEUE
            )
            ended = fan_out.Progress(12, ["notes.txt"], 13)
            assert await handle.result() == ended
            assert await handle.query(fan_out.MakeThumbnails.progress) == ended

    skipping(scenario)


def test_nothing_that_the_server_keeps_can_be_read_without_the_keys() -> None:
    """Names and salaries are in no event; a run that began before a change of keys goes on after it."""

    async def scenario(env: WorkflowEnvironment) -> None:
        def client(*key_ids: str) -> Client:
            config = env.client.config()
            config["data_converter"] = encryption.encrypting({key_id: keys[key_id] for key_id in key_ids})
            return Client(**config)

        keys = {"old": bytes(32), "new": bytes(range(32))}
        ada = encryption.Employee("Ada Lovelace", 512_000)
        queue = encryption.TASK_QUEUE
        handle = await client("old").start_workflow(
            encryption.PaySalary.run, ada, id="e1", task_queue=queue, memo={"of": ada.name}
        )
        renewed = client("old", "new")
        async with Worker(
            renewed, task_queue=queue, workflows=[encryption.PaySalary], activities=[encryption.transfer]
        ):
            assert await renewed.get_workflow_handle("e1").result() == "paid 5120.00 to Ada Lovelace"
        kept = b"".join(event.SerializeToString() for event in (await handle.fetch_history()).events)
        assert b"Lovelace" not in kept
        assert b"512000" not in kept
        with pytest.raises(ValueError, match="'new', which is not here"):
            await handle.result()

    skipping(scenario)


def test_an_encrypted_payload_that_was_changed_is_refused() -> None:
    """Its key's id too; what was never encrypted stays readable."""
    codec = encryption.EncryptionCodec({"one": bytes(32), "two": bytes(32)})
    plain = Payload(metadata={"encoding": b"json/plain"}, data=b"1")

    async def scenario() -> None:
        [secret] = await codec.encode([plain])
        assert await codec.decode([secret, plain]) == [plain, plain]
        changed = Payload(metadata=secret.metadata, data=secret.data[:-1] + b"x")
        renamed = Payload(metadata={**secret.metadata, "encryption-key-id": b"one"}, data=secret.data)
        for payload in (changed, renamed):
            with pytest.raises(ValueError, match="was changed on its way"):
                await codec.decode([payload])

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "name", ["saga", "subscription", "approval", "fan_out", "encryption", "price_service"]
)
def test_each_example_runs_as_its_docstring_says(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"examples.{name}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=SCENARIO_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.usefixtures("without_collector")
def test_lint_finds_nothing_in_the_examples() -> None:
    assert list(check_paths([REPOSITORY / "examples"])) == []
