"""A start that is cancelled leaves nothing open: no data that is locked, no port that is taken, nothing that runs."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from perdure.server import Server
from tests.unit.server.support import run

IP = "127.0.0.1"
_MOST_STEPS = 200


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((IP, 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("place", ["/cancelled.db", "?name=cancelled"])
def test_a_server_whose_start_is_cancelled_at_any_step_leaves_nothing_open(
    place: str, tmp_path: Path
) -> None:
    """A limit around the start of a test, for one; the next server at the same place and port starts.

    In memory every step is one turn of the loop; those of a file wait for threads.
    """
    address = f"sqlite:///{tmp_path}{place}" if place.startswith("/") else f"sqlite://{place}"
    grpc = f"{IP}:{_free_port()}"

    async def is_cancelled_after(steps: int) -> bool:
        server = Server(address, grpc=grpc)
        starting = asyncio.create_task(server.start())
        for _ in range(steps):
            await asyncio.sleep(0)
        starting.cancel()
        try:
            await starting
        except asyncio.CancelledError:
            is_cancelled = True
        else:
            is_cancelled = False
        await server.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return is_cancelled

    async def scenario() -> None:
        steps = 1
        while steps < _MOST_STEPS and await is_cancelled_after(steps):
            steps += 1
        async with Server(address, grpc=grpc):
            pass

    run(scenario())
