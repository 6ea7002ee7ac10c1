"""A workflow for the official SDK, in a module that its sandbox can load again."""

from __future__ import annotations

import asyncio

from temporalio import workflow


@workflow.defn
class OfficialSleeper:
    """Sleeps."""

    @workflow.run
    async def run(self, seconds: float) -> str:
        """Sleeps."""
        await asyncio.sleep(seconds)
        return "awake"
