"""Queries that wait for one workflow task: how many may, as configured."""

from __future__ import annotations

import asyncio

import pytest

from perdure.core.errors import ResourceExhaustedError
from perdure.server.config import ServerConfig, with_dynamic_values
from tests.support.builders import payloads
from tests.support.proto import enums, query
from tests.unit.server.local_client import LocalClient, serving
from tests.unit.server.support import run

ANSWERED = enums.QueryResultType.QUERY_RESULT_TYPE_ANSWERED


async def _asked(client: LocalClient, count: int) -> list[object]:
    """What so many queries at once get, which one workflow task answers."""
    await client.start("w", "q")
    asking = [asyncio.create_task(client.query("w", timeout_s=10)) for _ in range(count)]
    await asyncio.wait(asking, timeout=0)
    task = await client.poll_workflow_task("q")
    answer = query.WorkflowQueryResult(result_type=ANSWERED, answer=payloads("answer"))
    await client.complete_workflow_task(task.task_token, query_results=dict.fromkeys(task.queries, answer))
    return list(await asyncio.gather(*asking, return_exceptions=True))


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_as_many_queries_wait_for_a_workflow_task_as_configured(limit: int) -> None:
    config, _ = with_dynamic_values(ServerConfig(port=0), {"history.MaxBufferedQueryCount": limit})

    async def scenario() -> None:
        async with serving(config) as client:
            got = await _asked(client, limit + 2)
            assert [isinstance(each, ResourceExhaustedError) for each in got].count(True) == 2
            assert [isinstance(each, BaseException) for each in got].count(False) == limit

    run(scenario())
