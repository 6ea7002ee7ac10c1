"""The README's example runs as it is printed, against the server started with the command it is printed with."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from tests.support.servers import PerdureServer

README = Path(__file__).resolve().parents[2] / "README.md"
README_ADDRESS = "127.0.0.1:7233"
EXAMPLE_TIMEOUT_S = 60


def _python_blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", README.read_text(), flags=re.MULTILINE | re.DOTALL)


def test_the_readme_starts_the_server_as_this_test_does() -> None:
    assert "perdure server start-dev --db-filename orders.db" in README.read_text()


def test_the_readme_example_prints_its_greeting(tmp_path: Path) -> None:
    (source,) = _python_blocks()
    assert README_ADDRESS in source

    async def run() -> str:
        async with PerdureServer(db_path=tmp_path / "orders.db", log_path=tmp_path / "server.log") as server:
            script = tmp_path / "hello.py"
            script.write_text(source.replace(README_ADDRESS, server.address))
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(script), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            try:
                output, _ = await asyncio.wait_for(process.communicate(), EXAMPLE_TIMEOUT_S)
            except TimeoutError:
                process.kill()
                await process.wait()
                raise
            return output.decode()

    # Only what the example prints counts: the official SDK's native runtime now and then aborts the interpreter
    # while it exits, after everything is done.
    assert asyncio.run(run()).splitlines()[:1] == ["Hello, Perdure!"]
