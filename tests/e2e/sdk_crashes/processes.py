"""Processes that work until they are killed, and the lines in which they tell what they do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[3]
KILLS: Final = int(os.environ.get("PERDURE_CRASH_KILLS", "4"))
"""So many processes die in each test; set more for a long run."""


@contextlib.asynccontextmanager
async def process_until_killed(module: str, *arguments: str) -> AsyncIterator[asyncio.StreamReader]:
    """A process of a module here, by its output; it is killed at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"{__package__}.{module}", *arguments),
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def read_lines(output: asyncio.StreamReader, count: int) -> list[str]:
    """So many whole lines."""
    lines = [(await output.readline()).decode() for _ in range(count)]
    assert all(line.endswith("\n") for line in lines), "the process ended by itself"
    return [line.strip() for line in lines]


async def drain(output: asyncio.StreamReader) -> None:
    """Nobody may wait for a full pipe."""
    while await output.readline():
        pass
