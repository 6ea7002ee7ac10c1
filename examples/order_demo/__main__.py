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
    parser = argparse.ArgumentParser(description="An order survives a killed worker and a killed server.")
    default = str(Path(sys.executable).with_name("perdure"))
    parser.add_argument("--server", default=default, help="executable that understands `server start-dev`")
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
