"""The server killed with SIGKILL in the middle of a batch operation: it goes on, and does nothing twice.

The number of kills is PERDURE_BATCH_CRASHES (5 unless set), the seed of their moments PERDURE_CRASH_SEED.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from perdure.api.batch.v1 import BatchOperationSignal
from perdure.api.enums.v1 import BatchOperationState
from perdure.api.workflowservice import v1 as workflowservice
from tests.support.rpc import RawClient
from tests.support.servers import PerdureServer

CRASHES = int(os.environ.get("PERDURE_BATCH_CRASHES", "5"))
SEED = int(os.environ.get("PERDURE_CRASH_SEED", "20"))
WORKFLOWS = 400
PER_SECOND = 80.0
LIVELY_S = 0.8
"""A killed server has served for at most this long; the whole batch takes some seconds."""
RUNNING = BatchOperationState.Value("BATCH_OPERATION_STATE_RUNNING")
COMPLETED = BatchOperationState.Value("BATCH_OPERATION_STATE_COMPLETED")


async def describe(client: RawClient) -> workflowservice.DescribeBatchOperationResponse:
    """The job."""
    request = workflowservice.DescribeBatchOperationRequest(namespace="default", job_id="job")
    return await client.call(request, workflowservice.DescribeBatchOperationResponse)


async def scenario(db_path: Path, log_path: Path) -> None:
    """Signals to many workflows, through crashes."""
    rng = random.Random(SEED)
    async with (
        PerdureServer(db_path=db_path, log_path=log_path) as server,
        RawClient(server.address) as client,
    ):
        await asyncio.gather(*(client.start(f"w{number}", "nobody") for number in range(WORKFLOWS)))
        start = workflowservice.StartBatchOperationRequest(
            namespace="default",
            job_id="job",
            reason="all of them",
            visibility_query="TaskQueue = 'nobody'",
            max_operations_per_second=PER_SECOND,
            signal_operation=BatchOperationSignal(signal="go", identity="me"),
        )
        await client.call(start, workflowservice.StartBatchOperationResponse)
        killed_while_running = 0
        for _ in range(CRASHES):
            # Not a wait for something: the moment at which the process dies is what is random here.
            moment = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(rng.uniform(0.05, LIVELY_S), moment.set_result, None)
            await moment
            killed_while_running += (await describe(client)).state == RUNNING
            await server.restart_after_kill()
        while (described := await describe(client)).state == RUNNING:
            pass
        histories = await asyncio.gather(*(client.history(f"w{number}") for number in range(WORKFLOWS)))
    assert killed_while_running, "no kill came in the middle of the batch"
    assert described.state == COMPLETED
    assert (described.complete_operation_count, described.failure_operation_count) == (WORKFLOWS, 0)
    for number, events in enumerate(histories):
        signals = [
            event for event in events if event.HasField("workflow_execution_signaled_event_attributes")
        ]
        assert len(signals) == 1, f"w{number} has {len(signals)} signals"


@pytest.mark.serial
@pytest.mark.timeout(120)
def test_a_batch_is_finished_though_the_server_is_killed_again_and_again(tmp_path: Path) -> None:
    """Each workflow gets its signal once, and is counted once."""
    asyncio.run(scenario(tmp_path / "perdure.db", tmp_path / "server.log"))
