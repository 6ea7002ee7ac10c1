"""The NestJS application of the examples: HTTP in Node, workflow in Node, one activity in Python, on our server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from examples.ports import free_port
from tests.compat.node_packages import install, why_not
from tests.support.target import target_server

REPOSITORY: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = REPOSITORY / "examples" / "nestjs_shop"
READY_TIMEOUT_S: Final = 90.0
ANSWER_TIMEOUT_S: Final = 60.0

pytestmark = [pytest.mark.serial, pytest.mark.timeout(500)]


@contextlib.asynccontextmanager
async def _running(environment: dict[str, str], *command: str) -> AsyncIterator[None]:
    """A process, yielded when it says that it is ready; killed afterwards."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=REPOSITORY, env=environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            assert process.stdout is not None
            while (line := await process.stdout.readline()).strip() != b"ready":
                assert line, f"{command} ended before it was ready"
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def _request(port: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """One request to the application, with its status and its JSON."""
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    async with asyncio.timeout(ANSWER_TIMEOUT_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode() + data)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    status, _, rest = answer.partition(b"\r\n")
    return int(status.split()[1]), json.loads(rest.partition(b"\r\n\r\n")[2])


async def _orders() -> dict[str, Any]:
    port, seen = free_port(), {}
    order = {"orderId": "o1", "item": "tea", "quantity": 2}
    async with target_server() as server:
        environment = {**os.environ, "PERDURE_ADDRESS": server.address, "PORT": str(port)}
        async with _running(environment, "node", str(PACKAGE / "dist" / "main.js")):
            # Nobody works yet: placing an order needs only the server.
            seen["placed"] = await _request(port, "POST", "/orders", order)
            seen["again"] = await _request(port, "POST", "/orders", order)
            async with (
                _running(environment, "node", str(PACKAGE / "dist" / "worker.js")),
                _running(environment, sys.executable, "-m", "examples.nestjs_shop.price_worker"),
            ):
                seen["status"] = await _request(port, "GET", "/orders/o1")
                seen["confirmed"] = await _request(port, "POST", "/orders/o1/confirmed")
                seen["afterwards"] = await _request(port, "GET", "/orders/o1")
                seen["unknown"] = await _request(port, "POST", "/orders/o2/confirmed")
                seen["bad"] = await _request(port, "POST", "/orders", {"orderId": "o3"})
    return seen


def test_an_order_goes_through_nest_node_and_python() -> None:
    """Placed over HTTP, priced in Python, confirmed over HTTP, charged in Node; placed twice, it is one order."""
    reason = why_not()
    if reason:
        pytest.skip(f"{reason}: the NestJS application was not tested")
    install(PACKAGE)
    compiler = PACKAGE / "node_modules" / "typescript" / "bin" / "tsc"
    subprocess.run([shutil.which("node") or "node", str(compiler)], cwd=PACKAGE, check=True, timeout=200)
    seen = asyncio.run(_orders())
    assert seen["placed"] == (201, {"orderId": "o1"})
    assert seen["again"] == (201, {"orderId": "o1"})
    assert seen["status"][0] == 200
    assert seen["status"][1]["status"] in ("pricing", "waiting for confirmation")
    confirmation = {"orderId": "o1", "totalCents": 900, "pricedBy": "Python", "receipt": "receipt-o1-900"}
    assert seen["confirmed"] == (200, confirmation)
    assert seen["afterwards"] == (200, {"status": "done"})
    assert (seen["unknown"][0], seen["unknown"][1]["message"]) == (404, "no order o2")
    assert seen["bad"][0] == 400
    assert "quantity" in seen["bad"][1]["message"]
