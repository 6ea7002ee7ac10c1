"""The README's example runs as it is printed: embedded, against a server, and with the official SDK's names."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support.servers import PerdureServer, free_port

README = Path(__file__).resolve().parents[2] / "README.md"
EMBEDDED_ADDRESS = "sqlite:///hello.db"
EXAMPLE_TIMEOUT_S = 60
SERVER_COMMAND = "perdure server start-dev --db-filename orders.db"


def _example() -> str:
    (source,) = re.findall(r"^```python\n(.*?)^```$", README.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert EMBEDDED_ADDRESS in source
    return str(source)


async def _printed_by(source: str, folder: Path) -> list[str]:
    script = folder / "hello.py"
    script.write_text(source)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), EXAMPLE_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    # Only what the example prints counts: the official SDK's native runtime now and then aborts the interpreter
    # while it exits, after everything is done.
    return output.decode().splitlines()[:1]


def test_the_readme_example_runs_embedded_and_leaves_its_database(tmp_path: Path) -> None:
    assert asyncio.run(_printed_by(_example(), tmp_path)) == ["Hello, Perdure!"]
    assert (tmp_path / "hello.db").exists()


def test_the_readme_starts_the_server_as_these_tests_do() -> None:
    assert SERVER_COMMAND in README.read_text()


@pytest.mark.parametrize("sdk", ["perdure", "temporalio"])
def test_the_readme_example_runs_against_the_server_with_either_sdk(tmp_path: Path, sdk: str) -> None:
    async def run() -> list[str]:
        async with PerdureServer(db_path=tmp_path / "orders.db", log_path=tmp_path / "server.log") as server:
            source = _example().replace(EMBEDDED_ADDRESS, server.address)
            return await _printed_by(source.replace("from perdure", f"from {sdk}"), tmp_path)

    assert asyncio.run(run()) == ["Hello, Perdure!"]


def test_the_http_example_starts_a_workflow() -> None:
    """The same request as the documented `curl` makes."""
    (command,) = re.findall(r"^    (curl .*)$", README.read_text(), flags=re.MULTILINE)
    _, address, flag, body = shlex.split(command)
    assert flag == "-d"
    port = free_port()
    request = urllib.request.Request("http://" + address.replace("7243", str(port)), body.encode())

    def ask() -> str:
        with urllib.request.urlopen(request, timeout=EXAMPLE_TIMEOUT_S) as response:
            return str(json.load(response)["status"])

    async def run() -> str:
        async with PerdureServer(extra_args=("--http-port", str(port))):
            return await asyncio.to_thread(ask)

    assert asyncio.run(run()) == "WORKFLOW_EXECUTION_STATUS_RUNNING"
