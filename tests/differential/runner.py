"""Runs scenarios against one server, many at a time, and collects what each recorded.

A scenario that breaks off keeps what it had recorded and gets one more record saying why.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.differential.compare import Record
from tests.differential.context import Context
from tests.differential.coverage import NotingClient
from tests.differential.registry import Scenario

# More at once make the official server slow enough on two cores to lose tasks it hands out.
CONCURRENCY = 16
SCENARIO_TIMEOUT_S = 120.0
SEARCH_ATTRIBUTES = {"Shade": "Keyword", "Count": "Int", "Note": "Text"}
DYNAMIC_CONFIG: dict[str, str] = {
    "frontend.WorkflowPauseEnabled": "true",
    "frontend.enableCancelWorkerPollsOnShutdown": "true",
    "nexusoperation.enableStandalone": "true",
    "history.enableSignalWithStartFromWorkflow": "true",
    "system.numConsecutiveWorkflowTaskProblemsToTriggerSearchAttribute": "2",
}

BROKEN_OFF = "scenario broke off"


@dataclass(frozen=True)
class Outcome:
    """What one scenario recorded against one server, how long it took, and which RPCs and commands the server took."""

    records: tuple[Record, ...]
    seconds: float
    answered: frozenset[str] = frozenset()
    commands: frozenset[str] = frozenset()


async def run_scenario(scenario: Scenario, address: str) -> Outcome:
    """Run one scenario against the server at this address."""
    started_s = time.monotonic()
    async with NotingClient(address, identity="differential") as client:
        context = Context(scenario.name, client)
        try:
            async with asyncio.timeout(SCENARIO_TIMEOUT_S):
                await scenario.body(context)
        except (
            Exception
        ) as error:  # Whatever a server answered must become a comparison, never end the others.
            context.record(BROKEN_OFF, f"{type(error).__name__} {error}")
    seconds = time.monotonic() - started_s
    return Outcome(tuple(context.records), seconds, frozenset(client.answered), frozenset(client.commands))


async def run_on_each(
    scenarios: Sequence[Scenario], addresses: Sequence[str], *, concurrency: int = CONCURRENCY
) -> list[Mapping[str, Outcome]]:
    """Run scenarios against several servers; one result per address, in their order.

    At most `concurrency` scenarios run at once over all servers. The first server's go first, so while its slowest
    ones merely wait, the next server's already run.
    """
    slots = asyncio.Semaphore(concurrency)

    async def one(scenario: Scenario, address: str) -> tuple[str, Outcome]:
        async with slots:
            return scenario.name, await run_scenario(scenario, address)

    async def all_on(address: str) -> dict[str, Outcome]:
        return dict(await asyncio.gather(*(one(scenario, address) for scenario in scenarios)))

    return list(await asyncio.gather(*(all_on(address) for address in addresses)))
