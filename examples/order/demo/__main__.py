"""`python -m examples.order.demo`: run the demonstration; exit code 0 only when every check held."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from examples.order.demo.processes import REPOSITORY
from examples.order.demo.story import Setting, run_demonstration

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def main() -> int:
    """Read the command line, run, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.order.demo",
        description="An order survives the SIGKILL of everything that works on it.",
    )
    parser.add_argument(
        "--server",
        help="run this executable as a server (`... server start-dev`) and the worker beside it, and kill both; "
        "without it the engine is embedded in the worker's process",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=REPOSITORY / "demo",
        help="where the screenshot and the database are left",
    )
    parser.add_argument(
        "--ui-port", type=int, help="port of the web UI; without it 8233 if that is free, else a free one"
    )
    given = parser.parse_args()
    # Somebody who reads along can look around; a script gets its prompt back.
    is_interactive = sys.stdin.isatty() and sys.stdout.isatty()
    with tempfile.TemporaryDirectory(prefix="order-demo-") as work:
        setting = Setting(Path(work), given.folder, given.server, given.ui_port, is_interactive)
        try:
            succeeded = asyncio.run(run_demonstration(setting))
        except (OSError, RuntimeError, TimeoutError) as error:
            print(f"The demonstration failed: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("Stopped before the end.", file=sys.stderr)
            return INTERRUPTED
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
