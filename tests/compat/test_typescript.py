"""The official TypeScript SDK from npm, worker and client, against the server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.compat.node_packages import INSTALL_TIMEOUT_S, install, why_not
from tests.support.target import target_server

PACKAGE: Final = Path(__file__).resolve().parent / "typescript"
READY_TIMEOUT_S: Final = 90.0
SCENARIOS_TIMEOUT_S: Final = 180.0

pytestmark = pytest.mark.timeout(INSTALL_TIMEOUT_S + READY_TIMEOUT_S + SCENARIOS_TIMEOUT_S)

EXPECTED: Final[dict[str, dict[str, Any]]] = {
    "activity": {
        "result": {"greeting": "Hello, Ada!", "attempt": 3, "local": "Hello, local!"},
        "replayed": True,
    },
    "timer": {"result": [1, 2, 0, "cancelled"], "replayed": True},
    "condition_timeout": {"result": "gave up"},
    "signal_and_query": {
        "result": ["one", "two", "three"],
        "seen": [1, 2, 3],
        "unknown": True,
        "afterwards": ["one", "two", "three"],
        "replayed": True,
    },
    "signal_with_start": {"result": ["first", "second"], "same_run": True},
    "cancel": {"cancelled": True, "status": "CANCELLED", "events": 17},
    "terminate": {"terminated": True, "message": "enough"},
    "list": {"type": "gives_up", "queue": True},
    "children": {
        "told": "told hello",
        "failed": True,
        "cancelled": True,
        "left": "RUNNING",
        "said": "left goodbye",
        "replayed": True,
    },
    "updates": {
        "sums": [3, 6],
        "result": 1006,
        "late": 1006,
        "same": True,
        "refused": "not positive: -1",
        "replayed": True,
    },
    "update_with_start": {"sums": [11, 13], "result": 13, "replayed": True},
    "continue_as_new": {
        "patched": True,
        "continued": True,
        "memo": {"left": 0},
        "first": "CONTINUED_AS_NEW",
        "other": True,
    },
    "async_completion": {"result": "done elsewhere", "replayed": True},
    "schedule": {
        "sum": 5,
        "created": [
            {"paused": True, "note": "not yet"},
            {"why": "compatibility"},
            {"overlap": "BUFFER_ALL", "catchupWindow": 3_600_000, "pauseOnFailure": False},
            [{"every": 3_600_000, "offset": 300_000}],
            10,
        ],
        "ran": ["now", 1],
        "updated": [[{"every": 86_400_000}], "later"],
        "listed": [{"why": "compatibility"}, "later"],
        "gone": True,
    },
    "nexus": {
        "echo": "again",
        "hello": "Hello, Ada!",
        "token": True,
        "refused": "not today",
        "cancelled": True,
        "replayed": True,
    },
}


@contextlib.asynccontextmanager
async def _running_worker(*arguments: str) -> AsyncIterator[None]:
    """The worker process, yielded when it polls; killed afterwards."""
    worker = await asyncio.create_subprocess_exec(
        "node", "worker.js", *arguments, cwd=PACKAGE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while worker.stdout is not None:
                line = await worker.stdout.readline()
                assert line, "the worker ended before it was ready"
                if line.strip() == b"ready":
                    break
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            worker.kill()
        await worker.communicate()


async def _client_output(*arguments: str) -> str:
    client = await asyncio.create_subprocess_exec(
        "node", "client.js", *arguments, cwd=PACKAGE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(client.communicate(), SCENARIOS_TIMEOUT_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            client.kill()
        await client.wait()
    return output.decode()


async def _run_scenarios(folder: Path) -> dict[str, dict[str, Any]]:
    bundle = str(folder / "workflows.bundle.js")
    async with target_server() as server, _running_worker(server.address, "typescript", bundle):
        output = await _client_output(server.address, "typescript", bundle)
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return {line["name"]: line for line in lines}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What every scenario came to, run once for the module."""
    if reason := why_not():
        pytest.skip(f"{reason}: the TypeScript SDK was not tested")
    install(PACKAGE)
    return asyncio.run(_run_scenarios(tmp_path_factory.mktemp("typescript")))


@pytest.mark.parametrize("name", EXPECTED)
def test_typescript_sdk(outcomes: dict[str, dict[str, Any]], name: str) -> None:
    """Each scenario ends as it does against the official server; histories replay in the SDK's own replayer."""
    assert name in outcomes, f"the client ended before {name}"
    assert outcomes[name].get("value") == EXPECTED[name], outcomes[name]
