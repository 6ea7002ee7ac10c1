"""`python -m examples.order_demo`: run the demonstration; exit code 0 only when every check held."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from examples.order_demo.demo import run_demonstration


def main() -> int:
    """Read the command line, run, and return the exit code."""
    parser = argparse.ArgumentParser(
        description="An order survives the SIGKILL of everything that works on it."
    )
    parser.add_argument(
        "--server",
        help="run this executable as a server (`... server start-dev`) and the worker beside it, and kill both; "
        "without it the engine is embedded in the worker's process",
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="order-demo-") as folder:
        try:
            succeeded = asyncio.run(run_demonstration(given.server, Path(folder)))
        except (OSError, RuntimeError, TimeoutError) as error:
            print(f"The demonstration failed: {error}", file=sys.stderr)
            return 1
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
