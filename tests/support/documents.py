"""Documents as programs: the code blocks of a page, and a runner that executes them one after the other.

Here: how a block is read and what running it means. Not here: which pages are run, or what is exempt.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib
import io
import os
import re
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from perdure import activity, workflow
from perdure.testing import WorkflowEnvironment

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE_TIMEOUT_S = 240
COMMAND_TIMEOUT_S = 120
_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<kind>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^(?P=indent)```$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that it is saved as (or none), its text, its first line in the page."""

    kind: str
    title: str | None
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    """Returns the fenced blocks of a page, in order."""
    source = page.read_text()
    return [
        Block(found["kind"], found["title"], found["text"], source.count("\n", 0, found.start("text")) + 1)
        for found in _BLOCK.finditer(source)
    ]


def steps_of(console: str) -> list[tuple[str, list[str]]]:
    """Returns the commands of a block, each with the lines that it must print, among others, in this order."""
    steps: list[tuple[str, list[str]]] = []
    for line in console.splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], []))
        elif line.startswith("> "):
            steps[-1] = (f"{steps[-1][0]}\n{line[2:]}", [])
        else:
            steps[-1][1].append(line.strip())
    return steps


def missing_line(printed: str, expected: list[str]) -> str | None:
    """Returns the first expected line that was not printed after the ones before it; spaces count as one."""
    rest = [" ".join(line.split()) for line in printed.splitlines()]
    for line in expected:
        wanted = " ".join(line.split())
        found = next((number for number, got in enumerate(rest) if wanted in got), None)
        if found is None:
            return line
        del rest[: found + 1]
    return None


@contextlib.contextmanager
def _loggers_as_before() -> Iterator[None]:
    """What a page does to the loggers of workflows and activities ends with the page."""
    loggers = (workflow.logger.base_logger, activity.logger.base_logger)
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    try:
        yield
    finally:
        for logger, level, handlers in before:
            logger.setLevel(level)
            logger.handlers[:] = handlers


class PageRunner:
    """Runs the blocks of one page.

    A block with a title is saved; if a file of the repository has that name, it must be a part of it. A `python` block
    without one runs in the page's namespace, where `await` works and `client` and `env` are those of a server in this
    process whose time skips. A `text` block is all that the Python block before it printed. A `console` block is
    commands, run in the page's folder; their server is the same one.

    Args:
        page: The page.
        folder: Where its files are, which is also the current folder.
    """

    def __init__(self, page: Path, folder: Path) -> None:
        self._page = page
        self._folder = folder
        self._module = types.ModuleType(f"document_{page.stem.replace('-', '_')}")
        self._printed = ""

    async def run(self) -> None:
        """Runs all blocks; the first that does not do what the page says is an AssertionError that shows its line."""
        async with (
            asyncio.timeout(PAGE_TIMEOUT_S),
            await WorkflowEnvironment.start_time_skipping() as env,
        ):
            address = env.client.service_client.config.target_host
            self._environment = {**os.environ, "TEMPORAL_ADDRESS": address, "NO_COLOR": "1", "COLUMNS": "120"}
            # What a program printed is read even if it is aborted while it exits.
            self._environment["PYTHONUNBUFFERED"] = "1"
            self._environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            vars(self._module).update(client=env.client, env=env)
            with self._imported(), _loggers_as_before():
                for block in blocks_of(self._page):
                    await self._run(block)
        self._nothing_unseen(0)

    @contextlib.contextmanager
    def _imported(self) -> Iterator[None]:
        """The page's module can be found, and what it imports of its own folder is forgotten afterwards."""
        before = set(sys.modules)
        sys.modules[self._module.__name__] = self._module
        try:
            yield
        finally:
            for name in set(sys.modules) - before:
                file = getattr(sys.modules[name], "__file__", None) or ""
                if name == self._module.__name__ or file.startswith(str(self._folder)):
                    del sys.modules[name]

    async def _run(self, block: Block) -> None:
        place = f"{self._page.name}:{block.line}"
        if block.kind == "text" and block.title is None:
            shown, printed = block.text.rstrip(), self._printed.rstrip()
            assert shown == printed, f"{place} shows\n{shown}\nand this was printed:\n{printed}"
            self._printed = ""
            return
        self._nothing_unseen(block.line)
        if block.title and (REPOSITORY / block.title).exists():
            assert block.text in (REPOSITORY / block.title).read_text(), f"{place}: not a part of that file"
        elif block.title:
            file = self._folder / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text)
            importlib.invalidate_caches()
        elif block.kind == "python":
            await self._execute(block, place)
        elif block.kind == "console":
            await self._command(block, place)
        else:
            pytest.fail(f"{place}: nobody runs a block of {block.kind or 'no language'}")

    async def _execute(self, block: Block, place: str) -> None:
        # As many empty lines before it as the page has, so that an error shows the page's own line.
        source = "\n" * (block.line - 1) + block.text
        code = compile(source, str(self._page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        output = io.StringIO()
        try:
            with contextlib.redirect_stdout(output):
                # A block that awaits is a coroutine when evaluated.
                awaited = eval(code, vars(self._module))  # noqa: S307  the project's own documents
                if awaited is not None:
                    await awaited
        except Exception as error:
            error.add_note(f"{place}; printed so far: {output.getvalue()}")
            raise
        self._printed = output.getvalue()

    async def _command(self, block: Block, place: str) -> None:
        for command, expected in steps_of(block.text):
            process = await asyncio.create_subprocess_exec(
                "bash",
                "-c",
                command,
                cwd=self._folder,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            try:
                output, _ = await asyncio.wait_for(process.communicate(), COMMAND_TIMEOUT_S)
            except BaseException:  # also when the page's own time is over
                process.kill()
                await process.wait()
                raise
            printed = output.decode()
            missing = missing_line(printed, expected)
            assert missing is None, f"{place}: $ {command}\nshould print {missing!r}, and printed:\n{printed}"
            assert expected or process.returncode == 0, f"{place}: $ {command}\nfailed:\n{printed}"

    def _nothing_unseen(self, line: int) -> None:
        assert not self._printed, f"{self._page.name}:{line}: the page does not show this: {self._printed}"
