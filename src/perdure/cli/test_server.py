"""`perdure-test-server PORT`: a time-skipping server under the command line of the official SDKs' test server.

`WorkflowEnvironment.start_time_skipping(test_server_existing_path=...)` of an official SDK starts it with the port and
what the test adds (`test_server_extra_args`). It is `perdure server start-dev --time-skipping` by another
name.
"""

from __future__ import annotations

import sys
from typing import Final

_USAGE: Final = """Usage: perdure-test-server PORT [FLAGS OF perdure server start-dev]

Runs a server on 127.0.0.1:PORT that keeps everything in memory and skips time by the locks of TestService."""


def main() -> None:
    """Entry of the command."""
    arguments = sys.argv[1:]
    if not arguments or not arguments[0].isdecimal():
        print(_USAGE, file=sys.stdout if arguments[:1] in (["-h"], ["--help"]) else sys.stderr)
        sys.exit(0 if arguments[:1] in (["-h"], ["--help"]) else 2)
    port, *others = arguments
    # The flag that turns skipping on in the original; here it always is.
    others = [argument for argument in others if argument != "--enable-time-skipping"]
    from perdure.cli.root import run

    run(
        ["server", "start-dev", "--ip", "127.0.0.1", "--port", port, "--headless", "--time-skipping", *others]
    )
