"""`perdure worker run`: a process that finds workflows in a module, and starts again when the module changes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from perdure.cli import root
from tests.support.servers import PerdureServer

pytestmark = [pytest.mark.serial, pytest.mark.timeout(120)]

WAIT_S: Final = 60.0
_CODE: Final = """
from perdure import workflow


@workflow.defn
class Hello:
    @workflow.run
    async def run(self) -> str:
        return "ANSWER"
"""


async def _line_with(stream: asyncio.StreamReader, text: str) -> None:
    """Reads until a line has a text."""
    async with asyncio.timeout(WAIT_S):
        while True:
            line = (await stream.readline()).decode()
            assert line, f"the worker ended before it said {text!r}"
            if text in line:
                return


async def _answer(address: str, capsys: pytest.CaptureFixture[str]) -> str:
    words = ["workflow", "execute", "--type", "Hello", "-t", "hello", "--address", address, "-o", "json"]
    code = await asyncio.to_thread(root.exit_code_of, [*words, "--command-timeout", f"{WAIT_S}s"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return str(json.loads(printed.out)["result"])


def test_a_worker_runs_a_module_and_follows_its_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The workflow of the file runs; after the file is saved anew the new code runs; Ctrl-C ends both processes."""
    asyncio.run(_run_and_change(tmp_path, capsys))


async def _run_and_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = tmp_path / "hello_code.py"
    module.write_text(_CODE.replace("ANSWER", "old"))
    async with PerdureServer() as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "from perdure.cli import main; main()",
            *("worker", "run", "hello_code", "-t", "hello", "--address", server.address, "--reload"),
            cwd=tmp_path,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        try:
            await _line_with(process.stderr, ": 1 workflow;")
            assert await _answer(server.address, capsys) == "old"
            module.write_text(_CODE.replace("ANSWER", "new, and longer"))
            await _line_with(process.stderr, "starts again")
            await _line_with(process.stderr, ": 1 workflow;")
            assert await _answer(server.address, capsys) == "new, and longer"
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(WAIT_S):
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def test_a_reloaded_worker_ends_with_its_terminal(tmp_path: Path) -> None:
    """It runs in a session of its own, where it does not hear that the terminal is gone."""
    asyncio.run(_hang_up(tmp_path))


async def _hang_up(folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from perdure.cli import main; main()"),
        *("worker", "run", "no_such_module", "-t", "hello", "--reload"),
        cwd=folder,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        await _line_with(process.stderr, "The worker has ended")
        process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(WAIT_S):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def test_a_reloaded_worker_ends_with_a_process_that_was_killed(tmp_path: Path) -> None:
    """Who kills the process that replaces the worker does not leave a worker behind that nobody replaces."""
    asyncio.run(_kill(tmp_path))


async def _kill(folder: Path) -> None:
    (folder / "hello_code.py").write_text(f"import os\nopen('pid', 'w').write(str(os.getpid()))\n{_CODE}")
    async with PerdureServer() as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from perdure.cli import main; main()"),
            *("worker", "run", "hello_code", "-t", "hello", "--address", server.address, "--reload"),
            cwd=folder,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        have_ended = False
        try:
            await _line_with(process.stderr, ": 1 workflow;")
            process.kill()
            await _line_with(process.stderr, "Stopping")
            async with asyncio.timeout(WAIT_S):
                # The worker writes to the same pipe: it ends when both have ended.
                while await process.stderr.readline():
                    pass
                assert await process.wait() == -signal.SIGKILL
            have_ended = True
        finally:
            if not have_ended:
                with suppress(FileNotFoundError, ProcessLookupError):
                    os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
                with suppress(ProcessLookupError):
                    process.kill()
