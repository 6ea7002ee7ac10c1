"""The README's example runs as it is printed: embedded, against a server, and with the official SDK's names."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from examples.ports import free_port
from tests.support.servers import PerdureServer

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


def _commands() -> list[str]:
    """The indented `perdure` commands, without what is said about them."""
    found = re.findall(r"^    (perdure .*?)(?: +#.*)?$", README.read_text(), flags=re.MULTILINE)
    assert SERVER_COMMAND in found
    return [command for command in found if command != SERVER_COMMAND]


def _environment(folder: Path, address: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "HOME": str(folder), "TEMPORAL_ADDRESS": address}


async def _shell(command: str, folder: Path, address: str) -> str:
    """What a command prints that ends by itself and well; `q` is typed for those that read."""
    process = await asyncio.create_subprocess_exec(
        *shlex.split(command),
        cwd=folder,
        env=_environment(folder, address),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(b"q\n"), EXAMPLE_TIMEOUT_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"{command}\n{output.decode()}"
    return output.decode()


@asynccontextmanager
async def _until_ctrl_c(command: str, folder: Path, address: str) -> AsyncIterator[None]:
    """A command that runs until Ctrl-C, which reaches all processes of a terminal."""
    with (folder / "until-ctrl-c.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *shlex.split(command),
            cwd=folder,
            env=_environment(folder, address),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield
        os.killpg(process.pid, signal.SIGINT)
        await asyncio.wait_for(process.wait(), EXAMPLE_TIMEOUT_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.timeout(300)
def test_the_commands_of_the_readme_do_what_they_say(tmp_path: Path) -> None:
    """In their order, with the example saved as the README says, a server, and its worker beside them."""
    started, worker, *others = _commands()
    assert "workflow start" in started
    assert "worker run" in worker

    async def run() -> list[str]:
        assert await _printed_by(_example(), tmp_path) == ["Hello, Perdure!"]
        async with PerdureServer(db_path=tmp_path / "orders.db", log_path=tmp_path / "server.log") as server:
            await _shell(started, tmp_path, server.address)
            async with _until_ctrl_c(worker, tmp_path, server.address):
                result = await _shell("perdure workflow result -w hello-2", tmp_path, server.address)
                assert '"Hello, you!"' in result
            return await asyncio.gather(*(_shell(each, tmp_path, server.address) for each in others))

    printed = dict(zip(others, asyncio.run(run()), strict=True))
    words = {
        "--timeline": "greet",
        "debug": "before event 1",
        "list": "hello-1",
        "ui": "",
        "doctor": "server",
    }
    for command, output in printed.items():
        wanted = [word for name, word in words.items() if name in command]
        assert wanted, f"nobody knows what this prints: {command}"
        assert wanted[0] in output, f"{command}\n{output}"


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
